"""Edges added to sorted arrays, or taken out of them, without sorting anew: a few copies instead of a build."""

import dataclasses
from typing import Any

import numpy as np
from jaxtyping import Float32, Int, Int8, Int32
from numpy.typing import ArrayLike

from .._errors import InvalidArgumentError
from ._arrays import AnyGraph, EdgeArrays, frozen, inwards, outwards
from ._cycle import cycle_error, find_cycle
from ._edges import EdgeKind
from ._relevel import lowered, raised
from ._traverse import Adjacency, levels, ranges

# A change that touches more than this part of the edges is no longer small: building anew costs no more.
SMALL = 16
# Levels are followed edge by edge up to this part of the graph; a pass over all of it costs some 16 times less an edge.
_WALKED = 16


def is_small(graph: EdgeArrays, edges: int) -> bool:
    """Whether so many edges are few beside those that the graph has."""
    return edges * SMALL <= graph.num_edges


def spliced(
    graph: AnyGraph,
    parent: Int32[np.ndarray, " new"],
    child: Int32[np.ndarray, " new"],
    weight: Float32[np.ndarray, " new"] | None,
    kind: Int8[np.ndarray, " new"],
) -> AnyGraph:
    """The graph and more edges; of parallel ones the new come last. Raises `GraphCycleError`."""
    order = np.lexsort((parent, child))
    parent, child, kind = parent[order], child[order], kind[order]
    level = raised(graph.levels(), outwards(graph), parent, child, _allowance(graph))
    at = _place(inwards(graph), child, parent, after=True)
    number = (at + np.arange(len(at))).astype(np.int32)
    by_parent = np.argsort(parent, kind="stable")
    # The edges out of a page lie in the order of their numbers.
    out_at = _place(Adjacency(graph.out_start, None, graph.out_edge), parent[by_parent], at[by_parent], after=False)
    moved = np.delete(np.arange(graph.num_edges + len(at), dtype=np.int32), number)
    changed = _rebuilt(
        graph,
        parent=np.insert(graph.parent, at, parent),
        child=np.insert(graph.child, at, child),
        weight=None if graph.weight is None or weight is None else np.insert(graph.weight, at, weight[order]),
        kind=np.insert(graph.kind, at, kind),
        in_start=_shifted(graph.in_start, child, 1),
        out_start=_shifted(graph.out_start, parent[by_parent], 1),
        out_edge=np.insert(moved.take(graph.out_edge), out_at, number[by_parent]),
    )
    return _levelled(changed, level)


def cut_out(graph: AnyGraph, gone: Int[np.ndarray, " gone"]) -> AnyGraph:
    """The graph less the edges of these numbers, ascending."""
    parent, child = graph.parent[gone], graph.child[gone]
    by_parent = np.argsort(parent, kind="stable")
    out_at = _place(Adjacency(graph.out_start, None, graph.out_edge), parent[by_parent], gone[by_parent], after=False)
    left = np.arange(graph.num_edges - len(gone), dtype=np.int32)
    moved = np.insert(left, gone - np.arange(len(gone)), 0)
    changed = _rebuilt(
        graph,
        parent=np.delete(graph.parent, gone),
        child=np.delete(graph.child, gone),
        weight=None if graph.weight is None else np.delete(graph.weight, gone),
        kind=np.delete(graph.kind, gone),
        in_start=_shifted(graph.in_start, child, -1),
        out_start=_shifted(graph.out_start, parent[by_parent], -1),
        out_edge=moved.take(np.delete(graph.out_edge, out_at)),
    )
    allowance = _allowance(graph)
    return _levelled(changed, lowered(graph.levels(), inwards(changed), outwards(changed), parent, child, allowance))


def numbers(
    graph: EdgeArrays, parent: Int32[np.ndarray, " asked"], child: Int32[np.ndarray, " asked"], kind: ArrayLike | None
) -> tuple[Int[np.ndarray, " found"], Int[np.ndarray, " found"]]:
    """`(edge, pair)`: the edges (of that kind) from `parent[i]` to `child[i]`, and the i of each."""
    first = _place(inwards(graph), child, parent, after=False)
    last = _place(inwards(graph), child, parent, after=True)
    edge, pair = ranges(first, last), np.repeat(np.arange(len(parent)), last - first)
    if kind is None:
        return edge, pair
    wanted = graph.kind[edge] == EdgeKind.parse(kind)
    return edge[wanted], pair[wanted]


