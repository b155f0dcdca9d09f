"""How a bus commits: compute, append to the log, adopt; and what becomes of it when that fails half-way."""

import contextlib
import dataclasses
import functools
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Concatenate, ParamSpec, TypeVar

import numpy as np

from ._arguments import as_text
from ._catalog import Catalog
from ._engine import Engine, Step
from ._errors import BusClosedError, CapacityError, LogFailedError
from ._watch import Watch
from .page import (
    BackgroundCheckpointer,
    CheckpointInfo,
    Snapshot,
    Storage,
    TransactionLog,
    newest_checkpoint,
    replay_log,
    snapshot_of,
)
from .propagation import Rule, RuleGraph, WaveReport
from .utility import Counters

__all__ = ["Session", "operation"]

# Reopening reads a checkpoint and what was logged since: at most so many times the state, or so many bytes.
_TAIL_STATES, _TAIL_BYTES = 8, 64 << 20


_P = ParamSpec("_P")
_R = TypeVar("_R")


def operation(method: Callable[Concatenate[Any, _P], _R]) -> Callable[Concatenate[Any, _P], _R]:
    """A call that may commit: refused on a closed bus; subscribers are told of its commits when it has ended."""

    @functools.wraps(method)
    def call(self: Any, *args: _P.args, **kwargs: _P.kwargs) -> _R:
        self._check_open()
        with self._watch.delivery.held():
            return method(self, *args, **kwargs)

    return call


