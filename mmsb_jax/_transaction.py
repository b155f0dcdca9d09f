"""Transactions: contents of several pages, read and written as if nothing else happened, and committed as one.

    touch a page ──▶ nothing that was touched before has changed since?   no ──▶ TransactionConflictError
    write            kept here; the bus knows nothing of it
    commit       ──▶ the same question once more, then one frame of the log

So whatever a transaction reads is what the bus holds at the moment of its last first touch, and at its commit: the
committed ones have the outcome of running one after the other, in the order of their commits (serialisable). That is
optimistic concurrency control after Kung and Robinson, "On optimistic methods for concurrency control" (ACM TODS 6(2),
1981), whose check at the end is also made at each page, as in Riegel, Felber and Fetzer, "A lazy snapshot algorithm
with eager validation" (DISC 2006): a transaction that is bound to fail never sees pages that weren't there at one time.
"""

from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from ._arguments import as_bytes, as_view_dtype
from ._catalog import Page
from ._errors import NotInTransactionError, PageNotFoundError, TransactionConflictError, TransactionOverError
from ._pages import Pages

__all__ = ["Transaction"]


class Transaction:
    """Reads and writes of several pages that are committed together or not at all. Made by `Bus.transaction`.

    ```python
    >>> import mmsb_jax as mmsb, numpy as np
    >>> with mmsb.start() as bus:
    ...     page = bus.create_page(4, name="count")
    ...     tx = bus.transaction()
    ...     tx.update_page(page, np.int32(tx.query_page(page, dtype=np.int32)[0] + 1))
    ...     print(tx)
    ...     tick = tx.commit()
    ...     print(tx)
    Transaction(open: 1 page touched, 1 written)
    Transaction(over: it was committed at tick 1)

    ```
    """

    def __init__(self, bus: Pages, source: str, intent: str | None, propagate: bool) -> None:
        self._bus = bus
        self._source, self._intent, self._propagate = source, intent, propagate
        self._touched: dict[int, Page] = {}
        self._view: dict[int, np.ndarray] = {}  # uint8[size], by first id
        self._written: dict[Page, np.ndarray] = {}
        self._ids: set[int] = set()
        self._lost: set[int] = set()  # of these, what others have changed
        self._over: str | None = None
        bus._watch.transactions.add(self)

    def query_page(self, page: Page | int | str | Any, *, dtype: Any = np.uint8) -> np.ndarray:
        """What a page holds for this transaction: what it wrote last itself, or else what the bus holds.

        As `Bus.query_page`, but a stale page isn't recomputed, since that would be a commit.

        **Raises:** as `Bus.query_page` does, `TransactionConflictError`, and `TransactionOverError`.
        """
        found = self._find(page)
        wanted = as_view_dtype(dtype, found.size, found)
        self._touch(found)
        if found.id not in self._view:
            self._view[found.id] = self._bus._bytes_of(found)
        return self._view[found.id].view(wanted).copy()

    def update_page(self, page: Page | int | str | Any, data: Any) -> None:
        """Give a page new contents, for this transaction at once and for others when it is committed.

        **Arguments:** `data` as in `Bus.update_page`. Who and why was said to `Bus.transaction`.

        **Raises:** as `Bus.update_page` does, `TransactionConflictError`, and `TransactionOverError`.
        """
        found = self._find(page)
        raw = as_bytes(data, found.size, found).copy()
        self._touch(found)
        self._view[found.id] = self._written[self._touched[found.id]] = raw

    def commit(self) -> int | None:
        """Let all that was written become part of the bus, as one commit.

        **Returns:** its tick, or None when nothing differed.

        **Raises:** `TransactionConflictError` when others have committed to pages that this transaction read or wrote;
        whatever else a commit raises. In either case the transaction is rolled back.
        """
        self._check_open()
        self._refuse_conflict()
        self._bus._watch.transactions.discard(self)
        tick = None
        with self._bus._watch.delivery.held():  # handlers find it committed
            try:
                if self._written:
                    tick = self._bus._write(self._written, self._source, self._intent, propagate=self._propagate)
            except BaseException as why:
                self._end(f"it was rolled back, since its commit failed ({type(why).__name__})")
                raise
            self._end("it was committed, and nothing differed" if tick is None else f"it was committed at tick {tick}")
        return tick

    def rollback(self) -> None:
        """Forget all that was written. Does nothing when it was rolled back before.

        **Raises:** `TransactionOverError` when it was committed.
        """
        if self._over is None:
            self._end("it was rolled back")
        elif self._over.startswith("it was committed"):
            self._check_open()

    def outdated(self, ids: np.ndarray) -> None:
        """Called by the bus when somebody else has changed these fixed-size pages."""
        self._lost.update(self._ids.intersection(ids.tolist()))

    def __enter__(self) -> "Transaction":
        self._check_open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._over is not None:
            return
        if kind is None:
            self.commit()
        else:
            self.rollback()

    if not TYPE_CHECKING:  # checkers know what there is

        def __getattr__(self, name: str) -> Any:
            if name.startswith("_") or not hasattr(type(self._bus), name):
                raise AttributeError(f"a transaction has no attribute {name!r}")
            raise NotInTransactionError(
                f"{name} isn't possible inside a transaction, which holds contents alone: query_page and update_page. "
                f"Call bus.{name} before it or after it; on the bus it is a commit of its own"
            )

    def __repr__(self) -> str:
        if self._over is not None:
            return f"Transaction(over: {self._over})"
        pages = f"{len(self._touched)} page{'s'[: len(self._touched) != 1]} touched"
        return f"Transaction(open: {pages}, {len(self._written)} written)"

    def _find(self, page: Any) -> Page:
        self._check_open()
        try:
            return self._bus._catalog.resolve(page)
        except PageNotFoundError:
            self._refuse_conflict()  # it may be one of those that were deleted meanwhile
            raise

    def _touch(self, page: Page) -> None:
        known = self._touched.get(page.id)
        if known is None or known.generation != page.generation:
            self._refuse_conflict()
            self._touched[page.id] = page
            self._ids.update(page.ids.tolist())

    def _refuse_conflict(self) -> None:
        if self._lost:
            pages = tuple(page for page in self._touched.values() if not self._lost.isdisjoint(page.ids.tolist()))
            self._end("it was rolled back, after a conflict")
            raise TransactionConflictError(
                f"others have committed to {', '.join(map(repr, pages))} since this transaction read or wrote that; "
                "nothing of it is kept: begin anew with what the bus holds now",
                pages,
            )

    def _end(self, why: str) -> None:
        self._over = self._over or why
        self._written.clear()
        self._view.clear()
        self._bus._watch.transactions.discard(self)

    def _check_open(self) -> None:
        self._bus._check_open()
        if self._over is not None:
            raise TransactionOverError(f"this transaction is over: {self._over}. Begin another with bus.transaction()")
