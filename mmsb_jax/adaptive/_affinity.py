"""`Affinity`: which pages are used together, and how often. What a layout is optimised for."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse
from jaxtyping import Float32, Float64, Int32
from numpy.typing import ArrayLike

from .._errors import InvalidArgumentError, InvalidTypeError
from .._require import whole_number
from ..graph import EdgeKind, ShadowPageGraph
from ..physical import State
from ..propagation import SparseMatrix
from ._trace import Trace

__all__ = ["Affinity"]


class Affinity:
    """An undirected graph of pages that are used together. Immutable; NumPy, on the host.

    Each pair stands once, the lower page first; a page with itself doesn't count. `of` makes one of whatever says who
    is used with whom.

    >>> Affinity.of(mmsb.ShadowPageGraph.from_edges([0, 0, 1], [1, 1, 2], num_pages=4))
    Affinity(4 pages, 2 pairs, total weight 3)
    """

    one: Int32[np.ndarray, " pairs"]
    other: Int32[np.ndarray, " pairs"]
    weight: Float32[np.ndarray, " pairs"]
    """How often, greater than 0."""
    hits: Float64[np.ndarray, " pages"] | None
    """How often each page is used at all, if that is known."""

    def __init__(
        self,
        one: ArrayLike | Any,
        other: ArrayLike | Any,
        weight: ArrayLike | Any | None = None,
        *,
        num_pages: int | Any,
        hits: ArrayLike | Any | None = None,
    ) -> None:
        """Pairs of page ids, integers [pairs], with weights [pairs] (1 each by default); the same pair's are added.

        Raises `InvalidTypeError`, `InvalidArgumentError` for lengths, ids and weights that can't be.
        """
        count = whole_number(num_pages)
        if count is None or count < 0:
            raise InvalidArgumentError(f"got num_pages={num_pages!r}; pass how many pages there are")
        a, b = _ids("one", one, count), _ids("other", other, count)
        heavy = np.ones(len(a)) if weight is None else np.asarray(weight, np.float64)
        if a.shape != b.shape or heavy.shape != a.shape:
            raise InvalidArgumentError(
                f"got {len(a)} and {len(b)} page ids and weights of shape {heavy.shape}; pass one of each a pair"
            )
        if not np.all((heavy >= 0) & (heavy < np.inf)):
            raise InvalidArgumentError("weights say how often pages are used together: pass finite numbers from 0 on")
        used = (a != b) & (heavy > 0)
        key = np.minimum(a, b)[used] * count + np.maximum(a, b)[used]
        unique, place = np.unique(key, return_inverse=True)
        self.num_pages = count
        self.one, self.other = (unique // max(count, 1)).astype(np.int32), (unique % max(count, 1)).astype(np.int32)
        self.weight = np.bincount(place, heavy[used], minlength=len(unique)).astype(np.float32)
        self.hits = None if hits is None else _hits(hits, count)
        for array in (self.one, self.other, self.weight):
            array.flags.writeable = False

    @classmethod
    def of(cls, source: Any) -> Affinity:
        """The affinity that lies in a graph (its edges, a parent is read with its child), a `SparseMatrix` or a SciPy
        matrix (square; its entries), a `Trace` (pages of one batch), or a `State` (pages last changed in one tick).

        Raises `InvalidTypeError` for anything else.
        """
        if isinstance(source, Affinity):
            return source
        if isinstance(source, ShadowPageGraph):
            read = source.kind == EdgeKind.DATA
            uses = np.bincount(source.parent[read], minlength=source.num_pages) + 1
            return cls(source.parent[read], source.child[read], num_pages=source.num_pages, hits=uses)
        if isinstance(source, SparseMatrix):
            _require_square(source.shape)
            uses = np.bincount(source.col, minlength=source.shape[1])
            return cls(source.row, source.col, num_pages=source.shape[0], hits=uses)
        if scipy.sparse.issparse(source):
            _require_square(source.shape)
            found = source.tocoo()
            return cls(found.row, found.col, np.abs(found.data), num_pages=found.shape[0])
        if isinstance(source, State):
            source = Trace.of(source)
        if isinstance(source, Trace):
            return cls(*source.pairs(), num_pages=source.num_pages, hits=source.hits())
        observed = getattr(source, "affinity", None)  # Observed, and what others may have counted
        if callable(observed):
            return cls.of(observed())
        raise InvalidTypeError(
            f"got a {type(source).__name__}; pass a ShadowPageGraph, a SparseMatrix, a SciPy matrix, a Trace, a State "
            "or an Observed, or make an Affinity(one, other, weight, num_pages=…)"
        )

    @property
    def pairs(self) -> int:
        """How many pairs of pages are used together."""
        return len(self.one)

    def matrix(self) -> scipy.sparse.csr_array:
        """Symmetric, float32, [pages, pages]."""
        ends = (np.concatenate([self.one, self.other]), np.concatenate([self.other, self.one]))
        both = np.concatenate([self.weight, self.weight])
        return scipy.sparse.coo_array((both, ends), shape=(self.num_pages, self.num_pages)).tocsr()

    def __repr__(self) -> str:
        return f"Affinity({self.num_pages} pages, {self.pairs} pairs, total weight {self.weight.sum(dtype=float):g})"


def _ids(what: str, value: Any, count: int) -> np.ndarray:
    ids = np.asarray(value)
    if ids.size == 0:
        return np.zeros(0, np.int64)
    if ids.ndim != 1 or not np.issubdtype(ids.dtype, np.integer):
        raise InvalidTypeError(f"got {what} of dtype {ids.dtype} and shape {ids.shape}; pass page ids, [pairs]")
    if ids.min() < 0 or ids.max() >= count:
        raise InvalidArgumentError(f"got page ids from {ids.min()} to {ids.max()}; there are {count} pages")
    return ids.astype(np.int64)


def _hits(value: Any, count: int) -> np.ndarray:
    hits = np.asarray(value, np.float64)
    if hits.shape != (count,) or not np.all(hits >= 0):
        raise InvalidArgumentError(f"got hits of shape {hits.shape}; pass [{count}], numbers from 0 on")
    return hits


def _require_square(shape: tuple[int, int]) -> None:
    if shape[0] != shape[1]:
        raise InvalidArgumentError(f"got a matrix of shape {shape}; a layout is one order for rows and columns: square")
