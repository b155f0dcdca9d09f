"""Waves: each affected page recomputed once, in topological order, stopping where nothing changes.

    seeds ──push──▶ queue, one bucket a stage          the first stage that isn't empty
                      ▲                                        │ up to `lanes` of its pages
                      │                                        ▼
                 children of what changed ◀── compare ◀── fold parents, update

A page enters its stage's bucket when its first parent changes, and a stage is only taken up when every earlier one is
empty: so all of a page's parents are final when it is recomputed. Cost follows the affected pages, plus clearing one
integer a page.
"""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Int32, UInt32

from .._errors import InvalidArgumentError, InvalidTypeError
from .._require import require_capacity, require_instance
from ..page import DeltaBatch, digest_change, pack_mask
from ..physical import State
from ._fold import recompute
from ._rule import RuleGraph, check_recipe

__all__ = ["Propagated", "WaveReport", "propagate"]


# So many stages are looked at to find the next that isn't empty. Looking at all of them each time would make a wave
# along a chain quadratic in its length.
_BLOCK = 128


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
    """Groups of up to `lanes` pages that were recomputed side by side."""

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


class _Queue(NamedTuple):
    bucket: Int32[Array, " room"]
    waiting: Int32[Array, " stages_and_block"]
    """Pages in each stage's bucket; zeros behind the last stage."""
    left: Int32[Array, ""]
    """Pages in all of them."""
    queued: Bool[Array, " pages"]
    """Whether a page has entered the queue in this wave."""


class _Wave(NamedTuple):
    pages: UInt32[Array, "slots words"]
    epoch: UInt32[Array, " pages"]
    queue: _Queue
    stage: Int32[Array, ""]
    """All stages before this one are empty, and stay so: children lie in later stages than their parents."""
    out_page: Int32[Array, " capacity"]
    out_old: UInt32[Array, "capacity words"]
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
    seeds = _seeds(dirty)
    wave = jax.lax.while_loop(
        lambda w: w.queue.left > 0,
        lambda w: _window(graph, state, w),
        _start(graph, state, seeds, capacity),
    )
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


def _start(graph: RuleGraph, state: State, seeds: Int32[Array, " n"], capacity: int) -> _Wave:
    """Queue the seeds that have a rule, and the children of all seeds."""
    queue = _Queue(
        bucket=jnp.zeros(graph.num_pages + graph.lanes, jnp.int32),
        waiting=jnp.zeros(graph.num_stages + _BLOCK, jnp.int32),
        left=jnp.zeros((), jnp.int32),
        queued=jnp.zeros(graph.num_pages, jnp.bool_),
    )
    if graph.num_stages:
        queue = _push_seeds(graph, queue, seeds)
    zero = jnp.zeros((), jnp.int32)
    return _Wave(
        pages=state.pages,
        epoch=state.epoch,
        queue=queue,
        stage=zero,
        out_page=jnp.full(capacity, state.num_pages, jnp.int32),
        out_old=jnp.zeros((capacity, state.page_words), jnp.uint32),
        recomputed=zero,
        changed=zero,
        windows=zero,
        digest_change=jnp.zeros(2, jnp.uint32),
    )


