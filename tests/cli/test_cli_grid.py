"""plan, run, status, why and gc, on a built grid and on incomplete copies of it."""

import io
import json
from pathlib import Path

import pytest

from kits.processes import kill, start, until
from kits.tiny_grid import TEXT, Built, bytes_below, mmgrid, named, write_grid
from mmgrid.grid.cells.cell import STEP_VERSIONS
from mmgrid.paradigms.sasrec.spec import SPEC as SASREC

NEWEST = "checkpoint/semb/garden/phase2"
RANKED = "evaluation/semb/garden/phase2"


def _damage(grid: Built, name: str) -> Path:
    record = grid.folder(name) / "record.json"
    record.write_bytes(record.read_bytes()[:100])
    return record


# ---- plan


def test_a_plan_of_a_built_grid(built: Built) -> None:
    cells = mmgrid("plan", built.file, "--store", built.root, "--json").json
    assert [cell["name"] for cell in cells] == [cell.name for cell in built.cells]
    assert [cell["fingerprint"] for cell in cells] == [cell.fingerprint for cell in built.cells]
    assert {cell["state"] for cell in cells} == {"built"}
    for cell in cells:
        assert Path(cell["folder"], "record.json").is_file()
        assert cell["seconds"] > 0
    text = mmgrid("plan", built.file, "--store", built.root)
    assert text.code == 0
    assert text.out.startswith(f"tiny ({len(cells)} cells)\n")
    assert text.out.count(" built ") == len(cells)
    assert text.out.endswith("0 cells to build: about 0 s of work on one core\n")


def test_a_plan_shows_the_cost_of_missing_cells(copied: Built) -> None:
    for name in (NEWEST, RANKED, "corpus/kitchen"):
        copied.store.remove(named(copied.cells, name).address)
    cells = {cell["name"]: cell for cell in mmgrid("plan", copied.file, "--store", copied.root, "--json").json}
    assert {name for name, cell in cells.items() if cell["state"] == "missing"} == {NEWEST, RANKED, "corpus/kitchen"}
    assert all(cells[name]["seconds"] > 0 for name in (NEWEST, RANKED, "corpus/kitchen"))
    more = mmgrid(
        "plan", copied.file, "--store", copied.root, "--json", "--set", "paradigms.sasrec.epochs=200", "--only", "*all"
    ).json
    costs = {cell["name"]: cell["seconds"] for cell in more if cell["state"] == "missing"}
    before = copied.store.record(named(copied.cells, "checkpoint/sasrec/garden/all").address).seconds
    assert costs["checkpoint/sasrec/garden/all"] > 10 * before  # a hundred times the epochs
    assert costs["checkpoint/sasrec/kitchen/all"] is None  # its corpus is gone, and with it the number of interactions
    text = mmgrid("plan", copied.file, "--store", copied.root).out
    assert text.count(" missing about ") == 3
    assert "3 cells to build: about " in text
    assert "With 2 at a time about " in mmgrid("plan", copied.file, "--store", copied.root, "--jobs", "2").out
    refused = mmgrid("plan", copied.file, "--store", copied.root, "--jobs", "2", "--device", "h100")
    assert (refused.code, refused.err) == (1, "mmgrid: --jobs: is for cores; --devices says how many GPUs there are\n")


