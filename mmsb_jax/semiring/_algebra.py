"""`Monoid` and `Semiring`: an operation with its identity, and two of them that belong together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike, DTypeLike

from .._errors import InvalidArgumentError, InvalidTypeError

# `| Any`: what a user passes is checked here, by value, with an error that says how to mend it.
Scalar: TypeAlias = bool | int | float | np.generic | np.ndarray | jax.Array
Identity: TypeAlias = Scalar | Callable[[np.dtype], Any] | Any
Interval: TypeAlias = tuple[Any, Any]
Carrier: TypeAlias = Interval | Callable[[np.dtype], Interval] | Any
BinaryOp: TypeAlias = Callable[[Any, Any], Any] | Any

_KIND_NAMES = {"f": "floating", "i": "signed integers", "u": "unsigned integers", "b": "bool"}
_PROBE_DTYPES = {"f": np.float32, "i": np.int32, "u": np.uint32, "b": np.bool_}
_IDEMPOTENT_OPS = frozenset(
    {jnp.minimum, jnp.maximum, jnp.logical_or, jnp.logical_and, jnp.bitwise_or, jnp.bitwise_and}
)


def kind_of(dtype: DTypeLike) -> str:
    """One letter for a dtype: "f", "i", "u", "b", or "" for what no semiring here can carry."""
    families: dict[str, Any] = {"b": jnp.bool_, "f": jnp.floating, "u": jnp.unsignedinteger, "i": jnp.signedinteger}
    return next((kind for kind, family in families.items() if jnp.issubdtype(dtype, family)), "")


def _static_scalar(what: str, value: Identity) -> bool | int | float | Callable[[np.dtype], Any]:
    """Arrays as Python scalars, which can be hashed and compared as static data."""
    if isinstance(value, np.generic | np.ndarray | jax.Array) and np.ndim(value) == 0:
        return value.item()
    if callable(value) or isinstance(value, bool | int | float):
        return value
    raise InvalidTypeError(
        f"{what} must be a scalar, or a function dtype -> scalar; got {value!r}. E.g. 0.0, jnp.inf, "
        "or lambda dtype: jnp.iinfo(dtype).max"
    )


def _fits(number: bool | int | float, dtype: np.dtype) -> bool:
    if kind_of(dtype) == "f":
        return True
    if kind_of(dtype) == "b":
        return number in (0, 1)
    if isinstance(number, float) and not number.is_integer():  # inf and nan are no integers either
        return False
    return bool(jnp.iinfo(dtype).min <= number <= jnp.iinfo(dtype).max)


def _as_dtype(what: str, value: bool | int | float | Callable[[np.dtype], Any], dtype: np.dtype) -> np.generic:
    number = np.asarray(value(dtype) if callable(value) else value).item()
    if not _fits(number, dtype):
        raise InvalidTypeError(
            f"{what} is {number!r}, which {dtype.name} can't hold; use a dtype that can, or give it as a "
            "function of the dtype, e.g. lambda dtype: jnp.iinfo(dtype).max"
        )
    return dtype.type(int(number) if kind_of(dtype) in "iu" else number)


def _check_op(what: str, op: BinaryOp, kinds: str) -> None:
    """Refuse an operation that isn't (a, b) -> c, element by element, for the first dtype it is meant for."""
    if not callable(op):
        raise InvalidTypeError(f"{what} must be a function of two arrays such as jnp.minimum; got {op!r}")
    probe = jax.ShapeDtypeStruct((2, 3), _PROBE_DTYPES[kinds[0]])
    try:
        out = jax.eval_shape(op, probe, probe)
    except Exception as error:
        raise InvalidArgumentError(
            f"{what} failed on two arrays {probe.dtype.name}{list(probe.shape)}: {error}. It must take two arrays of "
            "one shape and dtype, be traceable by JAX, and return one of the same shape and dtype"
        ) from error
    if getattr(out, "shape", None) != probe.shape or getattr(out, "dtype", None) != probe.dtype:
        raise InvalidArgumentError(
            f"{what} must keep shape and dtype: two arrays {probe.dtype.name}{list(probe.shape)} gave {out}. "
            "Cast inside the operation, e.g. .astype(a.dtype), and reduce nothing"
        )


