"""Waves: a tick in which nearly everything changes, and what a wave costs when little does.

Each page is the least of its parents' words plus the edge's weight, word by word: min-plus, so that every way of
computing it gives the same bits.
"""

from __future__ import annotations

from functools import cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import mmsb_jax as mmsb

from ._harness import Case, Peer, Program, compiled

WORDS = 16  # 64 bytes
LEVELS = 10


class Network(NamedTuple):
    """Pages in levels of equal size, by ascending id; the first level is written from outside."""

    graph: mmsb.ShadowPageGraph
    rules: mmsb.RuleGraph
    state: mmsb.State
    """Up to date."""
    level: int
    """Pages of a level."""


def _rules(graph: mmsb.ShadowPageGraph, first: int) -> mmsb.RuleGraph:
    pages = np.arange(first, graph.num_pages)
    least = mmsb.Rule.semiring("least", pages=pages, semiring=mmsb.semiring.min_plus, words=slice(None), weighted=True)
    return mmsb.RuleGraph.of(graph, [least], page_bytes=4 * WORDS)


def _up_to_date(rules: mmsb.RuleGraph, first: int) -> mmsb.State:
    values = np.random.default_rng(2).uniform(0, 100, (rules.num_pages, WORDS)).astype(np.float32)
    state = mmsb.State.create(rules.num_pages, page_bytes=4 * WORDS)
    state = mmsb.apply(state, mmsb.DeltaBatch.make(state, np.arange(rules.num_pages), values))
    return jax.jit(partial(mmsb.propagate, capacity=0))(rules, state, np.arange(first, dtype=np.int32)).state


def _layered(pages: int, edges: int) -> Network:
    """Every page has one parent in the level before, the other edges come from any earlier level."""
    rng = np.random.default_rng(0)
    level = pages // LEVELS
    child = np.concatenate([np.arange(level, pages), rng.integers(level, pages, edges - pages + level)])
    depth = child // level
    first = np.arange(len(child)) < pages - level
    low = np.where(first, depth - 1, rng.integers(0, depth))
    parent = low * level + rng.integers(0, level, len(child))
    graph = mmsb.ShadowPageGraph.from_edges(parent, child, weight=rng.random(len(child)), num_pages=pages)
    rules = _rules(graph, level)
    return Network(graph, rules, _up_to_date(rules, level), level)


class Busy(NamedTuple):
    """A network, and deltas for the whole first level."""

    network: Network
    deltas: mmsb.DeltaBatch
    digest: jax.Array


@cache
def _busy(quick: bool) -> Busy:
    network = _layered(*((200, 800) if quick else (100_000, 400_000)))
    words = np.random.default_rng(1).uniform(0, 100, (network.level, WORDS)).astype(np.float32)
    deltas = mmsb.DeltaBatch.make(network.state, np.arange(network.level), words)
    return Busy(network, deltas, mmsb.digest(network.state))


class _Fresh:
    """A function of a state that it uses up, on a new copy each time; copying isn't timed."""

    def __init__(self, function: Any, state: Any, *rest: Any) -> None:
        lowered = jax.jit(function, donate_argnums=0)
        self.program = compiled(lambda *args: lowered(*args), state, *rest) if False else None
        self._call = lowered.lower(state, *rest).compile()
        self._state, self._rest, self._next = state, rest, None

    def before(self) -> None:
        self._next = jax.block_until_ready(jax.tree.map(jnp.copy, self._state))

    def run(self) -> Any:
        return jax.block_until_ready(self._call(self._next, *self._rest))
