"""The queue of a wave: pages that wait to be recomputed, in one bucket a stage. A page is its number in the graph."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int32, UInt8

from ._plan import RuleGraph

__all__ = ["BLOCK", "MOVED", "QUEUED", "Queue", "begin", "push_children", "take"]

# So many stages are looked at to find the next that isn't empty. Looking at all of them each time would make a wave
# along a chain quadratic in its length.
BLOCK = 128

QUEUED, MOVED = 1, 2


class Queue(NamedTuple):
    """Which pages wait, and which have been met in this wave."""

    bucket: Int32[Array, " room"]
    waiting: Int32[Array, " stages_and_block"]
    """Pages in each stage's bucket; zeros behind the last stage."""
    left: Int32[Array, ""]
    """Pages in all of them."""
    mark: UInt8[Array, " pages"]
    """`QUEUED`: the page has entered the queue in this wave. `MOVED`: a sweep has to recompute its children."""


def begin(graph: RuleGraph, seeds: Int32[Array, " n"]) -> tuple[Queue, Bool[Array, ""]]:
    """Queue the seeds that have a rule, and the children of all seeds; or, when these are too many, mark the seeds.

    Also returns whether they are too many.
    """
    valid = (seeds >= 0) & (seeds < graph.num_pages)
    page = jnp.where(valid, seeds, 0)
    start = graph.out_start.at[page].get(mode="promise_in_bounds")
    found = graph.out_start.at[page + 1].get(mode="promise_in_bounds") - start + 1
    crowded = jnp.sum(jnp.where(valid, found, 0), dtype=jnp.int32) > graph.sweep_above
    marked = jnp.where(valid & crowded, page, graph.num_pages)
    queue = Queue(
        bucket=jnp.zeros(graph.num_pages + graph.lanes, jnp.int32),
        waiting=jnp.zeros(graph.num_stages + BLOCK, jnp.int32),
        left=jnp.zeros((), jnp.int32),
        mark=jnp.zeros(graph.num_pages, jnp.uint8).at[marked].set(jnp.uint8(QUEUED | MOVED), mode="drop"),
    )
    return _push_seeds(graph, queue, jnp.where(valid & ~crowded, seeds, graph.num_pages)), crowded


def _push_seeds(graph: RuleGraph, queue: Queue, seeds: Int32[Array, " n"]) -> Queue:
    windows = max(1, -(-len(seeds) // graph.lanes))  # a window is sliced below even when there is no seed
    padded = jnp.pad(seeds, (0, windows * graph.lanes - len(seeds)), constant_values=graph.num_pages)
    used = jnp.max(jnp.where(padded < graph.num_pages, jnp.arange(len(padded), dtype=jnp.int32) + 1, 0), initial=0)

    def push(carry: tuple[Int32[Array, ""], Queue]) -> tuple[Int32[Array, ""], Queue]:
        start, queue = carry
        page = jax.lax.dynamic_slice_in_dim(padded, start, graph.lanes)
        valid = page < graph.num_pages
        page = jnp.where(valid, page, 0)
        return start + graph.lanes, push_children(graph, _push(graph, queue, page, valid), page, valid)

    zero = jnp.zeros((), jnp.int32)
    return jax.lax.while_loop(lambda carry: carry[0] < used, push, (zero, queue))[1]


class Taken(NamedTuple):
    """Pages taken out of the queue, all of one stage. None, where the next few stages are empty."""

    queue: Queue
    stage: Int32[Array, ""]
    page: Int32[Array, " lanes"]
    valid: Bool[Array, " lanes"]


def take(graph: RuleGraph, queue: Queue, stage: Int32[Array, ""]) -> Taken:
    """Up to `lanes` pages of the first stage from `stage` on that isn't empty, if it is one of the next few."""
    ahead = jax.lax.dynamic_slice_in_dim(queue.waiting, stage, BLOCK) > 0
    found = jnp.any(ahead)
    following = stage + jnp.where(found, jnp.argmax(ahead).astype(jnp.int32), BLOCK)
    here = jnp.minimum(following, graph.num_stages - 1)
    taken = jnp.where(found, jnp.minimum(queue.waiting[here], graph.lanes), 0)
    left = queue.waiting[here] - taken
    valid = jnp.arange(graph.lanes, dtype=jnp.int32) < taken
    page = jax.lax.dynamic_slice_in_dim(queue.bucket, graph.stage_start[here] + left, graph.lanes)
    rest = queue._replace(waiting=queue.waiting.at[here].set(left), left=queue.left - taken)
    return Taken(rest, following, jnp.where(valid, page, 0), valid)


def push_children(graph: RuleGraph, queue: Queue, page: Int32[Array, " lanes"], valid: Bool[Array, " lanes"]) -> Queue:
    """Queue the children of the valid pages, a few of each at a time."""
    width = graph.max_children
    if width == 0:
        return queue
    start = graph.out_start.at[page].get(mode="promise_in_bounds")
    children = graph.out_start.at[page + 1].get(mode="promise_in_bounds") - start
    children = jnp.where(valid, children, 0)
    most = jnp.max(children)

    def push(carry: tuple[Int32[Array, ""], Queue]) -> tuple[Int32[Array, ""], Queue]:
        done, queue = carry
        offset = done + jnp.arange(width, dtype=jnp.int32)[None, :]
        exists = offset < children[:, None]
        edge = jnp.where(exists, start[:, None] + offset, 0)
        child = graph.out_child.at[edge].get(mode="promise_in_bounds")
        return done + width, _push(graph, queue, child.ravel(), exists.ravel())

    return jax.lax.while_loop(lambda carry: carry[0] < most, push, (jnp.zeros((), jnp.int32), queue))[1]


def _push(graph: RuleGraph, queue: Queue, page: Int32[Array, " m"], valid: Bool[Array, " m"]) -> Queue:
    """Queue each valid page that has a rule, unless it has been queued before in this wave."""
    stage = graph.stage_of_page.at[page].get(mode="promise_in_bounds")
    fresh = valid & (stage < graph.num_stages) & (queue.mark.at[page].get(mode="promise_in_bounds") == 0)
    lane = jnp.arange(len(page), dtype=jnp.int32)
    earlier = fresh[None, :] & (lane[None, :] < lane[:, None])
    fresh &= ~jnp.any(earlier & (page[:, None] == page[None, :]), axis=1)
    ahead = jnp.sum(fresh[None, :] & earlier & (stage[:, None] == stage[None, :]), axis=1, dtype=jnp.int32)
    stage = jnp.where(fresh, stage, 0)
    position = graph.stage_start.at[stage].get(mode="promise_in_bounds")
    position += queue.waiting.at[stage].get(mode="promise_in_bounds") + ahead
    return Queue(
        bucket=queue.bucket.at[jnp.where(fresh, position, len(queue.bucket))].set(page, mode="drop"),
        waiting=queue.waiting.at[jnp.where(fresh, stage, len(queue.waiting))].add(1, mode="drop"),
        left=queue.left + jnp.sum(fresh, dtype=jnp.int32),
        mark=queue.mark.at[jnp.where(fresh, page, graph.num_pages)].set(jnp.uint8(QUEUED), mode="drop"),
    )
