"""Layouts: how good they are, against orders that are known, and how long it takes to find them."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from functools import cache, partial
from typing import Any, NamedTuple

import numpy as np
import pymetis

from mmsb_jax import layout
from mmsb_jax.adaptive._baselines import metis, rcm

from ._harness import Case, Figure, Program

SEEDS = range(5)


class Graph(NamedTuple):
    """Pairs of pages that are used together, numbered as they were made."""

    pages: int
    one: np.ndarray
    other: np.ndarray


def grid(*sides: int, torus: bool = False) -> Graph:
    ids = np.arange(np.prod(sides)).reshape(sides)
    one, other = [], []
    for axis, side in enumerate(sides):
        one.append((ids if torus else np.take(ids, np.arange(side - 1), axis)).ravel())
        following = np.roll(ids, -1, axis)
        other.append((following if torus else np.take(following, np.arange(side - 1), axis)).ravel())
    return Graph(ids.size, np.concatenate(one), np.concatenate(other))


def binary_tree(levels: int) -> Graph:
    child = np.arange(1, 2**levels - 1)
    return Graph(2**levels - 1, (child - 1) // 2, child)


def hypercube(dimensions: int) -> Graph:
    ids = np.arange(2**dimensions)
    one = np.concatenate([ids[ids >> bit & 1 == 0] for bit in range(dimensions)])
    step = np.repeat(1 << np.arange(dimensions), len(ids) // 2)
    return Graph(len(ids), one, one + step)


def rmat(scale: int, degree: int = 16) -> Graph:
    """Chakrabarti, Zhan and Faloutsos, R-MAT, SDM 2004, with the quadrants 0.57, 0.19, 0.19, 0.05."""
    rng = np.random.default_rng(0)
    one = other = np.zeros(degree << scale, np.int64)
    for _ in range(scale):
        quadrant = rng.choice(4, len(one), p=[0.57, 0.19, 0.19, 0.05])
        one, other = 2 * one + quadrant // 2, 2 * other + quadrant % 2
    pairs = np.unique(np.minimum(one, other) << scale | np.maximum(one, other))  # each once
    return Graph(1 << scale, pairs >> scale, pairs & (1 << scale) - 1)


def shuffled(graph: Graph, seed: int) -> layout.Affinity:
    """Its pages numbered at random."""
    ids = np.random.default_rng(seed).permutation(graph.pages)
    return layout.Affinity(ids[graph.one], ids[graph.other], num_pages=graph.pages)


@cache
def _costs(make: Callable[[], Graph], objective: str, seeds: range) -> tuple[layout.LayoutReport, ...]:
    return tuple(layout.optimize(shuffled(make(), seed), objective=objective).report for seed in seeds)


def _found(make: Callable[[], Graph], objective: str) -> Program:
    """The first seed alone is timed; its programs have been compiled by then."""
    affinity = shuffled(make(), 0)
    return Program(lambda: layout.optimize(affinity, objective=objective).layout.slot_of_page)


def _median(limit: float, seeds: range = SEEDS, objective: str = "linear") -> Callable[[Any, Any], list[Figure]]:
    def figures(make: Callable[[], Graph], _: Any) -> list[Figure]:
        costs = [report.cost for report in _costs(make, objective, seeds)]
        return [Figure(f"median cost of {len(seeds)} seeds", statistics.median(costs), limit)]

    return figures


def _tree(make: Callable[[], Graph], _: Any) -> list[Figure]:
    costs = [report.cost for report in _costs(make, "linear", SEEDS)]
    return [Figure("seeds above 3,696", sum(cost > 3696 for cost in costs), 2), Figure("worst cost", max(costs), 3750)]


def _over_rcm(make: Callable[[], Graph], _: Any) -> list[Figure]:
    ratios = [report.cost / report.costs["rcm"] for report in _costs(make, "linear", SEEDS)]
    return [Figure("cost over reverse Cuthill-McKee's", statistics.median(ratios), 0.5)]


def _blocks(make: Callable[[], Graph], _: Any) -> list[Figure]:
    reports = _costs(make, "log", SEEDS)
    pairs = reports[0].pairs
    outside = statistics.median(report.cost for report in reports) / pairs
    over = statistics.median(report.cost / report.costs["metis"] for report in reports)
    return [Figure("part of pairs in two blocks", outside, 0.28), Figure("over METIS' order", over, 1.0)]


def _cut(make: Callable[[], Graph], _: Any) -> list[Figure]:
    """METIS may make parts that differ by some per cent; ours are equal."""
    ratios = []
    for seed, report in zip(SEEDS, _costs(make, "cut", SEEDS), strict=True):
        matrix = shuffled(make(), seed).matrix()
        parts = pymetis.part_graph(8, pymetis.CSRAdjacency(matrix.indptr, matrix.indices), recursive=False)
        ratios.append(report.cost / parts.edge_cuts)
    return [Figure("edges between 8 shards over METIS' k-way", statistics.median(ratios), 1.2)]


def _no_worse(make: Callable[[], Graph], slots: np.ndarray) -> list[Figure]:
    graph = shuffled(make(), 0)
    known = [rcm(graph, 64), metis(graph, 64), np.arange(graph.num_pages)]
    best = min(_linear(graph, np.argsort(order)) for order in known if order is not None)
    return [Figure("cost over the best known", _linear(graph, slots) / best, 1)]


def _case(
    name: str,
    full: Callable[[], Graph],
    quick: Callable[[], Graph],
    figures: Any,
    objective: str = "linear",
    seconds: float | None = None,
) -> Case:
    return Case(
        f"layout/{name}",
        lambda is_quick: quick if is_quick else full,
        lambda make: _found(make, objective),
        figures=figures,
        most_rounds=1,
        items=None if seconds is None else lambda _: 1,
        unit="layouts",
        floor=None if seconds is None else 1 / seconds,
    )


def _random(quick: bool) -> list[layout.Affinity]:
    rng = np.random.default_rng(0)
    found = []
    for _ in range(3 if quick else 200):
        pages = int(rng.integers(8, 200))
        one, other = rng.integers(0, pages, (2, int(rng.integers(pages, 4 * pages))))
        found.append(layout.Affinity(one, other, num_pages=pages))
    return found


def _worst(graphs: list[layout.Affinity], _: Any) -> list[Figure]:
    """By costs that are counted here, of orders that are made here."""
    worst = 0.0
    for graph in graphs:
        slots = layout.optimize(graph, budget=0.05).layout.slot_of_page
        known = [rcm(graph, 64), metis(graph, 64), np.arange(graph.num_pages)]
        best = min(_linear(graph, np.argsort(order)) for order in known if order is not None)
        worst = max(worst, _linear(graph, slots) / best)
    return [Figure(f"worst cost over the best known of {len(graphs)} random graphs", worst, 1)]


def _linear(graph: layout.Affinity, slots: np.ndarray) -> float:
    return float((graph.weight * np.abs(slots[graph.one].astype(float) - slots[graph.other])).sum())


_small = partial(grid, 9, 9)
CASES = (
    _case("linear, 33 x 33 grid", partial(grid, 33, 33), _small, _median(31_900)),
    _case("linear, binary tree of 10 levels", partial(binary_tree, 10), partial(binary_tree, 5), _tree),
    _case("linear, hypercube of 10 dimensions", partial(hypercube, 10), partial(hypercube, 5), _median(523_776)),
    _case(
        "linear, 300 x 300 torus",
        partial(grid, 300, 300, torus=True),
        partial(grid, 9, 9, torus=True),
        _median(4.90e7),
        seconds=5,
    ),
    _case("linear, 40^3 grid", partial(grid, 40, 40, 40), partial(grid, 4, 4, 4), _median(8.90e7)),
    _case("linear, RMAT 2^16", partial(rmat, 16), partial(rmat, 7), _over_rcm),
    _case("linear, 100^3 grid", partial(grid, 100, 100, 100), partial(grid, 5, 5, 5), _no_worse, seconds=60),
    _case("blocks of 64, 40^3 grid", partial(grid, 40, 40, 40), partial(grid, 5, 5, 5), _blocks, "log"),
    _case("8 shards, 40^3 grid", partial(grid, 40, 40, 40), partial(grid, 5, 5, 5), _cut, "cut"),
    Case(
        "layout/linear, random graphs",
        _random,
        lambda graphs: Program(lambda: layout.optimize(graphs[0], budget=0.05).layout.slot_of_page),
        figures=_worst,
    ),
)
