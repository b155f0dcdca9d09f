"""The tape: where a recorded loop leaves its changes, on the device, in the order of time.

A row is a page that changed at a step: its id, the tick, which words changed, and all its words. Beside the rows the
tape keeps what was recorded last (the shadows), so a change is found by comparison with that and with nothing else:
what is on the tape leads from any recorded state to the next, whatever the loop did in between. All is done in place.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int32, Shaped, UInt32

from .._delta import pack_mask
from ._lanes import How, Lane, Layout
from ._picks import Picks, distinct

__all__ = ["Tape", "has_room", "refreshed", "started", "written"]

Touched = Int32[Array, " k"] | Bool[Array, " pages"]
"""Of a LISTED lane the ids of candidates, of a FLAGGED one a flag for each page."""


class Tape(eqx.Module):
    """Rows of changes and what they lead to. Made by `started`, written by `written`; its form is a `Layout`'s."""

    words: UInt32[Array, "rows W"]
    """Of each row, the page after the step."""
    head: UInt32[Array, "rows M"]
    """Of each row: page, tick, and the mask of the words that changed, bit-packed."""
    small: UInt32[Array, "n W"]
    """The small pages as recorded last."""
    shadows: tuple[UInt32[Array, "_ W"], ...]
    """The pages of the lanes as recorded last; of lanes that need no shadow, none."""
    owners: tuple[Int32[Array, " _"], ...]
    """Scratch of the LISTED lanes."""
    used: Int32[Array, ""]
    """How many rows count."""
    steps: Int32[Array, ""]
    """How many steps were recorded since the tape was emptied."""
    need: Int32[Array, ""]
    """The most rows that the open lanes took in one step, ever."""
    short: Bool[Array, " lanes"]
    """Lanes whose changes did not fit: nothing of them is on the tape since, and their shadows are as they were."""
    missed: Int32[Array, ""]
    """How many steps did not fit as a whole."""
    tick: UInt32[Array, ""]
    """Of the last step."""

    def emptied(self) -> "Tape":
        """The tape without its rows. What it compares with stays."""
        zero = jnp.int32(0)
        owners = tuple(jnp.full_like(owner, -1) for owner in self.owners)
        return replace(self, owners=owners, used=zero, steps=zero, missed=zero)


