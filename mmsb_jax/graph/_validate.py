"""What is wrong with some edges, or odd about them: a report, never an error."""

import time
from collections.abc import Iterator
from typing import Any

import equinox as eqx
import numpy as np
from jaxtyping import Int, Int8, Int32, Integer
from numpy.typing import ArrayLike
from scipy import sparse

from .._errors import InvalidArgumentError
from .._text import table
from ._arrays import EdgeArrays
from ._cycle import way_round
from ._edges import edge_kinds, page_count, whole_ids
from ._traverse import group, levels

_EXAMPLES = 5
Pages = tuple[int, ...]


class Check(eqx.Module):
    """What one check found. See `GraphReport` for an example."""

    name: str = eqx.field(static=True)
    """`"dangling"`, `"cycles"`, `"duplicates"` or `"orphans"`."""
    count: int = eqx.field(static=True)
    examples: tuple[Pages, ...] = eqx.field(static=True)
    """Some of what was found: the ends of an edge, the pages along a cycle (first = last), or one page."""
    seconds: float = eqx.field(static=True)
    fatal: bool = eqx.field(static=True)
    """Whether a graph can't be built while there are any."""


class GraphReport(eqx.Module):
    """What `validate` found: `ok`, and one `Check` for each question, also by name. Printed, it is a table.

    - `dangling`: edges with an end that is no page.
    - `cycles`: groups of pages that all depend on each other (strongly connected components); each is shown by one
      cycle. A page that depends on itself is such a group.
    - `duplicates`: edges that repeat another of the same parent, child and kind. A graph keeps them.
    - `orphans`: pages without an edge. A graph may have any number of them.

    >>> report = validate_edges([0, 1, 1, 7], [1, 0, 2, 2], num_pages=4)
    >>> report.ok, report["cycles"].examples, report["dangling"].count
    (False, ((0, 1, 0),), 1)
    """

    num_pages: int = eqx.field(static=True)
    num_edges: int = eqx.field(static=True)
    checks: tuple[Check, ...] = eqx.field(static=True)

    @property
    def ok(self) -> bool:
        """Whether a graph can be built of these edges: no cycle, no dangling id."""
        return not any(check.count for check in self.checks if check.fatal)

    @property
    def seconds(self) -> float:
        """Time that all checks took."""
        return sum(check.seconds for check in self.checks)

    def __getitem__(self, name: str | Any) -> Check:
        for check in self.checks:
            if check.name == name:
                return check
        names = ", ".join(repr(check.name) for check in self.checks)
        raise InvalidArgumentError(f"there is no check named {name!r}; the checks are {names}")

    def __repr__(self) -> str:  # a notebook shows the repr
        return str(self)

    def __str__(self) -> str:
        verdict = "ok" if self.ok else "NOT A GRAPH"
        head = f"{self.num_pages:,} pages, {self.num_edges:,} edges: {verdict} ({1000 * self.seconds:.1f} ms)"
        rows = [
            [
                check.name,
                "ERROR" if check.fatal and check.count else "ok" if check.fatal or not check.count else "allowed",
                f"{check.count:,}",
                f"{1000 * check.seconds:.1f}",
                _shown(check),
            ]
            for check in self.checks
        ]
        return "\n  ".join([head, *table(["check", "", "found", "ms", "for example"], rows, ["found", "ms"])])


def _shown(check: Check) -> str:
    texts = []
    for pages in check.examples:
        names = list(map(str, pages))
        texts.append(" -> ".join(names if len(names) <= 6 else [*names[:4], f"({len(names) - 5} more)", names[-1]]))
    return ", ".join([*texts, "…"] if check.count > len(texts) else texts)


class _Stopwatch:
    """Makes checks, each with the time since the one before."""

    def __init__(self) -> None:
        self._last = time.perf_counter()

    def check(
        self, name: str, count: int | Any, examples: Iterator[Pages] | list[Pages], *, fatal: bool = False
    ) -> Check:
        shown = tuple(pages for _, pages in zip(range(_EXAMPLES), examples, strict=False))
        now = time.perf_counter()
        seconds, self._last = now - self._last, now
        return Check(name, int(count), shown, seconds, fatal)


