"""Rewriting: how much of a graph is superfluous, what finding that costs, and what a wave gains by it.

Pages of 64 bytes in levels, folded by minima, and among them: edges that stand there twice, pages that only hand on
another's words, edges past a page that lies between, pages that compute the same as another, and pages that nobody
reads.
"""

from __future__ import annotations

from functools import cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import mmsb_jax as mmsb
from mmsb_jax import layout

from ._harness import Case, Figure, Peer, Program, compiled

WORDS, LEVELS, DEGREE = 16, 12, 4
CAPACITY = 1024


class Network(NamedTuple):
    """A graph with its rules, the pages that are read, those without a rule, and a state in which these are written."""

    graph: mmsb.ShadowPageGraph
    rules: list[mmsb.Rule]
    keep: np.ndarray
    inputs: np.ndarray
    state: mmsb.State


class Outcome(NamedTuple):
    """A state, and the pages of it that are read."""

    state: mmsb.State
    read: jax.Array


class _Edges:
    """Level by level, pages of five kinds."""

    def __init__(self, level: int) -> None:
        self.rng, self.level = np.random.default_rng(0), level
        self.parts: list[tuple[np.ndarray, np.ndarray]] = []
        self.ways: tuple[np.ndarray, np.ndarray] | None = None

    def add(self, parent: np.ndarray, child: np.ndarray) -> None:
        self.parts.append((parent, child))

    def fold(self, before: np.ndarray, child: np.ndarray, degree: int) -> np.ndarray:
        """Parents of each page, [pages, degree]."""
        parent = self.rng.choice(before, (len(child), degree))
        self.add(parent.ravel(), np.repeat(child, degree))
        return parent


def _levels(edges: _Edges, levels: int) -> np.ndarray:
    """Makes the edges; returns pages to be read."""
    size, read = edges.level, []
    above = np.arange(size)
    for number in range(1, levels):
        pages = number * size + np.arange(size)
        kernel, copy, double, spare = np.split(pages, [size // 4, size // 2, 3 * size // 4])
        parent = edges.fold(above, kernel, DEGREE)
        edges.add(parent[:, :2].ravel(), np.repeat(kernel, 2))  # twice
        edges.add(edges.rng.choice(kernel, len(copy)), copy)
        same = edges.rng.integers(0, len(kernel), len(double))
        edges.add(parent[same].ravel(), np.repeat(double, DEGREE))
        edges.fold(above, spare, DEGREE)
        if edges.ways is not None:  # past the page between
            middle, far = edges.ways
            of = np.flatnonzero(np.isin(parent[:, 0], middle))
            at = parent[of, 0] - middle[0]
            edges.add(far[at].ravel(), np.repeat(kernel[of], far.shape[1]))
        edges.ways = (kernel, parent)
        read.append(kernel[:: max(1, levels - number)])
        above = np.concatenate([kernel, copy, double])
    return np.concatenate(read)


@cache
def _network(quick: bool) -> Network:
    size = 40 if quick else 2**18 // LEVELS
    edges = _Edges(size)
    read = _levels(edges, LEVELS)
    parent, child = (np.concatenate(ends) for ends in zip(*edges.parts, strict=True))
    pages = LEVELS * size
    graph = mmsb.ShadowPageGraph.from_edges(parent, child, num_pages=pages)
    ruled = np.arange(size, pages)
    rules = [mmsb.Rule.semiring("least", pages=ruled, semiring=mmsb.semiring.min_plus, words=slice(None))]
    inputs = np.arange(size, dtype=np.int32)
    words = np.zeros((pages, WORDS), np.uint32)
    words[:size] = np.random.default_rng(1).random((size, WORDS), dtype=np.float32).view(np.uint32)
    slots, epochs = np.arange(pages, dtype=np.int32), np.zeros(pages, np.uint32)
    state = mmsb.State(*map(jnp.asarray, (words, slots, epochs, np.uint32(1))))
    return Network(graph, rules, read, inputs, state)


@cache
def _rewritten(quick: bool) -> layout.Rewritten:
    network = _network(quick)
    return layout.rewrite(network.graph, network.rules, network.keep)


def _wave(quick: bool, *, rewritten: bool) -> Program:
    """All inputs have changed; what comes out are the pages that are read."""
    network = _network(quick)
    graph, rules = network.graph, network.rules
    if rewritten:
        found = _rewritten(quick)
        graph, rules = found.graph, list(found.rules)
    plan = mmsb.RuleGraph.of(graph, rules)

    def run(state: mmsb.State, plan: mmsb.RuleGraph, dirty: jax.Array, read: jax.Array) -> Outcome:
        after = mmsb.propagate(plan, state, dirty, capacity=CAPACITY).state
        return Outcome(after, after.rows(read))

    return compiled(run, network.state, plan, network.inputs, network.keep.astype(np.int32), in_place=True)


def _equal(ours: Outcome, theirs: Outcome) -> None:
    np.testing.assert_array_equal(ours.read, theirs.read)


def _left(quick: bool, _: Any) -> list[Figure]:
    report = _rewritten(quick).report
    return [
        Figure("edges left over edges before", report.edges[1] / report.edges[0], 0.5),
        Figure("pages computed over pages before", report.pages[1] / report.pages[0]),
    ]


def _found(quick: bool) -> Program:
    network = _network(quick)
    return Program(lambda: layout.rewrite(network.graph, network.rules, network.keep).graph.parent)


def _identity(quick: bool) -> bool:
    return quick


CASES = (
    Case(
        "rewrites/a wave over 2^18 pages, 10^6 edges, all inputs changed",
        _identity,
        partial(_wave, rewritten=True),
        (Peer("the graph as it was", partial(_wave, rewritten=False), _equal, target=1.5),),
        figures=_left,
    ),
    Case(
        "rewrites/finding them",
        _identity,
        _found,
        items=lambda quick: _network(quick).graph.num_edges,
        unit="edges",
        floor=1e5,
        most_rounds=3,
    ),
)
