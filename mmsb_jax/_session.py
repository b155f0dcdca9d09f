"""How a bus commits: compute, append to the log, adopt; and what becomes of it when that fails half-way."""

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from ._arguments import as_text
from ._catalog import Catalog
from ._engine import Engine, Step
from ._errors import BusClosedError, LogFailedError
from .page import TransactionLog, replay_log
from .physical import State
from .propagation import Rule, RuleGraph, WaveReport
from .utility import Counters

__all__ = ["Session"]


class Session:
    """The inner side of a bus: its parts, and the one way in which they change together."""

    def __init__(self, log: TransactionLog, state: State, catalog: Catalog) -> None:
        self._log = log
        self._engine = Engine(state)
        self._catalog = catalog
        self._rules: list[Rule] = []
        self._plan: RuleGraph | None = None
        self._pending: set[int] = set()
        self._closed: str | None = None
        self._counters = Counters()

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

    def _wave(self, dirty: np.ndarray, intent: str | None) -> WaveReport:
        plan = self._rule_graph()
        if plan is None or not len(dirty):
            return WaveReport.nothing()
        now, source = self.tick, self.source_id("propagation")
        with self._guarded():
            step = self._engine.wave(plan, dirty, source)
            if int(step.report.changed):
                self._commit(step, source, intent)
            else:
                self._engine.adopt_unchanged(step, now)
        self._counters.waved(step.report)
        return step.report

    def _rule_graph(self) -> RuleGraph | None:
        if self._plan is None and self._rules:
            self._plan = RuleGraph.of(self._catalog.graph, self._rules)
        return self._plan

    def _commit(self, step: Step, source: int, intent: str | None) -> None:
        changes = self._engine.changes(step, source, before=lambda: replay_log(self._log.place).pages)
        self._log.append_changes(self.tick + 1, changes, digest=self._engine.lanes(step.digest), intent=intent)
        self._engine.adopt(step)
        self._counters.committed(changes)

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