def started(layout: Layout, values: Sequence[Any]) -> Tape:
    """An empty tape behind a tree that counts as recorded; `values` are the leaves of the tree."""
    flats = layout.flats(values)
    mask_words = -(-layout.page_words // 32)
    rows = layout.rows + layout.slack
    zero = jnp.int32(0)
    return Tape(
        words=jnp.zeros((rows, layout.page_words), jnp.uint32),
        head=jnp.zeros((rows, 2 + mask_words), jnp.uint32),
        small=layout.small_rows(values),
        shadows=tuple(jnp.copy(layout.lanes[i].strip.all(flats[i])) for i in layout.shadowed),
        owners=tuple(jnp.full(lane.strip.pages, -1, jnp.int32) for lane in layout.lanes if _needs_owner(lane)),
        used=zero,
        steps=zero,
        need=zero,
        short=jnp.zeros(len(layout.lanes), jnp.bool_),
        missed=zero,
        tick=jnp.uint32(0),
    )


def has_room(layout: Layout, tape: Tape) -> Bool[Array, ""]:
    """Whether a step fits that changes no more than any before it; the first one is always tried."""
    return (tape.steps == 0) | (tape.used + layout.static_rows + tape.need <= layout.rows)


def written(
    layout: Layout, tape: Tape, values: Sequence[Any], tick: UInt32[Array, ""], touched: Mapping[int, Touched]
) -> Tape:
    """The tape with what differs from the state recorded last. What doesn't fit is left out and counted.

    **Arguments:**

    - `values`: the leaves of the tree.
    - `tick`: not below that of any row before.
    - `touched`: of each LISTED and FLAGGED lane, by its number in the layout, what may have changed.
    """
    flats = layout.flats(values)
    fits = tape.used + layout.static_rows <= layout.rows
    tape = _write_small(layout, tape, values, tick, fits)
    for i, lane in enumerate(layout.lanes):
        match lane.how:
            case How.WHOLE:
                tape = _write_whole(lane, tape, flats[i], tick, fits)
            case How.LISTED:
                tape = _write_listed(layout, i, tape, flats[i], tick, touched[i], fits)
    needed = jnp.int32(0)
    for i in layout.open_lanes:
        tape, count = _write_open(layout, i, tape, flats[i], tick, touched.get(i), fits)
        needed += count
    missed = jnp.where(fits & ~tape.short.any(), 0, 1).astype(jnp.int32)
    need, steps, missed = jnp.maximum(tape.need, needed), tape.steps + 1, tape.missed + missed
    return replace(tape, need=need, steps=steps, missed=missed, tick=tick)


def refreshed(layout: Layout, tape: Tape, values: Sequence[Any]) -> Tape:
    """The tape when the tree as it is has been recorded in another way: nothing is owed any more."""
    flats = layout.flats(values)
    shadows = tuple(layout.lanes[i].strip.all(flats[i]) for i in layout.shadowed)
    short = jnp.zeros_like(tape.short)
    return replace(tape, small=layout.small_rows(values), shadows=shadows, short=short)


def _needs_owner(lane: Lane) -> bool:
    return lane.how is How.LISTED and lane.sifted


def _write_small(
    layout: Layout, tape: Tape, values: Sequence[Any], tick: UInt32[Array, ""], fits: Bool[Array, ""]
) -> Tape:
    if not len(layout.small_ids):
        return tape
    new = layout.small_rows(values)
    count = jnp.where(fits, len(new), 0).astype(jnp.int32)
    tape = _append(tape, jnp.asarray(layout.small_ids), tape.small, new, tick, count)
    return replace(tape, small=jnp.where(fits, new, tape.small))


def _write_whole(
    lane: Lane, tape: Tape, flat: Shaped[Array, " n"], tick: UInt32[Array, ""], fits: Bool[Array, ""]
) -> Tape:
    pages = lane.strip.pages
    ids = lane.strip.first_page + jnp.arange(pages, dtype=jnp.int32)
    every = pack_mask(jnp.ones((1, lane.strip.page_words), jnp.bool_))
    mask = jnp.broadcast_to(every, (pages, every.shape[1]))
    return _put(tape, ids, mask, lane.strip.all(flat), tick, jnp.where(fits, pages, 0).astype(jnp.int32))


def _write_listed(
    layout: Layout,
    number: int,
    tape: Tape,
    flat: Shaped[Array, " n"],
    tick: UInt32[Array, ""],
    ids: Int32[Array, " k"],
    fits: Bool[Array, ""],
) -> Tape:
    lane, count = layout.lanes[number], jnp.int32(len(ids))
    if _needs_owner(lane):
        nth = [i for i, other in enumerate(layout.lanes) if _needs_owner(other)].index(number)
        ids, count, owner = distinct(ids, tape.owners[nth], tape.steps * len(ids))
        tape = replace(tape, owners=_with(tape.owners, nth, owner))
    return _write_rows(layout, number, tape, flat, tick, ids, jnp.where(fits, count, 0))


def _write_open(
    layout: Layout,
    number: int,
    tape: Tape,
    flat: Shaped[Array, " n"],
    tick: UInt32[Array, ""],
    flags: Bool[Array, " pages"] | None,
    fits: Bool[Array, ""],
) -> tuple[Tape, Int32[Array, ""]]:
    """Write as many rows as there are, a block at a time. Returns how many it would take, too."""
    if flags is None:
        shadow = tape.shadows[layout.shadowed.index(number)]
        flags = (layout.lanes[number].strip.all(flat) != shadow).any(axis=1)
    picks = Picks.of(flags)
    fits &= (tape.used + picks.total <= layout.rows) & (layout.looped | (picks.total <= layout.block))
    count = jnp.where(fits, picks.total, 0)
    nth = jnp.arange(layout.block, dtype=jnp.int32)

    def write_block(i: Int32[Array, ""] | int, tape: Tape) -> Tape:
        done = i * layout.block
        return _write_rows(
            layout, number, tape, flat, tick, picks.ids(done + nth), jnp.minimum(count - done, layout.block)
        )

    if layout.looped:
        tape = jax.lax.fori_loop(jnp.int32(0), (count + layout.block - 1) // layout.block, write_block, tape)
    else:
        tape = write_block(0, tape)
    return replace(tape, short=tape.short.at[number].set(~fits)), picks.total


def _write_rows(
    layout: Layout,
    number: int,
    tape: Tape,
    flat: Shaped[Array, " n"],
    tick: UInt32[Array, ""],
    ids: Int32[Array, " k"],
    count: Int32[Array, ""],
) -> Tape:
    """Append the first `count` of some pages of a lane, and take them over into its shadow."""
    strip, nth = layout.lanes[number].strip, layout.shadowed.index(number)
    shadow = tape.shadows[nth]
    old = shadow.at[ids].get(mode="promise_in_bounds")
    new = strip.rows(flat, ids)
    tape = _append(tape, strip.first_page + ids, old, new, tick, count)
    counts = jnp.arange(len(ids), dtype=jnp.int32) < count
    # What is written depends on what was read, so it is written in place.
    rows = jnp.where(counts[:, None] & (old != new), new, old)
    there = jnp.where(counts, ids, jnp.int32(strip.pages))
    return replace(tape, shadows=_with(tape.shadows, nth, shadow.at[there].set(rows, mode="drop")))


def _append(
    tape: Tape,
    page: Int32[Array, " k"],
    old: UInt32[Array, "k W"],
    new: UInt32[Array, "k W"],
    tick: UInt32[Array, ""],
    count: Int32[Array, ""],
) -> Tape:
    return _put(tape, page, pack_mask(old != new), new, tick, count)


def _put(
    tape: Tape,
    page: Int32[Array, " k"],
    mask: UInt32[Array, "k m"],
    words: UInt32[Array, "k W"],
    tick: UInt32[Array, ""],
    count: Int32[Array, ""],
) -> Tape:
    """Write rows at the end, of which the first `count` are to stay."""
    ticks = jnp.broadcast_to(tick, page.shape)[:, None]
    head = jnp.concatenate([page.astype(jnp.uint32)[:, None], ticks, mask], axis=1)
    at = (tape.used, jnp.int32(0))
    return replace(
        tape,
        words=jax.lax.dynamic_update_slice(tape.words, words, at),
        head=jax.lax.dynamic_update_slice(tape.head, head, at),
        used=tape.used + count,
    )


def _with(items: tuple[Any, ...], nth: int, item: Any) -> tuple[Any, ...]:
    return (*items[:nth], item, *items[nth + 1 :])
