"""How long cells take if several are built at a time, each after those that it is built from."""

import heapq
from collections.abc import Callable, Mapping

from mmgrid.grid.cells.cell import Cell

Places = Mapping[str, int]


def makespan(
    seconds: Mapping[Cell, float],
    places: Places,
    place_of: Callable[[Cell], str],
    running: Mapping[Cell, object] | None = None,
) -> float:
    """The end of the last cell if each is begun, in this order, as soon as a place is free and its upstream is built.

    Args:
        seconds: of each cell that is left.
        places: kind of place → how many cells are built there at a time.
        place_of: the kind of place that a cell needs.
        running: those of the cells that have begun.
    """
    running = running or {}
    below: dict[Cell, list[Cell]] = {cell: [] for cell in seconds}
    waits = dict.fromkeys(seconds, 0)
    order = {cell: number for number, cell in enumerate(seconds)}
    for cell in seconds:
        for above in set(cell.upstream.values()):
            if above in waits:
                below[above].append(cell)
                waits[cell] += 1
    at = [*seconds]
    free = dict(places)
    ready: dict[str, list[int]] = {kind: [] for kind in places}
    for cell in seconds:
        if not waits[cell] and cell not in running:
            heapq.heappush(ready[place_of(cell)], order[cell])
    working = [(seconds[cell], order[cell]) for cell in running]
    for cell in running:
        free[place_of(cell)] -= 1
    heapq.heapify(working)
    now = 0.0
    while working or any(ready.values()):
        for kind, queue in ready.items():
            while queue and free[kind] > 0:
                number = heapq.heappop(queue)
                free[kind] -= 1
                heapq.heappush(working, (now + seconds[at[number]], number))
        now, number = heapq.heappop(working)
        free[place_of(at[number])] += 1
        for cell in below[at[number]]:
            waits[cell] -= 1
            if not waits[cell]:
                heapq.heappush(ready[place_of(cell)], order[cell])
    return now
