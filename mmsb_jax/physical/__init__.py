"""Layer 0: physical memory. The array of pages, its page table, the allocator of ids, and any pytree on pages."""

from ._allocator import Allocator, AllocatorStats
from ._leaf import Leaf
from ._paging import Paging
from ._state import State
from ._words import as_words, from_words

__all__ = ["Allocator", "AllocatorStats", "Leaf", "Paging", "State", "as_words", "from_words"]