def _push_seeds(graph: RuleGraph, queue: _Queue, seeds: Int32[Array, " n"]) -> _Queue:
    windows = max(1, -(-len(seeds) // graph.lanes))  # a window is sliced below even when there is no seed
    padded = jnp.pad(seeds, (0, windows * graph.lanes - len(seeds)), constant_values=graph.num_pages)
    valid = (padded >= 0) & (padded < graph.num_pages)
    used = jnp.max(jnp.where(valid, jnp.arange(len(padded), dtype=jnp.int32) + 1, 0), initial=0)

    def push(carry: tuple[Int32[Array, ""], _Queue]) -> tuple[Int32[Array, ""], _Queue]:
        start, queue = carry
        page = jax.lax.dynamic_slice_in_dim(padded, start, graph.lanes)
        valid = (page >= 0) & (page < graph.num_pages)
        page = jnp.where(valid, page, 0)
        return start + graph.lanes, _push_children(graph, _push(graph, queue, page, valid), page, valid)

    zero = jnp.zeros((), jnp.int32)
    return jax.lax.while_loop(lambda carry: carry[0] < used, push, (zero, queue))[1]


def _window(graph: RuleGraph, state: State, wave: _Wave) -> _Wave:
    """Recompute up to `lanes` pages of the first stage that isn't empty, if it is one of the next few."""
    lane = jnp.arange(graph.lanes, dtype=jnp.int32)
    waiting = wave.queue.waiting
    ahead = jax.lax.dynamic_slice_in_dim(waiting, wave.stage, _BLOCK) > 0
    found = jnp.any(ahead)
    following = wave.stage + jnp.where(found, jnp.argmax(ahead).astype(jnp.int32), _BLOCK)
    stage = jnp.minimum(following, graph.num_stages - 1)
    taken = jnp.where(found, jnp.minimum(waiting[stage], graph.stage_lanes[stage]), 0)
    left = waiting[stage] - taken
    valid = lane < taken
    page = jax.lax.dynamic_slice_in_dim(wave.queue.bucket, graph.stage_start[stage] + left, graph.lanes)
    page = jnp.where(valid, page, 0)

    slot = state.slot_of_page.at[page].get(mode="promise_in_bounds")
    own = wave.pages.at[slot].get(mode="promise_in_bounds")
    new = recompute(graph, graph.stage_rule[stage], wave.pages, state.slot_of_page, page, valid, own)
    changed = valid & (new != own).any(axis=1)

    position = wave.changed + jnp.cumsum(changed, dtype=jnp.int32) - 1
    position = jnp.where(changed, position, wave.out_page.shape[0])
    queue = wave.queue._replace(waiting=waiting.at[stage].set(left), left=wave.queue.left - taken)
    return _Wave(
        pages=wave.pages.at[jnp.where(changed, slot, state.pages.shape[0])].set(new, mode="drop"),
        epoch=wave.epoch.at[jnp.where(changed, page, state.num_pages)].set(state.tick, mode="drop"),
        queue=_push_children(graph, queue, page, changed),
        stage=following,
        out_page=wave.out_page.at[position].set(page, mode="drop"),
        out_old=wave.out_old.at[position].set(own, mode="drop"),
        recomputed=wave.recomputed + taken,
        changed=wave.changed + jnp.sum(changed, dtype=jnp.int32),
        windows=wave.windows + found.astype(jnp.int32),
        digest_change=wave.digest_change + digest_change(page, own, jnp.where(changed[:, None], new, own)),
    )


def _push_children(
    graph: RuleGraph, queue: _Queue, page: Int32[Array, " lanes"], valid: Bool[Array, " lanes"]
) -> _Queue:
    """Queue the children of the valid pages, a few of each at a time."""
    width = min(graph.max_children, 4)
    if width == 0:
        return queue
    start = graph.out_start.at[page].get(mode="promise_in_bounds")
    children = graph.out_start.at[page + 1].get(mode="promise_in_bounds") - start
    children = jnp.where(valid, children, 0)
    most = jnp.max(children)

    def push(carry: tuple[Int32[Array, ""], _Queue]) -> tuple[Int32[Array, ""], _Queue]:
        done, queue = carry
        offset = done + jnp.arange(width, dtype=jnp.int32)[None, :]
        exists = offset < children[:, None]
        edge = jnp.where(exists, start[:, None] + offset, 0)
        child = graph.out_child.at[edge].get(mode="promise_in_bounds")
        return done + width, _push(graph, queue, child.ravel(), exists.ravel())

    return jax.lax.while_loop(lambda carry: carry[0] < most, push, (jnp.zeros((), jnp.int32), queue))[1]


def _push(graph: RuleGraph, queue: _Queue, page: Int32[Array, " m"], valid: Bool[Array, " m"]) -> _Queue:
    """Queue each valid page that has a rule, unless it has been queued before in this wave."""
    stage = graph.stage_of_page.at[page].get(mode="promise_in_bounds")
    fresh = valid & (stage < graph.num_stages) & ~queue.queued.at[page].get(mode="promise_in_bounds")
    lane = jnp.arange(len(page), dtype=jnp.int32)
    earlier = fresh[None, :] & (lane[None, :] < lane[:, None])
    fresh &= ~jnp.any(earlier & (page[:, None] == page[None, :]), axis=1)
    ahead = jnp.sum(fresh[None, :] & earlier & (stage[:, None] == stage[None, :]), axis=1, dtype=jnp.int32)
    stage = jnp.where(fresh, stage, 0)
    position = graph.stage_start.at[stage].get(mode="promise_in_bounds")
    position += queue.waiting.at[stage].get(mode="promise_in_bounds") + ahead
    return _Queue(
        bucket=queue.bucket.at[jnp.where(fresh, position, len(queue.bucket))].set(page, mode="drop"),
        waiting=queue.waiting.at[jnp.where(fresh, stage, len(queue.waiting))].add(1, mode="drop"),
        left=queue.left + jnp.sum(fresh, dtype=jnp.int32),
        queued=queue.queued.at[jnp.where(fresh, page, graph.num_pages)].set(True, mode="drop"),
    )


def _deltas(after: State, wave: _Wave, capacity: int, source: ArrayLike) -> DeltaBatch:
    words = after.rows(wave.out_page)
    return DeltaBatch(
        page=wave.out_page,
        words=words,
        mask=pack_mask((words != wave.out_old) & (wave.out_page < after.num_pages)[:, None]),
        source=jnp.full(capacity, source, jnp.int32),
        dropped=jnp.maximum(wave.changed - capacity, 0),
    )
