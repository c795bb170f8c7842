"""The library of native loops: how it is built, what it is refused for, and that all its levels give numpy's bits."""

import shutil
from pathlib import Path

import pytest
import torch

from mmgrid.merging import merge_state_dicts
from mmgrid.merging.engine import compiled_runs, thresholds
from mmgrid.merging.kernels import building, counting, library, spread
from mmgrid.merging.kernels.building import LEVELS, LIBRARY, CannotBuild, build, digest, is_current
from mmgrid.merging.kernels.choice import VARIABLE
from mmgrid.merging.kernels.layout import BLOCK
from mmgrid.merging.kernels.library import Loops, NoLibrary, load

needs_library = pytest.mark.skipif(not is_current(), reason="needs native loops: a C compiler at installation")


@needs_library
def test_the_highest_level_that_the_processor_can_run_is_the_default() -> None:
    known = list(LEVELS)
    for level in known[: known.index(load().level) + 1]:
        assert load(level=level).level == level
    for level in known[known.index(load().level) + 1 :]:
        with pytest.raises(NoLibrary, match=f"has no {level}; it has base"):
            load(level=level)


@needs_library
@pytest.mark.parametrize("level", LEVELS)
def test_every_level_gives_the_same_bits(level: str, monkeypatch: pytest.MonkeyPatch) -> None:
    try:
        own = load(level=level)
    except NoLibrary as error:
        pytest.skip(str(error))
    generator = torch.Generator().manual_seed(1)
    shapes = {"w": (3, 1500), "tall": (5000, 2), "long": (40_000,), "one": (1,)}

    def model(scale: float) -> dict[str, torch.Tensor]:
        return {name: (torch.randn(shape, generator=generator) * scale).bfloat16() for name, shape in shapes.items()}

    base = model(0.02)
    sources = {
        key: {
            name: (tensor + more).bfloat16()
            for (name, tensor), more in zip(base.items(), model(1e-3).values(), strict=True)
        }
        for key in "abc"
    }
    weights = {"a": 0.5, "b": -0.3, "c": 1.0}
    cases = [
        ("linear", {}),
        ("dare", {"drop": 0.3, "inner": "ties"}),
        ("ties", {"scope": "tensor"}),
        ("ties", {"density": 0.4, "normalise": False}),
        ("breadcrumbs", {"gamma": 0.2, "density": 0.5}),
        ("della", {}),
        ("model_stock", {}),
        ("sce", {"select": 0.3}),
    ]
    used: list[Loops] = []
    for method, options in cases:
        below = None if method == "linear" else base

        own_weights = None if method in ("model_stock", "sce") else weights

        def merged(method=method, options=options, below=below, weights=own_weights) -> dict[str, torch.Tensor]:
            return merge_state_dicts(method, sources, base=below, weights=weights, **options)

        monkeypatch.setenv(VARIABLE, "off")
        expected = merged()
        with pytest.MonkeyPatch.context() as patch:
            for module in (compiled_runs, counting, spread):
                patch.setattr(module, "loops", lambda: used.append(own) or own)
            patch.setattr(thresholds, "SMALL_GROUP", 45_000)  # the model's thresholds are counted, the tensors' ranked
            found = merged()
        for name, tensor in expected.items():
            assert tensor.view(torch.int16).equal(found[name].view(torch.int16)), (method, name)
    assert len(used) > len(cases)


@needs_library
def test_what_cannot_be_used_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NoLibrary, match="no C compiler; install one, then run: python -m mmgrid"):
        load(tmp_path / "absent.so")
    damaged = tmp_path / LIBRARY.name
    damaged.write_bytes(b"no library")
    with pytest.raises(NoLibrary, match="cannot be loaded"):
        load(damaged)
    assert not is_current(damaged)
    monkeypatch.setattr(library, "digest", lambda: "of other sources")
    with pytest.raises(NoLibrary, match="is older than its sources"):
        load()


def test_without_a_compiler_nothing_is_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / LIBRARY.name
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    with pytest.raises(CannotBuild, match="no C compiler: cc, gcc, clang is not on the path"):
        build(target)
    monkeypatch.setenv("CC", "the-compiler --fast")
    with pytest.raises(CannotBuild, match="no C compiler: the-compiler --fast"):
        build(target)
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(shutil.which("false") is None, reason="needs the command false")
def test_a_failing_compiler_leaves_the_old_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / LIBRARY.name
    target.write_text("the old one")
    monkeypatch.setenv("CC", "false")
    with pytest.raises(CannotBuild, match="exit code 1"):
        build(target)
    assert target.read_text() == "the old one"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
def test_a_compiler_that_knows_no_vectors_builds_the_base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ARCHFLAGS", raising=False)
    monkeypatch.setattr(building, "LEVELS", {"base": ("-O0",), "avx2": ("-mavx2", "--no-such-option")})
    monkeypatch.setattr(building, "_FLAGS", tuple(flag for flag in building._FLAGS if flag != "-O3"))
    target = build(tmp_path / LIBRARY.name)
    assert is_current(target)
    assert load(target).level == "base"
    assert [path.name for path in tmp_path.iterdir()] == [target.name]


def test_the_digest_covers_every_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "native"
    shutil.copytree(building.SOURCES, folder)
    before = digest()
    monkeypatch.setattr(building, "SOURCES", folder)
    assert digest() == before
    for path in sorted(folder.glob("*.[ch]")):
        path.write_bytes(path.read_bytes() + b"\n")
        assert digest() != before, path.name
        before = digest()


def test_layouts_agree() -> None:
    """Python and C have the same numbers."""
    text = (building.SOURCES / "layout.h").read_text()
    from mmgrid.merging.kernels import layout

    assert f"#define BLOCK {BLOCK} " in text
    assert "enum { MULTIPLY, DIVIDE, DROP, WINDOW, ROWS };" in text
    assert list(range(5)) == [layout.MULTIPLY, layout.DIVIDE, layout.DROP, layout.WINDOW, layout.ROWS]
    assert f"#define COLUMNS {layout.COLUMNS}\n" in text
    of_rows = (building.SOURCES / "network.h").read_text()
    assert f"#define MOST_COLUMNS {layout.MOST_COLUMNS} " in of_rows
    registers = [line.split() for line in (building.SOURCES / "registers.h").read_text().splitlines()]
    sides = sorted(int(words[2]) // 4 for words in registers if words[:2] == ["#define", "REGISTER"])
    assert sides == [4, 8, 16]  # `Loops.rows_at_once`, at most `layout.MOST_ROWS`
    assert sides[-1] == layout.MOST_ROWS
    sorting = (building.SOURCES / "sorting.h").read_text()
    assert "#define SIDE (REGISTER / 4) " in sorting
    assert f"#define FEW {layout.FEW} " in sorting
    assert 1 << int(text.split("#define SLOT_BITS ")[1].split()[0]) == layout.SLOTS
