"""Merges that are killed, run out of space, read bad sources or may not write: one clear error, or they can be resumed.

The sources are never changed.
"""

import errno
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from mmgrid.files import DiskFull, NotWritableError
from mmgrid.merging import Change, MergeError, TensorFolder, merge, one_output, sweep
from mmgrid.merging.models import tensor_writer
from mmgrid.merging.output import companions, record
from mmgrid.merging.output import folder as folder_module
from mmgrid.merging.output.journal import JOURNAL_FILE

SHAPES = {f"layers.{n}.weight": (40, 25) for n in range(6)} | {"embed.weight": (70, 10), "norm.weight": (25,)}


@pytest.fixture
def models(tmp_path: Path) -> Path:
    for number, name in enumerate(("base", "books", "toys")):
        draw = torch.Generator().manual_seed(number)
        folder = tmp_path / "models" / name
        folder.mkdir(parents=True)
        weights = {tensor: torch.randn(shape, generator=draw).bfloat16() for tensor, shape in SHAPES.items()}
        save_file({**weights, "ids": torch.arange(5)}, folder / "model.safetensors", metadata={"format": "pt"})
        (folder / "config.json").write_text('{"dtype": "bfloat16"}')
        (folder / "tokenizer.json").write_text("{}")
    return tmp_path


def recipe_for(models: Path, **changes: Any) -> dict[str, Any]:
    """DARE, then TIES with one threshold for the model, so that a tensor also depends on those already journalled."""
    sources = [{"name": name, "path": str(models / "models" / name)} for name in ("books", "toys")]
    return {
        "method": "ties",
        "base": str(models / "models" / "base"),
        "sources": sources,
        "options": {"preset": "subspace"},
        **changes,
    }


def state_of(folder: Path) -> dict[str, tuple[int, str]]:
    """The modification time and content of every file below a folder."""
    return {
        path.relative_to(folder).as_posix(): (
            path.stat().st_mtime_ns,
            hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "",
        )
        for path in sorted(folder.rglob("*"))
    }


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def undisturbed(models: Path, **changes: Any) -> dict[str, bytes]:
    """The content of the output folder after the same merge without interruption."""
    merge(recipe_for(models, **changes), models / "out")
    result = contents(models / "out")
    shutil.rmtree(models / "out")
    return result


def only(models: Path, *names: str) -> bool:
    """Whether nothing but these is next to the models: no partial folder under any name."""
    return sorted(path.name for path in models.iterdir()) == sorted(["models", *names])


@pytest.fixture
def unharmed(models: Path) -> Iterator[None]:
    """Checks that the sources keep their bytes and modification times."""
    before = state_of(models / "models")
    yield
    assert state_of(models / "models") == before


# ---- killed


KILLED = """
import json, os, signal, sys
from pathlib import Path
from mmgrid.merging import Change, merge, sweep
from mmgrid.merging import one_output
from mmgrid.merging.output import folder as output
from mmgrid.merging.models import tensor_writer

recipe, outs, moment = json.loads(sys.argv[1]), sys.argv[2].split(","), sys.argv[3]

def dying(function, calls=1):
    left = [calls]
    def called(*arguments, **others):
        left[0] -= 1
        if not left[0]:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*arguments, **others)
    return called

where, _, calls = moment.partition(":")
if where == "write":
    tensor_writer.TensorWriter.write = dying(tensor_writer.TensorWriter.write, int(calls))
elif where == "journal":
    one_output.Journal.add = dying(one_output.Journal.add, int(calls))
elif where == "companions":
    one_output.copy_companions = dying(one_output.copy_companions)
elif where == "record":
    one_output.write_record = dying(one_output.write_record)
elif where == "journal gone":
    output.publish = dying(output.publish)
elif where == "published":
    real = output.publish
    def publish(*arguments, **others):
        real(*arguments, **others)
        os.kill(os.getpid(), signal.SIGKILL)
    output.publish = publish
if len(outs) == 1:
    merge(recipe, outs[0], workers=int(sys.argv[4]))
else:
    sweep(recipe, {out: Change(scale=float(n)) for n, out in enumerate(outs)}, workers=int(sys.argv[4]))
"""


def kill(recipe: dict[str, Any], outs: list[Path], moment: str, workers: int = 1) -> None:
    command = [sys.executable, "-c", KILLED, json.dumps(recipe), ",".join(map(str, outs)), moment, str(workers)]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL


def resumed(models: Path, recipe: dict[str, Any]) -> list[str]:
    """Repeats the same call; returns the tensors that it had to write."""
    written: list[str] = []
    merge(recipe, models / "out", workers=2, progress=lambda done, total, name: written.append(name))
    return written


