"""From what a step does to its leaves to how each is looked after."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
from jaxtyping import Array, Bool, Int32

from ...physical import Paging
from ._lanes import How, Lane, Layout
from ._step import Traced
from ._strip import Strip
from ._touch import Runs, flags_of, ids_of
from ._writeset import Trail, follow

__all__ = ["SMALL", "Program", "planned", "sized", "touched_flags", "touched_ids"]

SMALL = 4  # pages: a leaf that fills fewer is compared as it is
_LONGEST_LIST = 2048  # candidates; a table of flags is cheaper beyond
_LEAST_BYTES, _MOST_BYTES = 4 << 20, 32 << 20  # of one of the two buffers
_SOME_STATES = 8


@dataclass(frozen=True)
class Program:
    """All that a compiled chunk depends on. Hashable."""

    traced: Traced
    layout: Layout
    select: Any
    """A `ClosedJaxpr`; None: the whole state is recorded."""
    sources: tuple[int | None, ...]
    """Of each recorded leaf, which leaf of the state it is, if it is one as it is."""
    single: bool
    """Whether every step is recorded."""

    @property
    def states(self) -> int:
        """How many leaves the state has."""
        return len(self.traced.state.leaves)

    def recorded(self, values: Sequence[Any], outs: Sequence[Any], consts: Sequence[Any]) -> list[Any]:
        """The leaves of the recorded tree."""
        part = values if self.select is None else jax.core.eval_jaxpr(self.select.jaxpr, consts, *values)
        return [*part, *outs]


def planned(
    traced: Traced,
    select: Any,
    paging: Paging,
    *,
    single: bool,
    max_changed: int | None,
    whole: frozenset[int] = frozenset(),
) -> Program:
    """How to record a step.

    **Arguments:**

    - `paging`: of the recorded tree.
    - `single`: whether every step is recorded.
    - `max_changed`: pages per recorded step that have to fit into a buffer; None: that is not known.
    - `whole`: leaves that are known to change nearly everywhere.
    """
    sources = _sources(traced, select)
    trails: list[Trail | None] = []
    jax.eval_shape(lambda *args: trails.extend(_trails(traced, args)), *traced.closed.in_avals)
    facts = [None if source is None else _own(trails[source], source) for source in sources]
    facts += [None] * (len(paging.leaves) - len(facts))
    if max_changed is not None and max_changed >= paging.num_pages:
        whole = frozenset(range(len(paging.leaves)))
    lanes, fixed = [], set()
    for number, (leaf, trail) in enumerate(zip(paging.leaves, facts, strict=True)):
        if trail is not None and not trail.touches:
            fixed.add(number)
        strip = Strip(leaf, paging.page_words)
        if strip.pages >= SMALL:
            lanes.append(_lane(number, strip, trail, single, number in whole))
    layout = sized(Layout.of(paging, lanes, frozenset(fixed)), max_changed)
    return Program(traced, layout, select, tuple(sources), single)


def touched_ids(lane: Lane, trail: Trail) -> Int32[Array, " k"]:
    """The candidates of a LISTED lane."""
    return jax.numpy.concatenate([ids_of(touch, _per_page(lane)) for touch in trail.touches if isinstance(touch, Runs)])


def touched_flags(lane: Lane, trail: Trail) -> Bool[Array, " pages"]:
    """The candidates of a FLAGGED lane."""
    found = [flags_of(touch, _per_page(lane), lane.strip.pages) for touch in trail.touches]
    flags = found[0]
    for more in found[1:]:
        flags = flags | more
    return flags


def _sources(traced: Traced, select: Any) -> list[int | None]:
    if select is None:
        return list(range(len(traced.state.leaves)))
    found: list[Trail | None] = []
    count = len(select.in_avals)
    jax.eval_shape(lambda *args: found.extend(follow(select.jaxpr, select.consts, args, count)[1]), *select.in_avals)
    return [trail.source if trail is not None and not trail.touches else None for trail in found]


def _trails(traced: Traced, args: Sequence[Any]) -> list[Trail | None]:
    return follow(traced.closed.jaxpr, traced.closed.consts, args, len(traced.state.leaves))[1]


def _own(trail: Trail | None, source: int) -> Trail | None:
    """A trail counts only where it leads back to the very leaf."""
    return trail if trail is not None and trail.source == source else None


def _lane(number: int, strip: Strip, trail: Trail | None, single: bool, whole: bool) -> Lane:
    if trail is not None and not trail.touches:
        return Lane(number, strip, How.FIXED)
    per_page = strip.per_page
    if trail is None or per_page is None or strip.leaf.impl is not None:
        return Lane(number, strip, How.WHOLE if whole else How.COMPARED)
    runs = [touch for touch in trail.touches if isinstance(touch, Runs)]
    most = sum(touch.start.size * touch.pages_each(per_page) for touch in runs)
    if single and len(runs) == len(trail.touches) and most <= min(_LONGEST_LIST, strip.pages // 2):
        plain = len(runs) == 1 and runs[0].is_plain(per_page) and strip.pages * per_page == strip.leaf.size
        return Lane(number, strip, How.LISTED, most, sifted=not plain)
    if whole:
        return Lane(number, strip, How.WHOLE)
    known = all(isinstance(touch, Runs) or touch.divides(per_page) for touch in trail.touches)
    return Lane(number, strip, How.FLAGGED if known and most <= 2 * strip.pages else How.COMPARED)


def _per_page(lane: Lane) -> int:
    assert lane.strip.per_page is not None, "only lanes whose elements don't straddle pages have candidates"
    return lane.strip.per_page


def sized(layout: Layout, max_changed: int | None) -> Layout:
    """Give the buffer as many rows as a share of memory allows, and as it needs at least."""
    row_bytes = 4 * (layout.page_words + 2 + -(-layout.page_words // 32))
    share = min(max(_LEAST_BYTES, _SOME_STATES * layout.paging.num_pages * row_bytes), _MOST_BYTES)
    least = layout.static_rows + (max_changed or bool(layout.open_lanes))
    return replace(layout, rows=max(share // row_bytes, least, 1))
