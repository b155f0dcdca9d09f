"""Waves: a tick in which everything changes, and what a wave costs when little does.

Pages of 64 bytes in ten levels of equal size; a page's sixteen words are folded from the same words of its parents and
the edges' weights. In the tick by min-plus, which gives the same bits in every way of computing it.
"""

from __future__ import annotations

import dataclasses
from functools import cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import mmsb_jax as mmsb
from mmsb_jax.page import digest_change, merge, pack_mask, settle

from ._harness import Case, Peer, Program, compiled

WORDS, LEVELS = 16, 10
CAPACITY = 1024  # Rows for a wave's deltas.
INPUTS = 50  # Of so many pages beyond the first level, one has no rule and is written from outside.


class Network(NamedTuple):
    """A graph, its rules, and a state that is up to date."""

    graph: mmsb.ShadowPageGraph
    rules: mmsb.RuleGraph
    state: mmsb.State
    inputs: np.ndarray
    """Pages without a rule."""


def _network(pages: int, edges: int, semiring: mmsb.semiring.Semiring, inputs: np.ndarray) -> Network:
    """Every page beyond the first level has one parent in the level before, and some from any earlier level."""
    rng, level = np.random.default_rng(0), pages // LEVELS
    child = np.concatenate([np.arange(level, pages), rng.integers(level, pages, edges - pages + level)])
    depth, steps = child // level, np.ones(len(child), int)
    steps[pages - level :] = rng.integers(1, depth[pages - level :] + 1)
    parent = (depth - steps) * level + rng.integers(0, level, len(child))
    graph = mmsb.ShadowPageGraph.from_edges(parent, child, weight=rng.random(len(child)), num_pages=pages)
    ruled = np.setdiff1d(np.arange(pages), inputs)
    fold = mmsb.Rule.semiring("fold", pages=ruled, semiring=semiring, words=slice(None), weighted=True)
    rules = mmsb.RuleGraph.of(graph, [fold], page_bytes=4 * WORDS)
    values = rng.random((pages, WORDS), dtype=np.float32)
    state = mmsb.State.create(pages, page_bytes=4 * WORDS)
    state = mmsb.apply(state, mmsb.DeltaBatch.make(state, np.arange(pages), values))
    return Network(graph, rules, jax.jit(partial(mmsb.propagate, capacity=0))(rules, state, inputs).state, inputs)


# A tick: all pages of the first level change, and with them nearly all others.


class Busy(NamedTuple):
    network: Network
    deltas: mmsb.DeltaBatch
    digest: jax.Array
    level: int


@cache
def _busy(quick: bool) -> Busy:
    pages, edges = (200, 800) if quick else (100_000, 400_000)
    level = pages // LEVELS
    network = _network(pages, edges, mmsb.semiring.min_plus, np.arange(level, dtype=np.int32))
    words = np.random.default_rng(1).random((level, WORDS), dtype=np.float32)
    return Busy(network, mmsb.DeltaBatch.make(network.state, network.inputs, words), mmsb.digest(network.state), level)


class Outcome(NamedTuple):
    """What a tick is for: the next state, its digest, and every change as a row that can be logged."""

    state: mmsb.State
    digest: jax.Array
    deltas: mmsb.DeltaBatch


def _ours(busy: Busy) -> Program:
    def step(state: mmsb.State, rules: mmsb.RuleGraph, deltas: mmsb.DeltaBatch, digest: jax.Array) -> Outcome:
        out = mmsb.tick(state, rules, deltas, digest_before=digest)
        return Outcome(out.state, out.digest, out.deltas)

    return compiled(step, busy.network.state, busy.network.rules, busy.deltas, busy.digest, in_place=True)


def _levels(busy: Busy) -> list[tuple[slice, jax.Array, jax.Array, jax.Array]]:
    """Of each level: its pages, and its edges as parent, child within the level, weight."""
    graph, level = busy.network.graph, busy.level
    cuts = np.searchsorted(graph.child, np.arange(1, LEVELS + 1) * level)
    found = []
    for number in range(1, LEVELS):
        edges, first = slice(cuts[number - 1], cuts[number]), number * level
        parts = (graph.parent[edges], graph.child[edges] - first, graph.weight[edges])
        found.append((slice(first, first + level), *map(jnp.asarray, parts)))
    return found