@pytest.mark.usefixtures("unharmed")
@pytest.mark.parametrize(
    ("moment", "workers", "rest"),
    [
        ("write:1", 1, 9),
        ("write:5", 1, 5),
        ("write:6", 2, 6),
        ("journal:4", 1, 6),
        ("companions", 1, 0),
        ("record", 2, 0),
        ("journal gone", 1, 9),
    ],
)
def test_a_killed_merge_is_resumed(models: Path, moment: str, workers: int, rest: int) -> None:
    """Tensors finished before the kill are not computed again, and the bytes equal those of an uninterrupted merge."""
    expected = undisturbed(models)
    kill(recipe_for(models), [models / "out"], moment, workers)
    assert only(models, ".out.merging.work"), "nothing under the final name"
    written = resumed(models, recipe_for(models))
    assert len(written) <= rest if workers > 1 else len(written) == rest
    assert len(set(written)) == len(written)
    assert contents(models / "out") == expected
    assert only(models, "out")


@pytest.mark.usefixtures("unharmed")
def test_a_merge_killed_after_publishing_is_complete(models: Path) -> None:
    expected = undisturbed(models)
    kill(recipe_for(models), [models / "out"], "published")
    assert contents(models / "out") == expected
    with pytest.raises(MergeError, match="exists already"):
        merge(recipe_for(models), models / "out")


@pytest.mark.usefixtures("unharmed")
def test_a_merge_killed_twice_is_resumed(models: Path) -> None:
    expected = undisturbed(models)
    kill(recipe_for(models), [models / "out"], "write:4")
    kill(recipe_for(models), [models / "out"], "write:3")
    assert len(resumed(models, recipe_for(models))) == 9 - 3 - 2
    assert contents(models / "out") == expected


@pytest.mark.usefixtures("unharmed")
def test_a_killed_sweep_is_resumed(models: Path) -> None:
    outs = [models / "zero", models / "one"]
    kill(recipe_for(models), outs, "write:9")
    assert only(models, ".zero.merging.work", ".one.merging.work")
    written: list[str] = []
    changes = {out: Change(scale=float(n)) for n, out in enumerate(outs)}
    sweep(recipe_for(models), changes, progress=lambda done, total, name: written.append(name))
    assert len(written) == 9 - 4
    for n, out in enumerate(outs):
        merge(recipe_for(models, scale=float(n)), models / f"alone{n}")
        assert (models / f"alone{n}" / "model.safetensors").read_bytes() == (out / "model.safetensors").read_bytes()


def _new_seed(models: Path) -> dict[str, Any]:
    return recipe_for(models, seed=1)


def _new_scale(models: Path) -> dict[str, Any]:
    return recipe_for(models, scale=[0.5, 1.0])


def _new_weight(models: Path) -> dict[str, Any]:
    recipe = recipe_for(models)
    recipe["sources"][0]["weight"] = 0.25
    return recipe


def _new_type(models: Path) -> dict[str, Any]:
    return recipe_for(models, dtype="float32")


def _new_source(models: Path) -> dict[str, Any]:
    file = models / "models" / "toys" / "model.safetensors"
    save_file({name: tensor * 2 for name, tensor in load_file(file).items()}, file)
    for name in ("base", "books"):  # integer tensors must be equal in all models
        other = models / "models" / name / "model.safetensors"
        save_file({**load_file(other), "ids": torch.arange(5) * 2}, other)
    return recipe_for(models)


def _touched_base(models: Path) -> dict[str, Any]:
    os.utime(models / "models" / "base" / "model.safetensors", (1, 1))
    return recipe_for(models)


def _other_paths(models: Path) -> dict[str, Any]:
    recipe = recipe_for(models)
    for one, other in ((0, 1), (1, 0)):
        recipe["sources"][one]["path"] = str(models / "models" / ("books", "toys")[other])
    return recipe


@pytest.mark.parametrize(
    "changed", [_new_seed, _new_scale, _new_weight, _new_type, _new_source, _touched_base, _other_paths]
)
def test_another_merge_does_not_resume_it(models: Path, changed: Callable[[Path], dict[str, Any]]) -> None:
    """The journal is used only for the same recipe and the same files."""

    def interrupt(done: int, total: int, name: str) -> None:
        if name == "layers.2.weight":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        merge(recipe_for(models), models / "out", workers=1, progress=interrupt)
    assert only(models, ".out.merging.work"), "an interrupted merge can be resumed"
    recipe = changed(models)
    assert len(resumed(models, recipe)) == 9
    result = contents(models / "out")
    shutil.rmtree(models / "out")
    merge(recipe, models / "out")
    assert contents(models / "out") == result
    assert only(models, "out")


