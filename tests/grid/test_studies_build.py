"""The studies of a grid from its file to their tables, and the models of a sweep's points."""

import json
import re
import shutil
from pathlib import Path

import polars as pl
import pytest
import torch
from safetensors.torch import save_file

from kits.tiny_grid import STUDIED, Built, bytes_below, cells_of, contents, mmgrid, named, write_grid
from mmgrid.evaluation import GROUPS
from mmgrid.grid.builders import build_cell
from mmgrid.grid.builders.evaluation import known_users
from mmgrid.grid.builders.models import evaluated_model, line_between_phases
from mmgrid.grid.cells.cell import Cell
from mmgrid.grid.file.load import load_grid
from mmgrid.grid.standing.grid_store import GridStore
from mmgrid.grid.standing.results import study_tables
from mmgrid.grid.standing.state import survey
from mmgrid.merging import TensorFolder, merge_state_dicts
from mmgrid.merging.arrays.names import tower_of
from mmgrid.paradigms.checkpoints import load_checkpoint
from mmgrid.reporting.of_grid import grid_tables
from mmgrid.reporting.tables.labels import group_label
from mmgrid.runners import run_local
from mmgrid.store import Store
from mmgrid.studies.contract import PartScales
from mmgrid.studies.model_parts import parts_of
from mmgrid.studies.registry import STUDIES

pytestmark = pytest.mark.slow

DOMAINS = ("attic", "garden", "kitchen")


def _table(built: Built, study: str, table: str) -> pl.DataFrame:
    return pl.read_parquet(built.folder(f"study/{study}/semb") / f"{table}.parquet")


def test_every_study_has_its_tables(studied: Built) -> None:
    for name, study in STUDIES.items():
        for table, schema in study.tables.items():
            found = _table(studied, name, table)
            assert found.schema == schema
            if table not in ("findings", "predictors"):  # predictors need four domains
                assert found.height
    assert set(_table(studied, "temporal", "best")["domain"]) == set(DOMAINS)
    assert _table(studied, "advise", "predictions").height == 3
    assert set(_table(studied, "base_model", "best")["base"]) == {
        "backbone",
        "historical: garden",
        "historical: kitchen",
        "neutral",
    }


def test_the_path_of_a_store_is_no_pattern(studied: Built, tmp_path: Path) -> None:
    """Beside the store is one that its path would fit, were it a pattern, with other numbers."""
    shutil.copytree(studied.root, tmp_path / "run[1]*?")
    here = Built(studied.file, tmp_path / "run[1]*?")
    tables = [path.relative_to(here.root) for path in here.root.rglob("*.parquet")]
    for path in tables:
        decoy = tmp_path / "run1xx" / path
        decoy.parent.mkdir(parents=True, exist_ok=True)
        pl.read_parquet(here.root / path, glob=False).clear().write_parquet(decoy)
    for arguments in (("results",), ("results", "--study", "temporal"), ("advise", "--paradigm", "semb")):
        words = (arguments[0], studied.file, *arguments[1:], "--json", "--store")
        answer = mmgrid(*words, here.root)
        assert answer.code == 0, answer.err
        assert answer.json == mmgrid(*words, studied.root).json
    known, found = (grid_tables(GridStore.open(g.file, g.root), g.file) for g in (studied, here))
    for name in ("changes", "months", "results"):
        assert getattr(found, name).equals(getattr(known, name))
    for study in ("temporal", "recency"):
        cell = named(here.cells, f"study/{study}/semb")
        before = bytes_below(here.store.folder(cell.address))
        here.store.remove(cell.address)
        assert build_cell(cell, here.grid, here.store) == "built"
        after = bytes_below(here.store.folder(cell.address))
        assert {path for path in before if before[path] != after[path]} == {"record.json"}


def test_the_ends_of_a_sweep_are_the_checkpoints_own_evaluations(studied: Built) -> None:
    curve = _table(studied, "temporal", "curve")
    for scale, phase in ((0.0, "phase1"), (1.0, "phase2")):
        for domain in DOMAINS:
            known = pl.read_parquet(studied.folder(f"evaluation/semb/{domain}/{phase}") / "rows.parquet")
            own = curve.filter((pl.col("domain") == domain) & (pl.col("scale") == scale))
            joined = own.join(known, on=["group", "metric"])
            assert joined.height == own.height == 12
            for name in ("value", "low", "high", "n_users"):
                assert joined[name].to_list() == joined[f"{name}_right"].to_list()


