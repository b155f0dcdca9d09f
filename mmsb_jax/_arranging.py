"""Where the pages of a bus lie: moved by hand, by an optimiser, or by the bus itself when that pays back."""

import dataclasses
import time
from typing import Any

import jax
import numpy as np

from ._arguments import as_intent
from ._engine import Engine
from ._errors import BusClosedError, InvalidArgumentError, InvalidTypeError, LogFailedError
from ._events import EventKind
from ._require import require_instance
from ._session import operation
from ._writing import Writing
from .adaptive import Decision, Layout, Policy, advise, optimize
from .adaptive._advise import look_seconds
from .graph import ShadowPageGraph
from .page import LayoutRecord
from .propagation import WaveReport

__all__ = ["Arranger", "Arranging"]

_LEAST_WAVES = 3


class Arranger:
    """What a bus knows of its waves, to tell when a look at its layout is due."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.decisions: list[Decision] = []
        self._price: float | None = None
        self.rewired()

    def rewired(self) -> None:
        """Other waves from now on."""
        self._price = None
        self._first: float | None = None
        self._waves, self._recomputed = 0, 0
        self._seconds = self._since_look = 0.0

    def waved(self, report: WaveReport, seconds: float) -> None:
        """A wave took so long. The first one was compiled, too."""
        if self._first is None:
            self._first = seconds
            return
        self._waves += 1
        self._recomputed += int(report.recomputed)
        self._seconds += seconds
        self._since_look += seconds

    def due(self, graph: ShadowPageGraph) -> bool:
        """Whether waves have taken long enough for a look to be worth its time."""
        if self.policy.mode == "off" or self._waves < _LEAST_WAVES:
            return False
        if self._price is None:
            self._price = look_seconds(graph)
        return self._since_look >= self.policy.patience * self._price

    def looked(self, decision: Decision) -> None:
        """Note what was decided; the next look is a longer time away."""
        self.decisions.append(decision)
        self._price = 2 * max(decision.seconds, self._price or 0.0)
        self._since_look = 0.0

    def moved(self) -> None:
        """The next wave is compiled for another layout."""
        self._first = None

    @property
    def horizon(self) -> int:
        """How many more waves are expected."""
        return self._waves if self.policy.horizon is None else self.policy.horizon

    def share(self, ruled: int) -> float:
        """What part of the pages with a rule a wave recomputes on average."""
        return min(1.0, self._recomputed / max(1, self._waves * ruled))

    @property
    def compiling(self) -> float:
        """About how many seconds it takes to compile a wave."""
        return max(0.0, (self._first or 0.0) - self._seconds / max(1, self._waves))


class Arranging(Writing):
    """What a bus does about the layout of its pages. Ids, contents, epochs and digest never change by it."""

    _arranger: Arranger
    _engine: Engine

    @property
    def layout(self) -> Layout:
        """In which slot each fixed-size page lies, as the log has it.

        While pages live in host memory, rows on the device come and go, and `state` shows pages in the order of ids.
        """
        self._check_open()
        return Layout(self._catalog.slot_of_page)

    @property
    def layout_decisions(self) -> tuple[Decision, ...]:
        """What was decided about the layout since the bus was started, and why, the oldest first."""
        return tuple(self._arranger.decisions)

    @operation
    def relayout(self, layout: Layout | Any, *, intent: str | Any | None = None) -> int:
        """Move pages to other slots: one commit, which says which rows moved, and `undo_layout` takes back.

        No tick passes, for nothing is written. Waves are laid out anew for it, and compiled again for the first layout
        other than that by ids.

        **Arguments:** `layout`: of `capacity` pages, such as `mmsb.layout.optimize(bus.graph).layout`; `intent`: why.

        **Returns:** how many rows moved; 0 when all lie there already, and then there is no commit.

        **Raises:** `InvalidTypeError`; `InvalidArgumentError` for a layout of another number of pages, or when pages
        live in host memory: their rows come and go.

        ```python
        >>> import mmsb_jax as mmsb
        >>> with mmsb.start(capacity=4) as bus:
        ...     moved = bus.relayout(mmsb.layout.Layout([1, 0, 2, 3]), intent="by hand")
        ...     *_, last = bus.frames()
        ...     print(moved, bus.state.slot_of_page, last)
        2 [1 0 2 3] Frame(2: LAYOUT, 2 rows, tick 0)

        ```
        """
        require_instance(layout, Layout, "mmsb.layout.optimize(…) finds one")
        if len(layout) != self._engine.num_pages:
            raise InvalidArgumentError(f"got a layout of {len(layout)} pages for a bus of {self._engine.num_pages}")
        moved = LayoutRecord.between(self._catalog.slot_of_page, layout.slot_of_page)
        return self._move(moved, as_intent(intent))

    @operation
    def undo_layout(self, *, intent: str | Any | None = None) -> int:
        """Take the last change of the layout back, exactly: a commit as well. Again, and the one before goes.

        What a checkpoint or a compaction has merged, when the run was opened again, counts as one change.

        **Returns:** how many rows moved. **Raises:** `InvalidArgumentError` when there is nothing to take back, and as
        `relayout`.

        ```python
        >>> import mmsb_jax as mmsb
        >>> with mmsb.start(capacity=4) as bus:
        ...     _ = bus.relayout(mmsb.layout.Layout([1, 0, 2, 3]))
        ...     bus.undo_layout(), bus.layout == mmsb.layout.Layout.identity(4)
        (2, True)

        ```
        """
        if not self._catalog.moves:
            raise InvalidArgumentError("there is no change of the layout to take back; each page lies by its id")
        return self._move(self._catalog.moves[-1].inverse(), as_intent(intent))

    @operation
    def optimize_layout(self, source: Any = None, *, objective: Any = "linear", **how: Any) -> Decision:
        """Have `mmsb.layout.optimize` find a layout, and move there if it is better than the present one.

        That is for an objective of your own; for faster waves alone see the policy `start(layout=…)`.

        **Arguments:** `source`: who is used with whom, for instance an `Observed`; None: the dependencies. The rest is
        for `mmsb.layout.optimize`.

        **Returns:** `Decision`, with the report. **Raises:** as `optimize` and `relayout` do.

        ```python
        >>> import mmsb_jax as mmsb, numpy as np
        >>> with mmsb.start(page_bytes=4, capacity=4) as bus:
        ...     a, b, c, d = (bus.create_page(4) for _ in range(4))
        ...     bus.add_dependency(a, d)
        ...     decision = bus.optimize_layout()
        ...     decision.applied, decision.reason, bus.layout.slot_of_page
        (True, 'linear cost 1 instead of 3 (rcm)', array([1, 3, 2, 0], dtype=int32))

        ```
        """
        start = time.perf_counter()
        self._require_at_home()
        if "present" in how:
            raise InvalidTypeError("got present=…; the present layout is that of the bus")
        self._tell(EventKind.OPTIMISATION_STARTED, None)
        used = self._catalog.graph if source is None else source
        try:
            found = optimize(used, objective=objective, present=self.layout, **how)
        except BaseException:
            self._tell(EventKind.OPTIMISATION_DONE, None)
            raise
        report = found.report
        better = report.best != "present"
        reason = (
            f"{report.objective} cost {report.cost:,.6g} instead of {report.costs['present']:,.6g} ({report.best})"
            if better
            else f"{report.objective} cost {report.cost:,.6g}, and nothing was found that is better"
        )
        if better:
            self.relayout(found.layout, intent=f"layout: {reason}")
        seconds = time.perf_counter() - start
        decision = Decision(better, reason, found.layout if better else None, None, report, seconds, self.tick, better)
        self._arranger.decisions.append(decision)
        self._tell(EventKind.OPTIMISATION_DONE, decision)
        return decision

    def _after_wave(self, report: WaveReport, seconds: float) -> None:
        """Look at the layout when the policy says so."""
        arranger = self._arranger
        arranger.waved(report, seconds)
        if not arranger.due(self._catalog.graph):
            return
        self._tell(EventKind.OPTIMISATION_STARTED, None)
        try:
            decision = self._advice()
            if decision.layout is not None and arranger.policy.mode == "auto":
                self.relayout(decision.layout, intent=f"layout: {decision.reason}")
                decision = dataclasses.replace(decision, applied=True)
        except (LogFailedError, BusClosedError):
            raise
        except Exception as why:  # the wave is committed: its caller isn't to suffer from a look
            decision = Decision(False, f"the look failed: {type(why).__name__}: {why}", tick=self.tick)
        arranger.looked(decision)
        self._tell(EventKind.OPTIMISATION_DONE, decision)

    def _advice(self) -> Decision:
        arranger = self._arranger
        if self._engine.residency is not None:
            return Decision(False, "pages live in host memory, and their rows come and go", tick=self.tick)
        ruled = sum(len(rule.pages) for rule in self._rules)
        found = advise(
            self._engine.present,
            self._catalog.graph,
            self._rules,
            waves=arranger.horizon,
            share=arranger.share(ruled),
            besides=arranger.compiling,
            policy=arranger.policy,
        )
        return dataclasses.replace(found, tick=self.tick)

    def _tell(self, kind: EventKind, decision: Decision | None) -> None:
        nothing = np.zeros(0, np.int32)
        self._watch.emitted(kind, nothing, (), source="layout", intent=None, data=decision)

    def _move(self, moved: LayoutRecord, intent: str | None) -> int:
        if not len(moved):
            return 0
        self._require_at_home()
        table = moved.of(self._catalog.slot_of_page)
        with self._guarded():
            state = jax.block_until_ready(self._engine.rearranged(table))  # not logged before it is there
            self._log.append_layout(self.tick, moved, digest=self._engine.lanes(), intent=intent)
            self._engine.adopt_layout(state)
            self._catalog.arrange(moved)
            self._plan = None
        self._arranger.moved()
        return len(moved)

    def _require_at_home(self) -> None:
        if self._engine.residency is not None:
            raise InvalidArgumentError(
                "pages of this bus live in host memory, or did, and rows come and go, so there is no layout to change; "
                "migrate_page(…, 'device'), stop the bus, and open the run again without device_pages"
            )
