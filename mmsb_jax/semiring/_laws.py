"""`check_laws`: does a semiring keep the laws that it claims? By sampling, with a counterexample where it doesn't."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from .._errors import InvalidArgumentError, SemiringLawError
from .._require import require_instance
from ._algebra import Semiring, kind_of

_DEFAULT_DTYPES = {"f": np.float32, "i": np.int32, "u": np.uint32, "b": np.bool_}
_RANDOM_VALUES = 8
Sides = Callable[..., tuple[Any, Any]]


class LawResult(eqx.Module):
    """One law: whether it held, and if not, the operands for which it broke and what both sides came to.

    >>> print(LawResult("a ⊕ b = b ⊕ a", False, (("a", 1.0), ("b", 2.0)), 1.0, 2.0))
    BROKEN  a ⊕ b = b ⊕ a: for a = 1.0, b = 2.0 the left side is 1.0, the right side 2.0
    """

    law: str = eqx.field(static=True)
    ok: bool = eqx.field(static=True)
    operands: tuple[tuple[str, Any], ...] = eqx.field(static=True, default=())
    left: Any = eqx.field(static=True, default=None)
    right: Any = eqx.field(static=True, default=None)

    def __str__(self) -> str:
        if self.ok:
            return f"ok      {self.law}"
        where = ", ".join(f"{name} = {value!r}" for name, value in self.operands)
        return f"BROKEN  {self.law}: for {where} the left side is {self.left!r}, the right side {self.right!r}"


class LawReport(eqx.Module):
    """What `check_laws` found: `ok`, and `results`, one `LawResult` per law. Printing it shows all of them.

    >>> import mmsb_jax.semiring as sr
    >>> report = check_laws(sr.min_plus)
    >>> report.ok, len(report.results)
    (True, 11)
    """

    semiring: str = eqx.field(static=True)
    dtype: np.dtype = eqx.field(static=True)
    samples: int = eqx.field(static=True)
    results: tuple[LawResult, ...] = eqx.field(static=True)

    @property
    def ok(self) -> bool:
        """Whether every law held on every sample."""
        return all(result.ok for result in self.results)

    def __repr__(self) -> str:  # a notebook shows the repr
        return str(self)

    def __str__(self) -> str:
        head = f"{self.semiring} on {self.dtype.name}, {self.samples} values in all combinations:"
        return "\n  ".join([head, *map(str, self.results)])


def _laws(semiring: Semiring, dtype: np.dtype) -> list[tuple[str, str, Sides]]:
    """Each law as (its text, the names of its operands, operands -> both sides)."""
    add, mul = semiring.add, semiring.multiply
    zero, one = jnp.asarray(semiring.zero(dtype)), jnp.asarray(semiring.one(dtype))
    laws: list[tuple[str, str, Sides]] = [
        ("⊕ associates: (a ⊕ b) ⊕ c = a ⊕ (b ⊕ c)", "abc", lambda a, b, c: (add(add(a, b), c), add(a, add(b, c)))),
        ("⊕ commutes: a ⊕ b = b ⊕ a", "ab", lambda a, b: (add(a, b), add(b, a))),
        ("zero is the identity of ⊕: a ⊕ zero = a", "a", lambda a: (add(a, jnp.full_like(a, zero)), a)),
        ("⊗ associates: (a ⊗ b) ⊗ c = a ⊗ (b ⊗ c)", "abc", lambda a, b, c: (mul(mul(a, b), c), mul(a, mul(b, c)))),
        ("one is the identity of ⊗ on the left: one ⊗ a = a", "a", lambda a: (mul(jnp.full_like(a, one), a), a)),
        ("one is the identity of ⊗ on the right: a ⊗ one = a", "a", lambda a: (mul(a, jnp.full_like(a, one)), a)),
        (
            "⊗ distributes from the left: a ⊗ (b ⊕ c) = (a ⊗ b) ⊕ (a ⊗ c)",
            "abc",
            lambda a, b, c: (mul(a, add(b, c)), add(mul(a, b), mul(a, c))),
        ),
        (
            "⊗ distributes from the right: (a ⊕ b) ⊗ c = (a ⊗ c) ⊕ (b ⊗ c)",
            "abc",
            lambda a, b, c: (mul(add(a, b), c), add(mul(a, c), mul(b, c))),
        ),
        ("zero annihilates on the left: zero ⊗ a = zero", "a", lambda a: _against(zero, mul, a, left=True)),
        ("zero annihilates on the right: a ⊗ zero = zero", "a", lambda a: _against(zero, mul, a, left=False)),
    ]
    if semiring.idempotent:
        laws.append(("⊕ is idempotent, as claimed: a ⊕ a = a", "a", lambda a: (add(a, a), a)))
    return laws


def _against(zero: jax.Array, mul: Callable[..., Any], a: jax.Array, *, left: bool) -> tuple[Any, Any]:
    nothing = jnp.full_like(a, zero)
    return (mul(nothing, a) if left else mul(a, nothing)), nothing


def _edges(low: float, high: float, dtype: np.dtype) -> list[Any]:
    """Values where laws like to break: the ends, beside the ends, around nought; both noughts of a float."""
    if kind_of(dtype) == "b":
        return [False, True]
    near = [0, 1, 2, 3, -1, -2, -3, low, high, high / 2 if kind_of(dtype) == "f" else high // 2]
    if kind_of(dtype) == "f":
        near += [-0.0, 0.5, -0.5]
    else:
        near += [low + 1, high - 1]
    return [value for value in near if low <= value <= high]


def _default_samples(semiring: Semiring, dtype: np.dtype, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    interval = semiring.interval(dtype)
    if kind_of(dtype) == "f":
        # Fourth root of the largest number: products of three samples, and their sums, stay finite.
        bound = 2.0 ** (int(jnp.finfo(dtype).maxexp) // 4)
        low, high = interval or (-bound, bound)
        modest_low, modest_high = max(low, -4.0), min(high, 4.0)
        drawn = list(rng.uniform(modest_low, modest_high, _RANDOM_VALUES))
    elif kind_of(dtype) == "b":
        low, high, drawn = False, True, []
    else:
        limits = jnp.iinfo(dtype)
        low, high = interval or (int(limits.min), int(limits.max))
        drawn = [int(value) for value in rng.integers(low, high, _RANDOM_VALUES, endpoint=True, dtype=dtype)]
    values = [semiring.zero(dtype), semiring.one(dtype), *_edges(low, high, dtype), *drawn]
    return np.array(values).astype(dtype)


def _given(semiring: Semiring, samples: Sequence[Any] | np.ndarray | jax.Array, dtype: np.dtype) -> np.ndarray:
    values = np.asarray(samples).ravel()
    if values.size == 0:
        raise InvalidArgumentError(
            "samples is empty; pass at least one value of the carrier, or None for some chosen here"
        )
    both = np.array([semiring.zero(dtype), semiring.one(dtype)], dtype)
    return np.concatenate([both, values.astype(dtype)])


def _agree(left: np.ndarray, right: np.ndarray, operands: Sequence[np.ndarray], rtol: float) -> np.ndarray:
    equal = (left == right) | ((left != left) & (right != right))
    if rtol == 0:
        return equal
    wide = [np.asarray(side, np.float64) for side in (left, right, *operands)]
    with np.errstate(invalid="ignore"):
        scale = np.max([np.where(np.isfinite(side), np.abs(side), 0.0) for side in wide], axis=0)
        return equal | (np.abs(wide[0] - wide[1]) <= rtol * scale)


def _check_one(law: str, names: str, sides: Sides, values: np.ndarray, rtol: float) -> LawResult:
    grid = [np.ascontiguousarray(part).ravel() for part in np.meshgrid(*[values] * len(names), indexing="ij")]
    left, right = (np.asarray(side) for side in sides(*map(jnp.asarray, grid)))
    broken = np.flatnonzero(~_agree(left, right, grid, rtol))
    if broken.size == 0:
        return LawResult(law, True)
    first = broken[0]
    operands = tuple((name, part[first].item()) for name, part in zip(names, grid, strict=True))
    return LawResult(law, False, operands, left[first].item(), right[first].item())


def check_laws(
    semiring: Semiring,
    dtype: DTypeLike | None = None,
    *,
    samples: Sequence[Any] | np.ndarray | jax.Array | None = None,
    seed: int = 0,
    rtol: float | None = None,
    throw: bool = False,
) -> LawReport:
    """Test the laws of a semiring on all pairs and triples of some values.

    **Arguments:** `dtype`, by default the first that the semiring is meant for (float32, int32, uint32, bool);
    `samples`, values of the carrier, by default `zero`, `one`, values at and beside the ends of the declared carrier,
    both noughts, and a few drawn with `seed`; `rtol`, how far the two sides may differ, relative to the largest finite
    value in sight: by default 0 for integers and bool, 16 units in the last place for floating dtypes, whose sums and
    products round; `throw`.

    **Returns** a `LawReport`; with `throw=True` raises `SemiringLawError`, with the counterexample, if a law is broken.
    Raises `InvalidTypeError` for a dtype that the semiring isn't meant for, `InvalidArgumentError` for no samples.
    Samples prove nothing; a counterexample does.

    >>> import jax.numpy as jnp, mmsb_jax.semiring as sr
    >>> print(check_laws(sr.or_and, jnp.bool_).results[0])
    ok      ⊕ associates: (a ⊕ b) ⊕ c = a ⊕ (b ⊕ c)
    >>> wrong = sr.Semiring("min_plus_0", jnp.minimum, 0.0, jnp.add, 0.0)
    >>> print(check_laws(wrong, samples=[2.0]).results[2])
    BROKEN  zero is the identity of ⊕: a ⊕ zero = a: for a = 2.0 the left side is 0.0, the right side 2.0
    """
    require_instance(semiring, Semiring, "take one of mmsb.semiring, or make one")
    chosen = np.dtype(_DEFAULT_DTYPES[semiring.kinds[0]] if dtype is None else dtype)
    semiring.require(chosen)
    values = _default_samples(semiring, chosen, seed) if samples is None else _given(semiring, samples, chosen)
    if rtol is None:
        rtol = 16 * float(jnp.finfo(chosen).eps) if kind_of(chosen) == "f" else 0.0
    results = tuple(_check_one(*law, values, rtol) for law in _laws(semiring, chosen))
    report = LawReport(semiring.name, chosen, len(values), results)
    if throw and not report.ok:
        raise SemiringLawError(
            f"{report}\nMend the operation or its identity, or declare the carrier on which the laws hold, "
            "e.g. Semiring(…, carrier=(0.0, 1.0))"
        )
    return report
