"""Waves: each affected page recomputed once, in topological order, stopping where nothing changes.

    seeds ──push──▶ queue, one bucket a stage          the first stage that isn't empty
                      ▲                                        │ up to `lanes` of its pages
                      │                                        ▼
                 children of what changed ◀── compare ◀── gather parents, update

A page enters its stage's bucket when its first parent changes, and a stage is only taken up when every earlier one is
empty: so all of a page's parents are final when it is recomputed. Cost follows the affected pages, plus clearing a
few bytes a page. When more pages are affected than the queue is meant for, the stages that are left are swept instead:
every page looks whether one of its parents moved, in wide windows, which costs far less a page.

That is the change of direction of Beamer, Asanović, Patterson, "Direction-optimizing breadth-first search" (SC 2012).
"""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Int32, UInt8, UInt32

from .._errors import InvalidArgumentError, InvalidTypeError
from .._require import require_capacity, require_instance
from ..kernels import take_rows
from ..page import DeltaBatch, digest_change, pack_mask
from ..physical import State
from ._fold import Contents, Where, in_edges, recompute
from ._plan import RuleGraph
from ._queue import MOVED, QUEUED, Queue, begin, push_children, take
from ._recipe import check_recipe

__all__ = ["Propagated", "WaveReport", "propagate", "window_pages"]

_LOOKS = 4  # So many parents of a page are looked at before the next round.


class WaveReport(eqx.Module):
    """What a wave did, as data.

    ```python
    >>> from mmsb_jax.propagation import WaveReport
    >>> WaveReport.nothing()
    WaveReport(recomputed=0, changed=0, windows=0)

    ```
    """

    recomputed: Int32[Array, ""]
    """Pages whose rule ran."""
    changed: Int32[Array, ""]
    """Pages that came out with other bits. The rest stopped the wave where they stand."""
    windows: Int32[Array, ""]
    """Groups of pages that were recomputed side by side."""

    def __repr__(self) -> str:
        counts = (f"{name}={_shown(getattr(self, name))}" for name in ("recomputed", "changed", "windows"))
        return f"WaveReport({', '.join(counts)})"

    @classmethod
    def nothing(cls) -> "WaveReport":
        """A wave that found nothing to do."""
        zero = jnp.zeros((), jnp.int32)
        return cls(zero, zero, zero)


def _shown(count: Array) -> str:
    """A number, or what stands for it inside jit."""
    return str(count) if isinstance(count, jax.core.Tracer) or count.ndim else str(int(count))


class Propagated(eqx.Module):
    """State after a wave, the deltas that the wave made, and what it did. See `propagate` for an example."""

    state: State
    deltas: DeltaBatch
    """One row for each changed page, as far as the capacity reached; `dropped` counts the rest, which is in the state
    all the same (its pages are those stamped with the present tick)."""
    digest_change: UInt32[Array, "2"]
    """By how much the wave moved the state's digest."""
    report: WaveReport


class _Wave(NamedTuple):
    pages: UInt32[Array, "slots words"]
    epoch: UInt32[Array, " pages"]
    out_page: Int32[Array, " capacity"]
    out_mask: UInt32[Array, "capacity packed"]
    recomputed: Int32[Array, ""]
    changed: Int32[Array, ""]
    windows: Int32[Array, ""]
    digest_change: UInt32[Array, "2"]


