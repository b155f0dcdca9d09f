"""The history of a run: any moment of it, what changed, who did it, and when something first held. Never writes."""

import time
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Int64

from ..._errors import InvalidArgumentError, InvalidTypeError
from ..._require import require_instance, whole_number
from ..log._about import About
from ..log._storage import Place
from ..query._select import select
from ._blame import Blame, Write, blame
from ._difference import Difference, difference
from ._fork import fork
from ._part_values import Parts, parts_at
from ._timeline import Timeline
from ._verify import Verified, verify

__all__ = ["Run", "open_run"]


def open_run(path: Place | Any, *, like: Any = None) -> "Run":
    """Open the history of a run: a recorded one, or that of a bus. Reads only; a writer beside it isn't disturbed.

    **Arguments:**

    - `path`: the run's directory (or a storage).
    - `like`: a tree of the recorded structure, such as the initial state. Moments of the run then come back in it.
      Without it, dicts, lists, tuples and None come back as they were, and other nodes as dicts of their fields.

    **Raises:** `LogNotFoundError`, `CorruptLogError`; `InvalidArgumentError` or `InvalidTypeError` when `like` isn't
    what was recorded.

    ```python
    >>> import mmsb_jax as mmsb, numpy as np, tempfile, pathlib
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "run.mmsb"
    >>> with mmsb.start(path) as bus:
    ...     wind = bus.create_page(8, name="wind")
    ...     for value in (1, 2, 3):
    ...         _ = bus.update_page(wind, np.float32([value, 0]), source="sensor")
    >>> run = mmsb.open_run(path)
    >>> run
    Run(epochs 0 to 3, 1 part)
    >>> run.at(2)["wind"].view(np.float32)
    array([2., 0.], dtype=float32)

    ```
    """
    return Run(path, like=like)


