"""The cells of the studies in a grid file, and those that they share with the rest of the grid."""

from itertools import permutations
from pathlib import Path

import pytest

from kits.tiny_grid import SPOKEN, STUDIED, TEXT, cells_of, fingerprints, named, planned, write_grid
from mmgrid.grid.cells.cell import Cell
from mmgrid.grid.file.load import GridError, load_grid

DOMAINS = ("attic", "garden", "kitchen")
ALONE = STUDIED[: STUDIED.index("[[studies]]")]  # the same grid without its studies


def _grid(folder: Path, studies: str, *settings: str, text: str = ALONE) -> list[Cell]:
    return planned(folder, *settings, text=f"{text}\n{studies}")


def _study(*lines: str) -> str:
    return "\n".join(("[[studies]]", *lines))


def _points(cells: list[Cell], kind: str) -> list[Cell]:
    return [cell for cell in cells if cell.recipe.get("line", {}).get("kind") == kind]


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> list[Cell]:
    return planned(tmp_path_factory.mktemp("plan"), text=STUDIED)


def test_each_study_is_one_cell_per_paradigm(cells: list[Cell]) -> None:
    assert {cell.name for cell in cells if cell.kind == "study"} == {
        "study/baselines/semb",
        "study/baselines/sasrec",
        *(f"study/{kind}/semb" for kind in ("vectors", "cross_domain", "base_model", "temporal", "recency", "advise")),
        "study/temporal_parts/semb",
    }


def test_studies_change_no_other_cell(cells: list[Cell], tmp_path: Path) -> None:
    before, after = fingerprints(planned(tmp_path, text=ALONE)), fingerprints(cells)
    assert before.items() <= after.items()
    known = ("study/", "vectors/", "evaluation/semb/")
    assert all(name.startswith(known) for name in after.keys() - before.keys())


def test_a_sweep_has_one_cell_per_point_and_its_ends_are_the_checkpoints(cells: list[Cell]) -> None:
    assert {cell.name for cell in _points(cells, "temporal")} == {
        f"evaluation/semb/{domain}/temporal={scale}" for domain in DOMAINS for scale in ("-0.5", "0.5", "1.5")
    }
    point = named(cells, "evaluation/semb/attic/temporal=-0.5")
    assert {role: cell.name for role, cell in point.upstream.items()} == {
        "corpus": "corpus/attic",
        "start": "checkpoint/semb/attic/phase1",
        "end": "checkpoint/semb/attic/phase2",
    }
    assert (point.recipe["line"], point.family) == ({"kind": "temporal", "at": -0.5}, "semb/attic/temporal/0")
    below = {cell.name for cell in named(cells, "study/temporal/semb").upstream.values()}
    for domain in DOMAINS:
        assert {f"evaluation/semb/{domain}/phase1", f"evaluation/semb/{domain}/phase2"} < below
        assert f"evaluation/semb/{domain}/pretrain" not in below


def test_each_paradigm_may_have_its_own_sweep_which_its_other_studies_share(tmp_path: Path) -> None:
    own = [
        _study(
            'kind = "temporal"', 'paradigms = ["text"]', "scales = { from = 0, to = 1, step = 0.5 }", "max_users = 5"
        ),
        _study('kind = "temporal"', 'paradigms = ["semid"]', "scales = { from = 0, to = 2, step = 1 }"),
        _study('kind = "recency"'),
    ]
    cells = planned(tmp_path, text=SPOKEN[: SPOKEN.index("[[studies]]")] + "\n".join(own))
    for paradigm, point in (("text", "temporal=0.5/users=5"), ("semid", "temporal=2")):
        swept = [name for name in named(cells, f"study/recency/{paradigm}").upstream if "temporal=" in name]
        assert swept == [f"evaluation/{paradigm}/{domain}/{point}" for domain in ("garden", "kitchen")]


