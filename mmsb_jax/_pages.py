"""The pages of a bus: making, copying, resizing and deleting them, and where they live."""

import time
from collections.abc import Mapping, Sequence
from typing import Any, Literal, overload

import numpy as np

from ._arguments import as_bytes, as_intent
from ._catalog import Page, check_location
from ._session import Session, operation
from .page import PageRecord

__all__ = ["Pages"]

Location = Literal["device", "host", "unified"]


class Pages(Session):
    """What a bus does with its pages."""

    @operation
    def create_page(
        self,
        size: int | Any,
        *,
        location: Location | Any = "device",
        name: str | Any | None = None,
        metadata: Mapping[str, Any] | Any | None = None,
        exist_ok: bool = False,
    ) -> Page:
        """Make a zeroed page of `size` bytes; a large one takes several fixed-size pages.

        **Arguments:**

        - `location`: where it lives. `"device"`: on the device, always. `"unified"`: in host memory, and on the device
          while it is needed there: a wave brings in what it can touch, in one transfer, and what was used longest ago
          makes room. `"host"`: in host memory, where it can be read and written, and no rule computes with it.
          `Page.placement` says which memory that is on this backend.
        - `name`: a handle for people; unique on this bus.
        - `metadata`: anything that JSON can carry; kept in the log.
        - `exist_ok`: whether a page of this name and size that is there already will do.

        **Raises:** `InvalidArgumentError` for a size below 1, a name in use, or metadata that JSON can't carry;
        `InvalidTypeError`; `CapacityError` when the bus, or the device, is full.
        """
        if exist_ok and (found := self._catalog.existing(name, size)):
            return found
        record = self._catalog.allocate(size, name, location, metadata)
        with self._guarded():
            placement = self._engine.place(record.pages, record.location)
            self._log.append_pages(self.tick, [record], digest=self._engine.lanes())
            page = self._catalog.enter(record, placement)
        self._watch.created(page)
        return page

    @operation
    def delete_page(self, page: Page | int | str | Any) -> None:
        """Zero a page and give its ids back.

        **Raises:** `PageNotFoundError`; `InvalidArgumentError` while a dependency or a rule needs the page.
        """
        found = self._catalog.resolve(page)
        self._catalog.check_unused(found, self._rules)
        record = PageRecord("delete", found.ids, found.size, found.name, found.location, found.metadata)
        with self._guarded():
            self._erase(found.ids, [record])
            self._catalog.remove(found)
        self._watch.deleted(found)

    @operation
    def clone_page(
        self,
        page: Page | int | str | Any,
        *,
        name: str | Any | None = None,
        location: Location | Any | None = None,
        metadata: Mapping[str, Any] | Any | None = None,
        intent: str | Any | None = None,
    ) -> Page:
        """A new page with the size and contents of another; its location and metadata too, unless others are given.

        Dependencies and rules aren't copied. That is two commits, the page and its contents (by source `"clone"`).

        **Raises:** as `create_page`, and `PageNotFoundError`.

        ```python
        >>> import mmsb_jax as mmsb, numpy as np
        >>> with mmsb.start(page_bytes=16) as bus:
        ...     _ = bus.update_page(bus.create_page(8, name="wind"), np.float32([1, 2]))
        ...     copy = bus.clone_page("wind", name="wind before")
        ...     bus.query_page(copy, dtype=np.float32)
        array([1., 2.], dtype=float32)

        ```
        """
        found, intent = self._catalog.resolve(page), as_intent(intent)
        new = self.create_page(
            found.size,
            location=found.location if location is None else location,
            name=name,
            metadata=found.metadata if metadata is None else metadata,
        )
        self._write({new: self._bytes_of(found)}, "clone", intent)
        return new

    @operation
    def resize_page(self, page: Page | int | str | Any, size: int | Any) -> Page:
        """Give a page another size: a larger one ends in zeros, a smaller one loses its end.

        The fixed-size pages that stay keep their ids, and with them dependencies and rules.

        **Returns:** the handle with the new size and ids; the old one means the same page.

        **Raises:** `PageNotFoundError`; `InvalidArgumentError` for a size below 1, or while a dependency or a rule
        needs what would be lost; `CapacityError` when there is no room.

        ```python
        >>> import mmsb_jax as mmsb, numpy as np
        >>> with mmsb.start(page_bytes=8) as bus:
        ...     page = bus.create_page(8)
        ...     _ = bus.update_page(page, np.float32([1, 2]))
        ...     page = bus.resize_page(page, 12)
        ...     page.ids.tolist(), bus.query_page(page, dtype=np.float32).tolist()
        ([0, 1], [1.0, 2.0, 0.0])

        ```
        """
        found = self._catalog.resolve(page)
        record = self._catalog.altered(found, size=size)
        kept = len(record.pages)
        lost, added = found.ids[kept:], record.pages[len(found.ids) :]
        if record.size < found.size:
            self._catalog.check_unused(found, self._rules, lost)
            rest = self._bytes_of(found)
            rest[record.size : kept * self._catalog.page_bytes] = 0
            self._write({found: rest}, "resize", None)
        with self._guarded():
            if len(lost):
                self._erase(lost, [record, PageRecord("delete", lost)])
                self._catalog.release(lost)
            else:
                self._engine.place(added, found.location)
                self._log.append_pages(self.tick, [record], digest=self._engine.lanes())
            page = self._catalog.alter(found, record, found.placement)
        self._watch.resized(page, found)
        return page

    @overload
    def migrate_page(self, page: Page | int | str, location: Location) -> Page: ...
    @overload
    def migrate_page(self, page: Sequence[Page | int] | list[str], location: Location) -> list[Page]: ...
    def migrate_page(self, page: Any, location: Any) -> Any:
        """Let a page live elsewhere from now on, or many pages, in one transfer. Contents and digest stay as they are.

        **Arguments:**

        - `page`: a page, its first id, or its name; or a list of these.
        - `location`: as in `create_page`. The log remembers it, and replay doesn't depend on it.

        **Returns:** the new handle, or a list of them.

        **Raises:** `PageNotFoundError`; `InvalidArgumentError` for another location; `CapacityError` when the device
        has no room.

        ```python
        >>> import mmsb_jax as mmsb
        >>> with mmsb.start() as bus:
        ...     pages = [bus.create_page(100), bus.create_page(2000)]
        ...     [page.location for page in bus.migrate_page(pages, "unified")]
        ['unified', 'unified']

        ```
        """
        self._check_open()
        check_location(location)
        many = isinstance(page, Sequence) and not isinstance(page, str)
        found = [self._catalog.resolve(one) for one in (page if many else [page])]
        if moving := list(dict.fromkeys(one for one in found if one.location != location)):
            records = [self._catalog.altered(one, location=location) for one in moving]
            with self._guarded():
                placement = self._engine.place(np.concatenate([one.ids for one in moving]), location)
                self._log.append_pages(self.tick, records, digest=self._engine.lanes())
                for one, record in zip(moving, records, strict=True):
                    self._catalog.alter(one, record, placement)
        handles = [self._catalog.resolve(one) for one in found]
        return handles if many else handles[0]

    @operation
    def prefetch(self, pages: Any) -> None:
        """Begin to bring unified pages to the device, in one transfer, before a step needs them. Returns at once.

        **Arguments:** `pages`: a page, an id, a name, or a list or array of them.

        **Raises:** `PageNotFoundError`; `InvalidArgumentError` for a page that lives in host memory alone;
        `CapacityError` when they are more than the device has room for.

        ```python
        >>> import mmsb_jax as mmsb
        >>> with mmsb.start() as bus:
        ...     page = bus.create_page(5000, location="unified")
        ...     bus.prefetch(page)
        ...     bus.stats().on_device >= 5
        True

        ```
        """
        ids = self._catalog.ids(pages)
        with self._guarded():
            self._engine.prefetch(ids)

    def _bytes_of(self, page: Page) -> np.ndarray:
        """uint8[size], new."""
        return self._engine.read(page.ids).reshape(-1).view(np.uint8)[: page.size].copy()

    @operation
    def _write(
        self, pages: Mapping[Page, Any], source: str, intent: str | None, *, propagate: bool = False
    ) -> int | None:
        """Give pages new contents, as one commit, with the wave that follows or without; None when nothing differed."""
        ids = np.concatenate([page.ids for page in pages])
        raw = _end_to_end([as_bytes(data, page.size, page) for page, data in pages.items()], self._catalog.page_bytes)
        plan = self._rule_graph() if propagate else None
        now, name = self.tick, self.source_id(source)
        wave = name if plan is None else self.source_id("propagation")
        with self._guarded():
            start = time.perf_counter()
            step = self._engine.tick(plan, self._engine.batch(ids, raw, name), wave)
            seconds = time.perf_counter() - start
            if not np.any(np.asarray(step.deltas.page) < self._engine.num_pages):
                self._engine.adopt_unchanged(step, now)
                return None
            self._commit(step, wave, intent, waved=propagate)
        if plan is not None:
            self._counters.waved(step.report)
            self._after_wave(step.report, seconds)
        if not propagate:
            self._pending.update(ids.tolist())
        return self.tick

    def _erase(self, ids: np.ndarray, records: Sequence[PageRecord]) -> None:
        """Zero pages that are nobody's from now on, as one commit."""
        step = self._engine.erase(ids)
        self._log.append_pages(self.tick + 1, records, digest=self._engine.lanes(step.digest))
        self._engine.adopt(step)
        self._engine.forget(ids)
        self._watch.erased(ids)
        self._pending.difference_update(ids.tolist())


def _end_to_end(parts: Sequence[np.ndarray], page_bytes: int) -> np.ndarray:
    """uint8: the bytes of pages, each beginning at a fixed-size page."""
    if len(parts) == 1:
        return parts[0]
    return np.concatenate([np.pad(part, (0, -len(part) % page_bytes)) for part in parts])
