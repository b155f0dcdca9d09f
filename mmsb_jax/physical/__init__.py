"""Layer 0: physical memory. The state's array of pages, its page table, and the allocator of page ids."""

from ._allocator import Allocator
from ._state import State
from ._words import as_words, from_words

__all__ = ["Allocator", "State", "as_words", "from_words"]