def test_a_plan_says_where_bf16_is_slow(copied: Built, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = (
        "plan",
        copied.file,
        "--store",
        copied.root,
        "--only",
        "checkpoint/sasrec/garden/all",
        "--device",
        "cpu",
    )
    slower = (*arguments, "--set", "paradigms.sasrec.precision=bf16")
    monkeypatch.setattr("mmgrid.cli.session.fast_bf16", lambda: False)
    assert mmgrid(*slower).err.startswith("mmgrid: sasrec: bf16 is emulated on this processor")
    assert not mmgrid(*arguments).err
    monkeypatch.setattr("mmgrid.cli.session.fast_bf16", lambda: True)
    assert not mmgrid(*slower).err


def test_a_plan_does_not_count_an_unknown_cost_as_zero(built: Built, tmp_path: Path) -> None:
    arguments = ("plan", built.file, "--store", tmp_path / "runs", "--only", "evaluation/sasrec/garden/p*")
    costs = [cell["seconds"] for cell in mmgrid(*arguments, "--json").json]
    assert costs == [1.0] + [None] * 6
    assert "\nMemory: its sizes are unknown until their corpus is built\n" in mmgrid(*arguments, "--memory").out
    none = mmgrid(*arguments[:-1], "corpus/garden", "--memory").out
    assert "\nMemory: its sizes are of trainings, and there are none\n" in none
    assert mmgrid(*arguments).out.endswith(
        "7 cells to build: at least 1 s of work on one core; the cost of 6 of them is unknown until their corpus is built\n"
    )


def test_a_plan_says_which_sizes_it_does_not_know(tmp_path: Path) -> None:
    """Of a mixture of experts over data whose sizes the grid file names."""
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text(json.dumps({"model_type": "mixtral", "num_local_experts": 8}))
    interactions = "{ pretrain = 900, phase1 = 90, phase2 = 90, test = 90 }"
    head, _, tail = TEXT.partition("[backbone]")
    head = head.replace('"synthetic"', '"parquet"\nroot = "data"').replace(
        "[data.synthetic]\nusers = 150\nitems = 120\nmean_interactions = 10\n",
        "".join(
            f"[data.expected.{domain}]\ninteractions = {interactions}\ntest_users = 40\n"
            for domain in ("garden", "kitchen")
        ),
    )
    trained = tail[tail.index("[paradigms.semb]") : tail.index("[[merges]]")]
    file = write_grid(tmp_path, f'{head}[backbone]\nkind = "pretrained"\npath = "model"\n{trained}')
    answer = mmgrid("plan", file, "--store", tmp_path / "runs", "--memory", "--device", "NVIDIA A100-SXM4-80GB")
    assert answer.code == 0, answer.err
    of = "as the sizes of their language model are not known: its config.json is not here, or of a kind that is not counted"
    assert f"\nMemory: the sizes of 6 trainings are unknown {of}\n" in answer.out
    assert f" of them is unknown {of}; at least:\n" in answer.out
    assert "sasrec/garden/pretrain " in answer.out
    assert "1 × a100" in answer.out


def test_a_plan_of_some_cells_shows_them_and_their_upstream(built: Built) -> None:
    cells = mmgrid("plan", built.file, "--store", built.root, "--json", "--only", "evaluation/sasrec/garden/*1").json
    assert [cell["name"] for cell in cells] == [
        "corpus/garden",
        "checkpoint/sasrec/garden/pretrain",
        "checkpoint/sasrec/garden/phase1",
        "evaluation/sasrec/garden/phase1",
    ]
    nothing = mmgrid("plan", built.file, "--store", built.root, "--only", "nothing/*")
    assert nothing.code == 1
    assert nothing.err == "mmgrid: --only nothing/*: no cell matches; `mmgrid plan` lists all cells\n"


def test_a_plan_builds_no_cell(built: Built, tmp_path: Path) -> None:
    mmgrid("plan", built.file, "--store", tmp_path / "runs")
    assert set(bytes_below(tmp_path / "runs")) <= {"store.json", "digests.json"}


# ---- run


def test_a_run_of_a_built_grid_builds_nothing(built: Built) -> None:
    answer = mmgrid("run", built.file, "--store", built.root)
    assert answer.code == 0
    lines = answer.out.splitlines()
    assert lines[0] == f"tiny: {len(built.cells)} cells, 0 to build in {built.root}"
    assert lines[1].startswith(f"0 built, {len(built.cells)} already there, in ")
    outcome = mmgrid("run", built.file, "--store", built.root, "--json").outcome
    assert outcome == {"built": [], "present": [cell.name for cell in built.cells], "failed": {}, "blocked": {}}


def test_a_run_prints_the_cells_it_builds_and_no_others(copied: Built) -> None:
    for name in ("evaluation/baseline/garden/random", RANKED):
        copied.store.remove(named(copied.cells, name).address)
    answer = mmgrid("run", copied.file, "--store", copied.root, "--only", "evaluation/baseline/*", "--jobs", "1")
    assert answer.code == 0
    assert "1/1 built   evaluation/baseline/garden/random  " in answer.out
    assert "1 built, 5 already there, in " in answer.out
    assert not copied.store.has(named(copied.cells, RANKED).address)


# ---- a damaged record


def test_a_damaged_record_is_reported_by_every_command_and_breaks_none(copied: Built, tmp_path: Path) -> None:
    record = _damage(copied, RANKED)
    store = ("--store", copied.root)
    says = f"{record}: cannot be read as a record ("

    plan = mmgrid("plan", copied.file, *store, "--json")
    assert plan.code == 0
    assert [cell["name"] for cell in plan.json if cell["state"] == "damaged"] == [RANKED]
    text = mmgrid("plan", copied.file, *store)
    assert "phase2  damaged about " in text.out

    run = mmgrid("run", copied.file, *store)
    assert run.code == 1
    assert f"failed  {RANKED}: {says}" in run.out
    assert f"0 built, {len(copied.cells) - 1} already there" in run.out
    assert mmgrid("run", copied.file, *store, "--json").outcome["failed"].keys() == {RANKED}

    why = mmgrid("why", copied.file, RANKED, *store)
    assert why.code == 1
    assert why.err.startswith(f"mmgrid: {says}")

    results = mmgrid("results", copied.file, *store, "--json")
    assert results.code == 0
    rows = {(row["paradigm"], row["domain"], row["model"]) for row in results.json}
    assert ("semb", "garden", "phase2") not in rows
    assert ("semb", "kitchen", "phase2") in rows

    report = mmgrid("report", copied.file, *store, "-o", tmp_path / "report.html")
    assert report.code == 0
    for answer in (plan, text, results, report):
        assert answer.err.startswith(f"mmgrid: {says}")
        assert answer.err.count("\n") == 1

    status = mmgrid("status", *store, "--json").json
    assert list(status["damaged"]) == [str(record.parent)]
    assert status["kinds"]["evaluation"]["cells"] == sum(cell.kind == "evaluation" for cell in copied.cells) - 1
    assert "damaged: " in mmgrid("status", *store).out
    assert mmgrid("gc", copied.file, *store, "--yes").code == 0
    assert record.stat().st_size == 100


# ---- status


def test_the_status_of_a_store(built: Built) -> None:
    facts = mmgrid("status", "--store", built.root, "--json").json
    kinds = {kind: facts["kinds"][kind]["cells"] for kind in facts["kinds"]}
    assert kinds == {kind: sum(cell.kind == kind for cell in built.cells) for kind in kinds}
    assert facts["store"] == str(built.root)
    assert (facts["in_work"], facts["leftovers"], facts["damaged"]) == ([], [], {})
    on_disk = sum(path.stat().st_size for path in (built.root / "checkpoint").rglob("*") if path.is_file())
    assert facts["kinds"]["checkpoint"]["bytes"] == on_disk
    text = mmgrid("status", "--store", built.root).out
    for kind in kinds:
        assert f"\n{kind} " in text


def test_the_status_shows_work_in_progress_and_leftovers(copied: Built) -> None:
    """A killed run leaves a work folder: `status` shows it, and `gc` removes it only after asking."""
    cell = named(copied.cells, "corpus/garden")
    copied.store.remove(cell.address)
    folder = copied.store.folder(cell.address)
    run = start("run", copied.file, "--store", copied.root, "--only", "corpus/*")
    until(lambda: folder.with_suffix(".work").exists() or folder.exists(), run)
    kill(run)
    folder.with_suffix(".work").mkdir(exist_ok=True)  # it may have been too fast to be killed in time
    status = mmgrid("status", "--store", copied.root, "--json").json
    work = str(folder.with_suffix(".work"))
    assert status["in_work"] == [str(Path(work).relative_to(copied.root))]
    assert work in status["leftovers"]
    assert f"left over: {work}" in mmgrid("status", "--store", copied.root).out
    assert mmgrid("gc", copied.file, "--store", copied.root, "--yes").code == 0
    assert not Path(work).exists()


# ---- why


def test_why_says_that_a_default_changed(built: Built, monkeypatch: pytest.MonkeyPatch) -> None:
    in_one_go = "checkpoint/sasrec/garden/all"
    folder, store = built.folder(in_one_go), ("--store", built.root)
    monkeypatch.setattr(type(SASREC), "tiny_defaults", {"weight_decay": 0.25, "least_steps": {"all": 40}})
    assert mmgrid("why", built.file, in_one_go, *store).out.splitlines() == [
        "least_steps: '(absent)' when it was built, 40 now, a new default; `paradigms.sasrec.least_steps.all = 0` in the "
        "grid file keeps the old one",
        "weight_decay: 0 when it was built, 0.25 now, a new default; `paradigms.sasrec.weight_decay = 0` in the grid file "
        "keeps the old one",
    ]
    pins = ("--set", "paradigms.sasrec.least_steps.all=0", "--set", "paradigms.sasrec.weight_decay=0")
    assert mmgrid("why", built.file, in_one_go, *store, *pins).out == f"{in_one_go} is built: {folder}\n"


def test_why_a_cell_is_built_again(built: Built) -> None:
    store = ("--store", built.root)
    assert mmgrid("why", built.file, NEWEST, *store).out == f"{NEWEST} is built: {built.folder(NEWEST)}\n"
    settings = ("--set", "paradigms.semb.epochs={pretrain=1, phase1=1, phase2=3}")
    assert mmgrid("why", built.file, NEWEST, *store, *settings).out == "epochs: 1 when it was built, 3 now\n"
    evaluated = mmgrid("why", built.file, RANKED, *store, *settings).out
    assert evaluated.startswith(f"model: {NEWEST} has changed (")
    assert evaluated.count("\n") == 1
    assert (
        "new default" not in mmgrid("why", built.file, NEWEST, *store, "--set", "paradigms.semb.weight_decay=0.5").out
    )
    untouched = mmgrid("why", built.file, "checkpoint/semb/garden/phase1", *store, *settings, "--json").json
    assert untouched["built"] is True
    games = ("--set", 'data.domains=["games", "garden", "kitchen"]')
    new = mmgrid("why", built.file, "corpus/games", *store, *games, "--json").json
    assert new == {
        "cell": "corpus/games",
        "built": False,
        "reasons": ["corpus/games has never been built in this store"],
    }
    nested = mmgrid("why", built.file, "corpus/garden", *store, "--set", "data.synthetic.domains.garden.drift=0.9").out
    assert nested == "world.drift: 0.3 when it was built, 0.9 now\n"


def test_why_finds_a_cell_under_its_old_name(built: Built, tmp_path: Path) -> None:
    """A merge is the same whatever it is called; an evaluation, too, whose recipe has the name."""
    named = '[[merges]]\nname = "{}"\nparadigms = ["semb"]\nkeep = true\nevaluate_on = ["garden"]\n'
    grown = built.grown(tmp_path, TEXT + named.format("old"))
    write_grid(tmp_path, TEXT + named.format("new"))
    for before, now in (("merge/semb/old", "merge/semb/new"), ("evaluation/semb/garden/old",) * 2):
        now = now.replace("/old", "/new")
        assert mmgrid("why", grown.file, now).out == (
            f"{now} has never been built in this store under this name; {before} is the same, and with that name nothing "
            "has to be built\n"
        )


def test_why_for_a_raised_step_version(built: Built, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(STEP_VERSIONS, "corpus", 2)
    answer = mmgrid("why", built.file, "corpus/garden", "--store", built.root)
    assert answer.out == ("nothing in its recipe or upstream differs: the code of its kind has a new step version\n")


def test_why_for_an_unknown_cell(built: Built) -> None:
    answer = mmgrid("why", built.file, "checkpoint/semb/gardne/phase2", "--store", built.root)
    assert answer.code == 1
    assert answer.err.startswith(
        f"mmgrid: checkpoint/semb/gardne/phase2: the grid has no such cell; did you mean {NEWEST}"
    )


# ---- path


def test_the_folder_of_a_cell(built: Built) -> None:
    arguments = ("path", built.file, NEWEST, "--store", built.root)
    assert mmgrid(*arguments).out == f"{built.folder(NEWEST)}\n"
    assert mmgrid(*arguments, "--json").json == {"cell": NEWEST, "folder": str(built.folder(NEWEST))}


def test_path_of_a_missing_cell_prints_the_command_that_builds_it(built: Built, tmp_path: Path) -> None:
    store, setting = tmp_path / "my runs", "paradigms.semb.epochs={phase2=3}"
    answer = mmgrid("path", built.file, NEWEST, "--store", store, "--set", setting)
    assert (answer.code, answer.out) == (1, "")
    assert answer.err == (
        f"mmgrid: {NEWEST}: is not built in {store}; "
        f"`mmgrid run {built.file} --only {NEWEST} --store '{store}' --set '{setting}'` builds it\n"
    )
    unknown = mmgrid("path", built.file, "checkpoint/semb/garden/phase3", "--store", built.root)
    assert unknown.code == 1
    assert "the grid has no such cell; did you mean checkpoint/semb/garden/phase" in unknown.err


# ---- gc


def test_gc_asks_and_removes_cells_that_the_grid_does_not_name(copied: Built, monkeypatch: pytest.MonkeyPatch) -> None:
    store = ("--store", copied.root)
    assert mmgrid("gc", copied.file, *store).out == ("nothing to remove: the grid names every cell in the store\n")
    settings = ("--set", "paradigms.sasrec.epochs={pretrain=2, phase1=2, phase2=2, all=9}")
    unnamed = {cell.address.folder for cell in copied.cells if "/all" in cell.name}
    before = bytes_below(copied.root)

    monkeypatch.setattr("sys.stdin", io.StringIO("n\n"))
    refused = mmgrid("gc", copied.file, *store, *settings)
    assert refused.code == 1
    assert all(folder in refused.out for folder in unnamed)
    assert (
        f"Remove these {len(unnamed)} cells and 0 leftovers from {copied.root}? They include cells of other"
        in refused.out
    )
    assert "names that do not occur in this grid" not in refused.out  # they are older versions of its own
    assert {path: data for path, data in bytes_below(copied.root).items() if path != "digests.json"} == before

    done = mmgrid("gc", copied.file, *store, *settings, "--yes", "--json").json
    assert set(done["removed"]) == unnamed
    after = bytes_below(copied.root)
    gone = before.keys() - after.keys()
    logs = {f"logs/{folder}.log" for folder in unnamed}
    assert gone == {path for path in before if path.startswith(tuple(unnamed))} | logs
    assert sum(len(before[path]) for path in gone - logs) == done["bytes"]
    assert mmgrid("gc", copied.file, *store, *settings, "--yes", "--json").json["removed"] == []


def test_gc_warns_about_cells_of_other_grids(built: Built, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("n\n"))
    arguments = ("--store", built.root, "--set", 'data.domains=["garden"]', "--set", 'backbone.corpus=["garden"]')
    kitchen = [cell for cell in built.cells if "kitchen" in cell.name]
    refused = mmgrid("gc", built.file, *arguments, "--set", "merges=[]", "--set", "paradigms={sasrec={epochs=2}}")
    assert refused.code == 1
    unnamed = [cell for cell in built.cells if cell.name.startswith(("backbone", "base", "evaluation/semb"))]
    unnamed = {*kitchen, *unnamed, *(cell for cell in built.cells if cell.name.startswith("checkpoint/semb"))}
    lines = refused.out.splitlines()
    for kind in {cell.kind for cell in unnamed}:
        found = [cell for cell in unnamed if cell.kind == kind]
        size = sum(built.store.size(cell.address) for cell in found) / 1e6
        assert [kind, str(len(found)), f"{size:,.1f}", "MB"] in [line.split() for line in lines]
    assert ["total", str(len(unnamed))] in [line.split()[:2] for line in lines]
    assert f"{len(unnamed)} of them have names that do not occur in this grid" in refused.out
    assert "removes cells of other grids" in " ".join(mmgrid("gc", "--help").out.split())
