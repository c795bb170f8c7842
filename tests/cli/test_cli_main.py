"""The command `mmgrid`: it answers without loading what it does not need, and prints errors as one line."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import typer

from kits.tiny_grid import bytes_below, mmgrid, write_grid
from mmgrid import __version__
from mmgrid.cli import doctor_command
from mmgrid.cli.examples import EXAMPLES, GROUPS
from mmgrid.grid.file.load import load_grid
from mmgrid.grid.file.spec import TinyBackbone
from mmgrid.merging.kernels.library import NoLibrary

COMMANDS = (
    "init",
    "doctor",
    "data",
    "plan",
    "run",
    "logs",
    "status",
    "path",
    "why",
    "verify",
    "store",
    "gc",
    "results",
    "report",
    "advise",
    "predictors",
    "recommend",
    "evaluate",
    "embed",
    "codes",
    "merge",
    "methods",
    "diff",
    "push",
    "pull",
    "import",
    "export",
    "extract-lora",
    "expand",
    "compress",
    "learn",
    "search",
)

pytestmark = pytest.mark.smoke
HEAVY = {"torch", "transformers", "accelerate", "polars", "altair", "numpy", "ray"}


def test_help_names_every_command() -> None:
    answer = mmgrid("--help", environment={"COLUMNS": "80"})
    assert answer.code == 0
    for command in COMMANDS:
        assert f"\n  {command} " in answer.out
    assert "..." not in answer.out  # no summary is cut off
    titles = [line.removesuffix(":") for line in answer.out.splitlines() if line.endswith(":")]
    assert titles == [*GROUPS, "Options"]  # every command is in a group


@pytest.mark.parametrize(
    "command",
    [(name,) for name in COMMANDS]
    + [("data", "prepare"), ("data", "stats"), ("data", "export"), ("data", "fetch"), ("codes", "add")]
    + [("store", "push"), ("store", "pull"), ("store", "verify")],
)
def test_each_command_explains_itself(command: tuple[str, ...]) -> None:
    for width, flag in ((80, "--help"), (60, "-h")):
        answer = mmgrid(*command, flag, environment={"COLUMNS": str(width)})
        assert answer.code == 0
        assert answer.out.startswith(f"Usage: mmgrid {' '.join(command)} ")
        assert "<" not in answer.out  # what a value is stands in words, not in types
        assert all(len(line) <= width for line in answer.out.splitlines())
        assert command in (
            ("data",),
            ("codes",),
            ("store",),
        ) or f"\nExample:\n  mmgrid {' '.join(command)}" in answer.out.replace("cd $(", "")


def test_an_example_is_of_a_command_and_fits_narrow_terminals() -> None:
    words = {name.split()[0] for name in EXAMPLES}
    assert words | {"logs"} == {name for names in GROUPS.values() for name in names}
    assert all(len(line) <= 56 for example in EXAMPLES.values() for line in example.splitlines())


def _completed(*words: str) -> list[str]:
    """What the shell offers for the last word."""
    environment = {"_MMGRID_COMPLETE": "complete_bash", "COMP_WORDS": " ".join(("mmgrid", *words))}
    return mmgrid(environment=environment | {"COMP_CWORD": str(len(words))}).out.split()


def test_the_shell_completes_commands_grids_cells_studies_and_methods(tmp_path: Path) -> None:
    file = write_grid(tmp_path)
    assert _completed("re") == ["results", "report", "recommend"]
    assert f"{tmp_path}/" in _completed("plan", str(tmp_path)[:-1])
    assert _completed("plan", f"{tmp_path}/t") == [str(file)]
    assert _completed("path", str(file), "checkpoint/semb/garden/p") == [
        f"checkpoint/semb/garden/{phase}" for phase in ("pretrain", "phase1", "phase2")
    ]
    assert _completed("recommend", "--grid", str(file), "corpus/k") == ["corpus/kitchen"]
    assert "temporal" in _completed("results", str(file), "--study", "te")
    assert _completed("merge", "--method", "tie") == ["ties"]
    assert _completed("path", "nowhere.toml", "checkpoint/") == []
    assert not (tmp_path / "runs").exists()


def test_every_option_and_argument_is_explained() -> None:
    def leaves(command: Any, words: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
        inner = getattr(command, "commands", {})
        for name, one in inner.items():
            yield from leaves(one, (*words, name))
        if not inner:
            yield words, command

    from mmgrid.cli.main import app

    commands = dict(leaves(typer.main.get_command(app), ()))
    assert {words[0] for words in commands} == set(COMMANDS)
    unexplained = [(*words, option.name) for words, c in commands.items() for option in c.params if not option.help]
    assert unexplained == []
    assert all(command.help for command in commands.values())


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["init", "grid.toml"]])
def test_commands_without_data_load_no_heavy_packages(arguments: list[str], tmp_path: Path) -> None:
    code = (
        "import sys, json\n"
        "from mmgrid.cli.main import main\n"
        f"sys.argv = ['mmgrid', *{arguments!r}]\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=True
    )
    loaded = set(json.loads(run.stdout.splitlines()[-1]))
    assert "typer" in loaded
    assert not loaded & HEAVY


def test_a_plan_of_a_grid_without_merges_loads_neither_torch_nor_what_merges_and_parses(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "from mmgrid.cli.main import main\n"
        f"sys.argv = ['mmgrid', 'plan', {str(write_grid(tmp_path))!r}, '--store', {str(tmp_path / 'runs')!r}, "
        "'--set', 'merges=[]']\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "assert 'polars' in sys.modules\n"
        "assert not {'torch', 'transformers'} & set(sys.modules)\n"
        "assert not {'mmgrid.merging.engine', 'mmgrid.data.readers.files', 'mmgrid.cards'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], timeout=120, check=True)


@pytest.mark.parametrize(
    "command",
    [["plan"], ["run"], ["why", "corpus/garden"], ["gc"], ["results"], ["report"], ["advise"], ["data", "stats"]],
    ids=" ".join,
)
def test_a_wrong_key_is_one_line_and_creates_nothing(command: list[str], tmp_path: Path) -> None:
    file, store = write_grid(tmp_path), tmp_path / "runs"
    words, rest = (command, []) if command[0] != "why" else (command[:1], command[1:])
    answer = mmgrid(*words, file, *rest, "--store", store, "--set", "paradigms.semb.histroy_length=20")
    assert answer.code == 1
    assert answer.err == f"mmgrid: {file}: paradigms.semb.histroy_length: unknown key; did you mean history_length?\n"
    assert answer.out == ""
    assert not store.exists()


def test_a_store_of_another_version_is_reported_and_unchanged(tmp_path: Path) -> None:
    file, store = write_grid(tmp_path), tmp_path / "runs"
    store.mkdir()
    (store / "store.json").write_text('{"format": 99}')
    (store / "something").write_text("of that version")
    before = bytes_below(store)
    for arguments in (
        ("plan", file),
        ("run", file),
        ("status",),
        ("gc", file, "--yes"),
        ("results", file),
        ("report", file, "-o", tmp_path / "report.html"),
        ("data", "stats", file),
        ("why", file, "corpus/garden"),
    ):
        answer = mmgrid(*arguments, "--store", store)
        assert (answer.code, answer.out) == (1, ""), arguments
        assert answer.err.startswith(
            f"mmgrid: {store}/store.json: this store has format 99, and this version of mmgrid"
        )
        assert answer.err.count("\n") == 1
    assert bytes_below(store) == before


def test_a_folder_that_is_no_store_is_reported_and_unchanged(tmp_path: Path) -> None:
    file, photos = write_grid(tmp_path), tmp_path / "photos"
    photos.mkdir()
    (photos / "me.png").write_bytes(b"dear")
    answer = mmgrid("run", file, "--store", photos)
    assert answer.code == 1
    assert answer.err.startswith(f"mmgrid: {photos}: is not a store (it holds me.png")
    assert bytes_below(photos) == {"me.png": b"dear"}


def test_status_of_a_missing_store_does_not_create_it(tmp_path: Path) -> None:
    answer = mmgrid("status", "--store", tmp_path / "runs")
    assert answer.code == 1
    assert answer.err.startswith(f"mmgrid: {tmp_path}/runs: no such store; `mmgrid run GRID` creates one")
    assert not (tmp_path / "runs").exists()


def test_errors_of_the_command_line_are_reported(tmp_path: Path) -> None:
    file = write_grid(tmp_path)
    for arguments in (["plann", file], ["plan"], ["run", file, "--jobs", "0"], ["run", file, "--job", "2"]):
        answer = mmgrid(*arguments)
        assert answer.code == 2
        assert "Error: " in answer.err
        assert "Traceback" not in answer.err


def test_a_path_that_is_not_utf8_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rows = "user_id,item_id,timestamp\nu,a,1660000000\nu,b,1660000001\n"
    (tmp_path / "log.csv").write_text(rows)
    (tmp_path / "items.csv").write_text("item_id,title\na,A\nb,B\n")
    prepare = ("data", "prepare", "--ratings", "log.csv", "--items", "items.csv", "--min-interactions", "1")
    answer = mmgrid(*prepare, "--out", "out\udcff")
    assert answer.code == 1
    assert answer.err.startswith("mmgrid: out\\udcff: the path is not UTF-8")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["items.csv", "log.csv"]


def test_debugging_shows_the_traceback(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no such file"):
        mmgrid("plan", tmp_path / "nowhere.toml", environment={"MMGRID_DEBUG": "1"})


def test_init_writes_a_grid_that_can_be_planned_and_replaces_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert mmgrid("init").out.startswith("grid.toml: written; `mmgrid plan grid.toml` shows its cells")
    planned = mmgrid("plan", "grid.toml", "--json")
    assert {cell["name"] for cell in planned.json} > {"backbone/tiny", "checkpoint/semb/garden/phase2"}
    Path("grid.toml").write_text("mine")
    refused = mmgrid("init")
    assert refused.code == 1
    assert refused.err.startswith("mmgrid: grid.toml: exists already; choose another name, or replace it with --force")
    assert Path("grid.toml").read_text() == "mine"
    assert mmgrid("init", "--force").code == 0
    assert Path("grid.toml").read_text() != "mine"
    assert mmgrid("init", "nowhere/grid.toml").code == 1


def test_each_commented_line_of_the_template_may_be_uncommented(tmp_path: Path) -> None:
    text = (files("mmgrid.grid.file") / "template.toml").read_text()
    commented = re.findall(r"^# (?!root)\w+ += .*$", text, re.MULTILINE)
    assert len(commented) > 8
    for line in commented:
        load_grid(write_grid(tmp_path, text.replace(line, line.removeprefix("# "))))


def test_init_writes_the_demonstration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert mmgrid("init", "--demo").out.startswith("demo.toml: written; `mmgrid plan demo.toml`")
    demo = Path(__file__).parents[2] / "grids" / "demo.toml"
    assert (tmp_path / "demo.toml").read_bytes() == demo.read_bytes()
    assert load_grid(tmp_path / "demo.toml").spec.name == "demo"
    again = mmgrid("init", "--demo")
    assert (again.code, again.err.partition(":")[2].strip()[:15]) == (1, "demo.toml: exis")
    assert mmgrid("init", "--demo", "mine.toml").code == 0
    assert mmgrid("init").code == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["demo.toml", "grid.toml", "mine.toml"]


def test_the_template_can_be_changed_to_your_own_data_as_it_describes(tmp_path: Path) -> None:
    lines = (files("mmgrid.grid.file") / "template.toml").read_text().splitlines()
    for mark, count in (("(1) remove these five lines", 5), ("(2) remove these seven lines", 7)):
        (first,) = (place for place, line in enumerate(lines) if mark in line)
        assert not lines[first + count] or lines[first + count].startswith("#")  # the whole block, and no more
        del lines[first : first + count]
    text = "\n".join(lines).replace('"synthetic"  ', '"parquet"').replace("# root  =", "root =")
    spec = load_grid(write_grid(tmp_path, text)).spec
    assert (spec.data.format, spec.data.root, spec.data.synthetic) == ("parquet", "data", None)
    assert spec.backbone == TinyBackbone(kind="tiny")


def test_doctor_looks_at_the_machine() -> None:
    facts = mmgrid("doctor", "--json").json
    assert facts["mmgrid"] == __version__
    assert facts.keys() >= {"python", "torch", "transformers", "cores", "memory_gib", "gpus", "free_disk_gib"}
    assert facts["cores"] >= 1
    assert facts["device"] in ("cpu", "cuda", "mps")
    assert facts.keys() >= {"platform", "merging_loops", "vllm", "peft", "missing"}
    text = mmgrid("doctor")
    assert text.code == 0
    for name in ("torch", "cores", "memory_gib"):
        assert name in text.out


def test_doctor_says_what_is_missing_for_what(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor_command, "_installed", lambda package: None)
    facts = mmgrid("doctor", "--json").json
    named = [line.partition(",")[0] for line in facts["missing"]]
    on_a_gpu = ["bitsandbytes", "cut-cross-entropy"]
    assert named == ["vllm", "sentence-transformers", "s3fs", "gcsfs", "optuna", *on_a_gpu, "peft"]
    assert (
        '- peft, for training LoRA adapters: pip install "mmgrid[lora]" (merging them does without)\n'
        in mmgrid("doctor").out
    )


def test_doctor_says_why_merges_have_no_native_loops(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmgrid.merging.kernels.choice._loaded", lambda: NoLibrary("there was no C compiler"))
    assert mmgrid("doctor", "--json").json["merging_loops"] == "numpy: there was no C compiler"
    monkeypatch.setenv("MMGRID_KERNELS", "off")
    assert mmgrid("doctor", "--json").json["merging_loops"] == "numpy (MMGRID_KERNELS is off)"


def test_the_version_is_one_line() -> None:
    assert mmgrid("--version").out == f"mmgrid {__version__}\n"


@pytest.mark.parametrize(
    ("how", "code", "said"),
    [
        (">&-", 0, ""),
        (">&- 2>&- <&-", 0, ""),
        (
            ">/dev/full",
            1,
            "mmgrid: what is printed, or a file, could not be written: no space left on the device; make room, then run "
            "it again\n",
        ),
    ],
)
def test_streams_that_take_nothing(how: str, code: int, said: str, tmp_path: Path) -> None:
    if "full" in how and not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    command = f"{sys.executable} -c 'from mmgrid.cli.main import main; main()'"
    run = subprocess.run(
        ["bash", "-c", f"{command} init {tmp_path}/g.toml {how}"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (run.returncode, run.stderr) == (code, said)
    assert "[data]" in (tmp_path / "g.toml").read_text()


def test_a_working_folder_that_is_gone_is_named(tmp_path: Path) -> None:
    command = f"mkdir {tmp_path}/x; cd {tmp_path}/x; rmdir {tmp_path}/x; {sys.executable} -m mmgrid methods"
    run = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=120, check=False)
    assert run.returncode == 1
    assert run.stderr == "mmgrid: the working folder is no longer there; go to another one (cd)\n"


def test_a_command_whose_reader_goes_away_ends_quietly(tmp_path: Path) -> None:
    file = write_grid(tmp_path)
    command = f"{sys.executable} -c 'from mmgrid.cli.main import main; main()' plan {file} --store {tmp_path}/runs"
    run = subprocess.run(
        ["bash", "-c", f"{command} --set merges=[] | true"], capture_output=True, text=True, timeout=120, check=True
    )
    assert "Traceback" not in run.stderr
