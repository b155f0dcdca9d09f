"""The inside of a product: the terms of a row, and how they are folded through the levels of a matrix."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from ..kernels import fold_terms, rounded
from ..semiring import Semiring
from ._links import Block, end_to_end, spread
from ._sparse import SparseMatrix


def weights_of(block: Block) -> list[Any]:
    """The values of each slot, [pieces]. Split, not sliced: the derivatives of slices would be padded one by one."""
    if block.values is None:
        return [None] * block.columns.shape[1]
    leaves, structure = jax.tree.flatten(block.values)
    split = [[part[:, 0] for part in lax.split(leaf, (1,) * leaf.shape[1], axis=1)] for leaf in leaves]
    return [jax.tree.unflatten(structure, parts) for parts in zip(*split, strict=True)]


def widened(value: Array, like: Array) -> Array:
    """One number a piece, for every feature."""
    return jnp.broadcast_to(value.reshape(-1, *[1] * (like.ndim - 1)), like.shape)


def term_of(weight: Any, gathered: Any, semiring: Semiring) -> Any:
    """The values of a slot ⊗ what was gathered for it."""
    like = jax.tree.leaves(gathered)[0]
    if weight is None:
        if "one_is_neutral_on_the_left" not in semiring.lacks:
            return gathered
        wide = semiring.full(like.shape, "one", like.dtype)
    else:
        wide = jax.tree.map(lambda value: widened(value, like), weight)
    product = semiring.multiply(wide, gathered)
    # A minimum or maximum rounds nothing, so it has nothing to be contracted with.
    return product if semiring.add.selective else jax.tree.map(rounded, product)


def fold_first(matrix: SparseMatrix, terms: Callable[[int, Block], Callable[[int], Any]], add: Any) -> list[Any]:
    """Fold the terms of every piece of level 0, block by block; `terms(b, block)(k)` are those of slot k."""
    return [
        fold_terms(terms(b, block), block.columns.shape[1], block.lengths, block.shortest, add)
        for b, block in enumerate(matrix.first)
    ]


def fold_up(matrix: SparseMatrix, pieces: list[Any], add: Any, zero: Any) -> Any:
    """Fold pieces of level 0 on, and put each row's value in its place; `zero` [1, …] where there is none."""
    links = matrix.links
    found: list[Any] = [_joined(pieces)]
    for depth, blocks in enumerate(matrix.levels[1:]):
        reading = _reading(found[-1], blocks, None if links is None else links.upper[depth])
        folded = [
            fold_terms(reading(b), block.columns.shape[1], block.lengths, block.shortest, add)
            for b, block in enumerate(blocks)
        ]
        found.append(_joined(folded))
    if matrix.home is None:
        return found[0]
    # The pieces once more: writing what is found above into room behind them instead saves 5 of 52 ms with 64 features,
    # but then the compiler takes every gather of the levels above apart, and twice as long.
    everything, home = _joined([*found, zero]), matrix.home[:, None]
    last = None if links is None else links.last
    return jax.tree.map(lambda leaf: spread(leaf, [home], last)[0][0], everything)


def _joined(parts: list[Any]) -> Any:
    return jax.tree.map(lambda *leaves: end_to_end(list(leaves)), *parts)


def _reading(source: Any, blocks: tuple[Block, ...], back: Any) -> Callable[[int], Callable[[int], Any]]:
    leaves, structure = jax.tree.flatten(source)
    gathered = [spread(leaf, [block.columns for block in blocks], back) for leaf in leaves]
    return lambda b: lambda k: jax.tree.unflatten(structure, [leaf[b][k] for leaf in gathered])