class Run:
    """A run's whole past. Made by `record` and `open_run`; see there for examples.

    An epoch is the state's tick: in a recorded run the number of steps done.
    """

    def __init__(self, path: Place | Any, *, like: Any = None) -> None:
        self._timeline, self._like = Timeline(path, like), like
        self._past = self._timeline.past

    @property
    def path(self) -> Place:
        """Where it lies."""
        return self._timeline.place

    @property
    def about(self) -> About | None:
        """How it was recorded; None for a run of a bus."""
        return self._timeline.about

    @property
    def first(self) -> int:
        """The earliest epoch that can be read: 0, or where `compact` has cut."""
        return self._timeline.first

    @property
    def last(self) -> int:
        """The last epoch, as of when this object was made."""
        return self._timeline.last

    @property
    def epochs(self) -> Int64[np.ndarray, " n"]:
        """All epochs that can be asked for, ascending."""
        return self._timeline.epochs

    def __len__(self) -> int:
        return len(self.epochs)

    def __repr__(self) -> str:
        names = self._timeline.content(self.last).names
        return f"Run(epochs {self.first} to {self.last}, {len(names)} part{'s' * (len(names) != 1)})"

    # Moments.

    def at(
        self,
        epoch: int | Any | None = None,
        *,
        step: int | Any | None = None,
        time: datetime | float | Any | None = None,
        member: int | Any | None = None,
    ) -> Any:
        """The whole tree as it was, as NumPy arrays (typed keys as keys).

        **Arguments:** exactly one of

        - `epoch`, `step`: which moment; in a recorded run both count steps. Negative ones count from the end.
        - `time`: the last commit at or before this moment: a `datetime` with a time zone, or Unix time in seconds.

        and for an ensemble

        - `member`: which member; None: all of them, stacked along a new first axis.

        **Returns:** the recorded tree; for a bus a dict of uint8 arrays, by name.

        **Raises:** `InvalidArgumentError` for a moment that wasn't recorded.

        ```python
        >>> import mmsb_jax as mmsb, jax.numpy as jnp, tempfile
        >>> run = mmsb.record(lambda x: x * 2, jnp.float32(1), 5, path=tempfile.mkdtemp() + "/run", progress=False)
        >>> run.at(3), run.at(step=-1)
        (array(8., dtype=float32), array(32., dtype=float32))

        ```
        """
        tick = self._timeline.moment(epoch, step, time)
        found = self._past.at(tick)
        return self._timeline.content_of(found).tree(found.pages, self._timeline.member(member))

    def parts(
        self, epoch: int | Any | None = None, *, time: Any = None, only: Any = None, member: int | Any | None = None
    ) -> Parts:
        """What there was, leaf by leaf or page by page, with its figures. Prints as a table.

        **Arguments:** `epoch`, `time`, `member` as for `at`, by default the last epoch; `only`: one part, a leaf's tree
        path, a bus page's name, or the id of a page. Raises `PageNotFoundError`. See `Parts` for an example.
        """
        tick = self.last if epoch is None and time is None else self._timeline.moment(epoch, None, time)
        found = self._past.at(tick)
        content = self._timeline.content_of(found)
        return Parts(tick, parts_at(content, found.pages, only, self._timeline.member(member)))

    @property
    def final(self) -> Any:
        """The tree at the last epoch."""
        return self.at(self.last)

    def iterate(
        self, first: int | Any | None = None, last: int | Any | None = None, *, every: int = 1
    ) -> Iterator[tuple[int, Any]]:
        """Iterate over `(epoch, tree)`, oldest first, holding one state at a time.

        **Arguments:**

        - `first`, `last`: from where to where, both included; by default from beginning to end.
        - `every`: take every n-th of the recorded epochs.
        """
        if whole_number(every) is None or every < 1:
            raise InvalidArgumentError(f"got every={every!r}; it is a whole number from 1 on")
        begin, end = self._timeline.stretch(first, last)
        chosen = self.epochs[(self.epochs >= begin) & (self.epochs <= end)][::every]
        if not len(chosen):
            return
        wanted: Bool[np.ndarray, " n"] = np.zeros(end - begin + 1, bool)
        wanted[chosen - begin] = True
        fixed = None if self.about is None else self._timeline.fixed_content()
        for tick, pages in self._past.walk(begin, end, wanted):
            content = fixed or self._timeline.content(tick)
            yield tick, content.tree(pages.copy())

    def __iter__(self) -> Iterator[tuple[int, Any]]:
        return self.iterate()

    # What changed, who did it, since when.

    def diff(self, a: int | Any, b: int | Any) -> Difference:
        """What differs between two epochs: parts, pages and elements, with old and new values. Prints as a list.

        ```python
        >>> import mmsb_jax as mmsb, jax.numpy as jnp, tempfile
        >>> def step(tree):
        ...     return {"x": tree["x"].at[1].add(0.5), "n": tree["n"] + 1}
        >>> init = {"x": jnp.zeros(3), "n": 0}
        >>> run = mmsb.record(step, init, 4, path=tempfile.mkdtemp() + "/run", progress=False)
        >>> print(run.diff(1, 3))
        epoch 1 -> 3: 2 parts differ
        ['n']: 1 of 1 elements, on 1 page
            value: 1 -> 3
        ['x']: 1 of 3 elements, on 1 page
            [1]: 0.5 -> 1.5

        ```
        """
        ticks = [self._timeline.epoch(epoch) for epoch in (a, b)]
        old, new = (self._past.at(tick) for tick in ticks)
        contents = [self._timeline.content_of(found) for found in (old, new)]
        return difference(ticks[0], old.pages, contents[0], ticks[1], new.pages, contents[1])

    def blame(self, part: str | int | Any, *, epoch: int | Any | None = None, member: int | Any | None = None) -> Blame:
        """Who last wrote each element: epoch, source and intent. Prints as a table.

        **Arguments:**

        - `part`: a leaf's tree path (`"['u']"`, or `"u"` for short), a bus page's name, or the id of a page.
        - `epoch`: as of when; by default the last one.
        - `member`: of an ensemble, the member.

        **Raises:** `PageNotFoundError`; `InvalidArgumentError` when several parts lie on the page, or members are many.

        ```python
        >>> import mmsb_jax as mmsb, jax.numpy as jnp, tempfile
        >>> def step(tree):
        ...     return {"x": tree["x"].at[tree["n"] % 4].add(1), "n": tree["n"] + 1}
        >>> init = {"x": jnp.zeros(4), "n": 0}
        >>> run = mmsb.record(step, init, 2, path=tempfile.mkdtemp() + "/run", progress=False)
        >>> run.blame("x").epoch.tolist()
        [1, 2, 0, 0]

        ```
        """
        tick = self.last if epoch is None else self._timeline.epoch(epoch)
        found = self._timeline.part(part, tick, member)
        rows = self._past.rows(found.ids, self.first, tick)
        recorded = self.about is not None  # the pages of a bus are bytes, which are written by words
        return blame(found, self._timeline.page_words, rows, self._timeline.begun, by_element=recorded)

    def page_history(
        self, part: str | int | Any, *, first: int | Any | None = None, last: int | Any | None = None
    ) -> Iterator[Write]:
        """Iterate over the commits that wrote a leaf, a bus page, or one page by its id, oldest first.

        ```python
        >>> import mmsb_jax as mmsb, numpy as np
        >>> with mmsb.start() as bus:
        ...     page = bus.create_page(4, name="x")
        ...     _ = bus.update_page(page, np.int32(7), source="api", intent="why not")
        ...     [(write.epoch, write.source, write.intent) for write in bus.history().page_history("x")]
        [(1, 'api', 'why not')]

        ```
        """
        begin, end = self._timeline.stretch(first, last)
        parts = self._timeline.parts(part, end)
        number = whole_number(part)
        ids = np.concatenate([each.ids for each in parts]) if number is None else np.array([number], np.int32)
        begun = self._timeline.begun if begin == 0 else None  # pages of zeros have no row then
        for frame, changes, names in self._past.rows(ids, begin, end):
            if begun is not None and frame.tick > 0:
                yield begun
            begun = None
            touched = np.any([each.written_by(changes, self._timeline.page_words) for each in parts], axis=0)
            rows = changes if number is not None else changes.take(touched)
            ticks = np.full(len(rows), frame.tick) if rows.tick is None else rows.tick
            for tick, source in dict.fromkeys(zip(ticks.tolist(), rows.source.tolist(), strict=True)):
                yield Write(tick, names[source], names[frame.intent], frame.time_ns)
        if begun is not None:
            yield begun

    def first_difference(self, other: "Run | Any") -> Difference | None:
        """The first epoch, of those that both runs have recorded, at which they differ: there, from this to the other.

        **Returns:** None when they are the same, bit for bit. Holds one state of each run at a time.

        **Raises:** `InvalidArgumentError` when their leaves aren't the same.

        ```python
        >>> import mmsb_jax as mmsb, jax.numpy as jnp, tempfile
        >>> folder = tempfile.mkdtemp()
        >>> one, two = (
        ...     mmsb.record(lambda x: x * rate, jnp.float32(1), 5, path=f"{folder}/{rate}", progress=False)
        ...     for rate in (1.5, 2)
        ... )
        >>> one.first_difference(two).first
        1

        ```
        """
        require_instance(other, Run, "mmsb.open_run opens one")
        if self.about is not None and other.about is not None and self.about.paging != other.about.paging:
            raise InvalidArgumentError("the two runs have other leaves, or lie on pages of another size")
        begin, end = max(self.first, other.first), min(self.last, other.last)
        shared = np.intersect1d(self.epochs, other.epochs)
        if not len(shared):
            return None
        wanted = np.zeros(end - begin + 1, bool)
        wanted[shared - begin] = True
        contents = self._timeline.fixed_content(), other._timeline.fixed_content()
        for (tick, pages), (_, others) in zip(
            self._past.walk(begin, end, wanted), other._past.walk(begin, end, wanted), strict=True
        ):
            if not np.array_equal(pages, others):
                return difference(tick, pages, contents[0], tick, others, contents[1])
        return None

    def fork(self, epoch: int | Any, path: Place | Any) -> "Run":
        """A new run that begins with the state at an epoch. What was before it keeps by reference to this run.

        It can be recorded on (`record(…, path=…, resume=True)`), or opened as a bus (`start`).

        **Arguments:**

        - `path`: a directory that isn't there yet, or is empty.

        **Raises:** `InvalidArgumentError` when there is something at the path, or for an epoch that wasn't recorded.

        ```python
        >>> import mmsb_jax as mmsb, jax.numpy as jnp, tempfile
        >>> folder = tempfile.mkdtemp()
        >>> run = mmsb.record(lambda x: x + 1, jnp.int32(0), 9, path=f"{folder}/run", progress=False)
        >>> other = run.fork(5, f"{folder}/fork")
        >>> other = mmsb.record(lambda x: x * 2, jnp.int32(0), 7, path=other.path, resume=True, progress=False)
        >>> [int(x) for _, x in other]
        [0, 1, 2, 3, 4, 5, 10, 20]

        ```
        """
        fork(self._past, self._timeline.epoch(epoch), path, time_ns=time.time_ns())
        return Run(path, like=self._like)

    def to_arrow(self, **filters: Any) -> pa.RecordBatchReader:
        """What was logged as a stream of Arrow batches, a row for every page that changed at an epoch.

        Polars, DuckDB and pandas read it, in constant memory. A fork's parent has its own.

        **Arguments:** those of `mmsb.page.select`: `leaves`, `pages`, `ticks`, `times`, `sources`, `intents`.

        ```python
        >>> import mmsb_jax as mmsb, jax.numpy as jnp, tempfile
        >>> run = mmsb.record(lambda x: x + 1, jnp.int32(0), 9, path=tempfile.mkdtemp() + "/run", progress=False)
        >>> run.to_arrow(ticks=(4, 6)).read_all().column("words").to_pylist()
        [[4], [5], [6]]

        ```
        """
        return select(self.path, **filters).to_arrow()

    def verify(self) -> Verified:
        """Check the whole log, every digest in it, and every checkpoint against it. A fork's parent has its own.

        **Returns:** how much was checked.

        **Raises:** `CorruptLogError`, `CorruptCheckpointError`; `ReplayDivergenceError`, which names the first commit
        whose digest isn't that of the replayed state.

        ```python
        >>> import mmsb_jax as mmsb, jax.numpy as jnp, tempfile
        >>> run = mmsb.record(lambda x: x + 1, jnp.int32(0), 9, path=tempfile.mkdtemp() + "/run", progress=False)
        >>> run.verify().last
        9

        ```
        """
        return verify(self.path)

    def bisect(
        self, predicate: Callable[[Any], Any] | Any, *, first: int | Any | None = None, last: int | Any | None = None
    ) -> int:
        """The first epoch at which something holds, by O(log n) looks at the past: as with `git bisect`, once it holds
        it is taken to hold from there on.

        **Arguments:**

        - `predicate`: from the tree to a truth value.
        - `first`, `last`: where to look; by default everywhere.

        **Raises:** `InvalidArgumentError` when it doesn't hold at `last`.

        ```python
        >>> import mmsb_jax as mmsb, jax.numpy as jnp, tempfile
        >>> step = lambda x: jnp.where(x > 50, jnp.nan, x * 2)
        >>> run = mmsb.record(step, jnp.float32(1), 100, path=tempfile.mkdtemp() + "/run", progress=False)
        >>> run.bisect(jnp.isnan)
        7

        ```
        """
        if not callable(predicate):
            raise InvalidTypeError(f"got a {type(predicate).__name__} to look for; pass a function of the tree")
        begin, end = self._timeline.stretch(first, last)
        epochs = self.epochs[(self.epochs >= begin) & (self.epochs <= end)]
        if not bool(predicate(self.at(int(epochs[-1])))):
            raise InvalidArgumentError(
                f"the predicate doesn't hold at epoch {epochs[-1]}, the last one looked at, so no first epoch can be "
                "found; bisect looks for the moment from which on something holds"
            )
        low, high = -1, len(epochs) - 1  # it holds at high, and at low it doesn't
        while high - low > 1:
            middle = (low + high) // 2
            if bool(predicate(self.at(int(epochs[middle])))):
                high = middle
            else:
                low = middle
        return int(epochs[high])
