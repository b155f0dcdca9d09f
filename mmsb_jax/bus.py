"""The session: the one place where state, graph, log and counters meet.

Every change takes the same way: look at the arguments, compute the next state, append one frame to the log, and only
then make that state the present one. So a bad call leaves everything as it was, and the log is never behind.
"""

import os
from collections.abc import Iterator
from types import TracebackType
from typing import Any

import numpy as np

from ._arguments import as_view_dtype, as_whole_number
from ._arranging import Arranger, Arranging
from ._catalog import Catalog, Page, check_weights
from ._engine import Engine
from ._opening import open_session
from ._session import operation
from .adaptive import Policy
from .adaptive._policy import as_policy
from .graph import EdgeKind, ShadowPageGraph
from .page import (
    Compacted,
    EdgeRecords,
    Frame,
    Run,
    SyncMode,
    TransactionLog,
    compact,
    open_run,
    read_frames,
    replay,
)
from .physical import State
from .propagation import Rule
from .utility import BusStats

__all__ = ["Bus", "start"]


def start(
    path: str | os.PathLike[str] | Any | None = None,
    *,
    page_bytes: int | Any | None = None,
    capacity: int | Any | None = None,
    device_pages: int | Any | None = None,
    sync: SyncMode | Any = "group",
    layout: Policy | str | Any = "off",
) -> "Bus":
    """Start a bus: a new run, or an existing one, which goes on where its log ends.

    **Arguments:**

    - `path`: the run's directory, made if missing. None: in memory, log and all.
    - `page_bytes`: size of the fixed-size pages, a multiple of 4; 1024 by default. An existing run knows its own.
    - `capacity`: how many pages there is room for; 16,384 by default. Likewise.
    - `device_pages`: how many of them may have a row on the device at a time; all by default. A property of this
      session, not of the run. With less, let pages live in host memory (`create_page(location="unified")`).
    - `sync`: when commits are safe from a power failure: `"commit"`: each at once; `"group"`: with the first commit
      after 50 ms or 8 MiB; `"none"`: when the bus stops. The death of the process loses no commit in any mode.
    - `layout`: whether the bus looks for a layout of its pages that makes waves faster: `"off"`; `"advise"`: it says
      what it would do in `layout_decisions`; `"auto"`: it does it, when that pays back. Or an `mmsb.layout.Policy`.

    **Returns:** a `Bus`, also a context manager.

    **Raises:** `LogLockedError` when another bus writes this run, `LogNotFoundError` when there is something at the
    path that is no run, `CorruptLogError` when the log is damaged,
    `ReplayDivergenceError` when replaying doesn't give the bits that were logged, `InvalidArgumentError` for sizes that
    can't be, or that aren't those of the existing run, `CapacityError` when its pages need more than `device_pages`.

    ```python
    >>> import mmsb_jax as mmsb, numpy as np
    >>> with mmsb.start() as bus:
    ...     page = bus.create_page(16, name="position")
    ...     _ = bus.update_page(page, np.array([1.5, 2.5, 0, 0], np.float32), intent="set up")
    ...     bus.query_page("position", dtype=np.float32)[:2]
    array([1.5, 2.5], dtype=float32)

    ```
    """
    policy = as_policy(layout)
    return Bus(*open_session(path, page_bytes, capacity, device_pages, sync), policy)