def _check_kinds(name: str, kinds: str) -> str:
    if not kinds or set(kinds) - set(_KIND_NAMES):
        raise InvalidArgumentError(
            f"{name}: kinds is {kinds!r}; it must be made of the letters "
            + ", ".join(f"{letter!r} ({meaning})" for letter, meaning in _KIND_NAMES.items())
        )
    return kinds


def _check_name(name: str) -> str:
    if not isinstance(name, str) or not name:
        raise InvalidTypeError(f"the name must be a string that isn't empty, e.g. 'min_plus'; got {name!r}")
    return name


class Monoid(eqx.Module):
    """An associative operation with an identity; call it to combine two arrays.

    **Arguments:** `name`; `op(a, b)`, element by element, keeping shape and dtype; `identity`, a scalar or a function
    dtype -> scalar; `idempotent`: whether `op(a, a) == a` (by default known for JAX's min, max, and, or, and False for
    anything else); `commutative`. Every field is static: a monoid is hashable and may be closed over, passed to a
    jitted function, or be a `static_argnums`.

    Raises `InvalidTypeError` or `InvalidArgumentError` for pieces that can't make a monoid.

    >>> import jax.numpy as jnp
    >>> longest = Monoid("longest", jnp.maximum, -jnp.inf)
    >>> longest.identity(jnp.float32), longest.idempotent
    (np.float32(-inf), True)
    """

    name: str = eqx.field(static=True)
    op: BinaryOp = eqx.field(static=True)
    unit: bool | int | float | Callable[[np.dtype], Any] = eqx.field(static=True)
    idempotent: bool = eqx.field(static=True)
    commutative: bool = eqx.field(static=True)
    kinds: str = eqx.field(static=True)

    def __init__(
        self,
        name: str,
        op: BinaryOp,
        identity: Identity,
        *,
        idempotent: bool | None = None,
        commutative: bool = True,
        kinds: str = "fiub",
    ) -> None:
        self.name = _check_name(name)
        self.kinds = _check_kinds(name, kinds)
        _check_op(f"the operation of {name!r}", op, kinds)
        self.op = op
        self.unit = _static_scalar(f"the identity of {name!r}", identity)
        self.idempotent = op in _IDEMPOTENT_OPS if idempotent is None else bool(idempotent)
        self.commutative = bool(commutative)

    def __hash__(self) -> int:
        return hash((self.name, self.op, self.unit))

    def __repr__(self) -> str:
        return f"Monoid({self.name!r})"

    def __call__(self, a: ArrayLike, b: ArrayLike) -> Any:
        """`op(a, b)`."""
        return self.op(a, b)

    def identity(self, dtype: DTypeLike) -> np.generic:
        """The identity as a scalar of `dtype`. Raises `InvalidTypeError` where `dtype` can't hold it."""
        return _as_dtype(f"the identity of {self.name!r}", self.unit, np.dtype(dtype))