def test_the_three_temporal_studies_share_their_points(cells: list[Cell]) -> None:
    upstream = {kind: set(named(cells, f"study/{kind}/semb").upstream) for kind in ("temporal", "recency", "advise")}
    corpora = {f"corpus/{domain}" for domain in DOMAINS}
    ends = {f"checkpoint/semb/{domain}/{phase}" for domain in DOMAINS for phase in ("phase1", "phase2")}
    assert upstream["recency"] == upstream["temporal"] | corpora
    assert upstream["advise"] == upstream["recency"] | ends


def test_a_study_may_have_its_own_scales(tmp_path: Path) -> None:
    lines = 'kind = "recency"', "scales = { from = 0.25, to = 1.0, step = 0.25 }"
    found = _points(_grid(tmp_path, _study(*lines)), "temporal")
    assert {cell.recipe["line"]["at"] for cell in found} == {0.25, 0.5, 0.75}
    default = _points(_grid(tmp_path, _study('kind = "recency"')), "temporal")
    assert len({cell.recipe["line"]["at"] for cell in default}) == 26 - 2
    assert 0.3 in {cell.recipe["line"]["at"] for cell in default}  # and not 0.30000000000000004


def test_the_bases_of_a_pair(cells: list[Cell]) -> None:
    found = _points(cells, "base_model")
    assert len(found) == 4 * 3 * 2
    assert {cell.recipe["domain"] for cell in found} == {"garden", "kitchen"}
    roles = {
        "backbone": {"base": "base/semb"},
        "garden": {"base:garden": "checkpoint/semb/garden/phase1"},
        "kitchen": {"base:kitchen": "checkpoint/semb/kitchen/phase1"},
        "neutral": {f"base:{d}": f"checkpoint/semb/{d}/phase1" for d in ("garden", "kitchen")},
    }
    for base, below in roles.items():
        for target in ("garden", "kitchen"):
            point = named(cells, f"evaluation/semb/{target}/subspace-{base}=0.5-garden+0.5-kitchen")
            sources = {f"source:{d}": f"checkpoint/semb/{d}/phase2" for d in ("garden", "kitchen")}
            expected = {"corpus": f"corpus/{target}"} | sources | below
            assert {role: cell.name for role, cell in point.upstream.items()} == expected
    families = {cell.family for cell in found}
    assert len(families) == 4  # of both domains one: the merged model is the same


def test_the_merges_of_each_pair_are_shared_with_those_of_the_grid(cells: list[Cell], tmp_path: Path) -> None:
    assert {cell.name for cell in cells if "merge" in cell.recipe} == {
        f"evaluation/semb/{one}/{way}={'+'.join(sorted((one, other)))}"
        for one, other in permutations(DOMAINS, 2)
        for way in ("linear", "subspace")
    }
    name = "evaluation/semb/garden/linear=garden+kitchen"
    assert named(cells, name) == named(planned(tmp_path), name)
    study = named(cells, "study/cross_domain/semb")
    assert {cell.name for cell in study.upstream.values() if cell.kind == "vectors"} == {
        f"vectors/{domain}/backbone" for domain in DOMAINS
    }


def test_vectors_read_every_checkpoint_and_baselines_the_newest(cells: list[Cell]) -> None:
    phases = ("pretrain", "phase1", "phase2")
    assert set(named(cells, "study/vectors/semb").upstream) == {"base/semb"} | {
        f"checkpoint/semb/{domain}/{phase}" for domain in DOMAINS for phase in phases
    }
    assert set(named(cells, "study/baselines/semb").upstream) == {
        f"evaluation/{model}"
        for d in DOMAINS
        for model in (f"semb/{d}/phase2", f"baseline/{d}/popularity", f"sasrec/{d}/phase2", f"sasrec/{d}/all")
    }


