"""The graph on the host: building, validating, finding a cycle, and a few edges more or less."""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import numpy as np
import rustworkx as rx

import mmsb_jax as mmsb
from mmsb_jax._errors import GraphCycleError
from mmsb_jax.graph import validate_edges

from ._harness import Case, Peer, Program


class Edges(NamedTuple):
    """Ends of edges that lead from a page to a later one."""

    parent: np.ndarray
    child: np.ndarray
    pages: int


@cache
def _edges(pages: int, per_page: int) -> Edges:
    rng = np.random.default_rng(0)
    ends = np.sort(rng.integers(0, pages, (2, pages * per_page)), axis=0)
    parent, child = ends[:, ends[0] != ends[1]]
    return Edges(parent.astype(np.int32), child.astype(np.int32), pages)


def _validated(edges: Edges) -> Program:
    return Program(lambda: np.array(validate_edges(edges.parent, edges.child, num_pages=edges.pages).ok))


def _rustworkx(edges: Edges) -> Program:
    graph = rx.PyDiGraph()
    graph.add_nodes_from(range(edges.pages))
    graph.add_edges_from_no_data(list(zip(edges.parent.tolist(), edges.child.tolist(), strict=True)))
    return Program(lambda: np.array(rx.is_directed_acyclic_graph(graph)))


def _same(ours: Any, theirs: Any) -> None:
    np.testing.assert_array_equal(ours, theirs)


def _cycle(edges: Edges) -> Program:
    """One edge back closes cycles; the error names one."""
    parent, child = np.append(edges.parent, edges.child[-1]), np.append(edges.child, edges.parent[-1])

    def look() -> np.ndarray:
        try:
            mmsb.ShadowPageGraph.from_edges(parent, child, num_pages=edges.pages)
        except GraphCycleError as error:
            return np.array(error.cycle[0] == error.cycle[-1])
        return np.array(False)

    return Program(look)


def _one_more(edges: Edges) -> Program:
    graph = mmsb.ShadowPageGraph.from_edges(edges.parent, edges.child, num_pages=edges.pages)
    rng = np.random.default_rng(1)

    def change() -> np.ndarray:
        ends = np.sort(rng.choice(edges.pages, (2, 100), replace=False), axis=0)
        return np.array(graph.with_edges(*ends).num_edges)

    return Program(change)


def _anew(edges: Edges) -> Program:
    more = edges.parent[-100:], edges.child[-100:]
    parent, child = (np.concatenate(pair) for pair in zip(edges[:2], more, strict=True))
    return Program(lambda: np.array(mmsb.ShadowPageGraph.from_edges(parent, child, num_pages=edges.pages).num_edges))


def _large(quick: bool) -> Edges:
    return _edges(500 if quick else 1_000_000, 4)


CASES = (
    Case(
        "graphs/validate 10⁶ pages, 4 × 10⁶ edges",
        _large,
        _validated,
        (Peer("rustworkx: acyclic alone", _rustworkx, _same),),
        items=lambda edges: 1,
        unit="graphs",
        floor=1.0,
    ),
    Case(
        "graphs/find a cycle, 10,000 pages",
        lambda quick: _edges(500 if quick else 10_000, 4),
        _cycle,
        items=lambda edges: 1,
        unit="graphs",
        floor=100.0,
    ),
    Case(
        "graphs/100 edges more, 4 × 10⁶ there",
        _large,
        _one_more,
        (Peer("built anew", _anew, _same),),
    ),
)