def propagate(
    graph: Any,
    state: State,
    dirty: ArrayLike | list[int],
    *,
    capacity: int | None = None,
    source: ArrayLike = 0,
) -> Propagated:
    """Let changes spread: recompute what depends on the dirty pages, each page once, parents before children.

    The result equals recomputing every page that has a rule, provided that all others were up to date before.

    **Arguments:**

    - `graph`: the pages' rules.
    - `state`: already holds the changes.
    - `dirty`: int32[n], the pages written from outside; ids out of range (such as the sentinel `num_pages`) are
      empty rows. A dirty page that has a rule is recomputed itself.
    - `capacity`: rows of the resulting batch of deltas (static); by default one for every page. The wave itself has
      no capacity.
    - `source`: int32, written into the deltas.

    **Returns:** `Propagated`.

    **Raises:** `InvalidArgumentError` when graph and state have different numbers of pages, `InvalidTypeError` when a
    rule doesn't return a page.

    ```python
    >>> import mmsb_jax as mmsb, jax.numpy as jnp
    >>> term = mmsb.Term(mmsb.semiring.plus_times, read=lambda parent: parent[0])
    >>> rule = mmsb.Rule("double", pages=[1, 2], terms=[term], update=lambda own, x: own.at[0].set(2 * x))
    >>> graph = mmsb.RuleGraph.of(mmsb.ShadowPageGraph.from_edges([0, 1], [1, 2], num_pages=3), [rule])
    >>> state = mmsb.State.create(3, page_bytes=4)
    >>> state = mmsb.apply(state, mmsb.DeltaBatch.make(state, [0], jnp.array([[5]], jnp.uint32)))
    >>> wave = mmsb.propagate(graph, state, [0], capacity=2)
    >>> wave.state.view().ravel().tolist(), wave.report
    ([5, 10, 20], WaveReport(recomputed=2, changed=2, windows=2))
    >>> mmsb.propagate(graph, wave.state, [0], capacity=2).report  # nothing new: page 1 stops the wave
    WaveReport(recomputed=1, changed=0, windows=1)

    ```

    Cutting off at what comes out unchanged is due to Acar, "Self-adjusting computation" (thesis, CMU, 2005).
    """
    if not isinstance(graph, RuleGraph):
        raise InvalidTypeError(f"got a {type(graph).__name__}; pass RuleGraph.of(graph, rules)")
    require_instance(state, State, "State.create makes one")
    if capacity is not None:
        require_capacity(capacity)
    if graph.num_pages != state.num_pages:
        raise InvalidArgumentError(
            f"got a graph of {graph.num_pages} pages and a state of {state.num_pages}; make both with the same number"
        )
    for recipe in graph.recipes:
        check_recipe(recipe, state.page_words)
    capacity = state.num_pages if capacity is None else capacity
    seeds, wave = _numbers(graph, _seeds(dirty)), _start(state, capacity)
    if graph.num_stages:
        wave = _run(graph, state, Where.of(graph, state.slot_of_page), wave, seeds)
    after = eqx.tree_at(lambda s: (s.pages, s.epoch), state, (wave.pages, wave.epoch))
    report = WaveReport(wave.recomputed, wave.changed, wave.windows)
    return Propagated(after, _deltas(after, wave, capacity, source), wave.digest_change, report)


def _seeds(dirty: Any) -> Int32[Array, " n"]:
    try:
        ids = dirty if isinstance(dirty, jax.Array) else np.asarray(dirty)
    except (TypeError, ValueError) as why:
        raise InvalidTypeError(f"got dirty pages that are no regular array ({why}); pass their ids") from why
    if ids.size and not jnp.issubdtype(ids.dtype, jnp.integer):
        raise InvalidTypeError(f"got dirty pages of dtype {ids.dtype}; pass their ids, whole numbers")
    if isinstance(ids, np.ndarray) and ids.size and (ids.max() >= 2**31 or ids.min() < -(2**31)):
        raise InvalidArgumentError(f"got dirty pages from {ids.min()} to {ids.max()}; ids are 32-bit integers")
    return jnp.atleast_1d(jnp.asarray(ids, jnp.int32))


def _numbers(graph: RuleGraph, ids: Int32[Array, " n"]) -> Int32[Array, " n"]:
    """The numbers of some pages in the graph; ids that are out of range stay so."""
    if graph.number is None:
        return ids
    valid = (ids >= 0) & (ids < graph.num_pages)
    return jnp.where(valid, take_rows(graph.number, jnp.where(valid, ids, 0)), graph.num_pages)