def validate_edges(
    parent: ArrayLike, child: ArrayLike, *, kind: ArrayLike | None = None, num_pages: int | Any
) -> GraphReport:
    """Look at edges that may be anything: with cycles, with ids of no page.

    Takes `parent`, `child` and `kind` as `ShadowPageGraph.from_edges` does. Edges that dangle are left out of the other
    checks. Takes time linear in pages and edges. Raises only for what are no edges at all: `InvalidTypeError` for ids
    that aren't whole numbers, `InvalidArgumentError` for shapes, kinds and a `num_pages` that can't be.

    >>> validate_edges([0, 0, 1], [1, 1, 2], num_pages=4).ok
    True
    """
    count = page_count(num_pages)
    from_page, to_page = whole_ids(parent, "parent"), whole_ids(child, "child")
    if len(from_page) != len(to_page):
        raise InvalidArgumentError(f"parent has {len(from_page)} ids and child {len(to_page)}; pass equally many")
    kinds = edge_kinds(kind, len(to_page))
    edges, watch = len(to_page), _Stopwatch()

    lost = (from_page < 0) | (from_page >= count) | (to_page < 0) | (to_page >= count)
    dangling = watch.check("dangling", lost.sum(), _rows(np.flatnonzero(lost), from_page, to_page), fatal=True)
    if dangling.count:
        from_page, to_page, kinds = from_page[~lost], to_page[~lost], kinds[~lost]
    from_page, to_page = from_page.astype(np.int32, copy=False), to_page.astype(np.int32, copy=False)

    out_start, by_parent = group(from_page, count)
    from_page, to_page, kinds = from_page[by_parent], to_page[by_parent], kinds[by_parent]
    in_degree = np.bincount(to_page, minlength=count).astype(np.int32)
    level = levels(in_degree, out_start, to_page)
    order = group(to_page, count)[1]
    from_page, to_page, kinds = from_page[order], to_page[order], kinds[order]
    cycle_check = watch.check("cycles", *_cycles(level, from_page, to_page), fatal=True)
    twice = _repeated(from_page, to_page, kinds)
    duplicates = watch.check("duplicates", len(twice), _rows(twice, from_page, to_page))
    alone = np.flatnonzero((in_degree == 0) & (np.diff(out_start) == 0))
    return GraphReport(
        count, edges, (dangling, cycle_check, duplicates, watch.check("orphans", len(alone), _rows(alone)))
    )


def validate_graph(graph: EdgeArrays) -> GraphReport:
    """The same for a graph, whose arrays are sorted and whose levels are the proof that there is no cycle."""
    parent, child, count = graph.parent, graph.child, graph.num_pages
    watch = _Stopwatch()
    ends = [*(f(array, initial=0) for f in (np.min, np.max) for array in (parent, child))]
    dangling = watch.check("dangling", 0, [], fatal=True)
    level = graph.levels()
    if min(ends) < 0 or max(ends) >= max(1, count) or not (level[parent] < level[child]).all():
        return validate_edges(parent, child, kind=graph.kind, num_pages=count)  # somebody has changed an array
    cycles = watch.check("cycles", 0, [], fatal=True)
    twice = _repeated(parent, child, graph.kind)
    duplicates = watch.check("duplicates", len(twice), _rows(twice, parent, child))
    alone = np.flatnonzero((np.diff(graph.in_start) == 0) & (np.diff(graph.out_start) == 0))
    orphans = watch.check("orphans", len(alone), _rows(alone))
    return GraphReport(count, graph.num_edges, (dangling, cycles, duplicates, orphans))


def _rows(chosen: Int[np.ndarray, " n"], *columns: Integer[np.ndarray, " edges"]) -> list[Pages]:
    """The first few rows; without columns the chosen numbers themselves."""
    few = chosen[:_EXAMPLES]
    return list(zip(*([column[few].tolist() for column in columns] or [few.tolist()]), strict=True))


def _repeated(
    parent: Int32[np.ndarray, " edges"], child: Int32[np.ndarray, " edges"], kind: Int8[np.ndarray, " edges"]
) -> Int[np.ndarray, " n"]:
    """Edges, sorted by child and parent, that repeat one before them."""
    same = (child[1:] == child[:-1]) & (parent[1:] == parent[:-1])
    # Kinds needn't be sorted, but edges between equal pages lie together, and few are.
    pair = np.flatnonzero(np.r_[same, False] | np.r_[False, same])
    rows = np.stack([child[pair], parent[pair], kind[pair]], axis=1)
    _, first = np.unique(rows, axis=0, return_index=True)
    return np.delete(pair, first)


def _cycles(
    level: Int32[np.ndarray, " pages"], parent: Int32[np.ndarray, " edges"], child: Int32[np.ndarray, " edges"]
) -> tuple[int, Iterator[Pages]]:
    """How many groups of pages depend on each other, and a cycle out of each; edges are sorted by child and parent."""
    pages = np.flatnonzero(level < 0)  # on a cycle, or behind one
    if not pages.size:
        return 0, iter(())
    inside = (level[parent] < 0) & (level[child] < 0)
    inside[1:] &= (parent[1:] != parent[:-1]) | (child[1:] != child[:-1])  # SciPy never ends on parallel edges
    parent, child = parent[inside], child[inside]
    number = np.zeros(len(level), np.int32)
    number[pages] = np.arange(len(pages))
    start = np.append(0, np.cumsum(np.bincount(number[child], minlength=len(pages))))
    # Rows are children: reversed edges have the same groups.
    matrix = sparse.csr_array((np.ones(len(parent)), number[parent], start), shape=(len(pages), len(pages)))
    label = np.zeros(len(level), np.int32)
    label[pages] = sparse.csgraph.connected_components(matrix, directed=True, connection="strong")[1]
    within = label[parent] == label[child]
    parent, child = parent[within], child[within]
    before = np.full(len(level), -1, np.int32)
    before[child[::-1]] = parent[::-1]  # of several parents in the group the first stays
    member = np.full(len(pages), -1, np.int32)
    member[label[child]] = child
    knots = member[member >= 0].tolist()
    return len(knots), (way_round(before, page) for page in knots)
