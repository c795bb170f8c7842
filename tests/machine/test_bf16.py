"""Whether the processor multiplies matrices of bfloat16 by itself."""

from pathlib import Path

import pytest

from mmgrid.backbone.device import emulated_bf16
from mmgrid.machine import bf16

X86 = "processor\t: 0\nmodel name\t: one with amx_bf16 in its name\nflags\t\t: fpu avx2 avx512f{}\n"


@pytest.mark.parametrize(
    ("cpuinfo", "fast"),
    [
        (X86.format(""), False),
        (X86.format(" avx512_bf16"), True),
        (X86.format(" amx_tile amx_bf16"), True),
        ("processor\t: 0\nFeatures\t: fp asimd bf16 i8mm\n", True),
        ("processor\t: 0\nFeatures\t: fp asimd\n", False),
        ("processor\t: 0\n", True),
        (None, True),
    ],
)
def test_a_processor_says_so_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cpuinfo: str | None, fast: bool
) -> None:
    file = tmp_path / "cpuinfo"
    if cpuinfo is not None:
        file.write_text(cpuinfo)
    monkeypatch.setattr(bf16, "_CPUINFO", file)
    assert bf16.fast_bf16() == fast


def test_what_is_emulated_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bf16, "_CPUINFO", tmp_path / "cpuinfo")
    assert emulated_bf16() is None
    (tmp_path / "cpuinfo").write_text(X86.format(""))
    measured = emulated_bf16(16)
    assert measured is not None
    assert measured > 0
