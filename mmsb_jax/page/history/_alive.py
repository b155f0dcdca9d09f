"""What is there after many catalogue events: the pages that were created and not deleted, the edges likewise."""

import dataclasses
from collections.abc import Iterable

import numpy as np

from ..log._records import ADD, EdgeRecords, PageRecord
from ._target import CatalogEvent

__all__ = ["edges_alive", "records_alive"]


def records_alive(events: Iterable[CatalogEvent]) -> tuple[PageRecord, ...]:
    """Return the records that would create the pages that are alive as they are now, in the order of their creation.

    >>> made = PageRecord("create", np.array([3], np.int32), 8), PageRecord("create", np.array([4], np.int32), 8)
    >>> gone = PageRecord("delete", np.array([3], np.int32))
    >>> [record.pages.tolist() for record in records_alive([CatalogEvent(1, 0, 0, 0, (*made, gone))])]
    [[4]]
    """
    live: dict[int, PageRecord] = {}
    for event in events:
        for record in event.records if isinstance(event.records, tuple) else ():
            if record.op == "delete":
                live.pop(int(record.pages[0]), None)
            else:
                live[int(record.pages[0])] = dataclasses.replace(record, op="create")
    return tuple(live.values())


def edges_alive(events: Iterable[CatalogEvent], capacity: int) -> EdgeRecords:
    """Return the edges that are there, in the order in which they were added; the last word on each edge counts.

    >>> one, two = np.array([1], np.int32), np.array([2], np.int32)
    >>> told = EdgeRecords.of(1, one, two), EdgeRecords.of(1, two, one), EdgeRecords.of(2, one, two)
    >>> edges_alive([CatalogEvent(1, 0, 0, 0, edges) for edges in told], 8).parent.tolist()
    [2]
    """
    none = EdgeRecords.of(ADD, np.zeros(0, np.int32), np.zeros(0, np.int32))
    told = [none, *(event.records for event in events if isinstance(event.records, EdgeRecords))]
    names = ("op", "parent", "child", "kind", "weight", "weighted")
    columns = [np.concatenate([getattr(edges, name) for edges in told]) for name in names]
    op, parent, child, kind = columns[:4]
    keys = (kind.astype(np.int64) * capacity + parent) * capacity + child
    _, first_from_end = np.unique(keys[::-1], return_index=True)
    last = np.sort(len(keys) - 1 - first_from_end)
    kept = last[op[last] == ADD]
    return EdgeRecords(*(column[kept] for column in columns))
