"""What the parts of a run hold at one moment: leaves of a recorded tree, or pages of a bus, with figures."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Int32, UInt32

from ..._errors import InvalidArgumentError, InvalidTypeError, PageNotFoundError
from ..._require import whole_number
from ..._text import printable, ranges, table
from ._content import Content, Part

__all__ = ["PartValue", "Parts", "parts_at"]


@dataclass(frozen=True, eq=False)
class PartValue:
    """One leaf, or one page of a bus, as it was at a moment. See `Parts` for an example.

    `low`, `mean` and `high` leave NaNs out, and are None where there is nothing to compare: keys, complex numbers,
    empty arrays.
    """

    name: str
    """The leaf's tree path, or the page's name."""
    pages: Int32[np.ndarray, " n"]
    """The ids of its pages; of an ensemble's those of all members that were asked for."""
    value: Any
    """The array, or typed key. The members of an ensemble are stacked along a first axis."""

    @property
    def dtype(self) -> str:
        """The name of its dtype."""
        return str(self.value.dtype)

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape."""
        return tuple(self.value.shape)

    def seen_as(self, dtype: Any) -> "PartValue":
        """The bytes of a bus's page as another type, one-dimensional.

        **Raises:** `InvalidArgumentError` when the size isn't a multiple of the dtype's.
        """
        if self.value.nbytes % np.dtype(dtype).itemsize:
            raise InvalidArgumentError(
                f"{self.name!r} has {self.value.nbytes} bytes, which isn't a multiple of {dtype}"
            )
        return PartValue(self.name, self.pages, self.value.view(dtype))

    @property
    def low(self) -> Any:
        """The least element."""
        return self._figures[0]

    @property
    def mean(self) -> float | None:
        """The mean, in double precision."""
        return self._figures[1]

    @property
    def high(self) -> Any:
        """The greatest element."""
        return self._figures[2]

    @property
    def nans(self) -> int:
        """How many elements are NaN."""
        return self._figures[3]

    @cached_property
    def _figures(self) -> tuple[Any, float | None, Any, int]:
        return _figures(self.value)


class Parts(Sequence[PartValue]):
    """All parts of a run at one moment, or some of them, with the `epoch`. Prints as a table.

    ```python
    >>> import mmsb_jax as mmsb, jax.numpy as jnp, tempfile
    >>> def step(tree):
    ...     return {"n": tree["n"] + 1, "x": tree["x"] * 2}
    >>> init = {"n": 0, "x": jnp.array([1.0, 2, 6])}
    >>> run = mmsb.record(step, init, 4, path=tempfile.mkdtemp() + "/run", progress=False)
    >>> print(run.parts(2))
    epoch 2
    part   dtype    shape   min  mean  max  NaNs  pages
    ['n']  int32    scalar    2     2    2        0
    ['x']  float32  3         4    12   24        0

    ```
    """

    def __init__(self, epoch: int, parts: Sequence[PartValue]) -> None:
        self.epoch, self._parts = epoch, tuple(parts)

    def __getitem__(self, number: Any) -> Any:
        return self._parts[number]

    def __len__(self) -> int:
        return len(self._parts)

    def __str__(self) -> str:
        return f"epoch {self.epoch}\n" + "\n".join(table(_COLUMNS, map(_cells, self._parts), _COLUMNS[3:-1]))


_COLUMNS = ("part", "dtype", "shape", "min", "mean", "max", "NaNs", "pages")


def _cells(part: PartValue) -> list[str]:
    shape, figures = "×".join(map(str, part.shape)) or "scalar", map(_figure, (part.low, part.mean, part.high))
    name = printable(part.name) or "(the tree)"
    return [name, part.dtype, shape, *figures, str(part.nans or ""), ranges(part.pages.tolist())]


def _figure(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def parts_at(content: Content, pages: UInt32[np.ndarray, "P W"], only: Any, member: int | None) -> list[PartValue]:
    """The parts of a state in the run's order, or only that of a name, or those on a page. Raises as `Run.parts`."""
    by_name: dict[str, list[Part]] = {}
    for part in _chosen(content, only, member):
        by_name.setdefault(part.name, []).append(part)
    stacked = content.members is not None and member is None and whole_number(only) is None
    return [_value(name, parts, pages, stacked=stacked) for name, parts in by_name.items()]


def _chosen(content: Content, only: Any, member: int | None) -> Sequence[Part]:
    if only is None:
        return [part for part in content.all if member is None or part.member == member]
    if isinstance(only, str):
        return content.parts(only, member)
    page = whole_number(only)
    if page is None:
        raise InvalidTypeError(f"got a {type(only).__name__}; pass a leaf's tree path, a page's name, or a page id")
    found = content.on_page(page)
    if not found:
        raise PageNotFoundError(f"nothing lies on page {page} then")
    return found


def _value(name: str, parts: Sequence[Part], pages: UInt32[np.ndarray, "P W"], *, stacked: bool) -> PartValue:
    values = [part.decode(pages[part.ids]) for part in parts]
    ids = np.concatenate([part.ids for part in parts])
    if not stacked:
        return PartValue(name, ids, values[0])
    return PartValue(name, ids, np.stack(values) if isinstance(values[0], np.ndarray) else jnp.stack(values))


def _figures(value: Any) -> tuple[Any, float | None, Any, int]:
    """Least, mean, greatest, and the number of NaNs."""
    if not isinstance(value, np.ndarray):  # typed keys
        return None, None, None, 0
    if value.dtype.isbuiltin != 1:  # bfloat16 and other narrow types, which NumPy itself doesn't know
        value = value.astype(np.float32)
    if value.dtype.kind == "c":
        return None, None, None, int(np.isnan(value).sum())
    nans = int(np.isnan(value).sum()) if value.dtype.kind == "f" else 0
    kept = value[~np.isnan(value)] if nans else value
    if not kept.size:
        return None, None, None, nans
    with np.errstate(invalid="ignore", over="ignore"):  # of infinities
        return kept.min().item(), float(kept.mean(dtype=np.float64)), kept.max().item(), nans
