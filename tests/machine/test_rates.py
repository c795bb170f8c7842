"""Rates of devices, and which GPUs there are: asked of a driver that the test writes itself."""

import os
import time
from pathlib import Path

import pytest

from mmgrid.machine.gpus import gpu_rate, rate_of_gpu, visible_gpus
from mmgrid.machine.rates import RATES, Rate, measured_core, rate_of, seconds_of
from mmgrid.paradigms.work import Work


def _driver(folder: Path, answer: str, code: int = 0) -> None:
    program = folder / "nvidia-smi"
    program.write_text(f"#!/bin/sh\nprintf '{answer}'\nexit {code}\n")
    program.chmod(0o755)


@pytest.fixture
def driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return tmp_path


def test_gpus_are_those_of_the_driver(driver: Path) -> None:
    _driver(driver, "NVIDIA H100 80GB HBM3\\nNVIDIA H100 80GB HBM3\\n")
    assert visible_gpus() == ("0", "1")
    assert gpu_rate() == RATES["h100"]
    _driver(driver, "NVIDIA GeForce RTX 4090\\n")
    assert gpu_rate() == RATES["rtx4090"]
    _driver(driver, "Quadro of old\\n")
    assert gpu_rate() is None
    _driver(driver, "no devices were found", code=6)
    assert visible_gpus() == ()
    assert gpu_rate() is None


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("NVIDIA A100-SXM4-80GB", "a100"),
        ("NVIDIA A100-SXM4-40GB", None),
        ("NVIDIA RTX A1000", None),
        ("NVIDIA L4", "l4"),
        ("NVIDIA L40", None),
        ("NVIDIA L40S", "l40s"),
        ("NVIDIA A10", "a10"),
        ("NVIDIA H200", "h200"),
    ],
)
def test_a_gpu_is_known_by_whole_words(name: str, found: str | None) -> None:
    assert rate_of_gpu(name) == (RATES[found] if found else None)


def test_the_rate_is_that_of_the_first_visible_gpu(driver: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _driver(driver, "NVIDIA H100 80GB HBM3\\nNVIDIA L4\\n")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1,0")
    assert gpu_rate() == RATES["l4"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert gpu_rate() is None


@pytest.mark.parametrize(
    ("named", "found"),
    [("", ()), ("-1", ()), ("2,3", ("2", "3")), ("GPU-1a, GPU-2b", ("GPU-1a", "GPU-2b")), ("1,-1,2", ("1",))],
)
def test_the_environment_chooses_among_them(
    driver: Path, monkeypatch: pytest.MonkeyPatch, named: str, found: tuple[str, ...]
) -> None:
    _driver(driver, "NVIDIA A100-SXM4-80GB\\n" * 4)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", named)
    assert visible_gpus() == found


def test_a_rate_by_name() -> None:
    assert rate_of("H100").name == "h100"
    with pytest.raises(ValueError, match="device 'h1' is unknown; known are h200, h100"):
        rate_of("h1")


def test_a_core_is_measured() -> None:
    core = measured_core(size=64, repeats=1)
    assert core.flops > 0
    assert core.bytes > 0
    assert not core.is_gpu


@pytest.mark.parametrize(("has_instructions", "ratio"), [(True, 2.0), (False, 1.0)])
def test_a_core_is_twice_as_fast_in_bf16_if_it_has_instructions(
    monkeypatch: pytest.MonkeyPatch, has_instructions: bool, ratio: float
) -> None:
    monkeypatch.setattr("mmgrid.machine.rates.fast_bf16", lambda: has_instructions)
    core = measured_core(size=64, repeats=1)
    assert core.of("bf16") == ratio * core.of("float32")


def test_waiting_for_others_is_no_work() -> None:
    assert seconds_of(lambda: time.sleep(0.2)) < 0.1


def test_a_gpu_starts_operations_while_it_computes() -> None:
    work = Work(flops=30.0, bytes=20.0, calls=2.0, seconds=7.0, precision="bf16")
    gpu = Rate("h100", flops=10.0, flops_float32=1.0, bytes=10.0, memory=1.0, share=0.5, call=4.0)
    core = Rate("cpu", flops=10.0, flops_float32=1.0, bytes=10.0, memory=1.0, share=0.5, call=4.0)
    assert work.on(gpu) == 8.0 + 2.0 + 7.0
    assert work.on(core) == 6.0 + 8.0 + 2.0 + 7.0
