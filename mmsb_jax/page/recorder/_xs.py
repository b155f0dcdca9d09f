"""The inputs of a recorded loop, brought to the device a window at a time.

Windows have one length, so nothing is compiled twice, and lie on a fixed grid of steps, so a resumed run gets the same.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ..._errors import InvalidArgumentError, InvalidTypeError

__all__ = ["Inputs", "Window"]

_WINDOW_BYTES = 8 << 20
_WINDOW_STEPS = 4096

Source = Callable[[int, int], Any]


class Window(NamedTuple):
    """Inputs on the device, for the steps `since` to `until - 1` (the first of them perhaps only as room)."""

    leaves: list[jax.Array]
    since: int
    until: int


class Inputs:
    """Where `xs` come from: arrays with a leading axis of steps, a function of `(start, stop)`, an iterator of pieces.

    >>> inputs = Inputs({"force": np.arange(10.0, dtype=np.float32)}, last=10, every=4)
    >>> inputs.step, inputs.window(9).since, inputs.window(9).until
    ({'force': ShapeDtypeStruct(shape=(), dtype=float32)}, 0, 10)
    """

    def __init__(self, xs: Any, last: int, every: int) -> None:
        """Inputs for the steps 0 to `last - 1`, of which every `every`-th is recorded.

        **Raises:** `InvalidTypeError` for what is none of these, `InvalidArgumentError` where they are too short.
        """
        self._source, self._last = _source_of(xs, last), last
        one = self._piece(0, 1)
        self.step = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], jnp.asarray(leaf).dtype), one)
        """What one step gets."""
        per_step = sum(leaf.nbytes for leaf in jax.tree.leaves(one)) or 1
        steps = max(1, min(_WINDOW_BYTES // per_step, _WINDOW_STEPS, last))
        self._length = -(-steps // every) * every
        self._window = Window([], -1, -1)

    def window(self, tick: int) -> Window:
        """The window that has the input of a step. Steps may only ascend."""
        since = tick // self._length * self._length
        if self._window.since != since:
            until = min(since + self._length, self._last)
            piece, before, behind = self._piece(tick, until), tick - since, since + self._length - until
            leaves = [
                jnp.asarray(np.pad(leaf, [(before, behind), *[(0, 0)] * (leaf.ndim - 1)]))
                for leaf in jax.tree.leaves(piece)
            ]
            self._window = Window(leaves, since, until)
        return self._window

    def same_window(self, tick: int, other: int) -> bool:
        """Whether two steps have their inputs in one window."""
        return tick // self._length == other // self._length

    def _piece(self, start: int, stop: int) -> Any:
        piece = _as_arrays(self._source(start, stop), start)
        for path, leaf in jax.tree_util.tree_leaves_with_path(piece):
            if leaf.ndim == 0 or len(leaf) != stop - start:
                raise InvalidArgumentError(
                    f"xs{jax.tree_util.keystr(path)} has shape {leaf.shape} for the steps {start} to {stop - 1}; it "
                    f"needs a leading axis of {stop - start}, one for each step"
                )
        if not jax.tree.leaves(piece):
            raise InvalidArgumentError("xs has no arrays; leave it out, and the step gets the state alone")
        return piece


def _source_of(xs: Any, last: int) -> Source:
    if callable(xs):
        return xs
    if isinstance(xs, Iterator):
        return _Pieces(xs)
    for path, leaf in jax.tree_util.tree_leaves_with_path(xs):
        if not isinstance(leaf, np.ndarray | jax.Array):
            raise InvalidTypeError(
                f"xs{jax.tree_util.keystr(path)} is a {type(leaf).__name__}; pass arrays with a leading axis of steps, "
                "a function of (start, stop) that returns such, or an iterator of them"
            )
        if leaf.ndim == 0 or len(leaf) < last:
            raise InvalidArgumentError(
                f"xs{jax.tree_util.keystr(path)} has shape {leaf.shape}, but {last} steps are asked for; it needs a "
                f"leading axis of {last} or more, one for each step"
            )
    return lambda start, stop: jax.tree.map(lambda leaf: leaf[start:stop], xs)


def _as_arrays(piece: Any, start: int) -> Any:
    """Arrays on the host. JAX makes floats of 64 bits narrower without x64, but integers must not lose a bit."""

    def converted(path: Any, leaf: Any) -> np.ndarray:
        name = f"xs{jax.tree_util.keystr(path)}"
        if isinstance(leaf, jax.Array) and jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.extended):
            raise InvalidTypeError(
                f"{name} holds typed keys; pass jax.random.key_data of them, or keep a key in the state"
            )
        array = np.asarray(leaf)
        if array.dtype.kind not in "biufcV":
            raise InvalidTypeError(f"{name} holds {array.dtype}; pass arrays of numbers or booleans")
        narrow = jax.dtypes.canonicalize_dtype(array.dtype)
        if array.dtype.kind in "iu" and narrow != array.dtype and not np.array_equal(array.astype(narrow), array):
            raise InvalidArgumentError(
                f"{name} holds {array.dtype} from step {start} on that {narrow} can't hold; switch jax_enable_x64 on, "
                "or pass smaller numbers"
            )
        return array

    return jax.tree_util.tree_map_with_path(converted, piece)


def _form_of(piece: Any) -> str:
    return str(jax.tree.map(lambda leaf: f"{leaf.dtype}[steps{''.join(f', {n}' for n in leaf.shape[1:])}]", piece))


class _Pieces:
    """An iterator of pieces of any length, read as they are asked for."""

    def __init__(self, pieces: Iterator[Any]) -> None:
        self._pieces, self._start = pieces, 0
        self._held: Any = None

    def __call__(self, start: int, stop: int) -> Any:
        """The inputs from `start` to `stop - 1`; `start` may not go back."""
        while self._held is None or self._end < stop:
            piece = next(self._pieces, None)
            if piece is None:
                raise InvalidArgumentError(f"xs ended at step {self._end}, but step {stop - 1} needs one, too")
            piece = _as_arrays(piece, self._end)
            both = [] if self._held is None else [self._held]
            forms = {_form_of(each) for each in (*both, piece)}
            if len(forms) > 1 or any(not leaf.ndim for leaf in jax.tree.leaves(piece)):
                raise InvalidArgumentError(
                    f"the piece of xs from step {self._end} on holds {_form_of(piece)}; an iterator gives pieces of "
                    "one form, with a leading axis of steps"
                )
            self._held = jax.tree.map(lambda *parts: np.concatenate(parts), *both, piece)
            self._drop(start)
        self._drop(start)
        return jax.tree.map(lambda leaf: leaf[: stop - start], self._held)

    @property
    def _end(self) -> int:
        return self._start + (0 if self._held is None else len(jax.tree.leaves(self._held)[0]))

    def _drop(self, start: int) -> None:
        count = min(start, self._end) - self._start
        self._held = jax.tree.map(lambda leaf: leaf[count:], self._held)
        self._start += count
