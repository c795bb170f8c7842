"""The command `plan`."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mmgrid.cli.options import DEFAULT_STORE, AsJson, GridFile, Only, Settings, StoreRoot
from mmgrid.machine.uncollected import uncollected
from mmgrid.quantities import duration, size

if TYPE_CHECKING:
    from mmgrid.cli.session import Session
    from mmgrid.grid.cells.cell import Cell
    from mmgrid.grid.costs.known import Known
    from mmgrid.grid.costs.memory import Memory
    from mmgrid.machine.rates import Rate

COLOURS = {"built": "green", "missing": "yellow", "damaged": "red", "failed": "red", "blocked": "yellow"}
_FEW_AND_MANY = (1, 8)
_STANDARD_GPU = "h100"  # where a grid needs a GPU and the machine has none


@uncollected()
def plan(
    grid: GridFile,
    store: StoreRoot = DEFAULT_STORE,
    only: Only = None,
    device: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="The device that trains: h200, h100, a100, l40s, rtx4090, a10, l4 or cpu. Default: this machine's.",
        ),
    ] = None,
    devices: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="How many GPUs there are. Default: shows one and eight.")
    ] = None,
    jobs: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Also show how long N cells at a time take, without GPUs.")
    ] = None,
    memory: Annotated[
        bool, typer.Option("--memory", help="Show what each training takes of a device's memory.")
    ] = False,
    settings: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Show the cells as a tree, with their state and cost; also without data or model, as far as the grid knows them.

    With --memory, a table of what each training holds in the memory of its device.
    """
    from mmgrid.cli import draw
    from mmgrid.cli.session import Session
    from mmgrid.grid.costs.estimate import estimate, slowdown
    from mmgrid.grid.costs.known import Known
    from mmgrid.machine.gpus import gpu_rate

    session = Session.open(grid, store, settings, bare=True)
    cells = session.chosen(only)
    known = Known(session.records, session.grid)
    gpu = None if jobs else _gpu(device, devices, session)
    if jobs and (device or devices):
        raise ValueError("--jobs: is for cores; --devices says how many GPUs there are")
    beside = slowdown(jobs or 1)
    costs = estimate(cells, known, core=_core(cells, gpu), gpu=gpu, corrected=gpu is None, slowdown=beside)
    session.warn_of_damage()
    if gpu is None:
        session.warn_of_slow_bf16(cells)
    held = _memory(cells, known) if memory else {}
    if as_json:
        draw.print_json([_facts(cell, session, costs, known, held) for cell in cells])
        return
    _print_tree(cells, session, costs)
    if session.absent:
        draw.say(f"No data here of {', '.join(session.absent)}: their sizes are what the grid file expects")
    if memory:
        _print_memory(held, [cell for cell in cells if cell.kind == "checkpoint"], known)
    _print_sum(costs, known, gpu, devices, jobs)
    if gpu is not None and gpu_rate() is None:
        draw.say(
            f"No known GPU is here: these are the costs on {gpu.name}; --device cpu shows those on this machine's cores"
        )


def _core(cells: "Sequence[Cell]", gpu: "Rate | None") -> "Rate":
    """The rate of a core of this machine."""
    from dataclasses import replace

    from mmgrid.grid.cells.computing import in_bf16
    from mmgrid.machine.rates import measured_core

    core = measured_core()
    if gpu is None and any(in_bf16(cell) for cell in cells):
        from mmgrid.backbone.device import emulated_bf16  # torch, only where it is needed

        core = replace(core, flops=emulated_bf16() or core.flops)
    return core


def _gpu(device: str | None, devices: int | None, session: "Session") -> "Rate | None":
    """The GPU of the estimate; None for cores."""
    from mmgrid.machine.gpus import gpu_rate, rate_of_gpu
    from mmgrid.machine.rates import rate_of

    if device is None:
        backbone = session.grid.spec.backbone
        large = devices is not None or (backbone is not None and backbone.kind == "pretrained")
        return gpu_rate() or (rate_of(_STANDARD_GPU) if large else None)
    found = rate_of_gpu(device) or rate_of(device)  # also by the driver's name
    if devices is not None and not found.is_gpu:
        raise ValueError("--devices: counts GPUs; name one with --device, such as --device h100")
    return found if found.is_gpu else None


def _memory(cells: "Sequence[Cell]", known: "Known") -> "dict[Cell, Memory]":
    from mmgrid.grid.costs.memory import memory_of

    return {
        cell: found for cell in cells if cell.kind == "checkpoint" and (found := memory_of(cell, known)) is not None
    }


def _facts(
    cell: "Cell",
    session: "Session",
    costs: "Mapping[Cell, float | None]",
    known: "Known",
    held: "Mapping[Cell, Memory]",
) -> dict[str, Any]:
    from mmgrid.grid.costs.disk import disk_of

    built, state = cell in session.records, session.states[cell]
    facts = {
        "name": cell.name,
        "fingerprint": cell.fingerprint,
        "state": state.name,
        "problem": state.problem or None,
        "seconds": session.records[cell].seconds if built else costs[cell],
        "bytes": session.store.size(cell.address, session.records[cell]) if built else None,
        "expected_bytes": None if built else disk_of(cell, known),
        "folder": str(session.store.folder(cell.address)),
    }
    return facts | ({"memory": vars(held[cell]) | {"total": held[cell].total}} if cell in held else {})


