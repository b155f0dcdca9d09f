"""`Semiring`: two operations that belong together."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import fields
from typing import Any, TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import treedef_is_leaf
from jax.typing import DTypeLike

from .._errors import InvalidArgumentError, InvalidTypeError
from ._element import KIND_NAMES, PROBE_DTYPES, BinaryOp, check_kinds, check_name, describe, kind_of
from ._monoid import Identity, Monoid

Interval: TypeAlias = tuple[Any, Any]
Carrier: TypeAlias = Interval | Callable[[np.dtype], Interval] | Any

# The laws, by the names under which a semiring may say that it lacks them.
LAWS = {
    "add_associates": "⊕ associates: (a ⊕ b) ⊕ c = a ⊕ (b ⊕ c)",
    "add_commutes": "⊕ commutes: a ⊕ b = b ⊕ a",
    "zero_is_neutral": "zero is the identity of ⊕: a ⊕ zero = a",
    "multiply_associates": "⊗ associates: (a ⊗ b) ⊗ c = a ⊗ (b ⊗ c)",
    "one_is_neutral_on_the_left": "one is the identity of ⊗ on the left: one ⊗ a = a",
    "one_is_neutral_on_the_right": "one is the identity of ⊗ on the right: a ⊗ one = a",
    "distributes_from_the_left": "⊗ distributes from the left: a ⊗ (b ⊕ c) = (a ⊗ b) ⊕ (a ⊗ c)",
    "distributes_from_the_right": "⊗ distributes from the right: (a ⊕ b) ⊗ c = (a ⊗ c) ⊕ (b ⊗ c)",
    "zero_annihilates_on_the_left": "zero annihilates on the left: zero ⊗ a = zero",
    "zero_annihilates_on_the_right": "zero annihilates on the right: a ⊗ zero = zero",
}
IDEMPOTENT = "⊕ is idempotent, as claimed: a ⊕ a = a"


class Semiring(eqx.Module):
    """Two operations, ⊕ (`add`) and ⊗ (`multiply`), made from four pieces.

    ⊕ with `zero` is a commutative monoid, ⊗ with `one` a monoid, ⊗ distributes over ⊕, and `zero` annihilates under ⊗.
    `check_laws` tests that; nothing here takes it on trust.

    **Arguments**

    - `name`: shown in messages and tables.
    - `add`, `multiply`: functions of two arrays, element by element, keeping shape and dtype.
    - `zero`, `one`: their identities, each a scalar or a function dtype -> scalar; or pytrees of scalars: the values
      are then such trees, of just these dtypes, and the functions take two trees of arrays and return one.
    - `idempotent`: whether a ⊕ a = a, which `closure` needs; known by itself for JAX's min, max, and, or.
    - `selective`: whether a ⊕ b is one of a and b, which `arg` needs; known by itself for min and max.
    - `kinds`: which dtypes it is meant for: "f" floating, "i" signed, "u" unsigned integers, "b" bool.
    - `carrier`: the closed interval of values on which the laws are claimed (`zero` and `one` always belong to it), or
      a function dtype -> interval; of trees a tree of intervals. None: the whole dtype for integers and bool, for
      floating dtypes numbers far from overflow. NaN never belongs to a carrier: laws say nothing about it.
    - `lacks`: names of laws (of `mmsb.semiring.LAWS`) that it doesn't keep, so that it is no true semiring. It may be
      used in a product, where only what is stored is combined; `closure` refuses it, and `check_laws` confirms that it
      lacks these and no others.

    All fields are static, so that a semiring is hashable and may be passed to a jitted function like any other
    argument. Make it once and keep it: another lambda is another semiring, and compiles again.

    Raises `InvalidTypeError` or `InvalidArgumentError` for pieces that can't make a semiring.

    >>> import jax.numpy as jnp, mmsb_jax.semiring as sr, numpy as np
    >>> def shorter(a, b):  # (length of the shortest path, how many there are)
    ...     most = jnp.minimum(a[0], b[0])
    ...     return most, jnp.where(a[0] == most, a[1], 0) + jnp.where(b[0] == most, b[1], 0)
    >>> count_shortest = Semiring(
    ...     "count_shortest",
    ...     add=shorter,
    ...     zero=(np.float32(np.inf), np.int32(0)),
    ...     multiply=lambda a, b: (a[0] + b[0], a[1] * b[1]),
    ...     one=(np.float32(0), np.int32(1)),
    ...     carrier=((0, 100), (0, 9)),
    ... )
    >>> count_shortest.add((jnp.float32(3), jnp.int32(2)), (jnp.float32(3), jnp.int32(5)))
    (Array(3., dtype=float32), Array(7, dtype=int32))
    """

    name: str = eqx.field(static=True)
    add: Monoid = eqx.field(static=True)
    multiply: Monoid = eqx.field(static=True)
    kinds: str = eqx.field(static=True)
    carrier: Carrier = eqx.field(static=True)
    lacks: frozenset[str] = eqx.field(static=True)
    argument: bool = eqx.field(static=True)
    """Whether a product also tells which term won: see `arg`."""

    def __init__(
        self,
        name: str,
        add: BinaryOp,
        zero: Identity,
        multiply: BinaryOp,
        one: Identity,
        *,
        idempotent: bool | None = None,
        selective: bool | None = None,
        kinds: str = "fiub",
        carrier: Carrier = None,
        lacks: Iterable[str] | Any = (),
    ) -> None:
        self.name = check_name(name)
        self.kinds = check_kinds(name, kinds)
        self.add = Monoid(f"{name} ⊕", add, zero, idempotent=idempotent, selective=selective, kinds=kinds)
        self.multiply = Monoid(f"{name} ⊗", multiply, one, idempotent=False, commutative=False, kinds=kinds)
        if _dtypes(self.add) != _dtypes(self.multiply):
            raise InvalidTypeError(
                f"{name}: zero is {_element(self.add)} and one is {_element(self.multiply)}; both must have the "
                "structure and the dtypes of the values"
            )
        self.carrier = _checked_carrier(name, carrier, self.add.element)
        self.lacks = frozenset(lacks)
        if unknown := sorted(self.lacks - LAWS.keys()):
            raise InvalidArgumentError(f"{name} lacks {unknown[0]!r}, which is no law; there are {', '.join(LAWS)}")
        self.argument = False

    def __repr__(self) -> str:
        return f"Semiring({self.name!r})"

    def __hash__(self) -> int:
        return hash((self.name, self.add, self.multiply, self.argument))

    @property
    def idempotent(self) -> bool:
        """Whether a ⊕ a = a is claimed."""
        return self.add.idempotent

    @property
    def element(self) -> jax.tree_util.PyTreeDef | None:
        """Structure of the values where they are pytrees; None where they are numbers."""
        return self.add.element

    def supports(self, dtype: DTypeLike) -> bool:
        """Whether `dtype` is one that this semiring is meant for and that can hold `zero` and `one`."""
        try:
            self.require(dtype)
        except InvalidTypeError:
            return False
        return True

    def require(self, dtype: DTypeLike | None) -> None:
        """Raise `InvalidTypeError`, with the dtypes that would do, unless `supports(dtype)`."""
        if self.element is not None:
            raise InvalidTypeError(
                f"{self.name} is not defined on {np.dtype(dtype).name}; its values are {_element(self.add)}: pass a "
                "tree of arrays of that structure"
            )
        if dtype is None:
            raise InvalidTypeError(f"{self.name} has another identity in every dtype; pass one, e.g. jnp.float32")
        if kind_of(dtype) not in tuple(self.kinds):
            raise InvalidTypeError(
                f"{self.name} is not defined on {np.dtype(dtype).name}; it works on "
                + ", ".join(KIND_NAMES[kind] for kind in self.kinds)
                + ". Cast the values, e.g. values.astype(jnp."
                + f"{np.dtype(PROBE_DTYPES[self.kinds[0]]).name.replace('bool', 'bool_')}), or use another semiring"
            )
        self.add.identity(dtype)
        self.multiply.identity(dtype)

    def require_values(self, values: Any) -> None:
        """Raise `InvalidTypeError` unless these arrays are values of this semiring; they have one shape."""
        leaves, structure = jax.tree.flatten(values)
        if self.element is None and leaves and treedef_is_leaf(structure):
            self.require(leaves[0].dtype)
            return
        if (str(structure), [leaf.dtype for leaf in leaves]) != _dtypes(self.add):
            wanted = "arrays of numbers" if self.element is None else _element(self.add)
            raise InvalidTypeError(f"the values of {self.name} are {wanted}; got {describe(values)}")
        if len({leaf.shape for leaf in leaves}) != 1:
            raise InvalidTypeError(f"the arrays of a value must have one shape; got {describe(values)}")

    def zero(self, dtype: DTypeLike | None = None) -> Any:
        """The identity of ⊕ as a scalar of `dtype`, or a tree of scalars.

        Raises `InvalidTypeError` for a dtype it isn't meant for.
        """
        if self.element is None:
            self.require(dtype)
        return self.add.identity(dtype)

    def one(self, dtype: DTypeLike | None = None) -> Any:
        """The identity of ⊗ as a scalar of `dtype`, or a tree of scalars.

        Raises `InvalidTypeError` for a dtype it isn't meant for.
        """
        if self.element is None:
            self.require(dtype)
        return self.multiply.identity(dtype)

    def full(self, shape: tuple[int, ...], which: str, dtype: DTypeLike | None = None) -> Any:
        """An array, or a tree of arrays, of `which`, "zero" or "one".

        >>> import mmsb_jax.semiring as sr, numpy as np
        >>> sr.min_plus.full((2,), "zero", np.float32)
        Array([inf, inf], dtype=float32)
        """
        identity = self.zero(dtype) if which == "zero" else self.one(dtype)
        return jax.tree.map(lambda leaf: jnp.full(shape, jnp.asarray(leaf)), identity)

    def interval(self, dtype: DTypeLike) -> Interval | None:
        """Lowest and highest value of the carrier in `dtype`, or None where no carrier was declared."""
        return self.carrier(np.dtype(dtype)) if callable(self.carrier) else self.carrier


def arg(semiring: Semiring | Any, name: str | None = None) -> Semiring:
    """The same semiring, whose products also say which term won: `matmul` returns `Selected(value, index)`.

    **Arguments:** `semiring`, one whose ⊕ selects, such as a minimum; `name`, by default "arg_" and its name.

    Of terms that are equal, the one in the lowest column wins; a row without entries has the index −1.

    Raises `InvalidArgumentError` for a semiring whose ⊕ combines (+, or), since none of the terms wins there, and for
    values that are trees: they can carry an index themselves.

    >>> import mmsb_jax as mmsb, numpy as np
    >>> roads = mmsb.SparseMatrix.from_coo([0, 0, 1], [1, 2, 2], np.float32([5, 9, 3]), (3, 3))
    >>> mmsb.matmul(roads, np.float32([np.inf, 3, 0]), mmsb.semiring.arg_min_plus).index
    Array([ 1,  2, -1], dtype=int32)
    """
    if not isinstance(semiring, Semiring):
        raise InvalidTypeError(f"got a {type(semiring).__name__} where a Semiring is needed")
    if not semiring.add.selective or semiring.element is not None:
        raise InvalidArgumentError(
            f"{semiring.name}: ⊕ must select one of two numbers, as min and max do, for one of them to win. If yours "
            "does, say so: Semiring(…, selective=True)"
        )
    found: Semiring = object.__new__(Semiring)
    for field in fields(Semiring):
        object.__setattr__(found, field.name, getattr(semiring, field.name))
    object.__setattr__(found, "name", check_name(name or f"arg_{semiring.name}"))
    object.__setattr__(found, "argument", True)
    return found


def _dtypes(monoid: Monoid) -> Any:
    """Structure and dtypes of its values, to be compared; structures themselves can't be compared with None."""
    if monoid.element is None:
        return None
    return str(monoid.element), [leaf.dtype for leaf in jax.tree.leaves(monoid.identity())]


def _element(monoid: Monoid) -> str:
    return "numbers" if monoid.element is None else f"trees {describe(monoid.identity()).replace('[]', '')}"


def _checked_carrier(name: str, carrier: Any, element: Any) -> Any:
    if carrier is None or (callable(carrier) and element is None):
        return carrier
    try:
        pairs = [carrier] if element is None else element.flatten_up_to(carrier)
        good = all(isinstance(pair, tuple) and len(pair) == 2 for pair in pairs)
    except ValueError:
        good = False
    if good:
        return carrier
    raise InvalidTypeError(
        f"{name}: the carrier must be a pair (lowest, highest), a function dtype -> pair, or None; for values that "
        f"are trees, such a tree of pairs; got {carrier!r}"
    )
