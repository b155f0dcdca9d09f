"""Which moments a run has and what its pages mean at each: what every question about its past begins with."""

import os
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from jaxtyping import Int64

from ..._errors import InvalidArgumentError, InvalidTypeError, PageNotFoundError
from ..._require import whole_number
from ...physical import Paging
from ..log._about import About
from ..log._storage import Place, as_path
from ._alive import records_alive
from ._blame import Write
from ._content import Content, Part
from ._past import Past
from ._replay import Replayed

__all__ = ["Timeline"]

_BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)


class Timeline:
    """The epochs and the parts of a run, and the checks of what is asked about them."""

    def __init__(self, place: Place | Any, like: Any) -> None:
        if not isinstance(place, str | os.PathLike) and not hasattr(place, "publish"):
            raise InvalidTypeError(f"got a {type(place).__name__} for a run; pass the path of its directory")
        self.place: Place = as_path(place) if isinstance(place, str | os.PathLike) else place
        self.past = Past(self.place)
        self.first, self.last, self.page_words = self.past.first, self.past.last, self.past.run.page_words
        self.about = About.of_records(self.past.records())
        self._content: Content | None = None
        if self.about is not None:
            paging = self.about.paging if like is None else _paging_like(like, self.about.paging)
            self._content = Content.of_paging(paging, self.about.members)
        elif like is not None:
            raise InvalidArgumentError("got like=…, but this run is that of a bus: its pages are arrays by name")

    @property
    def begun(self) -> Write | None:
        """Who wrote what no row tells of: in a recorded run the initial state, whose pages of zeros aren't logged."""
        if self.about is None or self.first:
            return None
        created = datetime.fromisoformat(self.past.run.created)
        return Write(0, "init", "", (created - _BEGINNING) // timedelta(microseconds=1) * 1000)

    # Moments.

    @property
    def every(self) -> int:
        """Ticks from one moment to the next."""
        return 1 if self.about is None else self.about.every

    @property
    def epochs(self) -> Int64[np.ndarray, " n"]:
        """All epochs that can be asked for, ascending."""
        found = np.arange(-(-self.first // self.every) * self.every, self.last + 1, self.every, dtype=np.int64)
        return np.unique(np.concatenate([np.array([self.first, self.last], np.int64), found]))

    def moment(self, epoch: Any, step: Any, time: Any) -> int:
        """The one epoch that is meant; exactly one of the three is not None."""
        given = [value for value in (epoch, step, time) if value is not None]
        if len(given) != 1:
            raise InvalidArgumentError(f"got {len(given)} of epoch, step and time; pass exactly one")
        if time is not None:
            return self.past.tick_at(_nanoseconds(time))
        return self.epoch(given[0], "epoch" if step is None else "step")

    def stretch(self, first: Any, last: Any) -> tuple[int, int]:
        """From where to where; None stands for the beginning and the end."""
        begin = self.first if first is None else self.epoch(first, "first")
        end = self.last if last is None else self.epoch(last, "last")
        if begin > end:
            raise InvalidArgumentError(f"got first={first} and last={last}, but {begin} comes after {end}; swap them")
        return begin, end

    def epoch(self, given: Any, what: str = "epoch") -> int:
        """An epoch of this run; a negative one counts from the end."""
        number = whole_number(given)
        if number is None:
            raise InvalidTypeError(f"got {what}={given!r}; pass a whole number")
        tick = number + self.last + 1 if number < 0 else number
        if not self.first <= tick <= self.last:
            why = f". {self.past.lost}" if tick < self.first and self.past.lost else ""
            raise InvalidArgumentError(f"got {what} {number}, but this run has {self.first} to {self.last}{why}")
        if tick % self.every and tick not in (self.first, self.last):
            low = max(tick // self.every * self.every, self.first)
            raise InvalidArgumentError(
                f"got {what} {number}, but only every {self.every}th step was recorded; the nearest are {low} and "
                f"{min(low + self.every, self.last)}"
            )
        return tick

    # Parts.

    def member(self, member: Any) -> int | None:
        """A member of this ensemble; None stays None."""
        members = None if self.about is None else self.about.members
        number = whole_number(member)
        if member is None:
            return None
        if members is None or number is None or not 0 <= number < members:
            have = "is no ensemble" if members is None else f"has members 0 to {members - 1}"
            raise InvalidArgumentError(f"got member={member!r}, but this run {have}")
        return number

    def content(self, tick: int) -> Content:
        """What the pages meant at a tick."""
        return self._content or self.content_of(self.past.at(tick))

    def fixed_content(self) -> Content:
        """What the pages of a recorded run mean, always. Raises `InvalidArgumentError` for the run of a bus."""
        if self._content is None:
            raise InvalidArgumentError(f"{self.place} is the run of a bus, not a recorded one: its pages come and go")
        return self._content

    def content_of(self, found: Replayed) -> Content:
        """What the pages of a replayed state mean."""
        return self._content or Content.of_records(records_alive(found.events), self.page_words)

    def part(self, part: Any, tick: int, member: Any) -> Part:
        """The one part that a name or the id of a page means at a tick. Raises as `Run.blame`."""
        found = self.parts(part, tick, self.member(member))
        if len(found) > 1:
            names = ", ".join(repr(each.name) for each in found[:5])
            how = "pass member=… for one of the members" if isinstance(part, str) else "name one of them"
            raise InvalidArgumentError(f"got {part!r}, which is several parts ({names}); {how}")
        return found[0]

    def parts(self, part: Any, tick: int, member: int | None = None) -> list[Part]:
        """The parts that a name means, of one member or of all, or those on a page. Raises as `Run.page_history`."""
        if isinstance(part, str):
            return self.content(tick).parts(part, member)
        number = whole_number(part)
        if number is None:
            raise InvalidTypeError(f"got a {type(part).__name__}; pass a leaf's tree path, a page's name, or a page id")
        found = self.content(tick).on_page(number)
        if not found:
            raise PageNotFoundError(f"nothing lies on page {part} at epoch {tick}")
        return found


def _paging_like(like: Any, recorded: Paging) -> Paging:
    paging = like if isinstance(like, Paging) else Paging.like(like, page_bytes=4 * recorded.page_words)
    if paging.leaves != recorded.leaves:
        for ours, theirs in zip(paging.leaves, recorded.leaves, strict=False):
            if ours != theirs:
                raise InvalidArgumentError(
                    f"like has {ours.dtype}{list(ours.shape)} at {ours.path!r}, but recorded was "
                    f"{theirs.dtype}{list(theirs.shape)} at {theirs.path!r}"
                )
        raise InvalidArgumentError(f"like has {len(paging.leaves)} leaves, but recorded were {len(recorded.leaves)}")
    return paging


def _nanoseconds(time: Any) -> int:
    if isinstance(time, datetime):
        if time.tzinfo is None:
            raise InvalidArgumentError(
                f"got the time {time}, which has no time zone; pass datetime.now(UTC) or the like"
            )
        return (time - _BEGINNING) // timedelta(microseconds=1) * 1000
    if isinstance(time, int | float | np.number) and not isinstance(time, bool):
        if not -(2**33) < float(time) < 2**33:  # nor NaN
            raise InvalidArgumentError(f"got the time {time}; pass seconds since 1970, such as time.time()")
        return int(time * 1e9)
    raise InvalidTypeError(f"got a {type(time).__name__} for a time; pass a datetime, or Unix time in seconds")
