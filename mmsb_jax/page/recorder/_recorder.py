"""A recorder for those who own their loop: `init` and `update` are pure, `drain` is the host's."""

from functools import cached_property, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, UInt32

from ..._errors import CapacityError, InvalidArgumentError, InvalidTypeError
from ..._require import whole_number
from ...physical import Paging
from .._digest import digest_rows
from ..log._about import About
from ..log._storage import Place
from ..log._writer import SyncMode
from ._drain import Rows
from ._lanes import How, Lane, Layout
from ._plan import SMALL, sized
from ._recording import Recording, exists
from ._strip import Strip
from ._tape import Tape, started, written

__all__ = ["Recorder"]


class Recorder:
    """Records a loop of your own, also of an ensemble under `vmap`. A context manager that closes the run.

    A `Tape` goes through the loop beside the state: `init` makes it, `update` writes on it what changed since the last
    time, and outside of `jit` `drain` brings it to the log, empty again. `init` and `update` are pure.

    ```python
    >>> import mmsb_jax as mmsb, jax, jax.numpy as jnp, tempfile
    >>> path, x = tempfile.mkdtemp() + "/run", jnp.zeros(1000)
    >>> with mmsb.Recorder(path, x) as recorder:
    ...     @jax.jit
    ...     def ten_steps(x, tape, tick):
    ...         def body(i, carry):
    ...             x, tape = carry
    ...             x = x.at[tick + i].add(1.0)
    ...             return x, recorder.update(tape, x, tick + i + 1)
    ...         return jax.lax.fori_loop(0, 10, body, (x, tape))
    ...     tape = recorder.init(x)
    ...     for tick in (0, 10, 20):
    ...         x, tape = ten_steps(x, tape, tick)
    ...         tape = recorder.drain(tape)
    >>> mmsb.open_run(path).at(25).sum()
    np.float32(25.0)

    ```
    """

    def __init__(
        self,
        path: Place,
        tree: Any,
        *,
        members: int | None = None,
        max_rows: int | None = None,
        max_changed: int | None = None,
        sync: SyncMode = "group",
        page_bytes: int = 1024,
    ) -> None:
        """Start a run, with its state at tick 0.

        **Arguments:**

        - `path`: the run's directory, which must not hold a run (or a storage).
        - `tree`: the initial state, any pytree that `Paging` carries; of an ensemble stacked, with the members first.
        - `members`: how many members an ensemble has; None for a single run. `init` and `update` then see one member,
          under `vmap`, and `drain` gets all tapes.
        - `max_rows`: how many changed pages a tape holds (of a member). By default as many as fit in 4 to 32 MiB.
        - `max_changed`: how many pages of a leaf may change between two updates. By default all; a bound saves time in
          an ensemble, whose members can't do different amounts of work.
        - `sync`: as for `TransactionLog`.
        - `page_bytes`: size of a page, a multiple of 4.

        **Raises:** `InvalidTypeError` for a state that pages can't carry, `InvalidArgumentError` for numbers out of
        range and a path that holds a run, `LogFailedError` when the disk fails.
        """
        for name, value in (("members", members), ("max_rows", max_rows), ("max_changed", max_changed)):
            if value is not None and (whole_number(value) is None or not 1 <= value < 2**31):
                raise InvalidArgumentError(f"got {name}={value!r}; pass a whole number from 1 on, or None")
        if exists(path):
            raise InvalidArgumentError(f"{path} holds a run already; a Recorder begins a new one, so pass another path")
        whole = Paging.like(tree, page_bytes=page_bytes)
        shapes = [jax.ShapeDtypeStruct(x.shape, x.dtype) for x in map(jnp.asarray, whole.form.values(tree))]
        if members is not None:
            shapes = [_of_a_member(leaf.path, shape, members) for leaf, shape in zip(whole.leaves, shapes, strict=True)]
        self._paging = Paging.like(whole.form.unflatten(shapes), page_bytes=page_bytes)
        self._members = members
        self._layout = _layout(self._paging, max_rows, members, max_changed)
        about = About(self._paging, members=members)
        to_pages = self._paging.to_pages if members is None else jax.vmap(self._paging.to_pages)
        pages = np.asarray(to_pages(tree)).reshape(-1, self._paging.page_words)
        self._pages = pages
        self._recording = Recording.begun(path, about, pages, sync=sync)

    def init(self, tree: Any) -> Tape:
        """A tape behind the initial state. Pure; under `vmap` for an ensemble.

        **Raises:** `InvalidTypeError` for a tree of another form, with the name of the first leaf that differs.
        `InvalidArgumentError` for a tree that isn't the recorder's; under `jit` and `vmap` that can't be seen.
        """
        values = self._paging.form.values(tree)
        seen = self._members is None and not any(isinstance(value, jax.core.Tracer) for value in values)
        if seen and not np.array_equal(np.asarray(self._paging.to_pages(tree)), self._pages):
            raise InvalidArgumentError(
                "got another tree than the recorder was made with, which is what its log begins with; pass the same"
            )
        return started(self._layout, values)

    def update(self, tape: Tape, tree: Any, tick: Any) -> Tape:
        """The tape with what changed since the last update, as of a tick. Pure; under `vmap` for an ensemble.

        What doesn't fit on the tape isn't written and counts in `tape.missed`; its changes are part of the next update
        that fits, so the log misses a moment, and never a change.

        **Arguments:**

        - `tape`: donate it, or carry it in a loop, and it is written in place.
        - `tree`: the state now.
        - `tick`: an integer, above that of the last update.

        **Raises:** as `init`. `InvalidTypeError` for a tick that is no integer, `InvalidArgumentError` for one below 1.
        """
        tick = jnp.asarray(tick)
        if tick.ndim or not jnp.issubdtype(tick.dtype, jnp.integer):
            raise InvalidTypeError(f"got a tick of {tick.dtype}{list(tick.shape)}; pass one integer")
        if not isinstance(tick, jax.core.Tracer) and int(tick) < 1:
            raise InvalidArgumentError(f"got tick={int(tick)}; the initial state has tick 0, so pass 1 or more")
        values = self._paging.form.values(tree)
        return written(self._layout, tape, values, tick.astype(jnp.uint32), {})

    def drain(self, tape: Tape, *, strict: bool = True) -> Tape:
        """Commit what is on the tape (of an ensemble: on all tapes, stacked), and return it empty.

        **Arguments:**

        - `strict`: whether an update that didn't fit is an error; otherwise the log goes without these moments.

        **Raises:** `CapacityError` when updates didn't fit: nothing is committed then. `LogFailedError` when the disk
        fails: what was committed before is safe. `InvalidArgumentError` for ticks below those in the log.
        """
        missed, steps = int(np.sum(tape.missed)), int(np.sum(tape.steps))
        if missed and strict:
            raise CapacityError(
                f"{missed} of {steps} updates did not fit on a tape of {self._layout.rows} rows; drain it more often, "
                "or make it larger with max_rows (or max_changed); strict=False goes on without these moments"
            )
        if steps:
            tick = int(np.max(tape.tick))
            if tick >= 2**31:
                raise InvalidArgumentError(f"an update had the tick {tick - 2**32}; ticks ascend from 1 to {2**31 - 1}")
            low, high = np.asarray(self._digest(tape)).tolist()
            owes = bool(np.any(tape.short))
            self._recording.append(self._rows(tape), tick, None if owes else (low, high))
        return _emptied(tape) if self._members is None else _all_emptied(tape)

    def close(self) -> None:
        """Sync and close the run. Idempotent."""
        self._recording.close()

    def __enter__(self) -> "Recorder":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _rows(self, tape: Tape) -> Rows:
        if self._members is None:
            return Rows.of_tape(*(np.asarray(part)[: int(tape.used)] for part in (tape.words, tape.head)))
        used, words, head = (np.asarray(part) for part in (tape.used, tape.words, tape.head))
        members = [Rows.of_tape(words[m, : used[m]], head[m, : used[m]]) for m in range(self._members)]
        together = Rows.joined(
            [rows._replace(page=rows.page + np.int32(m * self._paging.num_pages)) for m, rows in enumerate(members)]
        )
        return together.at(np.argsort(together.tick, kind="stable"))

    @cached_property
    def _digest(self) -> Any:
        """The digest of the state recorded last, which is what the shadows hold."""
        layout, pages = self._layout, self._paging.num_pages

        def of_member(tape: Tape, member: Array) -> UInt32[Array, "2"]:
            found = digest_rows(jnp.asarray(layout.small_ids) + member * pages, tape.small)
            for lane, shadow in zip(layout.lanes, tape.shadows, strict=True):
                ids = lane.strip.first_page + jnp.arange(lane.strip.pages, dtype=jnp.int32)
                found += digest_rows(ids + member * pages, shadow)
            return found

        if self._members is None:
            return jax.jit(lambda tape: of_member(tape, jnp.int32(0)))
        members = jnp.arange(self._members, dtype=jnp.int32)
        return jax.jit(lambda tapes: jnp.sum(jax.vmap(of_member)(tapes, members), axis=0, dtype=jnp.uint32))


