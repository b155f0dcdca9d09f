"""What a recorded run says of itself, in the PAGES frame that follows its creation: what its pages mean.

Every leaf (or page shared by small leaves) is a created page like those of a bus, named by its tree path; the first
record's metadata describes the whole. So the log alone tells a reader everything, and a bus can go on with the run.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..._errors import InvalidArgumentError
from ..._require import whole_number
from ...physical import Paging
from ._records import PageRecord

__all__ = ["About"]

KEY = "mmsb.recording"
_VERSION = 1


@dataclass(frozen=True)
class About:
    """How a run was recorded: what its pages hold, every how many steps, and of how many members.

    >>> about = About(Paging.like({"x": np.float32([1, 2]), "t": 0}, page_bytes=64), every=10)
    >>> records = about.records()
    >>> [(record.name, record.pages.tolist()) for record in records]
    [("['t'], ['x']", [0])]
    >>> About.of_records(records).every
    10
    """

    paging: Paging
    every: int = 1
    """Steps from one recorded state to the next; the last step of a run is recorded in any case."""
    members: int | None = None
    """How many members an ensemble has; None for a single run. Member `m` has the pages from `m * num_pages` on."""
    whole: bool = True
    """Whether the recorded tree is the whole state of the loop, so that the run can be resumed."""

    @property
    def num_pages(self) -> int:
        """Pages of all members."""
        return self.paging.num_pages * (1 if self.members is None else self.members)

    def records(self) -> tuple[PageRecord, ...]:
        """The records for the run's PAGES frame."""
        page_bytes = 4 * self.paging.page_words
        found = []
        for member in range(self.members or 1):
            of_member = "" if self.members is None else f"member {member}: "
            for group in self.paging.groups:
                first, last = group[0].pages.start, max(leaf.pages.stop for leaf in group)
                ids = np.arange(first, last, dtype=np.int32) + np.int32(member * self.paging.num_pages)
                name = of_member + ", ".join(leaf.path for leaf in group)
                found.append(PageRecord("create", ids, len(ids) * page_bytes, name or "the tree"))
        description = {
            "version": _VERSION,
            "every": self.every,
            "members": self.members,
            "whole": self.whole,
            "paging": self.paging.describe(),
        }
        if not found:  # a tree without a single word still says so
            found = [PageRecord("create", np.zeros(1, np.int32), page_bytes, "the tree")]
        first_record = found[0]
        found[0] = PageRecord(
            "create", first_record.pages, first_record.size, first_record.name, metadata={KEY: description}
        )
        return tuple(found)

    @classmethod
    def of_records(cls, records: Iterable[PageRecord]) -> "About | None":
        """What the records of a run say; None when it is not a recorded one.

        **Raises:** `InvalidArgumentError` for a description that can't be.
        """
        for record in records:
            if KEY in record.metadata:
                return cls._of(record.metadata[KEY])
        return None

    @classmethod
    def _of(cls, data: Any) -> "About":
        if not isinstance(data, dict) or data.get("version") != _VERSION:
            raise InvalidArgumentError("this run was recorded by another version of mmsb_jax; its pages are bare words")
        members = None if data.get("members") is None else _positive("members", data)
        paging = Paging.from_description(data.get("paging"))
        return cls(paging, _positive("every", data), members, data.get("whole") is True)


def _positive(name: str, data: dict[str, Any]) -> int:
    number = whole_number(data.get(name))
    if number is None or not 1 <= number < 2**31:
        raise InvalidArgumentError(f"the run's description says {name}={data.get(name)!r}; it is a number from 1 on")
    return number
