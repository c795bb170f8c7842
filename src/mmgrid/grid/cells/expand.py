"""Expands a grid into the list of its cells."""

from collections import Counter

from mmgrid.grid.cells.cell import Cell, with_upstream
from mmgrid.grid.cells.chains import Chains
from mmgrid.grid.cells.evaluations import BASELINE, BASELINES, Model, evaluation
from mmgrid.grid.cells.families import Families
from mmgrid.grid.cells.general_merges import GeneralMerges
from mmgrid.grid.cells.merges import Merges
from mmgrid.grid.cells.sources import Digest, Sources
from mmgrid.grid.cells.study_cells import study_cells
from mmgrid.grid.file.load import Grid, GridError
from mmgrid.grid.file.merges import CrossDomainMerges
from mmgrid.grid.file.names import alike_but_for_case


def expand(grid: Grid, digest: Digest, *, bare: bool = False) -> list[Cell]:
    """All cells of the grid, upstream cells first. `digest(path)` returns the SHA-256 of a file.

    bare: whether the data of domains that the grid expects may be missing, for a plan of what cannot be built yet.
    """
    found: list[Cell] = []
    for seed in grid.spec.all_seeds:
        chains = Chains(Sources(grid, digest, seed, bare))
        found += [*_own_cells(chains), *study_cells(chains)]
    cells = with_upstream(found)  # studies share evaluations, and seeds share corpora
    for name, count in Counter(cell.name for cell in cells).items():
        if count > 1:  # results could not be distinguished
            where = "studies" if name.startswith("study/") else "merges"
            raise GridError(f"{grid.file}: {where}: {count} different cells are called {name}; remove one entry")
    if (problem := alike_but_for_case({cell.name for cell in cells})) is not None:
        raise GridError(f"{grid.file}: {problem}")
    return cells


def _joint_cells(chains: Chains) -> list[Cell]:
    """Models that are trained on several domains at once, and their evaluations on each at the end of the last phase."""
    cells: list[Cell] = []
    for joint in chains.spec.joint:
        for paradigm, chain in chains.joint[joint.name].items():
            model = Model(paradigm, f"{joint.name}-{chains.phases[-1]}", {"model": chain[chains.phases[-1]]})
            cells += [*chain.values(), *(evaluation(chains.sources, model, domain) for domain in joint.domains)]
    return cells


def _variant_cells(chains: Chains) -> list[Cell]:
    """Models of the newest phase that are trained in another way, and their evaluations."""
    cells: list[Cell] = []
    for name, by_paradigm in chains.variants.items():
        for paradigm, by_domain in by_paradigm.items():
            for domain, checkpoint in by_domain.items():
                model = Model(paradigm, name, {"model": checkpoint})
                cells += [checkpoint, evaluation(chains.sources, model, domain)]
    return cells


def _own_cells(chains: Chains) -> list[Cell]:
    """The cells for one seed that belong to no study."""
    sources = chains.sources
    cells = [*sources.corpora.values(), *([sources.backbone] if sources.backbone else []), *chains.bases.values()]
    for paradigm, by_domain in chains.checkpoints.items():
        for domain, chain in by_domain.items():
            for phase, checkpoint in chain.items():
                model = Model(paradigm, phase, {"model": checkpoint})
                cells += [checkpoint, evaluation(sources, model, domain)]
    cells += [*_joint_cells(chains), *_variant_cells(chains)]
    for domain in sources.corpora:
        cells += [evaluation(sources, Model(BASELINE, name), domain) for name in BASELINES]
    pairs, general = Merges(chains), GeneralMerges(chains)
    for number, entry in enumerate(chains.spec.merges):
        cells += pairs.cells(entry, number) if isinstance(entry, CrossDomainMerges) else general.cells(number)
    families = Families(general)
    for number in range(len(chains.spec.families)):
        cells += families.cells(number)
    return cells