def test_a_paradigm_is_compared_with_the_next_one_below(tmp_path: Path) -> None:
    studies = [_study('kind = "baselines"'), _study('kind = "vectors"')]
    spoken = SPOKEN[: SPOKEN.index("[[studies]]")]
    cells = _grid(tmp_path, "\n".join(studies), text=spoken)
    lower = {"evaluation/text/garden/phase2", "evaluation/text/kitchen/phase2"}
    assert lower <= set(named(cells, "study/baselines/semid").upstream)
    read = {name for name in named(cells, "study/vectors/semid").upstream if "/text" in name}
    assert read == {"base/text", "checkpoint/text/garden/phase2", "checkpoint/text/kitchen/phase2"}
    assert not any("semid" in name for name in named(cells, "study/vectors/text").upstream)
    alone = _grid(tmp_path, _study('kind = "baselines"', 'paradigms = ["semid"]'), text=spoken)
    assert not lower & set(named(alone, "study/baselines/semid").upstream)


def test_fewer_users_are_other_cells_and_more_are_the_same(tmp_path: Path) -> None:
    lines = 'kind = "temporal"', "scales = { from = 0.0, to = 0.5, step = 0.5 }"

    def point(users: str, *settings: str) -> Cell:
        (found,) = (
            c for c in _points(_grid(tmp_path, _study(*lines, users), *settings), "temporal") if "garden" in c.key
        )
        return found

    whole, few = point(""), point("max_users = 20")
    assert few != whole
    assert few.name == f"{whole.name}/users=20"
    assert (few.recipe["max_users"], few.recipe["sample_seed"], whole.recipe["max_users"]) == (20, 0, None)
    sampled = "evaluation.max_users=30"
    assert point("max_users = 40", sampled) == point("", sampled) == point("max_users = 30", sampled)
    assert point("max_users = 20", sampled) == few


def test_each_seed_has_its_own_studies(tmp_path: Path) -> None:
    cells = _grid(
        tmp_path, _study('kind = "temporal"', "scales = { from = 0.0, to = 0.5, step = 0.5 }"), "seeds=[0, 1]"
    )
    for seed in (0, 1):
        study = named(cells, f"study/temporal/semb/seed={seed}")
        assert {cell.recipe["seed"] for cell in study.upstream.values()} == {seed}
    assert len({cell.family for cell in _points(cells, "temporal")}) == 6


def test_one_domain_has_no_pairs_and_no_study_of_them(tmp_path: Path) -> None:
    text = TEXT.replace('["garden", "kitchen"]', '["garden"]')
    cells = _grid(tmp_path, "\n".join(_study(f'kind = "{k}"') for k in ("cross_domain", "base_model")), text=text)
    assert not [cell for cell in cells if cell.kind == "study"]