def numbers_to_remove(
    graph: EdgeArrays, parent: Int32[np.ndarray, " asked"], child: Int32[np.ndarray, " asked"], kind: ArrayLike | None
) -> Int[np.ndarray, " gone"]:
    """The edges (of that kind) between those pages, each once, ascending. Raises `InvalidArgumentError` for a pair that
    has none."""
    edge, pair = numbers(graph, parent, child, kind)
    missing = np.bincount(pair, minlength=len(parent)) == 0
    if missing.any():
        first = int(np.argmax(missing))
        raise InvalidArgumentError(
            f"there is no edge {parent[first]} -> {child[first]}"
            + ("" if kind is None else f" of kind {EdgeKind.parse(kind).name}")
            + f" to remove (and {int(missing.sum()) - 1} more are missing); ask parents() which edges there are"
        )
    return np.unique(edge)


def joined_weights(
    graph: EdgeArrays, new: Float32[np.ndarray, " n"] | None, count: int
) -> Float32[np.ndarray, " n"] | None:
    """The weights of `count` new edges, if they go with those that the graph has. Raises `InvalidArgumentError`."""
    if count and graph.num_edges:
        if graph.weight is None and new is not None:
            raise InvalidArgumentError("the graph has no weights, the new edges have; leave weight out, or rebuild it")
        if graph.weight is not None and new is None:
            raise InvalidArgumentError("the graph has weights, the new edges have none; pass weight= as well")
    return new


def _allowance(graph: EdgeArrays) -> int:
    return (graph.num_pages + graph.num_edges) // _WALKED


def _rebuilt(graph: AnyGraph, **arrays: Any) -> AnyGraph:
    read_only: dict[str, Any] = {name: None if array is None else frozen(array) for name, array in arrays.items()}
    return dataclasses.replace(graph, **read_only)


def _levelled(graph: AnyGraph, level: Int32[np.ndarray, " pages"] | None) -> AnyGraph:
    """`graph` with these levels, or without them with those that a pass over all of it finds. Raises a cycle."""
    if level is None:
        level = all_levels(graph.in_start, graph.out_start, graph.out_edge, graph.parent, graph.child)
    return dataclasses.replace(graph, _level=frozen(level))


def all_levels(
    in_start: Int32[np.ndarray, " pages_and_one"],
    out_start: Int32[np.ndarray, " pages_and_one"],
    out_edge: Int32[np.ndarray, " edges"],
    parent: Int32[np.ndarray, " edges"],
    child: Int32[np.ndarray, " edges"],
) -> Int32[np.ndarray, " pages"]:
    """The level of every page, by one pass over all edges. Raises `GraphCycleError`."""
    level = levels(np.diff(in_start), out_start, child[out_edge])
    if level.size and level.min() < 0:
        raise cycle_error(find_cycle(level, parent, child))
    return level


def _place(
    adjacency: Adjacency, pages: Int[np.ndarray, " n"], wanted: Int[np.ndarray, " n"], *, after: bool
) -> Int[np.ndarray, " n"]:
    """Where `wanted[i]` belongs among the ascending neighbours of `pages[i]`: before those equal to it, or `after`."""
    low, high = (adjacency.start[pages + end].astype(np.int64) for end in (0, 1))
    while (rows := np.flatnonzero(low < high)).size:
        middle = (low[rows] + high[rows]) // 2
        found = adjacency.neighbour[middle]
        below = found <= wanted[rows] if after else found < wanted[rows]
        low[rows[below]] = middle[below] + 1
        high[rows[~below]] = middle[~below]
    return low


def _shifted(
    start: Int32[np.ndarray, " pages_and_one"], pages: Int32[np.ndarray, " n"], step: int
) -> Int32[np.ndarray, " pages_and_one"]:
    """`start` when each of `pages`, ascending, gets one edge more, or less."""
    bounds = np.concatenate([[0], pages.astype(np.int64) + 1, [len(start)]])
    return start + np.repeat(np.arange(0, step * (len(pages) + 1), step, dtype=np.int32), np.diff(bounds))
