"""The command `doctor`: describes the machine and the installation, and says what is missing for what."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from mmgrid.cli.options import AsJson

# Packages that are not needed by all, each with what it is for.
_OPTIONAL = {
    "vllm": 'engine = "vllm" of text: pip install "mmgrid[vllm]", on Linux',
    "sentence-transformers": 'item vectors by a sentence model: pip install "mmgrid[sentence-transformers]"',
    "s3fs": 'cells in s3://: pip install "mmgrid[s3]"',
    "gcsfs": 'cells in gs://: pip install "mmgrid[gs]"',
    "optuna": 'searches over numbers of merges: pip install "mmgrid[search]"',
    "bitsandbytes": 'optimizer = "adamw_8bit" on a GPU: pip install "mmgrid[bitsandbytes]"',
    "cut-cross-entropy": 'cross_entropy = "cut" on a GPU: pip install "mmgrid[cut-cross-entropy]"',
    "peft": 'training LoRA adapters: pip install "mmgrid[lora]" (merging them does without)',
}
_LITTLE_DISK = 5 << 30


def doctor(as_json: AsJson = False) -> None:
    """Show the machine, plug-ins, and what is missing for what."""
    from mmgrid.cli import draw
    from mmgrid.merging.kernels.choice import standing
    from mmgrid.plugins import of_other_packages

    facts, packages = _machine(), {name: _installed(name) for name in _OPTIONAL}
    facts |= {"merging_loops": standing(), **packages}
    missing = [f"{name}, for {_OPTIONAL[name]}" for name, found in packages.items() if found is None]
    plugins, advice = of_other_packages(), _advice(facts)
    if as_json:
        draw.print_json(facts | {"plugins": plugins, "missing": missing, "advice": advice})
        return
    width = max(map(len, facts)) + 2
    for name, value in facts.items():
        if name not in packages or value:
            draw.say((name.ljust(width), "bold"), _text(value))
    for title, lines in (("Plug-ins", plugins), ("Not installed", missing), ("Advice", advice)):
        if lines:
            draw.say((title, "bold"))
        for line in lines:
            draw.console.print(draw.text_of(f"- {line}"))  # wrapped between words


def _machine() -> dict[str, Any]:
    import shutil

    import torch

    from mmgrid.backbone.device import device
    from mmgrid.machine.cores import available_cores
    from mmgrid.machine.memory import total_bytes
    from mmgrid.store.record import installed_versions

    return {
        "platform": f"{platform.system()} {platform.release()}, {platform.machine()}",
        **installed_versions(),
        "cores": available_cores(),
        "memory_gib": round(total_bytes() / 2**30, 1),
        "device": device(),
        "gpus": [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())],
        "free_disk_gib": round(shutil.disk_usage(Path.cwd()).free / 2**30, 1),
        "MMGRID_DATA": os.environ.get("MMGRID_DATA"),
    }


def _installed(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _advice(facts: dict[str, Any]) -> list[str]:
    from mmgrid.backbone.device import has_bf16
    from mmgrid.machine.bf16 import fast_bf16

    advice = []
    if facts["device"] == "cpu":
        fast = "may be faster than" if fast_bf16() else "is emulated here, and many times as slow as"
        advice.append(f'no GPU: use a tiny backbone; precision = "bf16" {fast} "float32"')
    elif not has_bf16(facts["device"]):
        advice.append('this GPU has no bf16: set precision = "float32"')
    if facts["free_disk_gib"] * 2**30 < _LITTLE_DISK:
        advice.append("less than 5 GiB of disk are free here; choose a larger disk with --store")
    return advice


def _text(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return "not set" if value is None else str(value)