@pytest.mark.usefixtures("unharmed")
def test_an_interrupted_merge_is_resumed(models: Path) -> None:
    expected = undisturbed(models)

    def interrupt(done: int, total: int, name: str) -> None:
        if name == "layers.2.weight":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        merge(recipe_for(models), models / "out", workers=1, progress=interrupt)
    assert len(resumed(models, recipe_for(models))) == 4
    assert contents(models / "out") == expected


@pytest.mark.usefixtures("unharmed")
@pytest.mark.parametrize("damage", ["cut line", "garbage", "no weights", "other boot", "not a journal"])
def test_an_invalid_journal_is_not_used(models: Path, damage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = undisturbed(models)

    def interrupt(done: int, total: int, name: str) -> None:
        if name == "layers.2.weight":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        merge(recipe_for(models), models / "out", workers=1, progress=interrupt)
    work = models / ".out.merging.work"
    journal = work / "journal.jsonl"
    rest = 9
    if damage == "cut line":
        journal.write_text(journal.read_text()[:-7])
        rest = 5
    elif damage == "garbage":
        journal.write_bytes(journal.read_bytes() + b"\xff\xfe{\n")
    elif damage == "no weights":
        (work / "model.safetensors").unlink()
    elif damage == "other boot":  # after a crash of the machine, written data may be lost
        monkeypatch.setitem(one_output.Journal.__init__.__globals__, "boot", lambda: "another")
    else:
        journal.write_text('"something else"\n["layers.0.weight", {}]\n')
    assert len(resumed(models, recipe_for(models))) == rest
    assert contents(models / "out") == expected


# ---- damaged and changing sources


def test_a_truncated_source_is_refused(models: Path) -> None:
    file = models / "models" / "toys" / "model.safetensors"
    for keep in (0, 5, 300, file.stat().st_size - 1):
        os.truncate(file, keep)
        with pytest.raises(
            MergeError,
            match=r"toys/model\.safetensors: (cannot be read as safetensors: .*Fetch|is empty; download|holds only zeros)",
        ):
            merge(recipe_for(models), models / "out")
        assert only(models)


@pytest.mark.parametrize("how", ["touched", "rewritten", "replaced", "truncated", "removed", "base", "put back"])
def test_a_source_that_changes_during_the_merge_is_an_error(models: Path, how: str) -> None:
    file = models / "models" / ("base" if how == "base" else "books") / "model.safetensors"
    content = file.read_bytes()

    def change(done: int, total: int, name: str) -> None:
        if name != "layers.1.weight":
            return
        if how == "touched":
            os.utime(file, (1, 1))
        elif how in ("rewritten", "base"):
            file.write_bytes(content[:-2] + b"\0\0")
        elif how == "replaced":
            (models / "models" / "new").write_bytes(content)
            (models / "models" / "new").rename(file)
        elif how == "truncated":
            os.truncate(file, 2000)
        elif how == "removed":
            file.unlink()
        else:
            file.write_bytes(bytes(len(content)))
            file.write_bytes(content)

    with pytest.raises(MergeError, match=rf"{file}: (was changed while|became shorter while)"):
        merge(recipe_for(models), models / "out", workers=1, progress=change)
    assert only(models)


def _shard(folder: Path, **places: str) -> None:
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    half = len(tensors) // 2
    for shard, names in (("one", list(tensors)[:half]), ("two", list(tensors)[half:])):
        save_file({name: tensors[name] for name in names}, folder / f"{shard}.safetensors")
    honest = {name: "one.safetensors" if n < half else "two.safetensors" for n, name in enumerate(tensors)}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {**honest, **places}}))


@pytest.mark.parametrize(
    ("places", "says"),
    [
        ({"layers.7.weight": "three.safetensors"}, r"shards are missing: three\.safetensors; fetch them again"),
        ({"layers.7.weight": "one.safetensors"}, r"names tensors that no shard holds: layers\.7\.weight"),
        ({"layers.7.weight": "../base/model.safetensors"}, r"is not an index of shards .*not a path inside"),
    ],
)
def test_incomplete_indexes_are_refused(models: Path, places: dict[str, str], says: str) -> None:
    _shard(models / "models" / "toys", **places)
    with pytest.raises(MergeError, match=rf"toys/model\.safetensors\.index\.json: {says}"):
        merge(recipe_for(models), models / "out")
    assert only(models)


def test_a_missing_shard_is_named(models: Path) -> None:
    expected = undisturbed(models)["model.safetensors"]
    _shard(models / "models" / "toys")
    merge(recipe_for(models), models / "sharded")
    assert (models / "sharded" / "model.safetensors").read_bytes() == expected
    (models / "models" / "toys" / "two.safetensors").unlink()
    with pytest.raises(MergeError, match=r"shards are missing: two\.safetensors"):
        merge(recipe_for(models), models / "out")