def _segments(busy: Busy, *, whole: bool) -> Program:
    """The same graph compiled in, level by level, with `jax.ops.segment_*`; pages lie in the order of their ids.

    `whole`: with digest and deltas, as a tick has them; otherwise contents and epochs alone.
    """
    levels, size = _levels(busy), busy.level

    def step(state: mmsb.State, deltas: mmsb.DeltaBatch, digest: jax.Array) -> Any:
        state, settled, moved = settle(state.advance(), deltas)
        old = values = jax.lax.bitcast_convert_type(state.pages, jnp.float32)
        dirty = jnp.zeros(state.num_pages, jnp.int32).at[settled.page].set(1, mode="drop")
        for pages, parent, child, weight in levels:
            segments = partial(jax.ops.segment_max, num_segments=size, indices_are_sorted=True)
            least = jax.ops.segment_min(weight[:, None] + values[parent], child, size, indices_are_sorted=True)
            least = jnp.where((segments(dirty[parent], child) > 0)[:, None], least, values[pages])
            dirty = dirty.at[pages].set((least != values[pages]).any(axis=1).astype(jnp.int32))
            values = values.at[pages].set(least)
        words = jax.lax.bitcast_convert_type(values, jnp.uint32)
        epoch = jnp.where(dirty > 0, state.tick, state.epoch)
        after = dataclasses.replace(state, pages=words, epoch=epoch)
        if not whole:
            return after
        ids, differs = jnp.arange(state.num_pages, dtype=jnp.int32), values != old
        page = jnp.where(differs.any(axis=1), ids, jnp.int32(state.num_pages))
        made = mmsb.DeltaBatch(page, words, pack_mask(differs), jnp.zeros_like(ids), jnp.zeros((), jnp.int32))
        return Outcome(after, digest + moved + digest_change(ids, state.pages, words), merge(settled, made))

    return compiled(step, busy.network.state, busy.deltas, busy.digest, in_place=True)


def _same_contents(ours: Outcome, theirs: mmsb.State) -> None:
    np.testing.assert_array_equal(ours.state.pages, theirs.pages)
    np.testing.assert_array_equal(ours.state.epoch, theirs.epoch)


def _same_outcome(ours: Outcome, theirs: Outcome) -> None:
    _same_contents(ours, theirs.state)
    np.testing.assert_array_equal(ours.digest, theirs.digest)
    rows = [{int(p): i for i, p in enumerate(np.asarray(each.deltas.page))} for each in (ours, theirs)]
    assert rows[0].keys() == rows[1].keys()
    order = [np.array([row[page] for page in rows[0] if page < ours.state.num_pages]) for row in rows]
    for name in ("words", "mask"):
        both = [np.asarray(getattr(each.deltas, name))[at] for each, at in zip((ours, theirs), order, strict=True)]
        np.testing.assert_array_equal(*both)


# A wave that begins at few pages, beside the one that begins at all.


class Ripple(NamedTuple):
    network: Network
    state: mmsb.State
    """With the dirty pages written."""
    dirty: np.ndarray


@cache
def _sprinkled(quick: bool) -> Network:
    pages, edges = (2_000, 8_000) if quick else (1_000_000, 4_000_000)
    ids = np.arange(pages, dtype=np.int32)
    return _network(pages, edges, mmsb.semiring.plus_times, ids[(ids < pages // LEVELS) | (ids % INPUTS == 0)])


@cache
def _descendants(quick: bool) -> dict[int, int]:
    """For some inputs, how many pages depend on them."""
    network = _sprinkled(quick)
    some = np.random.default_rng(3).choice(network.inputs, 300 if not quick else 40, replace=False)
    return {int(page): len(network.graph.descendants(page)) for page in some}


def _ripple(affected: int, single: bool, quick: bool) -> Ripple:
    network = _sprinkled(quick)
    pages = network.graph.num_pages
    if affected >= pages:
        dirty = network.inputs
    else:
        known = _descendants(quick)
        if single:
            chosen = [min(known, key=lambda page: abs(known[page] - affected))]
        else:
            chosen = sorted((p for p in known if 0 < known[p] <= affected), key=known.__getitem__, reverse=True)
            total = np.cumsum([known[page] for page in chosen])
            chosen = chosen[: max(1, int(np.searchsorted(total, affected)))]
        dirty = np.sort(np.array(chosen, np.int32))
    words = np.random.default_rng(4).random((len(dirty), WORDS), dtype=np.float32)
    state = mmsb.apply(network.state, mmsb.DeltaBatch.make(network.state, dirty, words))
    return Ripple(network, state, dirty)


def _wave(ripple: Ripple, *, everything: bool = False) -> Program:
    dirty = ripple.network.inputs if everything else ripple.dirty

    def step(state: mmsb.State, rules: mmsb.RuleGraph, dirty: jax.Array) -> mmsb.State:
        return mmsb.propagate(rules, state, dirty, capacity=CAPACITY).state

    return compiled(step, ripple.state, ripple.network.rules, dirty, in_place=True)


def _equal(ours: mmsb.State, theirs: mmsb.State) -> None:
    np.testing.assert_array_equal(ours.pages, theirs.pages)


_FULL = Peer("the full wave", partial(_wave, everything=True), _equal)


def _curve(name: str, affected: int, peers: tuple[Peer, ...], *, single: bool = False) -> Case:
    return Case(f"waves/10^6 pages, {name}", partial(_ripple, affected, single), _wave, peers)


CASES = (
    Case(
        "waves/tick, 10^4 deltas, 10^5 pages, 4 x 10^5 edges",
        _busy,
        _ours,
        (
            Peer("segment_min, the same outcome", partial(_segments, whole=True), _same_outcome),
            Peer("segment_min, contents and epochs alone", partial(_segments, whole=False), _same_contents),
        ),
        lambda busy: 1,
        "ticks",
        62.5,  # 16 ms
    ),
    _curve("about 1 affected", 1, (), single=True),
    _curve("about 100 affected by one", 100, (dataclasses.replace(_FULL, target=100.0),), single=True),
    _curve("about 10^4 affected", 10_000, ()),
    _curve("all affected", 1_000_000, ()),
)