def test_recency_and_advise_agree_with_temporal_and_the_corpora(studied: Built) -> None:
    best = _table(studied, "temporal", "best").filter(pl.col("group") == "non_active")
    places = dict(zip(best["domain"], best["best"], strict=True))
    recency = {row["domain"]: row for row in _table(studied, "recency", "recency").to_dicts()}
    predictions = {row["domain"]: row for row in _table(studied, "advise", "predictions").to_dicts()}
    for domain in DOMAINS:
        expected = studied.store.record(named(studied.cells, f"corpus/{domain}").address).summary["statistics"]
        assert recency[domain]["best"] == predictions[domain]["best"] == places[domain]
        assert recency[domain]["gap_days"] == predictions[domain]["gap_days"] == expected["gap_days"]
        assert predictions[domain]["active_ratio"] == expected["active_ratio"]


def _ranks_of(built: Built, cell: Cell, weights, like: Path) -> list[int]:
    """The ranks by a model with these weights, computed without a sweep."""
    paradigm, model = load_checkpoint(like, "semb")
    model.load_state_dict(weights)
    corpus = built.store.folder(cell.upstream["corpus"].address)
    known = known_users(corpus, built.grid.spec.phases.calendar(), cell.recipe)
    return paradigm.rank(model, known.users.histories, known.items, known.users.targets).tolist()


def _kept(built: Built, cell: Cell) -> list[int]:
    return pl.read_parquet(built.store.folder(cell.address) / "ranks.parquet")["rank"].to_list()


def _same(ranks: list[int], kept: list[int]) -> None:
    """A line and a merge add in different orders, so rounding may exchange two items."""
    moved = [abs(one - other) for one, other in zip(ranks, kept, strict=True) if one != other]
    assert max(moved, default=0) <= 1
    assert len(moved) <= len(ranks) // 10


@pytest.mark.parametrize("scale", [-0.5, 1.5])
def test_a_point_across_time_equals_a_merge(studied: Built, scale: float) -> None:
    cell = named(studied.cells, f"evaluation/semb/garden/temporal={scale}")
    start, end = (studied.store.folder(cell.upstream[role].address) for role in ("start", "end"))
    with TensorFolder(start) as old, TensorFolder(end) as new:
        weights = merge_state_dicts("task_arithmetic", {"end": new}, base=old, scale=scale)
    _same(_ranks_of(studied, cell, weights, start), _kept(studied, cell))


def test_a_line_across_time_goes_from_one_checkpoint_to_the_other(studied: Built, tmp_path: Path) -> None:
    """The two phases of this small grid hardly differ, so the newer one is moved away."""
    start, end = studied.folder("checkpoint/semb/garden/phase1"), tmp_path / "end"
    shutil.copytree(start, end)
    with TensorFolder(start) as tensors:
        old = merge_state_dicts("linear", {"": tensors})
    draw = torch.Generator().manual_seed(0)
    new = {name: weight + torch.randn(weight.shape, generator=draw) for name, weight in old.items()}
    save_file(new, end / "model.safetensors", metadata={"format": "pt"})
    _, line = line_between_phases(start, end, "semb")
    for scale in (0.3, 1.5, -0.5):
        walked = line.at(scale).state_dict()
        for name, weight in old.items():
            torch.testing.assert_close(walked[name], weight + scale * (new[name] - weight), rtol=1e-5, atol=1e-5)


def test_a_model_with_a_lambda_per_tower_has_each_tower_at_its_own(studied: Built) -> None:
    cell = named(studied.cells, "evaluation/semb/garden/temporal=0.5")
    folders = {role: studied.store.folder(above.address) for role, above in cell.upstream.items()}
    with TensorFolder(folders["start"]) as old, TensorFolder(folders["end"]) as new:
        towers = {tower_of(name) for name in old}
        scales = dict(zip(sorted(towers), (0.25, 1.5, 2.0), strict=False))
        wanted = {
            name: merge_state_dicts("task_arithmetic", {"end": new}, base=old, scale=scales[tower_of(name)])[name]
            for name in old
        }
    assert {"item_tower", "user_tower"} <= towers
    recipe = {**cell.recipe, "line": {**cell.recipe["line"], "at": PartScales("tower", scales)}}
    _, model = evaluated_model(recipe, folders)
    found = model.state_dict()
    for name, weight in wanted.items():
        torch.testing.assert_close(found[name], weight, rtol=1e-5, atol=1e-6)


