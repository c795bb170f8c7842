"""`[store] keep = "delta"`: checkpoints are kept as changes, trainings go on from exact weights, and those are removed."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from safetensors.numpy import load_file

from kits.processes import accident, finish, start
from kits.tiny_grid import TEXT, Built, bytes_below, contents, fingerprints, mmgrid, named, planned, write_grid
from mmgrid.families import compress, expand, state_dict
from mmgrid.grid.builders.merge import merged_weights
from mmgrid.grid.builders.models import evaluated_model
from mmgrid.grid.cells.cell import Cell, with_upstream
from mmgrid.grid.cells.stored import is_exact, needed
from mmgrid.grid.file.load import GridError, load_grid
from mmgrid.grid.standing.grid_store import GridStore
from mmgrid.merging.models.family.place import is_family
from mmgrid.runners import CellEvent, run_local
from mmgrid.store import Store

pytestmark = pytest.mark.slow

DELTA = '\n[store]\nkeep = "delta"\n'
ALONE = TEXT[: TEXT.index("[backbone]")] + TEXT[TEXT.index("[paradigms.sasrec]") : TEXT.index("[[merges]]")]
CHAIN, OLD, MIDDLE, NEW = (f"checkpoint/sasrec/garden/{phase}" for phase in ("", "pretrain", "phase1", "phase2"))
MODELS = ("--only", "evaluation/sasrec/garden/phase*")


def _grid(folder: Path, more: str = "") -> Built:
    folder.mkdir(exist_ok=True)
    return Built(write_grid(folder, ALONE + more), folder / "runs")


def _run(grid: Built, *arguments: object) -> Any:
    answer = mmgrid("run", grid.file, "--store", grid.root, "--jobs", 1, "--json", *arguments)
    assert answer.code == 0, answer.err
    return answer.outcome


def _checkpoints(names: list[str]) -> list[str]:
    return [name.removeprefix(CHAIN) for name in names if name.startswith("checkpoint/")]


def _exact_folders(grid: Built) -> list[str]:
    """The phases whose exact weights are in the store."""
    return sorted(path.parents[1].name for path in grid.root.glob("checkpoint/*/*/*/exact/????????"))


@pytest.fixture(scope="module")
def exact(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """One domain of a grid of SASRec whose checkpoints are stored exactly."""
    grid = _grid(tmp_path_factory.mktemp("exact") / "grid")
    _run(grid, *MODELS)
    return grid


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """The same, stored as changes. To be looked at only."""
    grid = _grid(tmp_path_factory.mktemp("kept") / "grid", DELTA)
    assert _checkpoints(_run(grid, *MODELS)["built"]) == [
        "pretrain",
        "phase1/exact",
        "phase1",
        "phase2/exact",
        "phase2",
    ]
    return grid


# ---- what is planned ---------------------------------------------------------------------------------------------


def test_only_what_is_stored_and_what_is_made_from_it_has_other_fingerprints(tmp_path: Path) -> None:
    alone = fingerprints(planned(tmp_path))
    assert fingerprints(planned(tmp_path, "store.keep='exact'")) == alone
    cells = planned(tmp_path, "store.keep='delta'")
    found = fingerprints(cells)
    trained = {name.removesuffix("/exact"): found.pop(name) for name in list(found) if name.endswith("/exact")}
    assert trained == {name: alone[name] for name in trained}, "the trainings are those of the exact grid"
    moved = {name for name in alone if found[name] != alone[name]}
    assert moved == {cell.name for cell in cells if cell.name in alone and _below_a_change(cell)}
    assert not any(name.endswith(("sasrec/garden/pretrain", "sasrec/garden/all")) for name in moved)
    assert {"checkpoint/semb/garden/pretrain", NEW, "evaluation/sasrec/garden/phase1"} <= moved
    fewer = fingerprints(planned(tmp_path, "store.keep='delta'", "store.bits=2"))
    assert {name for name in fewer if fewer[name] != {**found, **_exact(trained)}[name]} == moved


def _below_a_change(cell: Cell) -> bool:
    return any("part" in above.recipe and above.kind == "checkpoint" for above in with_upstream([cell]))


def _exact(trained: dict[str, str]) -> dict[str, str]:
    return {f"{name}/exact": print_ for name, print_ in trained.items()}


def test_a_model_may_be_called_exact() -> None:
    assert is_exact("checkpoint", ("semb", "garden", "phase1", "exact"))
    for kind, key in (("checkpoint", ("semb", "garden", "exact")), ("family", ("semb", "exact"))):
        assert not is_exact(kind, key)


def test_a_change_is_one_of_what_its_training_started_from(tmp_path: Path) -> None:
    further = "variants=[{name='further', start='newest', set={epochs=1}}]"
    cells = planned(tmp_path, "store.keep='delta'", further)
    for model, phase in (("pretrain", None), ("phase1", "pretrain"), ("phase2", "phase1"), ("further", "phase2")):
        cell = named(cells, f"checkpoint/semb/garden/{model}")
        before = f"checkpoint/semb/garden/{phase}" if phase else "base/semb"
        assert cell.upstream["start"].name == before
        trained = cell.upstream["exact"]
        assert trained.upstream["start"].name == (f"{before}/exact" if phase else before)
        assert (trained.temporary, cell.temporary) == (True, False)


def test_exact_weights_are_needed_while_something_is_built_from_them(tmp_path: Path) -> None:
    cells = planned(tmp_path, "store.keep='delta'", text=ALONE)

    def asked(*missing: str) -> list[str]:
        return [cell.name for cell in needed(cells, lambda cell: cell.name not in missing) if cell.temporary]

    assert asked() == []
    assert asked(MIDDLE) == [f"{MIDDLE}/exact"]
    assert asked(NEW) == [f"{NEW}/exact"], "which are there"
    assert asked(NEW, f"{NEW}/exact") == [f"{MIDDLE}/exact", f"{NEW}/exact"]
    assert asked(f"{MIDDLE}/exact", f"{NEW}/exact", OLD) == []


@pytest.mark.parametrize(
    ("store", "says"),
    [
        ('keep = "deltas"', "store.keep: should be 'exact' or 'delta' (it is 'deltas')"),
        ('keep = "delta"\nbits = 5', "store.bits: should be 2, 3, 4 or 8 (it is 5)"),
        ('keep = "delta"\ngroup = 4', "store.group: should be greater than or equal to 8 (it is 4)"),
        ("bits = 4", 'store: bits: is for keep = "delta"; set that, or remove this key'),
        ('kept = "delta"', "store.kept: unknown key; did you mean keep?"),
    ],
)
def test_wrong_values_name_themselves(store: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(GridError) as caught:
        load_grid(write_grid(tmp_path, f"{ALONE}\n[store]\n{store}\n"))
    assert says in str(caught.value)


# ---- what is stored ----------------------------------------------------------------------------------------------


def test_the_changes_are_those_of_the_exact_trainings(exact: Built, kept: Built, tmp_path: Path) -> None:
    """A training from other weights, or a change of another checkpoint, would give other bytes."""
    assert bytes_below(kept.folder(OLD)).keys() == bytes_below(exact.folder(OLD)).keys()
    assert (kept.folder(OLD) / "model.safetensors").read_bytes() == (
        exact.folder(OLD) / "model.safetensors"
    ).read_bytes()
    before = exact.folder(OLD)
    for name in (MIDDLE, NEW):
        out = tmp_path / Path(name).name
        compress(exact.folder(name), before, out)
        for file in ("delta.safetensors", "own.safetensors", "config.json", "mmgrid.json", "training.json"):
            assert (out / file).read_bytes() == (kept.folder(name) / file).read_bytes()
        before = out


def test_what_is_ranked_is_what_is_stored(exact: Built, kept: Built, tmp_path: Path) -> None:
    for name in (MIDDLE, NEW):
        evaluation = named(kept.cells, name.replace("checkpoint", "evaluation"))
        folders = {role: kept.store.folder(above.address) for role, above in evaluation.upstream.items()}
        _, model = evaluated_model(evaluation.recipe, folders)
        expand(kept.folder(name), tmp_path / Path(name).name)
        whole = load_file(tmp_path / Path(name).name / "model.safetensors")
        assert all((whole[key] == value.numpy()).all() for key, value in model.state_dict().items())
        answer = mmgrid("evaluate", tmp_path / Path(name).name, "--domain-dir", kept.folder("corpus/garden"), "--json")
        rows = pl.read_parquet(kept.store.folder(evaluation.address) / "rows.parquet")
        told = {(row["group"], row["metric"]): row["value"] for row in answer.json}
        assert told == {(row["group"], row["metric"]): row["value"] for row in rows.to_dicts()}
        trained = load_file(exact.folder(name) / "model.safetensors")
        assert any((trained[key] != value).any() for key, value in whole.items())


def test_a_later_phase_corrects_what_an_earlier_one_has_lost(exact: Built, kept: Built) -> None:
    def lost(name: str) -> float:
        trained = load_file(exact.folder(name) / "model.safetensors")
        stored = {key: value.numpy() for key, value in state_dict(kept.folder(name)).items()}
        return float(np.sqrt(sum(np.square(trained[key] - stored[key]).sum() for key in trained)))

    start = load_file(exact.folder(OLD) / "model.safetensors")
    newest = load_file(exact.folder(NEW) / "model.safetensors")
    change = float(np.sqrt(sum(np.square(newest[key] - start[key]).sum() for key in start)))
    assert 0 < lost(NEW) < 0.12 * change
    assert lost(NEW) < lost(MIDDLE) + 0.12 * change


def test_the_store_is_smaller_and_says_so(exact: Built, kept: Built) -> None:
    assert _exact_folders(kept) == []
    assert kept.store.leftovers() == []
    assert mmgrid("verify", kept.file, "--store", kept.root).code == 0
    for name in (MIDDLE, NEW):
        assert is_family(kept.folder(name))
        before, now = (
            sum(file.stat().st_size for file in grid.folder(name).glob("*.safetensors")) for grid in (exact, kept)
        )
        assert now < before / 4
        summary: Any = kept.store.record(named(kept.cells, name).address).summary
        trained = exact.store.record(named(exact.cells, name).address).summary
        assert (summary["plain_bytes"], summary["parameters"]) == (
            4 * int(summary["parameters"]),
            trained["parameters"],
        )
        assert {key: summary[key] for key in trained} == trained
        assert 0 < summary["error"] < 0.15
    lines = {line["name"]: line for line in mmgrid("plan", kept.file, "--store", kept.root, "--json").json}
    assert lines[NEW]["bytes"] == kept.store.size(named(kept.cells, NEW).address)
    assert lines["checkpoint/sasrec/kitchen/phase1/exact"]["bytes"] is None
    assert not {f"{MIDDLE}/exact", f"{NEW}/exact"} & lines.keys()
    told = mmgrid("results", kept.file, "--store", kept.root).out
    assert "2 checkpoints are stored as changes in 4 bits" in " ".join(told.split())
    assert "stored as changes" not in mmgrid("results", exact.file, "--store", exact.root).out


def test_a_stored_checkpoint_opens_and_merges_like_the_expanded_one(built: Built, tmp_path: Path) -> None:
    """With a tower model, whose first phase is a change of Θ⁽⁰⁾; exact checkpoints that are there are taken over."""
    grid = built.copy(tmp_path)
    write_grid(tmp_path, TEXT + DELTA)
    before = contents(grid.root)
    outcome = _run(grid)
    assert not any(cell.name.endswith("/exact") for cell in GridStore.open(grid.file, grid.root).cells)
    assert "checkpoint/semb/garden/pretrain/exact" in outcome["built"]
    assert {name: files for name, files in contents(grid.root).items() if name in before} == before
    merge = next(cell for cell in grid.cells if "merge" in cell.recipe and cell.recipe["paradigm"] == "semb")
    folders = {role: grid.store.folder(above.address) for role, above in merge.upstream.items()}
    _, model = evaluated_model(merge.recipe, folders)
    plain = {}
    for name in ("garden", "kitchen"):
        expand(folders[f"source:{name}"], tmp_path / name)
        plain[name] = tmp_path / name
    weights = merged_weights(merge.recipe["merge"], plain, folders.get("base"), keep=merge.recipe["domain"])
    assert all(model.state_dict()[key].equal(value) for key, value in weights.items())
    name = "checkpoint/semb/garden/pretrain"
    trained, start = (load_file(built.folder(one) / "model.safetensors") for one in (name, "base/semb"))
    stored = {key: value.numpy() for key, value in state_dict(grid.folder(name)).items()}
    for key, value in trained.items():
        if value.ndim > 1:
            assert 0 < np.linalg.norm(value - stored[key]) < 0.2 * np.linalg.norm(value - start[key])
        else:
            assert (value == stored[key]).all()
    answer = mmgrid(
        "recommend", name, "--grid", grid.file, "--store", grid.root, "--history", _item(grid, "garden"), "--json"
    )
    assert len(answer.json["items"]) == 10


def _item(grid: Built, domain: str) -> str:
    return str(pl.read_parquet(grid.folder(f"corpus/{domain}") / "items.parquet")["item_id"][0])


# ---- runs that end early, and later ones -------------------------------------------------------------------------


def test_an_interrupted_run_keeps_what_the_next_phase_starts_from(kept: Built, tmp_path: Path) -> None:
    grid = _grid(tmp_path / "grid", DELTA)
    view = GridStore.open(grid.file, grid.root)

    def stop(event: CellEvent) -> None:
        if (event.cell, event.state) == (MIDDLE, "built"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_local(view.chosen([NEW]), view.grid, view.store, jobs=1, on_event=stop, of_grid=view.cells)
    assert _exact_folders(grid) == ["phase1"]
    _run(grid, "--only", OLD)
    assert _exact_folders(grid) == ["phase1"], "another part of the grid is not built yet"
    death = "def dying(cell, *rest):\n    if cell.name == NAME: os.killpg(0, signal.SIGKILL)\n    return build_cell(cell, *rest)"
    killed = start(
        "run",
        grid.file,
        "--store",
        grid.root,
        "--jobs",
        1,
        "--only",
        NEW,
        environment=accident(tmp_path / "accident", f"NAME = {NEW!r}\n{death}\nworker.build_cell = dying"),
    )
    assert finish(killed)[0] == -9
    assert _exact_folders(grid) == ["phase2"], "from which nothing is built yet"
    assert _checkpoints(_run(grid, *MODELS)["built"]) == ["phase2"]
    assert _exact_folders(grid) == []
    found = contents(grid.root, "checkpoint", "evaluation")
    assert found == {
        name: files for name, files in contents(kept.root, "checkpoint", "evaluation").items() if name in found
    }
    assert len(found) == 5


def test_a_later_phase_is_trained_from_weights_that_are_trained_again(
    exact: Built, kept: Built, tmp_path: Path
) -> None:
    variant = "\n[[variants]]\nname = 'again'\nset = { epochs = 1 }\ndomains = ['garden']\n"
    grid = kept.copy(tmp_path)
    write_grid(tmp_path, ALONE + variant + DELTA)
    names = {line["name"]: line["state"] for line in mmgrid("plan", grid.file, "--store", grid.root, "--json").json}
    assert (names[f"{MIDDLE}/exact"], names[MIDDLE]) == ("missing", "built")
    before = bytes_below(grid.folder(MIDDLE))
    outcome = _run(grid, "--only", f"{CHAIN}again")
    assert _checkpoints(outcome["built"]) == ["phase1/exact", "again/exact", "again"]
    assert bytes_below(grid.folder(MIDDLE)) == before
    assert _exact_folders(grid) == []
    (tmp_path / "alone").mkdir()
    alone = exact.copy(tmp_path / "alone")
    write_grid(tmp_path / "alone", ALONE + variant)
    _run(alone, "--only", f"{CHAIN}again")
    compress(alone.folder(f"{CHAIN}again"), grid.folder(MIDDLE), tmp_path / "small")
    found = bytes_below(grid.folder(f"{CHAIN}again"))
    assert found["delta.safetensors"] == (tmp_path / "small/delta.safetensors").read_bytes()


def test_a_damaged_change_is_written_again(kept: Built, tmp_path: Path) -> None:
    grid = kept.copy(tmp_path)
    before = {name: contents(grid.root)[f"{name} {named(grid.cells, name).fingerprint}"] for name in (MIDDLE, NEW)}
    file = grid.folder(MIDDLE) / "delta.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    evaluation = named(grid.cells, NEW.replace("checkpoint", "evaluation"))
    grid.store.remove(evaluation.address)
    outcome = _run(grid, *MODELS)
    assert set(outcome["damaged"]) == {MIDDLE}, "the newest is read with the one before"
    assert _checkpoints(outcome["built"]) == ["phase1/exact", "phase1"]
    assert before == {name: contents(grid.root)[f"{name} {named(grid.cells, name).fingerprint}"] for name in before}
    assert _exact_folders(grid) == []
    shutil.rmtree(grid.folder(NEW))
    assert _checkpoints(_run(grid, *MODELS)["built"]) == ["phase1/exact", "phase2/exact", "phase2"]
    assert before[NEW] == contents(grid.root)[f"{NEW} {named(grid.cells, NEW).fingerprint}"]


def test_a_grid_that_changes_how_it_keeps_says_so_and_trains_nothing_twice(exact: Built, tmp_path: Path) -> None:
    grid = exact.copy(tmp_path)
    write_grid(tmp_path, ALONE + DELTA)
    answer = mmgrid("why", grid.file, NEW, "--store", grid.root)
    assert answer.out.strip() == "store.keep: 'exact' when it was built, 'delta' now"
    steps: list[CellEvent] = []
    view = GridStore.open(grid.file, grid.root)
    run_local(view.chosen([NEW]), view.grid, view.store, jobs=1, on_event=steps.append, of_grid=view.cells)
    assert not [event for event in steps if event.state == "progress"]
    assert {event.cell for event in steps if event.state == "built"} == {
        *(f"{name}{more}" for name in (MIDDLE, NEW) for more in ("", "/exact"))
    }
    removed = mmgrid("gc", grid.file, "--store", grid.root, "--yes", "--json").json["removed"]
    assert {folder.rpartition("/")[0] for folder in removed} >= {MIDDLE, NEW}
    assert Store(grid.root).has(named(grid.cells, NEW).address)
