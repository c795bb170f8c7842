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

    A cell of several processes takes as many places, or all if there are fewer.

    Args:
        seconds: of each cell that is left.
        places: kind of place → how many cells are built there at a time.
        place_of: the kind of place that a cell needs.
        running: those of the cells that have begun.
    """
    cells, costs = [*seconds], [*seconds.values()]
    order = {cell: number for number, cell in enumerate(cells)}
    kinds = [place_of(cell) for cell in cells]
    taken = [min(cell.processes, places[kind]) for cell, kind in zip(cells, kinds, strict=True)]
    below: list[list[int]] = [[] for _ in cells]
    waits = [0] * len(cells)
    for number, cell in enumerate(cells):
        for above in {order[one] for one in cell.upstream.values() if one in order}:
            below[above].append(number)
            waits[number] += 1
    begun = {order[cell] for cell in running or {}}
    free = dict(places)
    ready: dict[str, list[int]] = {kind: [] for kind in places}
    for number, kind in enumerate(kinds):
        if number in begun:
            free[kind] -= taken[number]
        elif not waits[number]:
            ready[kind].append(number)  # in order, so it is a heap
    working = [(costs[number], number) for number in begun]
    heapq.heapify(working)
    now = 0.0
    while working or any(ready.values()):
        for kind, queue in ready.items():
            while queue and 0 < free[kind] >= taken[queue[0]]:
                number = heapq.heappop(queue)
                free[kind] -= taken[number]
                heapq.heappush(working, (now + costs[number], number))
        now, number = heapq.heappop(working)
        free[kinds[number]] += taken[number]
        for one in below[number]:
            waits[one] -= 1
            if not waits[one]:
                heapq.heappush(ready[kinds[one]], one)
    return now
