"""What differs between two moments of a run: which parts, pages and elements, as data and as text."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Int32, Int64, UInt32

from ..._text import counted
from ._content import Content, Part

__all__ = ["Difference", "PartDifference", "difference"]

_SHOWN = 5


@dataclass(frozen=True, eq=False)
class PartDifference:
    """Where one leaf, or one page of a bus, differs between two moments. See `Run.diff` for an example."""

    name: str
    """The leaf's tree path, or the page's name."""
    member: int | None
    """Of an ensemble, the member; None otherwise."""
    pages: Int32[np.ndarray, " n"]
    """Ids of the pages that differ."""
    elements: Int64[np.ndarray, " m"]
    """Flat indices of the elements that differ in their bits."""
    old: Any
    """The whole array as it was."""
    new: Any
    """The whole array as it became."""

    @property
    def indices(self) -> tuple[np.ndarray, ...]:
        """The same elements as an index into `old` and `new`, one array a dimension."""
        return np.unravel_index(self.elements, np.shape(self.new)) if np.shape(self.new) else ()

    def __str__(self) -> str:
        count, size, pages = len(self.elements), int(np.prod(np.shape(self.new), dtype=np.int64)), len(self.pages)
        of = "" if self.member is None else f" of member {self.member}"
        lines = [
            f"{self.name or '(the tree)'}{of}: {count:,} of {size:,} elements, on {pages} page{'s' * (pages != 1)}"
        ]
        for element in self.elements[:_SHOWN].tolist():
            index = tuple(int(i) for i in np.unravel_index(element, np.shape(self.new))) if np.shape(self.new) else ()
            where = "[" + ", ".join(map(str, index)) + "]" if index else "value"
            lines.append(f"    {where}: {_text(self.old, index)} -> {_text(self.new, index)}")
        if count > _SHOWN:
            lines.append(f"    … and {count - _SHOWN:,} more")
        return "\n".join(lines)


@dataclass(frozen=True, eq=False)
class Difference:
    """What differs between two moments; prints as a readable list. See `Run.diff` for an example."""

    first: int
    """The earlier-named epoch: that of `old`."""
    second: int
    """That of `new`."""
    parts: tuple[PartDifference, ...]
    """The parts that differ, in the run's order."""
    appeared: tuple[str, ...] = ()
    """Pages of a bus that there are only at the second moment."""
    vanished: tuple[str, ...] = ()
    """Those that there are only at the first."""

    def __bool__(self) -> bool:
        return bool(self.parts or self.appeared or self.vanished)

    def __str__(self) -> str:
        head = f"epoch {self.first} -> {self.second}: "
        if not self:
            return head + "nothing differs"
        lines = [head + counted(len(self.parts), "part") + (" differs" if len(self.parts) == 1 else " differ")]
        lines += [f"+ {name}" for name in self.appeared] + [f"- {name}" for name in self.vanished]
        return "\n".join([*lines, *map(str, self.parts)])


def difference(
    first: int,
    old: UInt32[np.ndarray, "P W"],
    old_content: Content,
    second: int,
    new: UInt32[np.ndarray, "P W"],
    new_content: Content,
) -> Difference:
    """Compare two states bit for bit; a part belongs to both when it has the same name, member and pages."""
    differs = (old != new).any(axis=1)
    there = {_key(part): part for part in old_content.all}
    found = [
        _compare(part, there[_key(part)], old, new, differs)
        for part in new_content.all
        if _key(part) in there and differs[part.ids].any()
    ]
    now = {_key(part) for part in new_content.all}
    return Difference(
        first,
        second,
        tuple(part for part in found if len(part.elements)),
        _names(part for key, part in ((_key(part), part) for part in new_content.all) if key not in there),
        _names(part for key, part in there.items() if key not in now),
    )


def _key(part: Part) -> tuple[Any, ...]:
    return part.name, part.member, part.ids.tobytes(), part.leaf.size


def _names(parts: Iterable[Part]) -> tuple[str, ...]:
    return tuple(part.name for part in parts)


def _compare(
    part: Part, before: Part, old: UInt32[np.ndarray, "P W"], new: UInt32[np.ndarray, "P W"], differs: np.ndarray
) -> PartDifference:
    was, became = old[part.ids], new[part.ids]
    elements = part.differs(part.words(was), part.words(became))
    return PartDifference(
        part.name, part.member, part.ids[differs[part.ids]], elements, before.decode(was), part.decode(became)
    )


def _text(array: Any, index: tuple[int, ...]) -> str:
    value = array[index] if index or np.shape(array) == () else array
    if isinstance(value, np.float32 | np.float64) and np.isfinite(value) and 1e-4 <= abs(float(value)) < 1e9:
        return np.format_float_positional(value, unique=True, trim="0")
    return str(value)
