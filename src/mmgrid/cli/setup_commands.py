"""The commands `init` and `doctor`: write a commented grid file, and describe the machine."""

from pathlib import Path
from typing import Annotated

import typer

from mmgrid.cli.options import AsJson
from mmgrid.visible import visible


def init(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The grid file to write.")] = Path("grid.toml"),
    force: Annotated[bool, typer.Option("--force", help="Replace an existing file.")] = False,
) -> None:
    """Write a commented grid file to start from."""
    from importlib.resources import files

    from mmgrid.files import clear_disk_errors, write_bytes

    if file.exists() and not force:
        raise FileExistsError(f"{file}: exists already; choose another name, or replace it with --force")
    with clear_disk_errors(file):
        write_bytes(file, files("mmgrid.grid.file").joinpath("template.toml").read_bytes())
    typer.echo(visible(f"{file}: written; `mmgrid plan {file}` shows its cells, `mmgrid run {file}` builds them"))


def doctor(as_json: AsJson = False) -> None:
    """Show versions, cores, memory, GPUs and disk, with advice."""
    import os
    import shutil

    import torch

    from mmgrid.cli import draw
    from mmgrid.store.record import installed_versions

    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 0
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    bf16 = _fast_bf16()
    free = shutil.disk_usage(Path.cwd()).free
    facts = {
        **installed_versions(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gib": round(memory / 2**30, 1),
        "gpus": gpus,
        "free_disk_gib": round(free / 2**30, 1),
        "MMGRID_DATA": os.environ.get("MMGRID_DATA"),
    }
    advice = []
    if not gpus:
        fast = "may be faster than" if bf16 else "is slower here than"
        advice.append(f'no GPU: use a tiny backbone; precision = "bf16" {fast} "float32"')
    if free < 5 * 2**30:
        advice.append("less than 5 GiB of disk are free here; choose a larger disk with --store")
    if as_json:
        draw.print_json(facts | {"advice": advice})
        return
    draw.print_table("This machine", ("", "value"), [(name, str(value)) for name, value in facts.items()], left=2)
    for line in advice:
        draw.say(f"- {line}")


def _fast_bf16() -> bool:
    """Whether the processor has instructions for bf16 matrix products."""
    import torch

    known = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return any(known.get(name) for name in ("amx_bf16", "avx512_bf16", "sve_bf16", "bf16"))