def _start(state: State, capacity: int) -> _Wave:
    zero = jnp.zeros((), jnp.int32)
    return _Wave(
        pages=state.pages,
        epoch=state.epoch,
        out_page=jnp.full(capacity, state.num_pages, jnp.int32),
        out_mask=jnp.zeros((capacity, -(-state.page_words // 32)), jnp.uint32),
        recomputed=zero,
        changed=zero,
        windows=zero,
        digest_change=jnp.zeros(2, jnp.uint32),
    )


def _run(graph: RuleGraph, state: State, where: Where, wave: _Wave, seeds: Int32[Array, " n"]) -> _Wave:
    queue, crowded = begin(graph, seeds)
    first = _taken(graph, wave, queue, jnp.zeros((), jnp.int32))
    last_taken = jax.lax.while_loop(
        lambda carry: carry.going, lambda carry: _from_queue(graph, state, where, carry), first
    )
    wave, queue = last_taken.wave, last_taken.queue
    after = jnp.where(queue.left > 0, last_taken.stage + 1, graph.num_stages)
    window, last = graph.stage_window[jnp.where(crowded, 0, after)], graph.stage_window[graph.num_stages]
    return jax.lax.while_loop(
        lambda carry: carry.window < last,
        lambda carry: _swept(graph, state, where, carry),
        _BySweep(wave, queue.mark, window),
    ).wave


class _ByQueue(NamedTuple):
    wave: _Wave
    queue: Queue
    stage: Int32[Array, ""]
    """All stages before this one are empty, and stay so: children lie in later stages than their parents."""
    number: Int32[Array, " lanes"]
    """Pages that were taken out of the queue, to be recomputed next."""
    valid: Bool[Array, " lanes"]
    going: Bool[Array, ""]


def _taken(graph: RuleGraph, wave: _Wave, queue: Queue, stage: Int32[Array, ""]) -> _ByQueue:
    """Take up to `lanes` pages of the first stage that isn't empty, unless the rest is better swept."""
    # Between two stages, nothing that waits has been recomputed: only there the way may change.
    between = queue.waiting[stage] == 0
    going = (queue.left > 0) & ~(between & (wave.recomputed + queue.left > graph.sweep_above))
    taken = take(graph, queue, stage)
    rest = taken.queue._replace(left=jnp.where(going, taken.queue.left, queue.left))
    return _ByQueue(wave, rest, jnp.where(going, taken.stage, stage), taken.page, taken.valid, going)


def _from_queue(graph: RuleGraph, state: State, where: Where, carry: _ByQueue) -> _ByQueue:
    """Recompute what was taken, queue the children, and take the next.

    In this order: what is read from the queue late in a round, XLA would have to copy all of the queue for.
    """
    rule = graph.stage_rule[jnp.minimum(carry.stage, graph.num_stages - 1)]
    page = graph.ids(carry.number)
    wave, changed = _recomputed(graph, state, where, carry.wave, rule, carry.number, page, carry.valid)
    return _taken(graph, wave, push_children(graph, carry.queue, carry.number, changed), carry.stage)


class _BySweep(NamedTuple):
    wave: _Wave
    mark: UInt8[Array, " pages"]
    window: Int32[Array, ""]


def _swept(graph: RuleGraph, state: State, where: Where, carry: _BySweep) -> _BySweep:
    """Recompute those pages of a window that wait in the queue, or have a parent that moved."""
    number, page, valid = window_pages(graph, carry.window)
    waits = (carry.mark.at[number].get(mode="promise_in_bounds") & jnp.uint8(QUEUED)) != 0
    affected = valid & (waits | _parent_moved(graph, carry.mark, number, valid))
    rule = graph.stage_rule[graph.window_stage[carry.window]]
    wave, changed = _recomputed(graph, state, where, carry.wave, rule, number, page, affected)
    mark = carry.mark.at[jnp.where(changed, number, graph.num_pages)].set(jnp.uint8(MOVED), mode="drop")
    return _BySweep(wave, mark, carry.window + 1)


def window_pages(
    graph: RuleGraph, window: Int32[Array, ""]
) -> tuple[Int32[Array, " width"], Int32[Array, " width"], Bool[Array, " width"]]:
    """The pages of a window of the sweep, by their numbers and ids, and which lanes hold one."""
    start = graph.window_start[window]
    valid = jnp.arange(graph.width, dtype=jnp.int32) < graph.window_start[window + 1] - start
    number = jnp.where(valid, jax.lax.dynamic_slice_in_dim(graph.sweep_page, start, graph.width), 0)
    if graph.sweep_id is None:
        return number, number, valid
    # A slice, and no gather: XLA would repeat that for every word that is hashed.
    return number, jnp.where(valid, jax.lax.dynamic_slice_in_dim(graph.sweep_id, start, graph.width), 0), valid


def _parent_moved(
    graph: RuleGraph, mark: UInt8[Array, " pages"], page: Int32[Array, " width"], valid: Bool[Array, " width"]
) -> Bool[Array, " width"]:
    start, parents = in_edges(graph, page, valid)
    most = jnp.max(parents)

    def look(carry: tuple[Int32[Array, ""], UInt8[Array, " width"]]) -> tuple[Int32[Array, ""], UInt8[Array, " width"]]:
        done, seen = carry
        for k in range(_LOOKS):
            exists = done + k < parents
            parent = graph.in_parent.at[jnp.where(exists, start + done + k, 0)].get(mode="promise_in_bounds")
            seen |= jnp.where(exists, mark.at[parent].get(mode="promise_in_bounds"), jnp.uint8(0))
        return done + _LOOKS, seen

    nothing = (jnp.zeros((), jnp.int32), jnp.zeros(len(page), jnp.uint8))
    seen = jax.lax.while_loop(lambda carry: carry[0] < most, look, nothing)[1]
    return (seen & jnp.uint8(MOVED)) != 0


def _recomputed(
    graph: RuleGraph,
    state: State,
    where: Where,
    wave: _Wave,
    rule: Int32[Array, ""],
    number: Int32[Array, " lanes"],
    page: Int32[Array, " lanes"],
    valid: Bool[Array, " lanes"],
) -> tuple[_Wave, Bool[Array, " lanes"]]:
    """The wave with the valid pages recomputed, and which of them came out with other bits."""
    slot = where.slot(number)
    own = wave.pages.at[slot].get(mode="promise_in_bounds")
    new = recompute(graph, rule, Contents(wave.pages, where), number, valid, own)
    differs = valid[:, None] & (new != own)
    changed = differs.any(axis=1)
    position = wave.changed + jnp.cumsum(changed, dtype=jnp.int32) - 1
    position = jnp.where(changed, position, wave.out_page.shape[0])
    after = _Wave(
        pages=wave.pages.at[jnp.where(changed, slot, state.pages.shape[0])].set(new, mode="drop"),
        epoch=wave.epoch.at[jnp.where(changed, page, state.num_pages)].set(state.tick, mode="drop"),
        out_page=wave.out_page.at[position].set(page, mode="drop"),
        out_mask=wave.out_mask.at[position].set(pack_mask(differs), mode="drop"),
        recomputed=wave.recomputed + jnp.sum(valid, dtype=jnp.int32),
        changed=wave.changed + jnp.sum(changed, dtype=jnp.int32),
        windows=wave.windows + jnp.any(valid).astype(jnp.int32),
        digest_change=wave.digest_change + digest_change(page, own, jnp.where(differs, new, own)),
    )
    return after, changed


def _deltas(after: State, wave: _Wave, capacity: int, source: ArrayLike) -> DeltaBatch:
    return DeltaBatch(
        page=wave.out_page,
        words=after.rows(wave.out_page),
        mask=wave.out_mask,
        source=jnp.full(capacity, source, jnp.int32),
        dropped=jnp.maximum(wave.changed - capacity, 0),
    )
