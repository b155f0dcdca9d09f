"""Orders of pages that are known, and quickly made: what a result is held against."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np
from jaxtyping import Int32
from scipy.sparse.csgraph import reverse_cuthill_mckee

from ._affinity import Affinity
from ._coarse import hierarchy

__all__ = ["BASELINES", "hotness", "metis", "rcm", "spectral", "use_of"]

_COARSEST = 500
_SWEEPS = 8
Order = Int32[np.ndarray, " pages"]


def identity(affinity: Affinity, block: int) -> Order:
    """By id."""
    del block
    return np.arange(affinity.num_pages, dtype=np.int32)


def hotness(affinity: Affinity, block: int) -> Order:
    """The most used page first."""
    del block
    return np.argsort(-use_of(affinity), kind="stable").astype(np.int32)


def hot_middle(affinity: Affinity, block: int) -> Order:
    """The most used page in the middle, then one to its left and one to its right, outwards."""
    hot = hotness(affinity, block)
    return np.concatenate([hot[::2][::-1], hot[1::2]])


def rcm(affinity: Affinity, block: int) -> Order:
    """Reverse Cuthill-McKee, SciPy's."""
    del block
    return np.asarray(reverse_cuthill_mckee(affinity.matrix(), symmetric_mode=True), np.int32)


def spectral(affinity: Affinity, block: int) -> Order:
    """By the second eigenvector of the Laplacian, found on a coarse graph and smoothed on finer ones.

    (Barnard and Simon, Fast multilevel implementation of recursive spectral bisection, Concurrency 6, 1994.)
    """
    del block
    if affinity.pairs == 0:
        return np.arange(affinity.num_pages, dtype=np.int32)
    levels = hierarchy(affinity, _COARSEST)
    finest_last = [*reversed([affinity, *(level.affinity for level in levels)])]
    sizes = [*reversed([np.ones(affinity.num_pages), *(level.size for level in levels)])]
    coarsest, size = finest_last[0], sizes[0]
    if coarsest.num_pages > 4 * _COARSEST:  # nothing like a mesh: it has no coarse graph
        return hotness(affinity, 1)
    adjacency = coarsest.matrix()
    laplacian = np.diag(adjacency.sum(axis=1)) - adjacency.toarray()
    root = 1 / np.sqrt(size)
    vectors = np.linalg.eigh(root[:, None] * laplacian * root)[1][:, 1:3] * root[:, None]
    for finer, size, level in zip(finest_last[1:], sizes[1:], reversed(levels), strict=True):
        vectors = _smoothed(finer, size, vectors[level.of_page])
    return np.argsort(vectors[:, 0], kind="stable").astype(np.int32)


def _smoothed(affinity: Affinity, size: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """Some sweeps of averaging over neighbours, then the best combinations of the vectors (Rayleigh and Ritz)."""
    adjacency = affinity.matrix()
    degree = np.maximum(adjacency.sum(axis=1), 1e-30)[:, None]
    for _ in range(_SWEEPS):
        vectors = 0.5 * vectors + 0.5 * (adjacency @ vectors) / degree
    vectors = vectors - (size[:, None] * vectors).sum(axis=0) / size.sum()
    mass = vectors.T @ (size[:, None] * vectors)
    stiffness = vectors.T @ (degree * vectors - adjacency @ vectors)
    values, axes = np.linalg.eigh(mass)
    keep = values > 1e-12 * values.max(initial=0)
    whiten = axes[:, keep] / np.sqrt(values[keep])
    turned = np.linalg.eigh(whiten.T @ stiffness @ whiten)[1]
    return vectors @ whiten @ turned


def metis(affinity: Affinity, block: int) -> Order | None:
    """Pages by their part, of parts of about `block` pages, as METIS finds them by recursive bisection; None where
    `pymetis` isn't installed."""
    if find_spec("pymetis") is None:
        return None
    pymetis: Any = import_module("pymetis")
    matrix = affinity.matrix()
    parts = max(1, round(affinity.num_pages / block))
    if parts == 1 or affinity.pairs == 0:
        return np.arange(affinity.num_pages, dtype=np.int32)
    adjacency = pymetis.CSRAdjacency(matrix.indptr, matrix.indices)
    whole = np.maximum(np.round(matrix.data / matrix.data.max() * 1000), 1).astype(np.int64)
    found = pymetis.part_graph(parts, adjacency, eweights=whole, recursive=True)
    return np.argsort(np.asarray(found.vertex_part), kind="stable").astype(np.int32)


def use_of(affinity: Affinity) -> np.ndarray:
    """How often each page is used: as counted, or else by the weight of its pairs."""
    if affinity.hits is not None:
        return affinity.hits
    both = np.concatenate([affinity.one, affinity.other])
    return np.bincount(both, np.concatenate([affinity.weight] * 2), affinity.num_pages)


BASELINES: dict[str, Callable[[Affinity, int], Order | None]] = {
    "identity": identity,
    "hotness": hotness,
    "hot middle": hot_middle,
    "rcm": rcm,
    "spectral": spectral,
    "metis": metis,
}