def test_parts_are_those_of_the_checkpoint(studied: Built) -> None:
    folder = studied.folder("checkpoint/semb/garden/phase2")
    assert {"item_tower", "user_tower"} <= set(parts_of(folder, "tower"))
    assert parts_of(folder, "third") == ["early", "late", "outside"]
    chosen = _table(studied, "temporal_parts", "chosen")
    assert set(chosen.filter(per="tower")["part"]) == set(parts_of(folder, "tower"))
    assert set(chosen["first"]) <= {-0.5, 0.0, 0.5, 1.0, 1.5}


@pytest.mark.parametrize("base", ["backbone", "kitchen", "neutral"])
def test_a_point_over_another_base_equals_a_merge(studied: Built, base: str) -> None:
    cell = named(studied.cells, f"evaluation/semb/kitchen/subspace-{base}=0.5-garden+0.5-kitchen")
    folders = {d: studied.folder(f"checkpoint/semb/{d}/phase2") for d in ("garden", "kitchen")}
    old = {d: TensorFolder(studied.folder(f"checkpoint/semb/{d}/phase1")) for d in ("garden", "kitchen")}
    sources = {domain: TensorFolder(folder) for domain, folder in folders.items()}
    below = {
        "backbone": lambda: TensorFolder(studied.folder("base/semb")),
        "kitchen": lambda: old["kitchen"],
        "neutral": lambda: merge_state_dicts("linear", old),
    }[base]()
    line = cell.recipe["line"]
    weights = merge_state_dicts(
        line["method"], sources, base=below, weights=dict.fromkeys(sources, 0.5), seed=0, **line["options"]
    )
    ranks = _ranks_of(studied, cell, weights, folders["garden"])
    _same(ranks, _kept(studied, cell))


def test_published_points_of_a_sweep_stay_when_the_rest_is_built(studied: Built, tmp_path: Path) -> None:
    """As after a kill between two points, and in a different order than before."""
    copy = studied.copy(tmp_path)
    before = contents(copy.root, "evaluation", "study")
    points = [f"evaluation/semb/garden/temporal={scale}" for scale in ("-0.5", "0.5", "1.5")]
    for name in (*points, "study/temporal/semb"):
        copy.store.remove(named(copy.cells, name).address)
    only = mmgrid("run", copy.file, "--store", copy.root, "--only", points[1], "--jobs", 1, "--json").outcome
    assert only["built"] == [points[1]]
    record = copy.folder(points[1]) / "record.json"
    written = record.read_bytes()
    rest = mmgrid("run", copy.file, "--store", copy.root, "--only", "study/temporal/*", "--jobs", 1, "--json").outcome
    assert sorted(rest["built"]) == sorted([points[0], points[2], "study/temporal/semb"])
    assert points[1] in rest["present"]
    assert record.read_bytes() == written
    assert contents(copy.root, "evaluation", "study") == before


def test_results_print_the_numbers_of_the_tables(studied: Built) -> None:
    arguments = ("results", studied.file, "--store", studied.root, "--study")
    for name, study in STUDIES.items():
        expected = mmgrid(*arguments, name, "--json").json
        assert expected.keys() == study.tables.keys()
        for table, rows in expected.items():
            folders = [studied.folder(cell.name) for cell in studied.cells if cell.name.startswith(f"study/{name}/")]
            kept = pl.concat([pl.read_parquet(folder / f"{table}.parquet") for folder in folders])
            floats = [column for column, kind in kept.schema.items() if kind == pl.Float64]
            assert rows == kept.with_columns(pl.col(floats).fill_nan(None)).to_dicts()
    text = mmgrid(*arguments, "temporal").out
    assert "temporal: best" in text
    assert all(domain in text for domain in DOMAINS)
    wrong = mmgrid(*arguments, "tempral")
    assert wrong.code == 2
    assert "tempral: must be one of baselines, vectors" in wrong.err


