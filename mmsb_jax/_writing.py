"""How contents change: one page, a batch, several pages together, and the waves that follow."""

import time
from typing import Any, Literal

import numpy as np

from ._arguments import as_intent, as_text, check_batch
from ._catalog import Page
from ._errors import InvalidArgumentError, InvalidTypeError
from ._reactions import Reactions
from ._session import operation
from ._transaction import Transaction
from .page import DeltaBatch
from .propagation import WaveReport

__all__ = ["Writing"]


class Writing(Reactions):
    """What a bus does with the contents of its pages."""

    @operation
    def update_page(
        self, page: Page | int | str | Any, data: Any, *, source: str | Any = "api", intent: str | Any | None = None
    ) -> int | None:
        """Give a page new contents. Only the words that differ are logged, as one commit.

        What depends on it is brought up to date by the next `propagate`.

        **Arguments:**

        - `data`: bytes, or an array of any fixed-size dtype; exactly `page.size` bytes.
        - `source`, `intent`: who, and why; kept in the log.

        **Returns:** the tick of the commit, or None when nothing differed.

        **Raises:** `PageNotFoundError`, `InvalidTypeError`, `InvalidDeltaError` when the number of bytes is wrong.
        """
        found = self._catalog.resolve(page)
        return self._write({found: data}, source, as_intent(intent))

    @operation
    def propagate(
        self,
        pages: Any = None,
        mode: Literal["immediate", "deferred", "batch"] | Any = "immediate",
        *,
        intent: str | Any | None = None,
    ) -> WaveReport | None:
        """Let changes spread along DATA dependencies: recompute, parents first, each affected page once.

        A wave also carries out the transfers that DEVICE_SYNC dependencies have scheduled, if the device has room.

        **Arguments:**

        - `pages`: where it begins; None: at all pages updated since the last wave, and those with new rules or edges.
          Of those named, what is stale is recomputed first, with the stale pages that it needs.
        - `mode`: `"immediate"`: now, from `pages` alone; `"deferred"`: remember `pages` for a later wave;
          `"batch"`: now, from `pages` and everything remembered.

        **Returns:** what the wave did, or None when it was deferred. What changed is one commit.

        **Raises:** `PageNotFoundError`, `InvalidTypeError`, `InvalidArgumentError`.
        """
        if mode not in ("immediate", "deferred", "batch"):
            raise InvalidArgumentError(f"got mode={mode!r}; it is 'immediate', 'deferred' or 'batch'")
        intent = as_intent(intent)
        named = np.zeros(0, np.int32) if pages is None else self._catalog.ids(pages)
        chosen = set(named.tolist())
        if mode == "deferred":
            self._pending |= chosen
            return None
        if pages is None or mode == "batch":
            chosen |= self._pending
        self._sync_what_fits()
        report = self._wave(np.array(sorted(chosen), np.int32), intent, asked=named)
        self._pending -= chosen
        return report

    @operation
    def batch(self, page: Any, words: Any, *, mask: Any = None, source: str | Any = "api") -> DeltaBatch:
        """Deltas for `apply`: rows of new words for pages, by id. `DeltaBatch.make` says what fits.

        **Arguments:** `page`, a `Page` or ids of fixed-size pages; the id `capacity` marks an empty row.

        **Raises:** as `DeltaBatch.make` does, and `PageNotFoundError` for a page that isn't alive.
        """
        deltas = self._engine.make_batch(getattr(page, "ids", page), words, mask)
        real = deltas.page[np.asarray(deltas.page) < self._engine.num_pages]
        self._catalog.ids(real)
        return self._engine.signed(deltas, self.source_id(source))

    @operation
    def apply(self, deltas: DeltaBatch | Any, *, intent: str | Any | None = None) -> WaveReport:
        """One tick: apply a batch of deltas and let it propagate, in one jitted call and one commit.

        Time passes, and a commit is made, also when nothing changes. Pages updated before are propagated first.

        **Arguments:**

        - `deltas`: as `batch` makes them; sources are numbers from `source_id`. Keep the number of rows the same from
          tick to tick (pad with empty rows), so that nothing is compiled twice.

        **Raises:** `InvalidDeltaError` when a row names a page or a source that isn't there, the pages have another
        size, or the batch is incomplete (`deltas.dropped`).
        """
        check_batch(
            deltas,
            alive=self._catalog.allocator,
            page_words=self._engine.page_words,
            names=len(self._log.names),
        )
        intent = as_intent(intent)
        if self._pending:
            self.propagate()
        self._sync_what_fits()
        source = self.source_id("propagation")
        with self._guarded():
            plan, start = self._rule_graph(), time.perf_counter()
            step = self._engine.tick(plan, deltas, source)
            seconds = time.perf_counter() - start  # `tick` waits for what it learns
            self._commit(step, source, intent, waved=True)
        self._counters.waved(step.report)
        if plan is not None:
            self._after_wave(step.report, seconds)
        return step.report

    def transaction(
        self, *, intent: str | Any | None = None, source: str | Any = "api", propagate: bool | Any = False
    ) -> Transaction:
        """Begin a transaction: reads and writes of several pages that are committed together or not at all.

        In a `with` statement it is committed at the end, and rolled back when an exception leaves the block; otherwise
        by `commit` and `rollback`. Several may be open at once, and the bus may be used beside them; whoever comes
        second to a page that a transaction has read or written is refused: its commit at the latest raises
        `TransactionConflictError`.

        **Arguments:**

        - `intent`, `source`: why, and who; kept in the log.
        - `propagate`: whether the wave from what was written is part of the commit; otherwise `propagate` comes later.

        **Raises:** `InvalidTypeError`, `InvalidArgumentError`, `BusClosedError`.

        ```python
        >>> import mmsb_jax as mmsb, numpy as np
        >>> with mmsb.start() as bus:
        ...     here, there = (bus.create_page(4, name=name) for name in ("here", "there"))
        ...     _ = bus.update_page(here, np.int32(5))
        ...     with bus.transaction(intent="move one") as tx:
        ...         for page, by in ((here, -1), (there, 1)):
        ...             tx.update_page(page, np.int32(tx.query_page(page, dtype=np.int32)[0] + by))
        ...     bus.tick, bus.query_page(here, dtype=np.int32), bus.query_page(there, dtype=np.int32)
        (2, array([4], dtype=int32), array([1], dtype=int32))

        ```
        """
        self._check_open()
        if not isinstance(propagate, bool):
            raise InvalidTypeError(
                f"got propagate={propagate!r} of type {type(propagate).__name__}; pass True or False"
            )
        return Transaction(self, as_text("source", source), as_intent(intent), propagate)