class Semiring(eqx.Module):
    """Two operations, ⊕ (`add`) and ⊗ (`multiply`), made from four pieces.

    ⊕ with `zero` is a commutative monoid, ⊗ with `one` a monoid, ⊗ distributes over ⊕, and `zero` annihilates under ⊗.
    `check_laws` tests that; nothing here takes it on trust.

    **Arguments**

    - `name`: shown in messages and tables.
    - `add`, `multiply`: functions of two arrays, element by element, keeping shape and dtype.
    - `zero`, `one`: their identities, each a scalar or a function dtype -> scalar.
    - `idempotent`: whether a ⊕ a = a, which `closure` needs; known by itself for JAX's min, max, and, or.
    - `kinds`: which dtypes it is meant for: "f" floating, "i" signed, "u" unsigned integers, "b" bool.
    - `carrier`: the closed interval of values on which the laws are claimed (`zero` and `one` always belong to it), or
      a function dtype -> interval. None: the whole dtype for integers and bool, for floating dtypes numbers far from
      overflow. NaN never belongs to a carrier: laws say nothing about it.

    All fields are static, so that a semiring is hashable and may be passed to a jitted function like any other
    argument. Make it once and keep it: another lambda is another semiring, and compiles again.

    Raises `InvalidTypeError` or `InvalidArgumentError` for pieces that can't make a semiring.

    >>> import jax.numpy as jnp, mmsb_jax.semiring as sr
    >>> most_reliable = Semiring(
    ...     "max_times_01", add=jnp.maximum, zero=0.0, multiply=jnp.multiply, one=1.0, kinds="f", carrier=(0.0, 1.0)
    ... )
    >>> sr.check_laws(most_reliable).ok
    True
    """

    name: str = eqx.field(static=True)
    add: Monoid = eqx.field(static=True)
    multiply: Monoid = eqx.field(static=True)
    kinds: str = eqx.field(static=True)
    carrier: Carrier = eqx.field(static=True)

    def __init__(
        self,
        name: str,
        add: BinaryOp,
        zero: Identity,
        multiply: BinaryOp,
        one: Identity,
        *,
        idempotent: bool | None = None,
        kinds: str = "fiub",
        carrier: Carrier = None,
    ) -> None:
        self.name = _check_name(name)
        self.kinds = _check_kinds(name, kinds)
        self.add = Monoid(f"{name} ⊕", add, zero, idempotent=idempotent, kinds=kinds)
        self.multiply = Monoid(f"{name} ⊗", multiply, one, idempotent=False, commutative=False, kinds=kinds)
        if not (carrier is None or callable(carrier) or (isinstance(carrier, tuple) and len(carrier) == 2)):
            raise InvalidTypeError(
                f"{name}: the carrier must be a pair (lowest, highest), a function dtype -> pair, or None; "
                f"got {carrier!r}"
            )
        self.carrier = carrier

    def __repr__(self) -> str:
        return f"Semiring({self.name!r})"

    def __hash__(self) -> int:
        return hash((self.name, self.add, self.multiply))

    @property
    def idempotent(self) -> bool:
        """Whether a ⊕ a = a is claimed."""
        return self.add.idempotent

    def supports(self, dtype: DTypeLike) -> bool:
        """Whether `dtype` is one that this semiring is meant for and that can hold `zero` and `one`."""
        try:
            self.require(dtype)
        except InvalidTypeError:
            return False
        return True

    def require(self, dtype: DTypeLike) -> None:
        """Raise `InvalidTypeError`, with the dtypes that would do, unless `supports(dtype)`."""
        if kind_of(dtype) not in tuple(self.kinds):
            raise InvalidTypeError(
                f"{self.name} is not defined on {np.dtype(dtype).name}; it works on "
                + ", ".join(_KIND_NAMES[kind] for kind in self.kinds)
                + ". Cast the values, e.g. values.astype(jnp."
                + f"{np.dtype(_PROBE_DTYPES[self.kinds[0]]).name.replace('bool', 'bool_')}), or use another semiring"
            )
        self.add.identity(dtype)
        self.multiply.identity(dtype)

    def zero(self, dtype: DTypeLike) -> np.generic:
        """The identity of ⊕ as a scalar of `dtype`. Raises `InvalidTypeError` for a dtype it isn't meant for."""
        self.require(dtype)
        return self.add.identity(dtype)

    def one(self, dtype: DTypeLike) -> np.generic:
        """The identity of ⊗ as a scalar of `dtype`. Raises `InvalidTypeError` for a dtype it isn't meant for."""
        self.require(dtype)
        return self.multiply.identity(dtype)

    def interval(self, dtype: DTypeLike) -> Interval | None:
        """Lowest and highest value of the carrier in `dtype`, or None where no carrier was declared."""
        return self.carrier(np.dtype(dtype)) if callable(self.carrier) else self.carrier
