"""The cells that models are trained from: corpora, the backbone, item vectors and semantic IDs."""

from collections.abc import Callable, Iterable
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from mmgrid.data import READERS, DataError
from mmgrid.data.readers import TableOptions
from mmgrid.grid.cells.cell import Cell
from mmgrid.grid.cells.fingerprint import recipe_values
from mmgrid.grid.file.joint import JointTraining
from mmgrid.grid.file.load import Grid, GridError
from mmgrid.grid.file.spec import OF_EMBEDDING_MODELS, GridSpec, PretrainedBackbone, TinyBackbone
from mmgrid.paradigms import PARADIGMS, Need
from mmgrid.store.record import RECORD_FILE

Digest = Callable[[Path], str]
ABSENT = "absent"  # in place of the digests of a domain's files, which can only be planned then


class Sources:
    """The sources of a grid for one seed. Planning reads only the digests of raw files, which is cheap."""

    def __init__(self, grid: Grid, digest: Digest, seed: int, bare: bool = False):
        """bare: whether the data of domains that the grid expects may be missing."""
        self.grid = grid
        self.spec = grid.spec
        self.digest = digest
        self.seed = seed
        self.bare = bare
        self._vectors: dict[tuple[str, str], Cell] = {}
        self.suffix = (f"seed={seed}",) if len(grid.spec.all_seeds) > 1 else ()

    @cached_property
    def corpora(self) -> dict[str, Cell]:
        """Domain → its prepared data."""
        return {domain: self._corpus(domain) for domain in self.spec.data.domains}

    @cached_property
    def joint_corpora(self) -> dict[str, Cell]:
        """Name of a joint training → the data of its domains as one corpus."""
        return {joint.name: self._joint_corpus(joint) for joint in self.spec.joint}

    @cached_property
    def asked(self) -> dict[str, dict[str, Any]]:
        """Paradigm → the values that its evaluations are asked with."""
        return {paradigm: evaluation_values(self.spec, paradigm) for paradigm in self.spec.paradigms}

    def corpus(self, domain: str) -> Cell:
        """The prepared data of a domain, or of a joint training."""
        return self.corpora[domain] if domain in self.corpora else self.joint_corpora[domain]

    @cached_property
    def backbone(self) -> Cell | None:
        """The language model that training starts from; None if no paradigm needs one."""
        if not any(PARADIGMS[paradigm].from_backbone for paradigm in self.spec.paradigms):
            return None
        spec = self.spec.backbone
        assert spec is not None  # `GridSpec` requires one if a paradigm is trained from it
        if isinstance(spec, PretrainedBackbone):
            return Cell("backbone", ("pretrained", *self.suffix), self._pretrained(spec))
        return self._tiny(spec)

    def item_vectors(self, domain: str, table: Literal["items", "titles"]) -> Cell:
        """The item vectors of a domain: of title and description for `items`, of titles only for `titles`."""
        if (domain, table) not in self._vectors:
            self._vectors[domain, table] = self._item_vectors(domain, table)
        return self._vectors[domain, table]

    def again(self, cell: Cell) -> Cell:
        """A corpus of files, vectors, or the backbone: as this grid names it now."""
        if cell.kind == "corpus":
            return self._corpus(cell.recipe["domain"])
        if cell.kind == "vectors":
            table = "titles" if cell.recipe.get("texts") == "titles" else "items"
            return self.item_vectors(cell.recipe["domain"], table)
        assert self.backbone is not None
        return self.backbone

    def _item_vectors(self, domain: str, table: Literal["items", "titles"]) -> Cell:
        spec = self.spec.item_vectors
        recipe: dict[str, Any] = {
            "domain": domain,
            "catalogue": self.spec.data.catalogue,
            "threads": self.spec.threads_per_cell,
        }
        upstream = {"corpus": self.corpora[domain]}
        name = spec.source if table == "items" else table
        if table == "titles":
            recipe["texts"] = "titles"
        if spec.source == "table" and table == "items":
            path = self.grid.path(str(spec.path)) / f"{domain}.parquet"
            if not path.is_file():
                raise GridError(f"{self.grid.file}: item_vectors: no file {path}; each domain needs a table of vectors")
            recipe["file"] = self.digest(path)
        elif spec.source == "sentence-transformers":
            asked = {name: value for name, value in recipe_values(spec).items() if name in OF_EMBEDDING_MODELS}
            recipe |= {"source": spec.source, **self._embedding_model(str(spec.path)), **asked}
        else:
            assert self.backbone is not None  # callers request vectors only if there is one
            upstream["backbone"] = self.backbone
        return Cell("vectors", (domain, name, *self.suffix), recipe, upstream)

    def codes(self, domain: str) -> Cell:
        """The semantic IDs of a domain."""
        spec = self.spec.semantic_ids
        recipe: dict[str, Any] = {
            "domain": domain,
            "catalogue": self.spec.data.catalogue,
            "seed": self.seed,
            "threads": self.spec.threads_per_cell,
            "quantiser": recipe_values(spec.quantiser),
        }
        if self.spec.data.catalogue == "open":
            recipe["phases"] = self.spec.phases.calendar().as_dates()
        upstream = {"corpus": self.corpora[domain], "vectors": self.item_vectors(domain, "items")}
        if spec.codebook == "shared":  # fitted on all domains together
            for other in sorted(self.corpora):
                upstream[f"corpus:{other}"] = self.corpora[other]
                upstream[f"vectors:{other}"] = self.item_vectors(other, "items")
        return Cell("codes", (domain, *self.suffix), recipe, upstream)

    def needs(self, names: Iterable[Need], domain: str, prefix: str = "") -> dict[str, Cell]:
        """Role → cell for each of a paradigm's needs; a need that the grid cannot meet is left out."""
        found: dict[str, Cell | None] = {}
        of_model = self.spec.item_vectors.source == "sentence-transformers"
        for name in names:
            if name == "codes":
                found["codes"] = self.codes(domain)
            elif name == "item_vectors":
                found["vectors"] = self.item_vectors(domain, "items") if of_model or self.backbone else None
            elif name == "title_vectors":
                found["titles"] = self.item_vectors(domain, "titles") if of_model or self.backbone else None
            else:
                found["embedder"] = None if of_model else self.backbone
        return {f"{prefix}{role}": cell for role, cell in found.items() if cell is not None}

    def _corpus(self, domain: str) -> Cell:
        data = self.spec.data
        recipe: dict[str, Any] = {
            "format": data.format,
            "domain": domain,
            "phases": self.spec.phases.calendar().as_dates(),
            "min_interactions": data.min_interactions,
            "max_users": data.max_users,
            "compat": data.compat or self.spec.compat,
        }
        if data.max_items is not None:  # absent from cells that are older than it
            recipe["max_items"] = data.max_items
        if data.max_users is not None:
            recipe["seed"] = self.spec.all_seeds[0]  # all seeds use the same sample
        if data.format == "synthetic":
            recipe["world"] = self.spec.world.domain(domain).parameters() | {"seed": self.spec.all_seeds[0]}
        else:
            root, options = self.grid.path(str(data.root)), data.table_options
            try:
                files = READERS[data.format].sources(root, domain, options)
            except DataError:
                if not self.bare or domain not in data.expected:
                    raise
                return Cell("corpus", (domain,), recipe | {"files": ABSENT} | options.identity())
            if len({path.name for path in files}) == len(files):
                recipe["files"] = {path.name: self.digest(path) for path in files}
            else:  # shards of several folders
                recipe["files"] = {path.relative_to(root).as_posix(): self.digest(path) for path in files}
            recipe |= options.identity()
            self._check_texts(domain, root, options)
        return Cell("corpus", (domain,), recipe)

    def _joint_corpus(self, joint: JointTraining) -> Cell:
        recipe = {
            "joint": sorted(joint.domains),
            "domain": joint.name,
            "phases": self.spec.phases.calendar().as_dates(),
        }
        upstream = {f"corpus:{domain}": self.corpora[domain] for domain in sorted(joint.domains)}
        return Cell("corpus", (joint.name,), recipe, upstream)

    def _check_texts(self, domain: str, root: Path, options: TableOptions) -> None:
        """Raise GridError if the grid has paradigms that read the texts of items, and the items have none."""
        named = [*self.spec.paradigms, *(external.paradigm for external in self.spec.checkpoints)]
        readers = [
            name for name in dict.fromkeys(named) if PARADIGMS[name].from_backbone or PARADIGMS[name].reads_texts
        ]
        if readers and not READERS[self.spec.data.format].has_texts(root, domain, options):
            raise GridError(
                f"{self.grid.file}: data: the items of {domain} have no texts: there is no file of items, and no title "
                f'in the interactions, but {", ".join(readers)} reads titles. Name them (items = "{{domain}}.items.csv", '
                'columns = { title = "name" }), or keep only paradigms that read no texts, such as sasrec'
            )

    def _tiny(self, spec: TinyBackbone) -> Cell:
        recipe = recipe_values(spec) | {"seed": self.seed, "threads": self.spec.threads_per_cell}
        recipe.pop("corpus")
        recipe["catalogue"] = self.spec.data.catalogue
        upstream = {f"corpus:{domain}": self.corpora[domain] for domain in sorted(self.spec.corpus_domains)}
        return Cell("backbone", ("tiny", *self.suffix), recipe, upstream)

    def _pretrained(self, spec: PretrainedBackbone) -> dict[str, Any]:
        folder = self.grid.path(spec.path)
        if folder.is_dir():
            files = {path.name: self.digest(path) for path in model_files(folder)}
            return {"kind": "pretrained", "files": files} | self._elsewhere(folder)
        if Path(spec.path).is_absolute() or spec.path.startswith((".", "~")):
            raise GridError(f"{self.grid.file}: backbone.path: no folder {folder}")
        return {"kind": "pretrained", "hub": spec.path, "revision": spec.revision}

    def _elsewhere(self, folder: Path) -> dict[str, Any]:
        """What determines a model's weights and does not lie in its folder: the models under an adapter, a family."""
        from mmgrid.merging.models.adapter_model import folders_under
        from mmgrid.merging.models.family.place import FAMILY_FILE, family_of
        from mmgrid.merging.models.sources import is_adapter

        if is_adapter(folder):
            digests = [
                {path.name: self.digest(path) for path in model_files(below) if path.name != RECORD_FILE}
                for below in folders_under(folder)
            ]
            return {} if not digests else {"below": digests[0] if len(digests) == 1 else digests}
        place = family_of(folder)
        if place is None or place.family == folder:
            return {}
        return {"family": self.digest(place.family / FAMILY_FILE)}  # it has the digests of all that belongs to it

    def _embedding_model(self, path: str) -> dict[str, Any]:
        folder = self.grid.path(path)
        if not folder.is_dir():
            return {"hub": path, "revision": self.spec.item_vectors.revision}
        names = sorted(file.relative_to(folder) for file in folder.rglob("*") if file.is_file())
        visible = [name for name in names if not any(part.startswith(".") for part in name.parts)]
        return {"files": {name.as_posix(): self.digest(folder / name) for name in visible}}


def is_absent(cell: Cell) -> bool:
    """Whether a cell is the corpus of a domain whose data are missing."""
    return cell.kind == "corpus" and cell.recipe.get("files") == ABSENT


def model_files(folder: Path) -> list[Path]:
    """The files in a model's folder, except hidden ones."""
    return sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))


def evaluation_values(spec: GridSpec, paradigm: str) -> dict[str, Any]:
    """The values of the recipe that affect the evaluation of a trained model, but not its training."""
    if paradigm not in spec.paradigms:
        return {}
    recipe = spec.recipe(paradigm)
    return {name: value for name, value in recipe_values(recipe).items() if name in recipe.EVALUATION}
