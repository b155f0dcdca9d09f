"""What a bus tells: the kinds of events, and what each carries."""

import enum
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ._catalog import Page
from ._errors import InvalidArgumentError, InvalidTypeError
from .page import PageChanges

__all__ = ["CustomEvent", "DeltaApplied", "Event", "EventKind", "PagesMarked", "as_kinds", "as_own_kind"]


class EventKind(enum.StrEnum):
    """What happened. A kind is its name, so `"page_changed"` will do wherever one is asked for.

    ```python
    >>> import mmsb_jax as mmsb
    >>> mmsb.EventKind.PAGE_CHANGED == "page_changed"
    True

    ```
    """

    PAGE_CREATED = "page_created"
    PAGE_DELETED = "page_deleted"
    """Its handle is no longer good for anything but its name and ids."""
    PAGE_CHANGED = "page_changed"
    """A commit gave pages other contents, or a page another size; one event for each source."""
    PAGE_INVALIDATED = "page_invalidated"
    """A parent along a DATA edge changed, and no wave has recomputed the page yet. A `PagesMarked`."""
    PAGE_STALE = "page_stale"
    """What a CONTROL edge leads to has to be recomputed when somebody asks for it. A `PagesMarked`."""
    DELTA_APPLIED = "delta_applied"
    """As PAGE_CHANGED, with the words. A `DeltaApplied`."""
    SYNC_NEEDED = "sync_needed"
    """What a DEVICE_SYNC edge leads to has to be brought to where it is computed with. A `PagesMarked`."""
    SYNC_DONE = "sync_done"
    """That was done."""
    ARTEFACT_INVALIDATED = "artefact_invalidated"
    """What was compiled from the page, behind COMPILER edges, is invalid. A `PagesMarked`."""
    OPTIMISATION_STARTED = "optimisation_started"
    """Told by a bus that looks at its layout, and by whoever optimises, with `bus.emit`. A `CustomEvent`."""
    OPTIMISATION_DONE = "optimisation_done"
    """Likewise; of a layout, `data` is the `mmsb.layout.Decision`."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Event:
    """Something that happened on a bus. See `Bus.subscribe` for an example."""

    kind: str
    """An `EventKind`, or a name of the user's own."""
    tick: int
    """The commit that it belongs to; for what changes no contents, the last one."""
    pages: tuple[Page, ...] = ()
    """What it is about, as the handles were then."""
    ids: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int32))
    """int32: the fixed-size pages among theirs that it is about, ascending."""
    source: str | None = None
    """Who did it; None for nobody in particular."""
    intent: str | None = None
    """Why, as it was told to the call that did it."""

    def __repr__(self) -> str:
        pages = ", ".join(page.name or f"id {page.id}" for page in self.pages[:4])
        more = ", …" if len(self.pages) > 4 else ""
        return f"{type(self).__name__}({str(self.kind)!r}, tick {self.tick}, pages: {pages or 'none'}{more})"


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class DeltaApplied(Event):
    """The words of a commit that are due to one source. See `Bus.subscribe` for an example."""

    changes: PageChanges
    """One row for each changed page; its words are those that differ."""


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class PagesMarked(Event):
    """Pages that a commit changed nothing of, and that have to be looked after. See `Bus.subscribe` for an example."""

    causes: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int32))
    """int32: the fixed-size pages that changed, ascending."""


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class CustomEvent(Event):
    """What somebody told by `emit`. See `Bus.emit` for an example."""

    data: Any = None
    """Whatever was passed."""


_TOLD_BY_USERS = (EventKind.OPTIMISATION_STARTED, EventKind.OPTIMISATION_DONE)
_HOW = "names of your own have a dot, such as 'solver.converged'"


def as_kinds(value: Any) -> tuple[str, ...]:
    """One kind or a list of them. Raises `InvalidTypeError`, `InvalidArgumentError`."""
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        kinds = tuple(dict.fromkeys(_as_kind(one) for one in value))
        if not kinds:
            raise InvalidArgumentError("got no event to subscribe to; name at least one")
        return kinds
    return (_as_kind(value),)


def as_own_kind(value: Any) -> str:
    """A kind that users may tell of. Raises `InvalidTypeError`, `InvalidArgumentError`."""
    kind = _as_kind(value)
    if kind in tuple(EventKind) and kind not in _TOLD_BY_USERS:
        raise InvalidArgumentError(
            f"got event={str(kind)!r}, of which the bus itself tells when it happens; emit "
            f"{' or '.join(repr(str(each)) for each in _TOLD_BY_USERS)}, or a name of your own ({_HOW})"
        )
    return kind


def _as_kind(value: Any) -> str:
    if not isinstance(value, str):
        raise InvalidTypeError(f"got event={value!r} of type {type(value).__name__}; pass an EventKind or a name")
    if value in tuple(EventKind):
        return EventKind(value)
    # Without the dot, a slip of the pen would subscribe to something that never happens.
    if "." not in value:
        raise InvalidArgumentError(
            f"there is no event {value!r}; the bus tells of {', '.join(repr(str(each)) for each in EventKind)}; {_HOW}"
        )
    return value