def test_the_report_contains_the_numbers_of_the_studies_to_the_last_digit(studied: Built, tmp_path: Path) -> None:
    out = tmp_path / "report.html"
    answer = mmgrid("report", studied.file, "--store", studied.root, "--out", out, "--json").json
    pictures = [Path(path) for path in answer["figures"]]
    assert {path.parent for path in pictures} == {tmp_path / "report-figures"}
    assert {path.suffix for path in pictures} == {".svg", ".pdf"}
    payload = re.search(r'<script type="application/json"[^>]*>(.*?)</script>', out.read_text(), re.DOTALL)
    assert payload
    exports = json.loads(payload[1])["exports"]
    for study, table in (("temporal", "best"), ("recency", "recency"), ("advise", "predictions")):
        expected = mmgrid("results", studied.file, "--store", studied.root, "--study", study, "--json").json[table]
        shown = pl.read_csv(exports[f"table-{table}"]["csv"].encode())
        if "users" in shown.columns:
            shown = shown.with_columns(group=pl.col("users").replace_strict({group_label(g): g for g in GROUPS}))
        key = [name for name in ("paradigm", "seed", "domain", "group") if name in shown.columns]
        rows = {tuple(row[name] for name in key): row for row in expected}
        lines = {tuple(line[name] for name in key): line for line in shown.to_dicts()}
        assert lines.keys() == rows.keys()
        for place, line in lines.items():
            numbers = [name for name in line if isinstance(rows[place].get(name), float)]
            assert len(numbers) >= 3
            assert [line[name] for name in numbers] == [rows[place][name] for name in numbers]


def test_a_missing_study_is_reported(built: Built, studied: Built) -> None:
    arguments = ("results", studied.file, "--store", built.root, "--study", "recency")
    answer = mmgrid(*arguments)
    assert answer.code == 1
    assert "the study recency is not built; `mmgrid run GRID --only 'study/recency/*'` builds it" in answer.err
    answer = mmgrid(*arguments, "--set", "studies=[]")
    assert "the study recency is not in the grid; add it under [[studies]]" in answer.err


def test_points_of_a_sweep_are_not_among_the_results(studied: Built) -> None:
    models = {row["model"] for row in mmgrid("results", studied.file, "--store", studied.root, "--json").json}
    assert "phase2" in models
    assert not [model for model in models if "temporal" in model or "subspace-" in model]


def test_a_plan_shows_a_sweep_as_one_line(studied: Built, tmp_path: Path) -> None:
    lines = mmgrid("plan", studied.file, "--store", studied.root).out.splitlines()
    for domain in DOMAINS:
        (line,) = (line for line in lines if f"{domain} temporal: " in line)
        assert "3 points" in line
        assert "built" in line
    assert not [line for line in lines if "temporal=" in line]
    text = mmgrid("plan", studied.file, "--store", tmp_path / "runs", "--set", "seeds=[0, 1]").out
    (line,) = (line for line in text.splitlines() if "garden temporal: " in line)
    assert "6 points" in line, "the points of both seeds stand on it"


def test_advise_prints_text_and_json(studied: Built) -> None:
    arguments = ("advise", studied.file, "--store", studied.root)
    found = mmgrid(*arguments, "--json").json
    assert [advice["domain"] for advice in found] == list(DOMAINS)
    expected = studied.store.record(named(studied.cells, "corpus/garden").address).summary["statistics"]
    assert found[1]["gap_days"] == expected["gap_days"]
    for advice in found:  # two other domains make no line that can be tested
        assert advice["source"].startswith("the paper's Table 4")
        assert len(advice["points"]) == 6
        share = advice["active_ratio"]
        assert advice["scale"] == pytest.approx((1 - share) * advice["predicted"] + share)
    text = mmgrid(*arguments, "--domain", "garden").out
    assert f"garden: λ̂ = {found[1]['scale']:.3f}" in text
    assert "attic" not in text
    for sentence in found[1]["trust"]:
        assert sentence in text
    wrong = mmgrid(*arguments, "--domain", "shed")
    assert wrong.code == 2
    assert "shed: the grid has attic, garden, kitchen" in wrong.err


# ---- checkpoints that somebody else trained -----------------------------------------------------------------------


