"""What follows from changes: events for those who subscribe, and marks that edges have set."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ._arguments import as_intent, as_text
from ._catalog import Page
from ._delivery import Subscription
from ._errors import InvalidArgumentError, InvalidTypeError
from ._events import EventKind, as_kinds, as_own_kind
from ._pages import Pages
from ._session import operation

__all__ = ["Reactions"]


class Reactions(Pages):
    """What a bus does about changes, beyond waves."""

    # Events.

    def subscribe(
        self,
        event: EventKind | str | Any,
        handler: Callable[[Any], Any] | Any,
        where: Callable[[Any], Any] | Any | None = None,
        *,
        pages: Any = None,
        source: str | Any | None = None,
    ) -> Subscription:
        """Call a function with each event of some kinds, from now on.

        It is called when the call that led to the event has ended, so when the commit is in the log and as durable as
        the bus's `sync` says; in the order of the commits. It may use the bus: what that leads to is told after the
        events before. If it raises, that is a `HandlerFailedWarning` and a number in `stats`; nothing else is harmed.

        **Arguments:**

        - `event`: an `EventKind`, its name, a name of your own with a dot in it, or a list of these.
        - `where`: a function of the event; only where it returns something true is the handler called.
        - `pages`: a page, its first id, its name, or a list of them; only events about any of these.
        - `source`: only events of this source.

        **Raises:** `InvalidTypeError`, `InvalidArgumentError` for an event that there isn't, `PageNotFoundError`.

        ```python
        >>> import mmsb_jax as mmsb, numpy as np
        >>> with mmsb.start() as bus:
        ...     page = bus.create_page(4, name="wind")
        ...     told = bus.subscribe("page_changed", print, pages="wind", where=lambda event: event.tick > 1)
        ...     for speed in (5, 6, 7):
        ...         _ = bus.update_page(page, np.int32(speed), source="mast")
        ...     told.cancel()
        Event('page_changed', tick 2, pages: wind)
        Event('page_changed', tick 3, pages: wind)

        ```
        """
        self._check_open()
        for what, value in (("handler", handler), ("where", where)):
            if not callable(value) and not (what == "where" and value is None):
                raise InvalidTypeError(
                    f"got {what}={value!r} of type {type(value).__name__}; pass a function of an event"
                )
        keys = None if pages is None else frozenset((page.id, page.generation) for page in self._handles(pages))
        if keys is not None and not keys:
            raise InvalidArgumentError("got pages=[], about which there are no events; None is for events of all pages")
        source = None if source is None else as_text("source", source)
        subscription = Subscription(as_kinds(event), handler, where, keys, source)
        self._watch.delivery.add(subscription)
        return subscription

    def unsubscribe(self, subscription: Subscription | Any) -> None:
        """The same as `subscription.cancel()`. Raises `InvalidTypeError`, `InvalidArgumentError` for another bus's."""
        if not isinstance(subscription, Subscription):
            raise InvalidTypeError(f"got a {type(subscription).__name__}; pass what bus.subscribe returned")
        if subscription.active and not self._watch.delivery.holds(subscription):
            raise InvalidArgumentError(f"{subscription} isn't one of this bus; use its own cancel()")
        subscription.cancel()

    @operation
    def emit(
        self,
        event: EventKind | str | Any,
        *,
        pages: Any = None,
        source: str | Any | None = None,
        intent: str | Any | None = None,
        data: Any = None,
    ) -> None:
        """Tell the subscribers of something of your own, behind what they are still to be told. It isn't logged.

        **Arguments:**

        - `event`: `"optimisation_started"`, `"optimisation_done"`, or a name of your own with a dot in it.
        - `pages`: as in `subscribe`; what it is about.
        - `source`, `intent`: who, and why.
        - `data`: anything; it arrives as `CustomEvent.data`.

        **Raises:** `InvalidTypeError`, `PageNotFoundError`, and `InvalidArgumentError`, also for an event of which the
        bus itself tells.

        ```python
        >>> import mmsb_jax as mmsb
        >>> with mmsb.start() as bus:
        ...     _ = bus.subscribe("solver.converged", lambda event: print(event.data))
        ...     bus.emit("solver.converged", data={"steps": 12})
        {'steps': 12}

        ```
        """
        kind = as_own_kind(event)
        about = () if pages is None else self._handles(pages)
        ids = np.concatenate([page.ids for page in about]) if about else np.zeros(0, np.int32)
        source = None if source is None else as_text("source", source)
        self._watch.emitted(kind, ids, about, source=source, intent=as_intent(intent), data=data)

    # Marks.

    def stale(self) -> tuple[Page, ...]:
        """Pages that CONTROL dependencies have marked: to be recomputed when somebody asks for them.

        `query_page`, and a `propagate` that names a page, recompute it and the stale pages that it needs; without a
        rule, a page is stale until it is written. Marks aren't logged: after reopening a run, all pages are stale that
        could be.

        ```python
        >>> import mmsb_jax as mmsb, numpy as np
        >>> with mmsb.start() as bus:
        ...     switch, report = bus.create_page(4, name="switch"), bus.create_page(4, name="report")
        ...     bus.add_dependency(switch, report, "control")
        ...     _ = bus.update_page(switch, np.int32(1))
        ...     print(bus.stale())
        ...     _ = bus.update_page(report, np.int32(1))
        ...     print(bus.stale())
        (Page('report', id 1, 4 bytes),)
        ()

        ```
        """
        return self._marked(self._watch.effects.stale)

    def invalidated(self) -> tuple[Page, ...]:
        """Pages from which something was compiled that is invalid, because of a change before them: see `revalidate`.

        COMPILER dependencies lead to them from what changed, over one step or many. Marks aren't logged: after
        reopening a run, all that COMPILER dependencies lead to is invalid.
        """
        return self._marked(self._watch.effects.invalid)

    def revalidate(self, page: Page | int | str | Any) -> None:
        """Say that what was compiled from a page was compiled anew. Raises `PageNotFoundError`, `InvalidTypeError`.

        ```python
        >>> import mmsb_jax as mmsb, numpy as np
        >>> with mmsb.start() as bus:
        ...     source, program = bus.create_page(4, name="source"), bus.create_page(4, name="program")
        ...     bus.add_dependency(source, program, "compiler")
        ...     _ = bus.update_page(source, np.int32(1))
        ...     print(bus.invalidated())
        ...     bus.revalidate(program)
        ...     print(bus.invalidated())
        (Page('program', id 1, 4 bytes),)
        ()

        ```
        """
        self._check_open()
        self._watch.effects.invalid[self._catalog.resolve(page).ids] = False

    def unsynced(self) -> tuple[Page, ...]:
        """Pages whose transfer DEVICE_SYNC dependencies have scheduled. See `sync_pages`."""
        return self._marked(self._watch.effects.unsynced)

    @operation
    def sync_pages(self, pages: Any = None) -> tuple[Page, ...]:
        """Carry out scheduled transfers now, instead of with the next wave.

        Unified pages are brought to the device, in one transfer. The others have nowhere to go: device pages are there,
        and what is written to host pages is in host memory at once.

        **Arguments:** `pages`: a page, an id, a name, or a list or array of them; None: all that are scheduled.

        **Returns:** the pages that were seen to.

        **Raises:** `PageNotFoundError`; `CapacityError` when the device has no room: then nothing has moved.

        ```python
        >>> import mmsb_jax as mmsb, numpy as np
        >>> with mmsb.start() as bus:
        ...     mesh = bus.create_page(4, name="mesh")
        ...     copy = bus.create_page(4, name="copy", location="unified")
        ...     bus.add_dependency(mesh, copy, "device_sync")
        ...     _ = bus.update_page(mesh, np.int32(1))
        ...     bus.unsynced() == bus.sync_pages(), bus.unsynced()
        (True, ())

        ```
        """
        marks = self._watch.effects.unsynced
        ids = np.flatnonzero(marks) if pages is None else np.unique(self._catalog.ids(pages))
        due = ids[marks[ids]].astype(np.int32)
        if len(due):
            self._sync(due)
        return self._catalog.owners(due)

    def _marked(self, marks: np.ndarray) -> tuple[Page, ...]:
        self._check_open()
        return self._catalog.owners(np.flatnonzero(marks))

    def _handles(self, pages: Any) -> tuple[Page, ...]:
        many = isinstance(pages, Sequence) and not isinstance(pages, str | bytes)
        return tuple(self._catalog.resolve(page) for page in (pages if many else [pages]))
