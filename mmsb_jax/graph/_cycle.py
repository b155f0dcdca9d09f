"""One cycle among edges, and how it is told."""

import numpy as np
from jaxtyping import Int32

from .._errors import GraphCycleError

_SHOWN = 10


def find_cycle(
    level: Int32[np.ndarray, " pages"], parent: Int32[np.ndarray, " edges"], child: Int32[np.ndarray, " edges"]
) -> tuple[int, ...]:
    """One cycle along the edges, first page = last, beginning with its smallest; `levels` found that there is one.

    A page without a level has a parent without one. Going from parent to parent must therefore come back to a page
    already visited, and the way between the two visits is a cycle.
    """
    unsettled = np.flatnonzero((level[parent] < 0) & (level[child] < 0))[::-1]  # of several parents the first stays
    before = np.full(len(level), -1, np.int32)
    before[child[unsettled]] = parent[unsettled]
    return way_round(before, int(child[unsettled].min()))


def way_round(before: Int32[np.ndarray, " pages"], page: int) -> tuple[int, ...]:
    """The cycle into which going back from `page` to `before[page]`, and so on, must lead."""
    parent_of = before.data
    visited: dict[int, None] = {}
    while page not in visited:
        visited[page] = None
        page = parent_of[page]
    way = list(visited)
    return closed(way[way.index(page) :][::-1])


def closed(cycle: list[int]) -> tuple[int, ...]:
    """Pages along a cycle, each once, as they are told: beginning and ending with the smallest."""
    turn = cycle.index(min(cycle))
    return (*cycle[turn:], *cycle[: turn + 1])


def cycle_error(cycle: tuple[int, ...], names: dict[int, str] | None = None) -> GraphCycleError:
    """The error that names a cycle, by the names of its pages where they have some."""
    length = len(cycle) - 1
    shown = [(names or {}).get(page, str(page)) for page in cycle]
    if length > _SHOWN:
        shown = [*shown[: _SHOWN - 1], f"({length - _SHOWN + 1} more)", shown[-1]]
    pages = "1 page, which depends on itself" if length == 1 else f"{length} pages"
    return GraphCycleError(
        f"the edges contain a cycle of {pages}: {' -> '.join(shown)}; a page can't depend on its own next value "
        "within one wave, so remove one of these edges, or let it lead to another page that the next tick reads",
        cycle,
    )
