"""`advise`: would waves be faster if pages lay elsewhere, and is that worth the trouble? By measuring.

A wave goes through the pages of a stage in the order of their slots, and reads the rows of their parents. So the reads
of a wave in another layout can be made without moving anything: the same reads at other places of the same memory. They
are timed, here and now, for each layout that is quickly made, and against the same number of reads in perfect order.

The gradient finds shorter arrangements than any of these, but no faster reads: caches and prefetching make all
distances within some hundred kilobytes equal. Hence the baselines, which cost far less.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int32, UInt32

from .._device import on_device
from .._errors import InvalidArgumentError, InvalidTypeError
from .._require import require_instance
from ..graph import EdgeKind, ShadowPageGraph
from ..physical import State
from ..propagation import Rule
from ..propagation._plan import rule_numbers
from ._affinity import Affinity
from ._baselines import hotness, rcm
from ._layout import Layout
from ._policy import Decision, Policy, as_policy
from ._report import Payback

__all__ = ["advise", "look_seconds", "pairs_payback"]

_TRIES = 5
_LANES = 4096
_SECONDS_PER_EDGE = 0.8e-6


def advise(
    state: State | Any,
    graph: ShadowPageGraph | Any,
    rules: Sequence[Rule] | Any,
    *,
    waves: float | Any,
    share: float | Any = 1.0,
    besides: float | Any = 0.0,
    policy: Policy | Any | None = None,
) -> Decision:
    """Decide whether so many more waves would be faster in another layout, the time it takes to get there included.

    **Arguments**

    - `state`: with the present layout; it isn't changed.
    - `graph`, `rules`: what waves go along.
    - `waves`: how many are expected; `share`: how much of all pages with a rule a wave recomputes on average, 0 to 1.
    - `besides`: seconds that a new layout costs besides the search and the move, such as for compiling waves again.
    - `policy`: for its `margin`.

    **Returns:** `Decision`. Apply it by `relayout(state, decision.layout)` and
    `RuleGraph.of(graph, rules, slot_of_page=decision.layout.slot_of_page)`.

    Raises `InvalidTypeError`, `InvalidArgumentError`.

    >>> graph = mmsb.ShadowPageGraph.from_edges([0, 1], [2, 3], num_pages=4)
    >>> copies = mmsb.Rule.passthrough("copies", pages=[2, 3])
    >>> advise(mmsb.State.create(4), graph, [copies], waves=10).worth  # four pages lie near each other anyway
    False
    """
    start = time.perf_counter()
    require_instance(state, State, "State.create(…) makes one")
    require_instance(graph, ShadowPageGraph, "ShadowPageGraph.from_edges(…) makes one")
    state.require_whole("advise")
    if graph.num_pages != state.num_pages:
        raise InvalidArgumentError(f"got a graph of {graph.num_pages} pages and a state of {state.num_pages}")
    for what, value, most in (("waves", waves, 1e18), ("share", share, 1), ("besides", besides, 1e18)):
        number = isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
        if not number or not 0 <= value <= most:
            raise InvalidArgumentError(f"got {what}={value!r}; pass a number from 0 to {most:g}")
    if not isinstance(rules, Sequence):
        raise InvalidTypeError(f"got rules of type {type(rules).__name__}; pass a list of Rules: those of the graph")
    for rule in rules:
        require_instance(rule, Rule, "Rule(name, pages=…, terms=…, update=…) makes one")
    terms = Policy() if policy is None else as_policy(policy)
    reads = _Reads(graph, rule_numbers(graph, rules) >= 0)
    plea = _Plea(float(waves), float(share), terms, start, float(besides))
    decided = _decided(state, graph, reads, plea)
    return dataclasses.replace(decided, seconds=time.perf_counter() - start)


def look_seconds(graph: ShadowPageGraph) -> float:
    """About how long `advise` takes."""
    return _SECONDS_PER_EDGE * (graph.num_pages + graph.num_edges)


def pairs_payback(affinity: Affinity, now: Layout, then: Layout, page_words: int, spent: float) -> Payback:
    """How long it takes to read the pages that are used with each page, page by page in the order of slots."""
    pages = jnp.zeros((affinity.num_pages, page_words), jnp.uint32)
    one = np.concatenate([affinity.one, affinity.other])
    other = np.concatenate([affinity.other, affinity.one])
    orders = []
    for slots in (now.slot_of_page, then.slot_of_page):
        orders.append(slots[other][np.argsort(slots[one], kind="stable")])
    present, found = _reading(pages, *orders) if len(one) else (0.0, 0.0)
    return Payback(present, found, 1.0, spent)


class _Plea(NamedTuple):
    """What a decision depends on, beside the graph."""

    waves: float
    share: float
    policy: Policy
    start: float
    besides: float

    @property
    def spent(self) -> float:
        """Seconds so far, and those that are to come in any case."""
        return time.perf_counter() - self.start + self.besides


class _Reads:
    """What a wave over everything reads: pages with a rule by stage, and for each its parents."""

    def __init__(self, graph: ShadowPageGraph, ruled: Bool[np.ndarray, " pages"]) -> None:
        self.ruled = ruled
        used = (graph.kind == EdgeKind.DATA) & self.ruled[graph.child]
        self.parent, self.child = graph.parent[used], graph.child[used]
        self.levels = graph.levels()

    def in_layout(self, slot_of_page: Int32[np.ndarray, " pages"]) -> Int32[np.ndarray, " reads"]:
        """Slots in the order in which they are read: all parents, then the pages themselves."""
        by_slot = np.lexsort([slot_of_page[self.child], self.levels[self.child]])
        own = np.flatnonzero(self.ruled)
        own_by_slot = own[np.lexsort([slot_of_page[own], self.levels[own]])]
        return slot_of_page[np.concatenate([self.parent[by_slot], own_by_slot])]


def _decided(state: State, graph: ShadowPageGraph, reads: _Reads, plea: _Plea) -> Decision:
    waves, share, margin = plea.waves, plea.share, plea.policy.margin
    if not len(reads.parent):
        return Decision(False, "no page with a rule has parents")
    now = np.asarray(state.slot_of_page)
    present = reads.in_layout(now)
    seconds, ordered = _reading(state.pages, present, np.sort(present))
    most = Payback(seconds, ordered, share, plea.spent + look_seconds(graph))
    if seconds < margin * ordered:
        return Decision(
            False,
            f"already in good order: what waves read takes {seconds / ordered:.2f} times as long as in perfect order, "
            f"less than {margin:g}",
        )
    if most.waves > waves:
        return Decision(
            False,
            f"not worth a search: even perfect order, {ordered * 1e3:.3g} instead of {seconds * 1e3:.3g} ms a wave, "
            f"would take {most.waves:,.0f} waves to pay back, and {waves:,.0f} are expected",
            payback=most,
        )
    candidates = _candidates(graph, reads)
    orders = (reads.in_layout(layout.slot_of_page) for layout in candidates.values())
    seconds, *measured = _reading(state.pages, present, *orders)
    found, best = min(zip(measured, candidates, strict=True))
    payback = Payback(seconds, found, share, plea.spent + 2 * ordered)
    figures = (
        f"{best}: {found * 1e3:.3g} instead of {seconds * 1e3:.3g} ms to read what a wave over everything reads; after "
        f"{payback.waves:,.0f} waves it pays back, and {waves:,.0f} are expected"
    )
    if seconds < margin * found:
        return Decision(False, f"not {margin:g} times as fast in any layout that was tried, {figures}", payback=payback)
    if payback.waves > waves:
        return Decision(False, f"not worth moving, {figures}", payback=payback)
    return Decision(True, figures, candidates[best], payback)


def _candidates(graph: ShadowPageGraph, reads: _Reads) -> dict[str, Layout]:
    """Layouts that are quickly made."""
    affinity = Affinity(reads.parent, reads.child, num_pages=graph.num_pages)
    near = Layout.in_order(rcm(affinity, 1))
    by_stage = np.lexsort([near.slot_of_page, np.where(reads.ruled, reads.levels, -1)]).astype(np.int32)
    return {
        "reverse Cuthill-McKee": near,
        "stage by stage, in each by reverse Cuthill-McKee": Layout.in_order(by_stage),
        "the most used pages first": Layout.in_order(hotness(affinity, 1)),
    }


def _reading(pages: UInt32[Array, "slots words"], *orders: Int32[np.ndarray, " reads"]) -> list[float]:
    """Seconds to read the rows in each order: the shortest of some tries, which take turns."""
    indexes = [on_device(slots) for slots in orders]
    together = _LANES if jax.default_backend() == "cpu" else max(_LANES, len(orders[0]) // 16)
    for index in indexes:
        jax.block_until_ready(_read(pages, index, together=together))
    taken = np.empty((_TRIES, len(indexes)))
    for each in taken:
        for number, index in enumerate(indexes):
            start = time.perf_counter()
            jax.block_until_ready(_read(pages, index, together=together))
            each[number] = time.perf_counter() - start
    return taken.min(axis=0).tolist()


@partial(jax.jit, static_argnames="together")
def _read(pages: UInt32[Array, "slots words"], slots: Int32[Array, " reads"], *, together: int) -> Array:
    """Rows gathered some thousands at a time, as a wave does it, so that many are under way at once."""
    rounds = -(-slots.shape[0] // together)
    padded = jnp.pad(slots, (0, rounds * together - slots.shape[0]), mode="edge").reshape(rounds, together)

    def gather(k: Array, found: Array) -> Array:
        return found ^ pages.at[padded[k]].get(mode="promise_in_bounds")

    found: Array = jax.lax.fori_loop(0, rounds, gather, jnp.zeros((together, pages.shape[1]), jnp.uint32))
    return found