class Bus(Arranging):
    """A live state with its log, its graph and its rules. Made by `start`; not thread-safe.

    The functional core does the work; the bus adds names, time and durability.

    >>> import mmsb_jax as mmsb
    >>> mmsb.start()
    Bus(0 pages, 0 dependencies, tick 0)
    """

    def __init__(self, log: TransactionLog, engine: Engine, catalog: Catalog, policy: Policy | None = None) -> None:
        super().__init__(log, engine, catalog)
        self._arranger = Arranger(Policy("off") if policy is None else policy)

    # Looking at it.

    @property
    def state(self) -> State:
        """The present state: an immutable snapshot that stays valid whatever the bus does next."""
        self._check_open()
        return self._engine.snapshot()

    @property
    def graph(self) -> ShadowPageGraph:
        """The dependencies between pages."""
        return self._catalog.graph

    @property
    def pages(self) -> tuple[Page, ...]:
        """Handles of all live pages, by first id."""
        return tuple(self._catalog.pages[first] for first in sorted(self._catalog.pages))

    def digest(self) -> tuple[int, int]:
        """`mmsb.digest(bus.state)`, kept up to date as the state changes."""
        return self._engine.lanes()

    def page(self, page: Page | int | str | Any) -> Page:
        """The handle for a name or a first id. Raises `PageNotFoundError`."""
        return self._catalog.resolve(page)

    @operation
    def query_page(self, page: Page | int | str | Any, *, dtype: Any = np.uint8) -> np.ndarray:
        """What a page holds now, as a new array: its bytes, or with `dtype` seen as another type, one-dimensional.

        A page with a rule that is `stale` is recomputed first, with the stale pages that it needs; what changes is a
        commit.

        **Raises:** `PageNotFoundError`; `InvalidArgumentError` when the size isn't a multiple of the dtype's;
        `InvalidTypeError` for what is no dtype of fixed size; for a stale page what `propagate` raises.
        """
        found = self._catalog.resolve(page)
        wanted = as_view_dtype(dtype, found.size, found)
        if self._watch.effects.stale[found.ids].any():
            self._wave(found.ids[:0], None, asked=found.ids)
        return self._bytes_of(found).view(wanted)

    def stats(self) -> BusStats:
        """Counts since this bus was started, and sizes as they are now."""
        ids = self._catalog.allocator.stats()
        return self._counters.snapshot(
            tick=self.tick,
            pages=ids.live,
            capacity=ids.capacity,
            ids_high_water=ids.high_water,
            ids_reused=ids.reused,
            fragmentation=ids.fragmentation,
            **self._engine.memory(self._catalog.allocator.living()),
            fallbacks=self._catalog.fallbacks(),
            page_bytes=self._catalog.page_bytes,
            edges=self._catalog.graph.num_edges,
            log_bytes=self._log.bytes_written,
            log_frames=self._log.sequence + 1,
            events=self._watch.delivery.delivered,
            handler_failures=self._watch.delivery.failures,
        )

    def replay(self, tick: int | Any | None = None) -> State:
        """The state at an earlier tick, or now, from the log; also for a bus in memory. See `mmsb.replay`."""
        self._check_open()
        return replay(self._log.place, tick=tick)

    def history(self) -> Run:
        """The past of this bus up to now, also for a bus in memory: any moment, what changed, who did it."""
        self._check_open()
        return open_run(self._log.place)

    def frames(self, start: int = 0) -> Iterator[Frame]:
        """What the log holds, frame by frame, from a sequence number on. See `mmsb.page.read_frames` for an example."""
        self._check_open()
        return read_frames(self._log.place, start=start)

    # Dependencies and rules.

    @operation
    def add_dependency(self, parent: Any, child: Any, kind: Any = "data", weight: Any = None) -> None:
        """Say that `child` depends on `parent`. Both may be pages, ids, names, or arrays of ids: one edge a pair.

        **Arguments:**

        - `kind`: what a change of the parent means for the child. `"data"`: the next wave recomputes it, and does so
          for the new edge. `"control"`: it is `stale`, and recomputed when somebody asks for it. `"device_sync"`: its
          transfer is scheduled, see `sync_pages`. `"compiler"`: what was compiled from it is `invalidated`.
        - `weight`: a number, or one an edge: what a weighted `Term` ⊗-multiplies the parent's message with.

        The next wave is compiled anew. Many edges are best added in one call.

        **Raises:** `GraphCycleError`, which names the cycle; `PageNotFoundError`; `InvalidTypeError`;
        `InvalidArgumentError`, also for a dependency that is there already, or without a weight that a rule needs.
        """
        edges, graph = self._catalog.new_edges(parent, child, kind, weight)
        for rule in self._rules:
            check_weights(rule, edges)
        with self._guarded():
            self._log.append_edges(self.tick, edges, digest=self.digest())
            self._catalog.add_edges(edges, graph)
            self._plan = None
        self._rewired(edges)

    @operation
    def remove_dependency(self, parent: Any, child: Any) -> None:
        """Remove all edges from one fixed-size page to another. Raises `InvalidArgumentError` when there is none."""
        removed, rest, graph = self._catalog.drop_edges(parent, child)
        with self._guarded():
            self._log.append_edges(self.tick, removed, digest=self.digest())
            self._catalog.set_edges(rest, graph)
            self._plan = None
        self._rewired(removed)

    def add_rule(self, rule: Rule | Any) -> None:
        """Let some pages be computed from their parents, from the next wave on.

        Rules are code, so they aren't logged: add them on reopening. That wave makes good what a crash left undone.

        **Raises:** `PageNotFoundError` for a page that isn't alive; `InvalidArgumentError` when a page has a rule
        already, or a weighted term meets a dependency without a weight; `InvalidTypeError` when its functions don't
        return what they must.
        """
        self._check_open()
        self._catalog.check_rule(rule)
        plan = self._laid_out([*self._rules, rule])
        self._engine.check(plan)
        self._rules.append(rule)
        self._plan = plan
        self._watch.ruled[rule.pages] = True
        self._pending.update(rule.pages.tolist())
        self._arranger.rewired()

    def _rewired(self, edges: EdgeRecords) -> None:
        self._pending.update(edges.child[edges.kind == EdgeKind.DATA].tolist())
        self._watch.rewired(edges)
        self._arranger.rewired()

    # Its run.

    def compact(self, before: int | Any) -> Compacted:
        """Merge what was logged before a tick, so that the log gets shorter; later moments stay as they are.

        **Raises:** `InvalidArgumentError` for a tick that hasn't been. See `mmsb.page.compact`.
        """
        self._check_open()
        with self._guarded():
            if self._checkpointer is not None:
                self._checkpointer.wait()  # it may stand behind a frame that is to be merged
            return compact(self._log, as_whole_number("before", before))

    def stop(self, checkpoint_path: str | os.PathLike[str] | Any | None = None) -> None:
        """Sync and close the log. Calling it again does nothing.

        **Arguments:**

        - `checkpoint_path`: where to leave the present state as a run of its own, which `start` goes on with; a
          directory that isn't there yet, or is empty. That is how a bus in memory is kept.

        **Raises:** `InvalidArgumentError` when there is something at the path; the bus then stays open.
        """
        if checkpoint_path is not None:
            self.history().fork(self.tick, checkpoint_path)
        if self._closed is None:
            self._closed = "it was stopped"
        self._close()

    def __enter__(self) -> "Bus":
        self._check_open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def __repr__(self) -> str:
        if self._closed is not None:
            return f"Bus(closed: {self._closed})"
        return f"Bus({len(self._catalog.pages)} pages, {self._catalog.graph.num_edges} dependencies, tick {self.tick})"
