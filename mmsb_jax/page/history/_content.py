"""What the pages of a run mean: the leaves of a recorded tree, or the pages that a bus has made.

Either way a *part* has a name, some pages in order, and a way from their words to an array and its elements.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Int32, Int64, UInt32

from ..._errors import PageNotFoundError
from ..._text import nearest
from ...physical import Leaf, Paging
from ..log._changes import PageChanges
from ..log._records import PageRecord

__all__ = ["Content", "Part"]


@dataclass(frozen=True, eq=False)
class Part:
    """A named array on some pages. `member` is its member of an ensemble, None where there is none.

    >>> part = Part("pressure", np.array([4], np.int32), Leaf("pressure", np.dtype("f4"), (2,), pages=range(4, 5)))
    >>> part.decode(np.array([[0x3F800000, 0, 7]], np.uint32))
    array([1., 0.], dtype=float32)
    """

    name: str
    ids: Int32[np.ndarray, " k"]
    leaf: Leaf
    member: int | None = None

    def written_by(self, changes: PageChanges, page_words: int) -> Bool[np.ndarray, " n"]:
        """Which rows set words of this part, rather than others of a page that it shares."""
        bits = changes.bits(page_words)
        if bits is None or len(self.ids) != 1:
            return np.isin(changes.page, self.ids)
        own = bits[:, self.leaf.offset : self.leaf.offset + self.leaf.words]
        return (changes.page == self.ids[0]) & own.any(axis=1)

    def words(self, rows: UInt32[np.ndarray, "k W"]) -> UInt32[np.ndarray, " words"]:
        """The words of the part, from the rows of its pages."""
        return rows.reshape(-1)[self.leaf.offset : self.leaf.offset + self.leaf.words]

    def decode(self, rows: UInt32[np.ndarray, "k W"]) -> Any:
        """The array, from the rows of its pages: NumPy, or a typed key."""
        return self.leaf.to_numpy(self.words(rows))

    def narrow(self, rows: np.ndarray) -> np.ndarray:
        """One value per element, in the part's shape, from rows that have one for each; several share a word."""
        first = self.leaf.offset * self.per_element[1]
        return rows.reshape(-1)[first : first + self.leaf.size].reshape(self.leaf.shape)

    @property
    def per_element(self) -> tuple[int, int]:
        """`(words of an element, elements of a word)`; one of them is 1."""
        if self.leaf.impl is not None or self.leaf.dtype.itemsize >= 4:
            return max(1, self.leaf.words // max(self.leaf.size, 1)), 1
        return 1, 4 // self.leaf.dtype.itemsize

    def by_element(self, values: np.ndarray) -> np.ndarray:
        """One value per word of the part as one per element, in the part's shape: its words' greatest."""
        words, elements = self.per_element
        flat = np.repeat(values, elements) if elements > 1 else values.reshape(-1, words).max(axis=1)
        return flat[: self.leaf.size].reshape(self.leaf.shape)

    def differs(self, old: UInt32[np.ndarray, " words"], new: UInt32[np.ndarray, " words"]) -> Int64[np.ndarray, " n"]:
        """Which elements differ in their bits, by flat index."""
        width = max(1, 4 * self.per_element[0] // self.per_element[1])
        before, after = (np.ascontiguousarray(words).view(np.uint8) for words in (old, new))
        unlike = (before != after).reshape(-1, width)
        return np.flatnonzero(unlike.any(axis=1)[: self.leaf.size])


class Content:
    """All parts of a run at one moment, found by name or by page.

    >>> record = PageRecord("create", np.array([2, 5], np.int32), 40, "wind")
    >>> content = Content.of_records([record], page_words=8)
    >>> content.parts("wind")[0].ids.tolist(), content.naming(5), content.naming(3)
    ([2, 5], ['wind'], [])
    """

    def __init__(self, parts: Iterable[Part], paging: Paging | None = None, members: int | None = None) -> None:
        self.all = tuple(parts)
        self.paging, self.members = paging, members
        self._by_name: dict[str, list[Part]] = {}
        for part in self.all:
            self._by_name.setdefault(part.name, []).append(part)

    @classmethod
    def of_records(cls, records: Sequence[PageRecord], page_words: int) -> "Content":
        """The pages that a bus has made, as arrays of bytes; one without a name is called by its first id."""
        parts = []
        for record in records:
            name = record.name or f"page {record.pages[0]}"
            leaf = Leaf(name, np.dtype(np.uint8), (record.size,), pages=range(len(record.pages)))
            parts.append(Part(name, record.pages, leaf))
        return cls(parts)

    @classmethod
    def of_paging(cls, paging: Paging, members: int | None = None) -> "Content":
        """The leaves of a recorded tree; those of an ensemble once for every member."""
        ids = [np.arange(leaf.pages.start, leaf.pages.stop, dtype=np.int32) for leaf in paging.leaves]
        return cls(
            (
                Part(leaf.path, ids[i] + np.int32((member or 0) * paging.num_pages), leaf, member)
                for member in (range(members) if members is not None else [None])
                for i, leaf in enumerate(paging.leaves)
            ),
            paging,
            members,
        )

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all parts, each once."""
        return tuple(self._by_name)

    def parts(self, name: str, member: int | None = None) -> list[Part]:
        """The parts of this name: one, or one for each member. Raises `PageNotFoundError` when there is none."""
        found = self._by_name.get(name) or self._by_name.get(f"['{name}']") or self._by_name.get(f".{name}")
        if not found:
            near = nearest(name, self._by_name)
            hint = f"; did you mean {near!r}?" if near else ""
            known = ", ".join(map(repr, self.names[:5])) or "none"
            raise PageNotFoundError(f"nothing in this run is called {name!r}; there are {known}{hint}")
        return [part for part in found if member is None or part.member == member]

    def on_page(self, page: int) -> list[Part]:
        """The parts that lie on a page."""
        return [part for part in self.all if page in part.ids]

    def naming(self, page: int) -> list[str]:
        """The names of the parts on a page."""
        return [part.name for part in self.on_page(page)]

    def tree(self, pages: UInt32[np.ndarray, "P W"], member: int | None = None) -> Any:
        """The whole content of some pages: the recorded tree, or a dict of arrays by name."""
        if self.paging is None:
            return {part.name: part.decode(pages[part.ids]) for part in self.all}
        if self.members is None:
            return self.paging.from_pages(pages)
        each = pages.reshape(self.members, self.paging.num_pages, -1)
        if member is not None:
            return self.paging.from_pages(each[member])
        return _stacked([self.paging.from_pages(rows) for rows in each])


def _stacked(trees: Sequence[Any]) -> Any:
    # Imported here: what only reads bytes needs no JAX.
    import jax
    import jax.numpy as jnp

    def stack(*leaves: Any) -> Any:
        if not isinstance(leaves[0], np.ndarray | jax.Array):
            return leaves[0]
        return jnp.stack(leaves) if isinstance(leaves[0], jax.Array) else np.stack(leaves)

    return jax.tree.map(stack, *trees)
