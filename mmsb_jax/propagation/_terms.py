"""The inside of a product: the terms of a row, and how they are folded through the levels of a matrix."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from ..kernels import fold_terms, rounded
from ..semiring import Semiring
from ._links import Block, end_to_end, spread
from ._sparse import SparseMatrix


def term_of(block: Block, k: int, gathered: Any, semiring: Semiring) -> Any:
    """A[:, slot k] ⊗ what was gathered for it."""
    shape = jax.tree.leaves(gathered)[0].shape
    if block.values is None:
        if "one_is_neutral_on_the_left" not in semiring.lacks:
            return gathered
        weight = semiring.full(shape, "one", gathered.dtype)
    else:
        weight = jax.tree.map(
            lambda v: jnp.broadcast_to(v[:, k].reshape(-1, *[1] * (len(shape) - 1)), shape), block.values
        )
    product = semiring.multiply(weight, gathered)
    # A minimum or maximum rounds nothing, so it has nothing to be contracted with.
    return product if semiring.add.selective else jax.tree.map(rounded, product)


def fold_up(matrix: SparseMatrix, terms: Callable[[int, Block], Callable[[int], Any]], add: Any, zero: Any) -> Any:
    """Fold the terms of level 0, then pieces, and put each row's value in its place; `zero` [1, …] where is none."""
    links = matrix.links
    found: list[Any] = []
    for depth, blocks in enumerate(matrix.levels):
        if depth == 0:
            reading = terms
        else:
            back = None if links is None else links.upper[depth - 1]
            reading = _reading(found[-1], blocks, back)
        folded = [
            fold_terms(reading(b, block), block.columns.shape[1], block.lengths, block.shortest, add)
            for b, block in enumerate(blocks)
        ]
        found.append(jax.tree.map(lambda *parts: end_to_end(list(parts)), *folded))
    if matrix.home is None:
        return found[0]
    everything = jax.tree.map(lambda *parts: end_to_end(list(parts)), *found, zero)
    last = None if links is None else links.last
    home = matrix.home[:, None]
    return jax.tree.map(lambda leaf: spread(leaf, [home], last)[0][0], everything)


def _reading(source: Any, blocks: tuple[Block, ...], back: Any) -> Callable[[int, Block], Callable[[int], Any]]:
    leaves, structure = jax.tree.flatten(source)
    gathered = [spread(leaf, [block.columns for block in blocks], back) for leaf in leaves]
    return lambda b, _: lambda k: jax.tree.unflatten(structure, [leaf[b][k] for leaf in gathered])
