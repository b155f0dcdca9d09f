"""`Monoid`: an associative operation with its identity."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike, DTypeLike

from .._errors import InvalidArgumentError
from ._element import (
    PROBE_DTYPES,
    BinaryOp,
    Scalar,
    Unit,
    as_dtype,
    check_kinds,
    check_name,
    check_op,
    kind_of,
    unit_of,
)

Identity: TypeAlias = Scalar | Callable[[np.dtype], Any] | Any

# What JAX has for an operation: reduction along an axis, scatter (a method of `x.at[i]`). The scatter isn't the fold of
# floats under + and ×, since the order of its operands isn't promised.
_REDUCTIONS: dict[Any, Callable[..., Any]] = {
    jnp.minimum: jnp.min,
    jnp.maximum: jnp.max,
    jnp.add: jnp.sum,
    jnp.multiply: jnp.prod,
    jnp.logical_or: jnp.any,
    jnp.logical_and: jnp.all,
    jnp.bitwise_or: jnp.bitwise_or.reduce,
    jnp.bitwise_and: jnp.bitwise_and.reduce,
    jnp.bitwise_xor: jnp.bitwise_xor.reduce,
}
_SCATTERS: dict[Any, str] = {jnp.minimum: "min", jnp.maximum: "max", jnp.add: "add", jnp.multiply: "multiply"}
_SELECTIVE = frozenset({jnp.minimum, jnp.maximum})
_IDEMPOTENT = frozenset({*_SELECTIVE, jnp.logical_or, jnp.logical_and, jnp.bitwise_or, jnp.bitwise_and})
_ROUNDS = frozenset({jnp.add, jnp.multiply})
_UNITS: dict[Any, int] = {jnp.add: 0, jnp.bitwise_xor: 0, jnp.multiply: 1}


class Monoid(eqx.Module):
    """An associative operation with an identity; call it to combine two arrays.

    **Arguments**

    - `name`
    - `op`: `op(a, b)`, element by element, keeping shape and dtype.
    - `identity`: a scalar, a function dtype -> scalar, or, for values that are pytrees, a pytree of scalars; `op` then
      takes two such trees of arrays and returns one.
    - `idempotent`: whether `op(a, a) == a`; known by itself for JAX's min, max, and, or; False for anything else.
    - `selective`: whether `op(a, b)` is always one of `a` and `b`; known by itself for min and max.
    - `commutative`
    - `kinds`: which dtypes it is meant for.

    Every field is static: a monoid is hashable and may be closed over, passed to a jitted function, or be a
    `static_argnums`.

    Raises `InvalidTypeError` or `InvalidArgumentError` for pieces that can't make a monoid.

    >>> import jax.numpy as jnp
    >>> longest = Monoid("longest", jnp.maximum, -jnp.inf)
    >>> longest.identity(jnp.float32), longest.idempotent
    (np.float32(-inf), True)
    """

    name: str = eqx.field(static=True)
    op: BinaryOp = eqx.field(static=True)
    unit: Unit = eqx.field(static=True)
    element: jax.tree_util.PyTreeDef | None = eqx.field(static=True)
    """Structure of the values, where they are pytrees."""
    idempotent: bool = eqx.field(static=True)
    selective: bool = eqx.field(static=True)
    commutative: bool = eqx.field(static=True)
    kinds: str = eqx.field(static=True)

    def __init__(
        self,
        name: str,
        op: BinaryOp,
        identity: Identity,
        *,
        idempotent: bool | None = None,
        selective: bool | None = None,
        commutative: bool = True,
        kinds: str = "fiub",
    ) -> None:
        self.name = check_name(name)
        self.kinds = check_kinds(name, kinds)
        self.unit, self.element = unit_of(f"the identity of {name!r}", identity)
        self.op = op
        check_op(f"the operation of {name!r}", op, self._probe())
        self.selective = op in _SELECTIVE if selective is None else bool(selective)
        self.idempotent = (op in _IDEMPOTENT or self.selective) if idempotent is None else bool(idempotent)
        self.commutative = bool(commutative)

    def _probe(self) -> Any:
        if self.element is None:
            return jax.ShapeDtypeStruct((2, 3), PROBE_DTYPES[self.kinds[0]])
        return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((2, 3), leaf.dtype), self.identity())

    def __hash__(self) -> int:
        return hash((self.name, self.op, self.unit))

    def __repr__(self) -> str:
        return f"Monoid({self.name!r})"

    def __call__(self, a: ArrayLike | Any, b: ArrayLike | Any) -> Any:
        """`op(a, b)`."""
        return self.op(a, b)

    def identity(self, dtype: DTypeLike | None = None) -> Any:
        """The identity as a scalar of `dtype`; where values are pytrees, as a pytree of scalars, without `dtype`.

        Raises `InvalidTypeError` where `dtype` can't hold it.
        """
        if self.element is not None:
            return jax.tree.unflatten(self.element, [jnp.dtype(name).type(unit) for unit, name in self.unit])  # type: ignore[union-attr]
        return as_dtype(f"the identity of {self.name!r}", self.unit, np.dtype(dtype))

    def neutral(self, dtype: DTypeLike) -> Any:
        """A number for which `op(total, it)` is `total` bit for bit, where a total began with the identity; or None.

        Not always the identity: −0 + 0 is 0, and a sum of numbers that are flushed to zero may be −0. Only known of
        JAX's own operations.

        >>> import jax.numpy as jnp, mmsb_jax.semiring as sr
        >>> sr.min_plus.add.neutral(jnp.float32), sr.plus_times.add.neutral(jnp.float32)
        (np.float32(inf), np.float32(-0.0))
        >>> sr.log_plus.add.neutral(jnp.float32)
        """
        if self.op in _IDEMPOTENT or (self.op in _UNITS and self.unit == _UNITS[self.op]):
            identity = self.identity(dtype)
            return -identity if self.op is jnp.add and kind_of(dtype) == "f" else identity
        return None

    def scatter(self, dtype: DTypeLike) -> str | None:
        """The method of `x.at[i]` that combines in any order to the same bits: "min", "max", "add"; or None."""
        name = _SCATTERS.get(self.op)
        if name in ("min", "max") and kind_of(dtype) == "f":  # of −0 and 0, the one that comes first or last
            return name
        return name if kind_of(dtype) in ("i", "u") or (kind_of(dtype) == "b" and name in ("min", "max")) else None

    def fold(self, values: ArrayLike | Any, axis: int = 0) -> Any:
        """Combine all values along an axis; the identity where there are none.

        Neighbours are combined, then neighbouring results, and so on: in an order that depends on the length alone,
        so that the same values give the same bits. Where the order can't matter, JAX's own reduction does it.

        **Arguments:** `values`, an array or, where values are pytrees, a tree of arrays of one shape; `axis`, which is
        gone from the result.

        >>> import jax.numpy as jnp, mmsb_jax.semiring as sr
        >>> sr.min_plus.add.fold(jnp.float32([3, 1, 2])), sr.min_plus.multiply.fold(jnp.float32([3, 1, 2]))
        (Array(1., dtype=float32), Array(6., dtype=float32))
        """
        arrays = self._moved(values, axis)
        first = jax.tree.leaves(arrays)[0]
        if len(first) == 0:
            return self._full(first.shape[1:], first.dtype)
        if self.op in _REDUCTIONS and not (self.op in _ROUNDS and kind_of(first.dtype) == "f"):
            found: Any = _REDUCTIONS[self.op](arrays, axis=0)
            return found.astype(first.dtype)
        while (count := len(jax.tree.leaves(arrays)[0])) > 1:
            even, odd, rest = (jax.tree.map(lambda x, s=part: x[s], arrays) for part in _halves(count))
            arrays = jax.tree.map(lambda x, y: jnp.concatenate([x, y]), self.op(even, odd), rest)
        return jax.tree.map(lambda x: x[0], arrays)

    def accumulate(self, values: ArrayLike | Any, axis: int = 0) -> Any:
        """Running results along an axis, the first value first: `lax.associative_scan`. Arguments as for `fold`.

        >>> import jax.numpy as jnp, mmsb_jax.semiring as sr
        >>> sr.max_plus.add.accumulate(jnp.float32([1, 3, 2]))
        Array([1., 3., 3.], dtype=float32)
        """
        arrays = self._moved(values, axis)
        scanned = lax.associative_scan(self.op, arrays) if len(jax.tree.leaves(arrays)[0]) else arrays
        return jax.tree.map(lambda x: jnp.moveaxis(x, 0, axis), scanned)

    def _moved(self, values: Any, axis: int) -> Any:
        arrays = jax.tree.map(jnp.asarray, values)
        shapes = {leaf.shape for leaf in jax.tree.leaves(arrays)}
        if len(shapes) != 1 or not -len(shape := next(iter(shapes))) <= axis < len(shape):
            raise InvalidArgumentError(
                f"{self.name}: got arrays of shape {', '.join(map(str, shapes)) or 'nothing'} to fold along axis "
                f"{axis}; pass arrays of one shape that have such an axis"
            )
        return jax.tree.map(lambda x: jnp.moveaxis(x, axis, 0), arrays)

    def _full(self, shape: tuple[int, ...], dtype: DTypeLike | None) -> Any:
        """The identity, in an array or a tree of arrays."""
        return jax.tree.map(lambda unit: jnp.full(shape, jnp.asarray(unit)), self.identity(dtype))


def _halves(count: int) -> tuple[slice, slice, slice]:
    even = count - count % 2
    return slice(0, even, 2), slice(1, even, 2), slice(even, count)