# ---- outputs that cannot be written


@pytest.mark.usefixtures("unharmed")
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("where", ["reserve", "first write", "late write", "journal", "companions", "record", "sync"])
def test_a_full_disk_is_an_error_and_leaves_nothing_behind(
    models: Path, where: str, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: Any, **others: Any) -> Any:
        raise OSError(number, os.strerror(number))

    writes = iter(range(1000))

    def late(descriptor: int, view: Any, offset: int) -> int:
        return full() if next(writes) == 6 else pwrite(descriptor, view, offset)

    pwrite = os.pwrite
    if where == "reserve":
        monkeypatch.setattr(tensor_writer.os, "posix_fallocate", full)
    elif where == "first write":
        monkeypatch.setattr(tensor_writer.os, "pwrite", full)
    elif where == "late write":
        monkeypatch.setattr(tensor_writer.os, "pwrite", late)
    elif where == "journal":
        monkeypatch.setattr(one_output.Journal, "add", full)
    elif where == "companions":
        monkeypatch.setattr(companions.shutil, "copyfile", full)
    elif where == "record":
        monkeypatch.setattr(record, "write_json", full)
    else:
        monkeypatch.setattr(folder_module, "publish", full)
    with pytest.raises(DiskFull, match=rf"{models / 'out'}: could not be written: .*give another output folder"):
        merge(recipe_for(models), models / "out")
    assert only(models)


@pytest.fixture
def forbidden(models: Path) -> Iterator[Path]:
    """A folder without write permission; for root, a file system mounted read-only."""
    place = models / "forbidden"
    place.mkdir()
    if os.geteuid():
        place.chmod(0o555)
        yield place
        place.chmod(0o755)
        return
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", str(place)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("root may write everywhere, and may not mount here: " + mounted.stderr.decode().strip())
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


@pytest.mark.usefixtures("unharmed")
def test_an_output_without_write_permission_is_an_error(models: Path, forbidden: Path) -> None:
    for out in (forbidden / "out", forbidden / "deep" / "out"):
        with pytest.raises(NotWritableError, match=rf"{out}: could not be written: .*give another output folder"):
            merge(recipe_for(models), out)
    assert not list(forbidden.iterdir())


@pytest.mark.usefixtures("unharmed")
def test_an_output_below_a_file_is_an_error(models: Path) -> None:
    (models / "file").write_text("mine")
    for out in (models / "file", models / "file" / "out", models / "file" / "deep" / "out"):
        with pytest.raises(MergeError, match=rf"{out}: .*give another output folder"):
            merge(recipe_for(models), out)
    assert (models / "file").read_text() == "mine"
    assert only(models, "file")


@pytest.mark.usefixtures("unharmed")
def test_an_output_created_during_the_merge_is_not_overwritten(models: Path) -> None:
    def take(done: int, total: int, name: str) -> None:
        (models / "out").mkdir(exist_ok=True)
        (models / "out" / "theirs").write_text("mine")

    with pytest.raises(MergeError, match=f"{models / 'out'}: exists already"):
        merge(recipe_for(models), models / "out", progress=take)
    assert contents(models / "out") == {"theirs": b"mine"}
    assert only(models, "out")


@pytest.mark.usefixtures("unharmed")
def test_an_error_of_the_progress_callback_is_not_wrapped(models: Path) -> None:
    def fail(done: int, total: int, name: str) -> None:
        raise ZeroDivisionError("mine")

    for workers in (1, 3):
        with pytest.raises(ZeroDivisionError, match="mine"):
            merge(recipe_for(models), models / "out", workers=workers, progress=fail)
        assert only(models)


def test_descriptors_are_closed_again(models: Path) -> None:
    def count() -> int:
        return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - counted, not walked

    if not Path("/proc/self/fd").exists():
        pytest.skip("open files are counted in /proc")
    merge(recipe_for(models), models / "out")
    before = count()
    for number in range(3):
        merge(recipe_for(models), models / f"out{number}")
        with pytest.raises(MergeError):
            merge(recipe_for(models, base=None), models / "failing")
        with TensorFolder(models / "models" / "toys") as folder:
            folder.read("norm.weight", 0, 3)
    assert count() == before


@pytest.mark.parametrize("can_go_on", [True, False])
def test_an_interrupted_output_stays_if_the_next_command_can_go_on_with_it(tmp_path: Path, can_go_on: bool) -> None:
    def interrupted() -> None:
        with folder_module.working(tmp_path / "out") as work:
            (work / "model.safetensors").write_bytes(b"half")
            if can_go_on:
                (work / JOURNAL_FILE).write_text("{}\n")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert bool(list(tmp_path.iterdir())) == can_go_on
