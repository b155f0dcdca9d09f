"""Who last wrote each element: epoch, source, intent, as the log tells it."""

import operator
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Int32, Int64, UInt32

from ..._errors import InvalidArgumentError
from ..log._changes import PageChanges
from ._content import Part
from ._past import Rows

__all__ = ["Blame", "Write", "blame"]

_SHOWN = 12


class Write(NamedTuple):
    """One commit that wrote something. `epoch` is its tick; for a commit of many ticks, that of the row.

    >>> Write(12, "api", "set up", 1_700_000_000_000_000_000).time.year
    2023
    """

    epoch: int
    source: str
    intent: str
    time_ns: int

    @property
    def time(self) -> datetime:
        """When it was committed, in UTC."""
        return datetime.fromtimestamp(self.time_ns / 1e9, UTC)


@dataclass(frozen=True, eq=False)
class Blame:
    """Who last wrote each element of a leaf or page. Prints as a table. See `Run.blame` for an example."""

    name: str
    """The leaf's tree path, or the page's name."""
    member: int | None
    """Of an ensemble, the member; None otherwise."""
    number: Int64[np.ndarray, "..."]
    """Index into `writes` for every element, in the part's shape; -1: never written, still zero."""
    writes: tuple[Write, ...]
    """The commits that wrote something which is still there, oldest first."""

    @property
    def epoch(self) -> Int64[np.ndarray, "..."]:
        """The epoch of the last write of every element; -1 for never."""
        epochs = np.array([write.epoch for write in self.writes] + [-1], np.int64)
        return np.asarray(epochs[self.number])

    def at(self, *index: int | Any) -> Write | None:
        """The last write of one element; None when it was never written.

        **Raises:** `InvalidArgumentError` for an index that isn't one of an element.
        """
        try:
            number = operator.index(self.number[index])
        except (IndexError, TypeError) as why:
            raise InvalidArgumentError(
                f"got the index {index} into {self.name} of shape {self.number.shape}; pass one whole number a "
                "dimension, that of an element"
            ) from why
        return None if number < 0 else self.writes[number]

    def __str__(self) -> str:
        of = "" if self.member is None else f" of member {self.member}"
        lines = [f"{self.name}{of}", f"{'epoch':>10}  {'elements':>12}  source / intent"]
        counts = np.bincount(self.number.reshape(-1) + 1, minlength=len(self.writes) + 1)
        shown = [i for i in reversed(range(len(self.writes))) if counts[i + 1]]
        for i in shown[:_SHOWN]:
            write = self.writes[i]
            why = f" / {write.intent}" if write.intent else ""
            lines.append(f"{write.epoch:>10}  {counts[i + 1]:>12,}  {write.source}{why}")
        if older := shown[_SHOWN:]:
            lines.append(f"{'…':>10}  {int(sum(counts[i + 1] for i in older)):>12,}  in {len(older)} older commits")
        if counts[0]:
            lines.append(f"{'never':>10}  {counts[0]:>12,}")
        return "\n".join(lines)


def blame(
    part: Part, page_words: int, rows: Iterable[Rows], begun: Write | None = None, *, by_element: bool = False
) -> Blame:
    """Go through the rows that touch a part, oldest first; the last writer of a word is to blame for it.

    The log has words, and several elements may share one: `by_element` tells them apart by who changed them last.
    `begun` is who wrote what no row tells of, if anybody did.
    """
    shared = part.per_element[1] if by_element else 1
    shape = len(part.ids), page_words * shared
    last = np.full(shape, 0 if begun is None else 1, np.uint32)  # 0: never; else index + 1
    contents = np.zeros((len(part.ids), page_words), np.uint32)
    writes = [] if begun is None else [begun]
    for each in rows:
        number = _numbered(each, writes)
        place = _places(part.ids, each.changes.page)
        if shared == 1:
            _enter(each.changes, number, place, last)
        else:
            for turn in _turns(place):
                _enter_changed(each.changes.take(turn), number[turn], place[turn], last, contents)
    number = (part.by_element(part.words(last)) if shared == 1 else part.narrow(last)).astype(np.int64) - 1
    used, dense = np.unique(number[number >= 0], return_inverse=True)
    order = np.array(number)
    order[number >= 0] = dense  # numbers of the writes that are left, without gaps
    return Blame(part.name, part.member, order, tuple(writes[i] for i in used.tolist()))


def _numbered(rows: Rows, writes: list[Write]) -> UInt32[np.ndarray, " n"]:
    """Give every tick and source of a commit a number, and return that of each row."""
    frame, changes, names = rows
    ticks = np.full(len(changes), frame.tick, np.uint32) if changes.tick is None else changes.tick
    keys = ticks.astype(np.int64) << 32 | changes.source
    _, first, which = np.unique(keys, return_index=True, return_inverse=True)
    in_order = np.argsort(first)
    number = np.empty(len(first), np.uint32)
    number[in_order] = np.arange(len(writes) + 1, len(writes) + 1 + len(first), dtype=np.uint32)
    writes += [
        Write(int(ticks[row]), names[changes.source[row]], names[frame.intent], frame.time_ns)
        for row in first[in_order].tolist()
    ]
    return number[which]


def _places(ids: Int32[np.ndarray, " k"], page: Int32[np.ndarray, " n"]) -> Int64[np.ndarray, " n"]:
    ascending = np.argsort(ids)
    return ascending[np.searchsorted(ids, page, sorter=ascending)]


def _enter(
    changes: PageChanges,
    number: UInt32[np.ndarray, " n"],
    place: Int64[np.ndarray, " n"],
    last: UInt32[np.ndarray, "k W"],
) -> None:
    """Set a number where its row writes: the last row wins."""
    bits = changes.bits(last.shape[1])
    if bits is None:
        last[place] = number[:, None]  # of equal indices the last one wins, as NumPy promises
    else:
        row, word = np.nonzero(bits)
        last[place[row], word] = number[row]


def _turns(place: Int64[np.ndarray, " n"]) -> Iterator[Bool[np.ndarray, " n"]]:
    """Iterate over flags of rows: of each place the first, then of each the second, and so on."""
    order = np.argsort(place, kind="stable")
    run = np.concatenate([[0], np.flatnonzero(np.diff(place[order])) + 1])  # where the rows of a place begin
    nth = np.arange(len(order)) - np.repeat(run, np.diff(np.append(run, len(order)))) if len(order) else order
    for turn in range(int(nth.max(initial=-1)) + 1):
        chosen = np.zeros(len(order), bool)
        chosen[order[nth == turn]] = True
        yield chosen


def _enter_changed(
    changes: PageChanges,
    number: UInt32[np.ndarray, " n"],
    place: Int64[np.ndarray, " n"],
    last: UInt32[np.ndarray, "k e"],
    contents: UInt32[np.ndarray, "k W"],
) -> None:
    """Set a number where its row changes an element that is narrower than a word. No place occurs twice."""
    width = contents.shape[1]
    bits, old = changes.bits(width), contents[place]
    words = changes.to_rows(width)[1]
    new = words if bits is None else np.where(bits, words, old)
    narrow = np.dtype(f"u{4 * width // last.shape[1]}")
    last[place] = np.where(old.view(narrow) != new.view(narrow), number[:, None], last[place])
    contents[place] = new