_emptied = partial(jax.jit, donate_argnums=0)(Tape.emptied)
_all_emptied = partial(jax.jit, donate_argnums=0)(jax.vmap(Tape.emptied))


def _of_a_member(path: str, shape: jax.ShapeDtypeStruct, members: int) -> jax.ShapeDtypeStruct:
    if shape.shape[:1] != (members,):
        raise InvalidArgumentError(
            f"the leaf {path} has shape {list(shape.shape)}, but it needs a first axis of {members}: one per member"
        )
    return jax.ShapeDtypeStruct(shape.shape[1:], shape.dtype)


def _layout(paging: Paging, max_rows: int | None, members: int | None, max_changed: int | None) -> Layout:
    strips = [(number, Strip(leaf, paging.page_words)) for number, leaf in enumerate(paging.leaves)]
    lanes = [Lane(number, strip, How.COMPARED) for number, strip in strips if strip.pages >= SMALL]
    most = max((lane.strip.pages for lane in lanes), default=1)
    bounded = members is not None or max_changed is not None
    layout = Layout.of(paging, lanes, block=min(most, max_changed or most) if bounded else None)
    if max_rows is None:
        return sized(layout, max_changed)
    if max_rows < layout.static_rows + bool(lanes):
        raise InvalidArgumentError(
            f"got max_rows={max_rows}, but every update takes {layout.static_rows} rows for small leaves, and more for "
            f"changes of large ones; pass {layout.static_rows + bool(lanes)} or more"
        )
    return Layout.of(paging, lanes, rows=max_rows, block=layout.block if bounded else None)
