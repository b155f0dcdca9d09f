"""What a layout is good for: smooth costs of positions to descend along, and the exact cost of slots.

Each objective is a sum over pairs of pages, weighted by how often they are used together. Positions are real numbers in
units of slots; `scale`, in slots too, is how far the cost is smoothed, and falls during a descent.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_derivatives import SymbolicZero
from jaxtyping import Array, Float32

from .._errors import InvalidArgumentError, InvalidTypeError
from .._require import whole_number
from ..propagation import SparseMatrix
from ..propagation._pairs import pair_sum, pair_total
from ._affinity import Affinity
from ._trace import Trace

__all__ = ["Cut", "Dirty", "Linear", "Log", "Objective", "Pairs", "as_objective"]


class Pairs(eqx.Module):
    """An `Affinity` on the device, to be passed to jitted functions.

    >>> Pairs.of(Affinity([0, 1], [1, 2], num_pages=3)).num_pages
    3
    """

    matrix: SparseMatrix
    """Symmetric, float32."""

    @classmethod
    def of(cls, affinity: Affinity | Any) -> Pairs:
        """Lay it out, on the host, once."""
        found = Affinity.of(affinity)
        ends = (np.concatenate([found.one, found.other]), np.concatenate([found.other, found.one]))
        both = np.concatenate([found.weight, found.weight])
        return cls(SparseMatrix.from_coo(*ends, both, (found.num_pages, found.num_pages)))

    @property
    def num_pages(self) -> int:
        """How many pages there are."""
        return self.matrix.shape[0]


class Objective(eqx.Module):
    """A cost of layouts; lower is better. `Linear`, `Log`, `Cut`, `Dirty`, or a sum of them.

    >>> (Linear() + 0.5 * Log(64)).name
    '1 linear + 0.5 log'
    """

    @property
    @abstractmethod
    def name(self) -> str:
        """What it is called in a report."""

    @abstractmethod
    def between(self, x: Array, other: Array, scale: Array) -> Array:
        """The smooth cost of a pair at these positions, of weight 1."""

    @abstractmethod
    def cost(self, affinity: Affinity, slot_of_page: np.ndarray) -> float:
        """The exact cost of slots: int[pages]."""

    @abstractmethod
    def scales(self, pages: int) -> tuple[float, float]:
        """The scale at which a descent begins, and that at which it ends."""

    def __call__(self, positions: Float32[Array, " pages"], pairs: Pairs, scale: Any) -> Float32[Array, ""]:
        """The smooth cost of positions, float32[pages]: differentiable, jittable.

        >>> import jax
        >>> pairs = Pairs.of(Affinity([0], [1], num_pages=2))
        >>> jax.grad(Linear())(jnp.float32([0, 3]), pairs, 4)
        Array([-0.6,  0.6], dtype=float32)
        """
        return _smooth(positions, (self, pairs, jnp.asarray(scale, jnp.float32)))

    def slope(self, positions: Float32[Array, " pages"], pairs: Pairs, scale: Array) -> Float32[Array, " pages"]:
        """The gradient, summed up in a fixed order, without a scatter."""

        def pair(own: Array, other: Array) -> Array:
            cost, back = jax.vjp(lambda x: self.between(x, other, scale), own)
            return back(jnp.ones_like(cost))[0]

        return pair_sum(pairs.matrix, positions, pair)

    def __add__(self, other: Objective) -> Objective:
        return _Sum((*_parts(self), *_parts(other)))

    def __rmul__(self, factor: float) -> Objective:
        return _Sum(tuple((float(factor) * weight, part) for weight, part in _parts(self)))


@jax.custom_jvp
def _smooth(positions: Array, how: tuple[Objective, Pairs, Array]) -> Array:
    objective, pairs, scale = how
    # Each pair stands twice.
    return 0.5 * pair_total(pairs.matrix, positions, lambda own, other: objective.between(own, other, scale))


def _smooth_jvp(primals: Any, tangents: Any) -> tuple[Array, Array]:
    """By positions with the fixed order of `slope`; by all else, such as weights and scale, as JAX does it."""
    positions, (objective, pairs, scale) = primals
    moved, by = tangents[0], jax.tree.leaves(tangents[1], is_leaf=_stays)
    total = jnp.zeros((), jnp.float32)
    if not _stays(moved):
        total += jnp.vdot(objective.slope(positions, pairs, scale), moved)
    leaves, tree = jax.tree.flatten(primals[1])
    moving = [number for number, tangent in enumerate(by) if not _stays(tangent)]
    if moving:

        def of(*some: Array) -> Array:
            every = list(leaves)
            for number, leaf in zip(moving, some, strict=True):
                every[number] = leaf
            found: Array = _smooth.fun(positions, jax.tree.unflatten(tree, every))
            return found

        total += jax.jvp(of, [leaves[number] for number in moving], [by[number] for number in moving])[1]
    return _smooth(*primals), total


def _stays(tangent: Any) -> bool:
    return isinstance(tangent, SymbolicZero)


_smooth.defjvp(_smooth_jvp, symbolic_zeros=True)


class Linear(Objective):
    """Linear arrangement: Σ w·|slot − slot′|. Smooth: Σ w·√(d² + scale²).

    >>> Linear().cost(Affinity([0, 1], [1, 2], num_pages=3), np.array([2, 0, 1]))
    3.0
    """

    @property
    def name(self) -> str:
        """See `Objective`."""
        return "linear"

    def between(self, x: Array, other: Array, scale: Array) -> Array:
        """See `Objective`."""
        return jnp.sqrt((x - other) ** 2 + scale**2)

    def cost(self, affinity: Affinity, slot_of_page: np.ndarray) -> float:
        """See `Objective`."""
        slots = slot_of_page.astype(np.int64)
        return float((affinity.weight * np.abs(slots[affinity.one] - slots[affinity.other])).sum(dtype=np.float64))

    def scales(self, pages: int) -> tuple[float, float]:
        """See `Objective`."""
        return _down_to(1.0, pages)


class Log(Objective):
    """Block locality: the weight of pairs that don't lie in one block of `block` slots.

    Smooth: Σ ½w·log(1 + d²/scale²), which cares for who is near and not for how far away the others are; the scale ends
    at a quarter of the block.

    >>> Log(2).cost(Affinity([0, 1], [1, 2], num_pages=3), np.array([2, 0, 1]))
    1.0
    """

    block: int = eqx.field(static=True)

    @property
    def name(self) -> str:
        """See `Objective`."""
        return "log"

    def between(self, x: Array, other: Array, scale: Array) -> Array:
        """See `Objective`."""
        return _near(x, other, scale)

    def cost(self, affinity: Affinity, slot_of_page: np.ndarray) -> float:
        """See `Objective`."""
        return _apart(affinity, slot_of_page // self.block)

    def scales(self, pages: int) -> tuple[float, float]:
        """See `Objective`."""
        return _down_to(self.block / 4, pages)


class Cut(Objective):
    """Edges between shards: the weight of pairs in different ones of `shards` equal runs of slots.

    Smooth: as for `Log`, with the size of a shard for that of a block.

    >>> Cut(3).cost(Affinity([0, 1], [1, 2], num_pages=3), np.array([2, 0, 1]))
    2.0
    """

    shards: int = eqx.field(static=True)

    @property
    def name(self) -> str:
        """See `Objective`."""
        return "cut"

    def between(self, x: Array, other: Array, scale: Array) -> Array:
        """See `Objective`."""
        return _near(x, other, scale)

    def cost(self, affinity: Affinity, slot_of_page: np.ndarray) -> float:
        """See `Objective`."""
        return _apart(affinity, self.shard(slot_of_page))

    def shard(self, slot_of_page: np.ndarray) -> np.ndarray:
        """The shard in which each page lies. Raises `InvalidArgumentError` for anything but one slot a page.

        >>> Cut(2).shard(np.array([2, 0, 1]))
        array([1, 0, 0])
        """
        if slot_of_page.ndim != 1:
            raise InvalidArgumentError(f"got slots of shape {slot_of_page.shape}; pass those of all pages, [pages]")
        return slot_of_page.astype(np.int64) * self.shards // max(len(slot_of_page), 1)

    def scales(self, pages: int) -> tuple[float, float]:
        """See `Objective`."""
        return _down_to(pages / self.shards / 4, pages)


class Dirty(Objective):
    """Blocks of `block` slots that are written for each batch of pages: what a checkpoint costs.

    Of a `Trace`, its batches. Without, each page with those that it is used together with, by how often it is hit.
    Smooth: Σ w·(1 − exp(−√(d² + scale²)/block)), about the chance that a pair lies in two blocks.

    >>> Dirty(2, Trace([[0, 1], [2]], num_pages=3)).cost(Affinity([], [], num_pages=3), np.array([2, 0, 1]))
    1.5
    """

    block: int = eqx.field(static=True)
    trace: Trace | None = eqx.field(static=True, default=None)

    @property
    def name(self) -> str:
        """See `Objective`."""
        return "dirty"

    def between(self, x: Array, other: Array, scale: Array) -> Array:
        """See `Objective`."""
        reach = jnp.maximum(scale * 4, self.block)  # from far away, too, it must be felt
        return 1 - jnp.exp(-jnp.sqrt((x - other) ** 2 + scale**2) / reach)

    def cost(self, affinity: Affinity, slot_of_page: np.ndarray) -> float:
        """See `Objective`."""
        block = slot_of_page.astype(np.int64) // self.block
        if self.trace is not None:
            return self.trace.distinct(block[self.trace.page]) / max(len(self.trace), 1)
        pages = np.arange(affinity.num_pages)
        page = np.concatenate([pages, affinity.one, affinity.other])
        near = np.concatenate([pages, affinity.other, affinity.one])
        found = np.unique(page * (int(block.max(initial=0)) + 1) + block[near])
        blocks = np.bincount(found // (int(block.max(initial=0)) + 1), minlength=affinity.num_pages)
        used = affinity.hits if affinity.hits is not None and affinity.hits.any() else None
        return float(np.average(blocks, weights=used)) if affinity.num_pages else 0.0

    def scales(self, pages: int) -> tuple[float, float]:
        """See `Objective`."""
        return _down_to(self.block / 4, pages)


class _Sum(Objective):
    parts: tuple[tuple[float, Objective], ...] = eqx.field(static=True)

    @property
    def name(self) -> str:
        return " + ".join(f"{weight:g} {part.name}" for weight, part in self.parts)

    def between(self, x: Array, other: Array, scale: Array) -> Array:
        return sum((weight * part.between(x, other, scale) for weight, part in self.parts), jnp.float32(0))

    def cost(self, affinity: Affinity, slot_of_page: np.ndarray) -> float:
        return sum(weight * part.cost(affinity, slot_of_page) for weight, part in self.parts)

    def scales(self, pages: int) -> tuple[float, float]:
        found = [part.scales(pages) for _, part in self.parts]
        return max(first for first, _ in found), min(last for _, last in found)


def _parts(objective: Objective) -> tuple[tuple[float, Objective], ...]:
    return objective.parts if isinstance(objective, _Sum) else ((1.0, objective),)


def _apart(affinity: Affinity, part: np.ndarray) -> float:
    return float(affinity.weight[part[affinity.one] != part[affinity.other]].sum(dtype=np.float64))


def _near(x: Array, other: Array, scale: Array) -> Array:
    return 0.5 * jnp.log1p(((x - other) / scale) ** 2)


def _down_to(last: float, pages: int) -> tuple[float, float]:
    return max(pages / 30, last, 1.0), max(last, 1.0)


def as_objective(wanted: Objective | str | Any, block: Any, shards: Any) -> Objective:
    """An objective, or the one of a name. Raises `InvalidTypeError`, `InvalidArgumentError`."""
    if isinstance(wanted, Objective):
        return wanted
    slots, parts = whole_number(block), whole_number(shards)
    if slots is None or slots < 1 or parts is None or parts < 1:
        raise InvalidArgumentError(f"got block={block!r}, shards={shards!r}; pass whole numbers from 1 on")
    named: dict[str, Objective] = {"linear": Linear(), "log": Log(slots), "cut": Cut(parts), "dirty": Dirty(slots)}
    if not isinstance(wanted, str):
        raise InvalidTypeError(f"got a {type(wanted).__name__}; pass an Objective, or one of {', '.join(named)}")
    if wanted not in named:
        raise InvalidArgumentError(f"got objective={wanted!r}; pass one of {', '.join(named)}, or an Objective")
    return named[wanted]
