"""Layer 0: physical memory. The array of pages, its page table, the allocator of ids, and any pytree on pages."""

from ._allocator import Allocator, AllocatorStats
from ._leaf import Leaf
from ._paging import Paging
from ._placement import PINNED, UNPINNED, append_void, begin_partial, enter, host_memory, leave, make_whole, rearrange
from ._state import State, page_words_of
from ._words import as_words, from_words

__all__ = [
    "PINNED",
    "UNPINNED",
    "Allocator",
    "AllocatorStats",
    "Leaf",
    "Paging",
    "State",
    "append_void",
    "as_words",
    "begin_partial",
    "enter",
    "from_words",
    "host_memory",
    "leave",
    "make_whole",
    "page_words_of",
    "rearrange",
]
