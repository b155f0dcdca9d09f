"""Events on their way to those who asked for them: in the order of the commits, and never in the midst of one."""

import contextlib
import traceback
import warnings
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

from ._errors import HandlerFailedWarning
from ._events import Event

__all__ = ["Delivery", "Subscription"]

Keys = frozenset[tuple[int, int]]


class Subscription:
    """A handler that is told of some events, until it is cancelled. See `Bus.subscribe` for an example."""

    def __init__(
        self,
        kinds: tuple[str, ...],
        handler: Callable[[Any], Any],
        where: Callable[[Any], Any] | None,
        pages: Keys | None,
        source: str | None,
    ) -> None:
        self.kinds = kinds
        self.handler = handler
        self.active = True
        """Whether it is still told of anything."""
        self._where, self._pages, self._source = where, pages, source

    def cancel(self) -> None:
        """Tell the handler of nothing more, also of what has already happened. Calling it again does nothing."""
        self.active = False

    def wants(self, event: Event) -> bool:
        """Whether an event of its kinds passes its filters."""
        if self._source is not None and event.source != self._source:
            return False
        if self._pages is not None and self._pages.isdisjoint((page.id, page.generation) for page in event.pages):
            return False
        return self._where is None or bool(self._where(event))

    def __repr__(self) -> str:
        state = "" if self.active else ", cancelled"
        return f"Subscription({', '.join(map(str, self.kinds))} -> {_name(self.handler)}{state})"


class Delivery:
    """A queue between commits and handlers. Both run in the same thread, so nothing here can wait for itself.

    What a handler does to the bus happens at once; what it leads to is told when the events before have been.
    """

    def __init__(self) -> None:
        self.delivered = self.failures = 0
        self._subscriptions: dict[str, list[Subscription]] = {}
        self._queue: deque[tuple[Event, Subscription]] = deque()
        self._depth = 0
        self._draining = False

    def add(self, subscription: Subscription) -> None:
        """From the next event on."""
        for kind in subscription.kinds:
            there = [each for each in self._subscriptions.get(kind, ()) if each.active]
            self._subscriptions[kind] = [*there, subscription]

    def holds(self, subscription: Subscription) -> bool:
        """Whether it was added here."""
        return any(subscription in each for each in self._subscriptions.values())

    def wanted(self, *kinds: str) -> bool:
        """Whether anybody is told of any of these; if not, there is no need to make the event."""
        return any(each.active for kind in kinds for each in self._subscriptions.get(kind, ()))

    def put(self, event: Event) -> None:
        """Tell those who are subscribed now, as soon as no call is under way."""
        self._queue.extend((event, each) for each in self._subscriptions.get(event.kind, ()) if each.active)

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """A call is under way: events wait for its end, however it ends."""
        self._depth += 1
        try:
            yield
        finally:
            self._depth -= 1
            if not self._depth and self._queue and not self._draining:
                self._drain()

    def _drain(self) -> None:
        self._draining = True
        refused: Warning | None = None
        try:
            while self._queue:
                event, subscription = self._queue.popleft()
                refused = self._hand(event, subscription) or refused
        finally:
            self._draining = False
        if refused is not None:  # whoever turns warnings into errors gets one, once all others have been told
            raise refused

    def _hand(self, event: Event, subscription: Subscription) -> Warning | None:
        try:
            if subscription.active and subscription.wants(event):
                self.delivered += 1
                subscription.handler(event)
        except Exception as why:
            self.failures += 1
            try:
                warnings.warn(_report(event, subscription, why, self.failures), HandlerFailedWarning, stacklevel=2)
            except HandlerFailedWarning as refused:
                return refused
        return None


def _report(event: Event, subscription: Subscription, why: Exception, count: int) -> str:
    last = traceback.extract_tb(why.__traceback__)[-1]
    return (
        f"handler {_name(subscription.handler)} failed on {event!r}: {type(why).__name__}: {why} ({last.filename}, "
        f"line {last.lineno}, in {last.name}). The commit stands, the other handlers are told, and this one goes on "
        f"being told: mend it, or cancel its subscription. Failure {count} on this bus"
    )


def _name(handler: Any) -> str:
    return str(getattr(handler, "__qualname__", None) or type(handler).__qualname__)