def _print_tree(cells: "Sequence[Cell]", session: "Session", costs: "Mapping[Cell, float | None]") -> None:
    from mmgrid.cli import draw

    states = {cell: session.states[cell] for cell in cells}
    texts = {}
    for name, group in _lines(cells).items():
        seconds = [session.records[cell].seconds if cell in session.records else costs[cell] for cell in group]
        total = None if None in seconds else sum(second for second in seconds if second is not None)
        built = all(cell in session.records for cell in group)
        count = Counter(states[cell].name for cell in group)
        parts: list[draw.Part] = []
        for state, n in count.items():
            parts += [", "] * bool(parts) + [f"{n} "] * (len(count) > 1) + [(state, COLOURS[state])]
        cost = "cost unknown" if total is None else f"{'' if built else 'about '}{duration(total)}"
        bytes_ = sum(
            session.store.size(cell.address, session.records[cell]) for cell in group if cell in session.records
        )
        room = f", {size(bytes_)}" if bytes_ else ""
        texts[name] = draw.text_of(*parts, " ", (f"{cost}{room}", "dim"))
    draw.print_tree(texts, f"{session.grid.spec.name} ({len(cells)} cells)")
    for cell, state in states.items():
        if state.name == "failed":
            draw.say(("failed", "red"), f" {cell.name}: {state.problem}")


def _lines(cells: "Sequence[Cell]") -> "dict[str, list[Cell]]":
    """Line of the tree → its cells; all points of a sweep share one line."""
    lines: dict[str, list[Any]] = {}
    for cell in cells:
        called = " ".join(cell.family.split("/")[1:-1])
        lines.setdefault("/".join((cell.kind, *cell.key[:2], called)) if cell.family else cell.name, []).append(cell)
    return {f"{name}: {len(group)} points" if group[0].family else name: group for name, group in lines.items()}


def _why_unknown(cells: "Sequence[Cell]", known: "Known") -> str:
    """Why the costs of these cells are not known: the end of a sentence."""
    corpora = [cell.upstream.get("corpus") for cell in cells]
    waiting = sum(corpus is not None and not known.counts(corpus) for corpus in corpora)
    of_model = "as the sizes of their language model are not known: its config.json is not here, or of a kind that is not counted"
    if waiting == len(cells):
        return "until their corpus is built"
    return of_model if not waiting else f"until their corpus is built, or {of_model}"


def _print_memory(held: "Mapping[Cell, Memory]", trainings: "Sequence[Cell]", known: "Known") -> None:
    from mmgrid.cli import draw
    from mmgrid.grid.cells.computing import computes

    if not trainings:
        draw.say("Memory: its sizes are of trainings, and there are none")
    lacking = [cell for cell in trainings if cell not in held and computes(cell)]
    if lacking:
        of = "its sizes are" if not held else f"the sizes of {len(lacking)} trainings are"
        draw.say(f"Memory: {of} unknown {_why_unknown(lacking, known)}")
    if not held:
        return

    parts = ("weights", "gradients", "optimizer", "activations", "total")
    rows = [("/".join(cell.key), *(size(getattr(found, part)) for part in parts)) for cell, found in held.items()]
    draw.print_table("Memory of a training", ("", *parts), rows)


def _print_sum(
    costs: "Mapping[Cell, float | None]", known: "Known", gpu: "Rate | None", devices: int | None, jobs: int | None
) -> None:
    from mmgrid.cli import draw
    from mmgrid.grid.costs.totals import total, with_jobs

    unknown = [cell for cell, cost in costs.items() if cost is None]
    more = f"; the cost of {len(unknown)} of them is unknown {_why_unknown(unknown, known)}" if unknown else ""
    least = "at least" if unknown else "about"
    if gpu is None:
        work = sum(cost for cost in costs.values() if cost is not None)
        draw.say(f"{len(costs)} cells to build: {least} {duration(work)} of work on one core{more}")
        if jobs:
            some, any_number = (duration(with_jobs(costs, number)) for number in (jobs, None))
            draw.say(f"With {jobs} at a time {least} {some}; the longest chain of cells alone takes {any_number}")
        return
    held = max((found.total for found in _memory([*costs], known).values()), default=None)
    found = [total(costs, known, n) for n in ((devices,) if devices else _FEW_AND_MANY)]
    rows = [
        (f"{one.devices} × {gpu.name}", duration(one.seconds), f"{one.work / 3600:.0f}", size(held), size(one.disk))
        for one in found
    ]
    draw.say(f"{len(costs)} cells to build{more}; {least}:")
    draw.print_table("", ("", "time", "GPU hours", "memory of a GPU", "disk"), rows)
    if held is not None and held > gpu.memory:
        draw.say(
            f"A GPU of {size(gpu.memory)} is too small for some trainings; --memory shows which. Set accumulation, "
            "rows_at_once or training.recompute_activations, or train an adapter (lora)"
        )