class Session:
    """The inner side of a bus: its parts, and the one way in which they change together."""

    def __init__(self, log: TransactionLog, engine: Engine, catalog: Catalog) -> None:
        self._log = log
        self._engine = engine
        self._catalog = catalog
        self._rules: list[Rule] = []
        self._plan: RuleGraph | None = None
        self._pending: set[int] = set()
        self._closed: str | None = None
        self._counters = Counters()
        self._watch = Watch(log, catalog)
        self._checkpointer: BackgroundCheckpointer | None = None
        self._checkpointed_at = 0  # of the bytes that this session has logged

    @property
    def tick(self) -> int:
        """The number of the last commit of contents; 0 before the first."""
        return self._log.tick

    def source_id(self, name: str | Any) -> int:
        """The number that stands for a source's name in `DeltaBatch.source`; a new name enters the log's table.

        **Raises:** `InvalidTypeError` and `InvalidArgumentError` for what isn't text.
        """
        self._check_open()
        name = as_text("source", name)
        with self._guarded():
            return self._log.name_id(name)

    def _wave(self, dirty: np.ndarray, intent: str | None, *, asked: np.ndarray | None = None) -> WaveReport:
        """A wave from some pages; those that somebody `asked` for are stale no longer, nor is what they need."""
        stale = self._stale_above(dirty[:0] if asked is None else asked)
        dirty = np.union1d(dirty, stale).astype(np.int32)
        plan = self._rule_graph()
        if plan is None or not len(dirty):
            return WaveReport.nothing()
        now, source = self.tick, self.source_id("propagation")
        with self._guarded():
            start = time.perf_counter()
            step = self._engine.wave(plan, dirty, source)
            changed, seconds = int(step.report.changed), time.perf_counter() - start
            if changed:
                self._commit(step, source, intent, waved=True, refreshed=stale)
            else:
                self._engine.adopt_unchanged(step, now)
                self._watch.effects.stale[stale] = False
        self._counters.waved(step.report)
        self._after_wave(step.report, seconds)
        return step.report

    def _after_wave(self, report: WaveReport, seconds: float) -> None:
        """A wave is committed, and took so long."""

    def _stale_above(self, ids: np.ndarray) -> np.ndarray:
        """The stale pages that these need, themselves among them; only a rule makes a page fresh."""
        found = self._watch.effects.stale_above(self._catalog.edges, ids[self._watch.ruled[ids]])
        return found[self._watch.ruled[found]]

    def _sync(self, ids: np.ndarray) -> None:
        """Bring pages to where they are computed with. Raises `CapacityError`, and then nothing has moved."""
        unified = [page.ids for page in self._catalog.owners(ids) if page.location == "unified"]
        with self._guarded():
            if unified:
                self._engine.prefetch(np.intersect1d(ids, np.concatenate(unified)))
            self._watch.synced(ids)

    def _sync_what_fits(self) -> None:
        """What a wave does about scheduled transfers; what there is no room for stays scheduled."""
        ids = np.flatnonzero(self._watch.effects.unsynced).astype(np.int32)
        if len(ids):
            with contextlib.suppress(CapacityError):  # which `sync_pages` raises
                self._sync(ids)

    def _rule_graph(self) -> RuleGraph | None:
        if self._plan is None and self._rules:
            self._plan = self._laid_out(self._rules)
        return self._plan

    def _laid_out(self, rules: Sequence[Rule]) -> RuleGraph:
        table = None if self._engine.residency is not None else self._catalog.table
        plan = RuleGraph.of(self._catalog.graph, rules, slot_of_page=table)
        return plan.rounded()  # or each change of the graph would compile anew

    def _commit(
        self,
        step: Step,
        source: int,
        intent: str | None,
        *,
        waved: bool = False,
        refreshed: np.ndarray | None = None,
    ) -> None:
        changes = self._engine.changes(step, source, before=lambda: replay_log(self._log.place).pages)
        self._log.append_changes(self.tick + 1, changes, digest=self._engine.lanes(step.digest), intent=intent)
        self._engine.adopt(step)
        self._counters.committed(changes)
        self._watch.committed(changes, intent, waved=waved, refreshed=refreshed)
        tail = max(_TAIL_BYTES, _TAIL_STATES * 4 * self._engine.num_pages * self._engine.page_words)
        if self._log.bytes_written - self._checkpointed_at >= tail and not isinstance(self._log.place, Storage):
            self._submit_checkpoint()

    def checkpoint(self) -> CheckpointInfo:
        """Write a checkpoint of the present state into the run, so that opening it again needs no log before it.

        It shares with the one before what hasn't changed since. Large logs get checkpoints by themselves, in the
        background. Returns when it is on the device.

        **Raises:** `CheckpointFailedError`, after which log and state are as they were.

        ```python
        >>> import mmsb_jax as mmsb, numpy as np
        >>> with mmsb.start(page_bytes=16, capacity=4) as bus:
        ...     _ = bus.update_page(bus.create_page(4), np.float32(7))
        ...     bus.checkpoint().tick
        1

        ```
        """
        self._check_open()
        checkpointer = self._submit_checkpoint()
        done = checkpointer.wait()
        assert done is not None
        return done

    def _submit_checkpoint(self) -> BackgroundCheckpointer:
        self._log.sync()
        if self._checkpointer is None:
            found = newest_checkpoint(self._log.place).checkpoint
            self._checkpointer = BackgroundCheckpointer(self._log.place, base=found.info if found else None)
        self._checkpointer.submit(self._snapshot())
        self._checkpointed_at = self._log.bytes_written
        return self._checkpointer

    def _snapshot(self) -> Snapshot:
        found = snapshot_of(
            self._engine.snapshot(on_host=True),
            self._log.sequence,
            digest=self._engine.lanes(),
            names=self._log.names,
            records=self._catalog.records(),
            edges=self._catalog.edges,
        )
        return dataclasses.replace(found, slot_of_page=self._catalog.table)  # of a bus with pages elsewhere, too

    def _close(self) -> None:
        """Wait for a checkpoint that is being written, and close the log, whatever becomes of that."""
        try:
            if self._checkpointer is not None:
                self._checkpointer.close()
        finally:
            self._log.close()

    @contextlib.contextmanager
    def _guarded(self) -> Iterator[None]:
        """Close the bus when its log fails, or when a commit ends half-way: then memory and log may differ."""
        try:
            yield
        except BaseException as error:
            if self._engine.lost or isinstance(error, LogFailedError) or not isinstance(error, Exception):
                self._closed = f"a commit failed ({type(error).__name__}: {error})"
            raise

    def _check_open(self) -> None:
        if self._closed is not None:
            raise BusClosedError(
                f"this bus is closed: {self._closed}. Open the run again with mmsb.start(path); "
                "every commit that was acknowledged is there"
            )