def _given(folder: Path, places: list[tuple[str, str, str, Path]], studies: str = "") -> Path:
    """A grid that trains nothing; `places`: paradigm, domain, phase and path of each checkpoint."""
    head = STUDIED[: STUDIED.index("[backbone]")]
    blocks = [
        f'[[checkpoints]]\nparadigm = "{p}"\ndomain = "{domain}"\nphase = "{phase}"\npath = "{path}"\n'
        for p, domain, phase, path in places
    ]
    folder.mkdir(exist_ok=True)
    return write_grid(folder, head + "\n".join(blocks) + studies)


def test_studies_of_external_checkpoints_train_nothing(studied: Built, tmp_path: Path) -> None:
    """A semb checkpoint of this package gives the same tables; any language model can be evaluated as `pooled`."""
    other = tmp_path / "llm"
    shutil.copytree(studied.folder("backbone/tiny"), other)
    with TensorFolder(other) as tensors:
        moved = {
            name: weight + 0.02 * weight.sign() for name, weight in merge_state_dicts("linear", {"": tensors}).items()
        }
    save_file(moved, other / "model.safetensors", metadata={"format": "pt"})
    places = [
        ("semb", domain, phase, studied.folder(f"checkpoint/semb/{domain}/{phase}"))
        for domain in DOMAINS
        for phase in ("phase1", "phase2")
    ]
    places += [("pooled", domain, "phase1", studied.folder("backbone/tiny")) for domain in DOMAINS]
    places += [("pooled", domain, "phase2", other) for domain in DOMAINS]
    studies = STUDIED[STUDIED.index('[[studies]]\nkind   = "temporal"') :]
    file, root = _given(tmp_path / "given", places, studies), tmp_path / "runs"
    outcome = mmgrid("run", file, "--store", root, "--jobs", 2, "--json").outcome
    assert not outcome["failed"]
    assert not outcome["blocked"]
    given = Built(file, root)
    assert not any(name.startswith(("backbone/", "base/")) for name in outcome["built"])
    for study in ("temporal", "recency", "advise"):
        for table in STUDIES[study].tables:
            assert _table(given, study, table).equals(_table(studied, study, table)), (study, table)
            assert pl.read_parquet(given.folder(f"study/{study}/pooled") / f"{table}.parquet").schema
    ends = [_kept(given, named(given.cells, f"evaluation/pooled/garden/{phase}")) for phase in ("phase1", "phase2")]
    assert ends[0] != ends[1]
    records, _ = survey(given.cells, given.store)
    assert set(study_tables(records, given.store)["temporal"]["best"]["paradigm"]) == {"semb", "pooled"}


def test_an_unsuitable_external_checkpoint_is_refused(studied: Built, tmp_path: Path) -> None:
    changed = tmp_path / "changed"
    shutil.copytree(studied.folder("checkpoint/semb/attic/phase1"), changed)
    later, sasrec = studied.folder("checkpoint/semb/garden/phase2"), studied.folder("checkpoint/sasrec/kitchen/phase2")
    places = [
        ("semb", "garden", "phase1", later),
        ("semb", "kitchen", "phase2", sasrec),
        ("semb", "attic", "phase1", changed),
        ("semb", "attic", "phase2", changed),
    ]
    grid = load_grid(_given(tmp_path / "given", places))
    cells = [cell for cell in cells_of(grid) if cell.kind == "checkpoint"]
    facts = json.loads((changed / "mmgrid.json").read_text())
    (changed / "mmgrid.json").write_text(json.dumps(facts | {"domain": "shed"}))
    outcome = run_local(cells, grid, Store(tmp_path / "runs"), jobs=1)
    assert outcome.built == ()
    assert "was trained on data after phase1" in outcome.failed["checkpoint/semb/garden/phase1"]
    assert str(later) in outcome.failed["checkpoint/semb/garden/phase1"]
    assert outcome.failed["checkpoint/semb/kitchen/phase2"].startswith(
        f"{sasrec}: contains a model of sasrec, not of semb (log: "
    )
    for phase in ("phase1", "phase2"):
        assert (
            f"{changed}: its files changed while the grid was being built"
            in outcome.failed[f"checkpoint/semb/attic/{phase}"]
        )


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    file = _given(tmp_path, [("semb", "garden", "phase1", tmp_path / "nowhere")])
    answer = mmgrid("plan", file, "--store", tmp_path / "runs")
    assert answer.code == 1
    assert f"checkpoints: semb garden phase1: no folder {tmp_path}/nowhere" in answer.err