REFUSED = {
    "two of a kind": (
        _study('kind = "vectors"') + "\n" + _study('kind = "vectors"', 'domains = ["garden"]'),
        r"studies: 2 different cells are called study/vectors/semb; remove one entry",
    ),
    "a domain": (_study('kind = "vectors"', 'domains = ["shed"]'), r"studies\[0\].domains: shed is not in the grid"),
    "a paradigm": (
        _study('kind = "temporal"', 'paradigms = ["semb", "text"]'),
        r"studies\[0\].paradigms: text is not in the grid",
    ),
    "a pair": (
        _study('kind = "base_model"', 'pairs = [["garden", "shed"]]'),
        r"studies\[0\].pairs: shed is not in the grid",
    ),
    "one domain to compare": (
        _study('kind = "cross_domain"', 'domains = ["garden"]'),
        r"studies\[0\] \(cross_domain\): domains: there is nothing to compare in garden alone; add another",
    ),
    "a pair of one": (_study('kind = "base_model"', 'pairs = [["garden", "garden"]]'), r"garden is paired with itself"),
    "a domain twice": (_study('kind = "temporal"', 'domains = ["garden", "garden"]'), r"garden is named twice"),
    "no base": (
        _study('kind = "vectors"', 'paradigms = ["sasrec"]'),
        r"studies\[0\] \(vectors\): sasrec has no base Θ⁽⁰⁾; it starts from no backbone, so leave it out of `paradigms`",
    ),
    "downwards": (
        _study('kind = "temporal"', "scales = { from = 1.0, to = 0.0, step = 0.1 }"),
        r"to = 0 lies below from = 1",
    ),
    "too many": (
        _study('kind = "temporal"', "scales = { from = 0.0, to = 1.0, step = 0.00001 }"),
        r"more than 1001 points from 0 to 1",
    ),
    "no step": (_study('kind = "temporal"', "scales = { from = 0.0, to = 1.0, step = 0 }"), r"scales.step"),
    "not finite": (_study('kind = "temporal"', "scales = { from = nan, to = 1.0, step = 0.1 }"), r"scales.from"),
    "a kind": (_study('kind = "tempral"'), r"studies\[0\]"),
}


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (('kind = "temporal"', 'groups = ["all", "all"]'), r"studies\[0\]\.groups: all is named twice"),
        (('kind = "temporal_parts"', 'per = ["tower", "tower"]'), r"studies\[0\]\.per: tower is named twice"),
    ],
)
def test_what_a_study_is_asked_for_is_named_once(lines: tuple[str, ...], message: str, tmp_path: Path) -> None:
    with pytest.raises(GridError, match=message):
        _grid(tmp_path, _study(*lines))


@pytest.mark.parametrize("case", REFUSED)
def test_an_impossible_study_is_reported(case: str, tmp_path: Path) -> None:
    studies, message = REFUSED[case]
    with pytest.raises(GridError, match=message):
        _grid(tmp_path, studies)


GIVEN = """
[[checkpoints]]
paradigm = "pooled"
domain   = "{domain}"
phase    = "{phase}"
path     = "llm"
"""


def _given(folder: Path, studies: str, *places: tuple[str, str]) -> list[Cell]:
    (folder / "llm").mkdir(exist_ok=True)
    (folder / "llm" / "config.json").write_text("{}")
    head = TEXT[: TEXT.index("[backbone]")]
    text = head + "".join(GIVEN.format(domain=domain, phase=phase) for domain, phase in places) + studies
    return cells_of(load_grid(write_grid(folder, text)))


BOTH = [(domain, phase) for domain in ("garden", "kitchen") for phase in ("phase1", "phase2")]


def test_a_temporal_study_needs_only_external_checkpoints(tmp_path: Path) -> None:
    cells = _given(tmp_path, _study('kind = "temporal"'), *BOTH)
    assert {cell.kind for cell in cells} == {"corpus", "checkpoint", "evaluation", "study"}
    assert all("files" in cell.recipe for cell in cells if cell.kind == "checkpoint")
    assert named(cells, "study/temporal/pooled")


def test_a_missing_external_checkpoint_is_named(tmp_path: Path) -> None:
    message = r"studies\[0\] \(temporal\): pooled has no checkpoint of kitchen at phase1; add one under"
    with pytest.raises(GridError, match=message):
        _given(tmp_path, _study('kind = "temporal"'), *(place for place in BOTH if place != ("kitchen", "phase1")))
    garden = _study('kind = "temporal"', 'domains = ["garden"]')
    assert named(_given(tmp_path, garden, *BOTH[:2]), "study/temporal/pooled")


def test_external_checkpoints_have_no_base_to_compare_with(tmp_path: Path) -> None:
    with pytest.raises(GridError, match=r"studies\[0\] \(vectors\): pooled has no base"):
        _given(tmp_path, _study('kind = "vectors"', 'paradigms = ["pooled"]'), *BOTH)
    kinds = "\n".join(_study(f'kind = "{kind}"') for kind in ("vectors", "cross_domain", "base_model"))
    assert not [cell for cell in _given(tmp_path, kinds, *BOTH) if cell.kind == "study"]
