"""`check_laws`: does a semiring keep the laws that it claims? By sampling, with a counterexample where it doesn't."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from .._errors import InvalidArgumentError, SemiringLawError
from .._require import require_instance
from ._algebra import IDEMPOTENT, LAWS, Semiring
from ._element import kind_of

_DEFAULT_DTYPES = {"f": np.float32, "i": np.int32, "u": np.uint32, "b": np.bool_}
_RANDOM_VALUES = 8
_TREE_VALUES = 24
Sides = Callable[..., tuple[Any, Any]]


class LawResult(eqx.Module):
    """One law: whether it held, and if not, the operands for which it broke and what both sides came to.

    >>> print(LawResult("a ⊕ b = b ⊕ a", False, (("a", 1.0), ("b", 2.0)), 1.0, 2.0))
    BROKEN  a ⊕ b = b ⊕ a: for a = 1.0, b = 2.0 the left side is 1.0, the right side 2.0
    """

    law: str = eqx.field(static=True)
    ok: bool = eqx.field(static=True)
    """Whether it held on every sample."""
    operands: tuple[tuple[str, Any], ...] = eqx.field(static=True, default=())
    left: Any = eqx.field(static=True, default=None)
    right: Any = eqx.field(static=True, default=None)
    claimed: bool = eqx.field(static=True, default=True)
    """Whether the semiring says that it keeps it."""

    def __str__(self) -> str:
        if self.ok:
            return f"ok      {self.law}" if self.claimed else f"KEPT    {self.law}, though it is said to be lacking"
        where = ", ".join(f"{name} = {value!r}" for name, value in self.operands)
        word = "BROKEN" if self.claimed else "lacks "
        return f"{word}  {self.law}: for {where} the left side is {self.left!r}, the right side {self.right!r}"


class LawReport(eqx.Module):
    """What `check_laws` found: `ok`, and `results`, one `LawResult` per law. Printing it shows all of them.

    >>> import mmsb_jax.semiring as sr
    >>> report = check_laws(sr.min_plus)
    >>> report.ok, len(report.results)
    (True, 11)
    """

    semiring: str = eqx.field(static=True)
    dtype: np.dtype | None = eqx.field(static=True)
    """None where the values are trees."""
    samples: int = eqx.field(static=True)
    results: tuple[LawResult, ...] = eqx.field(static=True)

    @property
    def ok(self) -> bool:
        """Whether every law that is claimed held on every sample, and each that is said to be lacking broke."""
        return all(result.ok == result.claimed for result in self.results)

    def __repr__(self) -> str:  # a notebook shows the repr
        return str(self)

    def __str__(self) -> str:
        of = "trees" if self.dtype is None else self.dtype.name
        head = f"{self.semiring} on {of}, {self.samples} values in all combinations:"
        return "\n  ".join([head, *map(str, self.results)])


class _Values(NamedTuple):
    """Samples: arrays [n], one a leaf of the semiring's values."""

    leaves: list[np.ndarray]
    structure: Any

    def __len__(self) -> int:
        return len(self.leaves[0])

    def at(self, index: np.ndarray) -> Any:
        return jax.tree.unflatten(self.structure, [jnp.asarray(leaf[index]) for leaf in self.leaves])

    def shown(self, index: int) -> Any:
        return jax.tree.unflatten(self.structure, [leaf[index].item() for leaf in self.leaves])


def _laws(semiring: Semiring, dtype: np.dtype | None) -> list[tuple[str, str, Sides, bool]]:
    """Each law as (its text, the names of its operands, operands -> both sides, whether it is claimed)."""
    add, mul = semiring.add, semiring.multiply

    def full(a: Any, which: str) -> Any:
        return semiring.full(jax.tree.leaves(a)[0].shape, which, dtype)

    def zeros(a: Any) -> Any:
        return full(a, "zero")

    def ones(a: Any) -> Any:
        return full(a, "one")

    sides: dict[str, tuple[str, Sides]] = {
        "add_associates": ("abc", lambda a, b, c: (add(add(a, b), c), add(a, add(b, c)))),
        "add_commutes": ("ab", lambda a, b: (add(a, b), add(b, a))),
        "zero_is_neutral": ("a", lambda a: (add(a, zeros(a)), a)),
        "multiply_associates": ("abc", lambda a, b, c: (mul(mul(a, b), c), mul(a, mul(b, c)))),
        "one_is_neutral_on_the_left": ("a", lambda a: (mul(ones(a), a), a)),
        "one_is_neutral_on_the_right": ("a", lambda a: (mul(a, ones(a)), a)),
        "distributes_from_the_left": ("abc", lambda a, b, c: (mul(a, add(b, c)), add(mul(a, b), mul(a, c)))),
        "distributes_from_the_right": ("abc", lambda a, b, c: (mul(add(a, b), c), add(mul(a, c), mul(b, c)))),
        "zero_annihilates_on_the_left": ("a", lambda a: (mul(zeros(a), a), zeros(a))),
        "zero_annihilates_on_the_right": ("a", lambda a: (mul(a, zeros(a)), zeros(a))),
    }
    laws = [(text, *sides[name], name not in semiring.lacks) for name, text in LAWS.items()]
    if semiring.idempotent:
        laws.append((IDEMPOTENT, "a", lambda a: (add(a, a), a), True))
    return laws


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


def _numbers(interval: Any, dtype: np.dtype, rng: np.random.Generator) -> list[Any]:
    """Numbers of an interval, or of the dtype."""
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
    return [*_edges(low, high, dtype), *drawn]


def _default_samples(semiring: Semiring, dtype: np.dtype | None, seed: int) -> _Values:
    rng = np.random.default_rng(seed)
    if dtype is not None:
        numbers = _numbers(semiring.interval(dtype), dtype, rng)
        values = np.array([semiring.zero(dtype), semiring.one(dtype), *numbers])
        return _Values([values.astype(dtype)], jax.tree.structure(0))
    identities = [jax.tree.leaves(each) for each in (semiring.zero(), semiring.one())]
    carrier: Any = semiring.carrier
    intervals: list[Any] = [None] * len(identities[0])
    if carrier is not None and semiring.element is not None:
        intervals = semiring.element.flatten_up_to(carrier)
    leaves = []
    for zero, one, interval in zip(*identities, intervals, strict=True):
        drawn = rng.choice(np.array(_numbers(interval, zero.dtype, rng)).astype(zero.dtype), _TREE_VALUES)
        leaves.append(np.concatenate([np.array([zero, one], zero.dtype), drawn]))
    return _Values(leaves, semiring.element)


def _given(semiring: Semiring, samples: Any, dtype: np.dtype | None) -> _Values:
    leaves, structure = [samples], jax.tree.structure(0)
    if semiring.element is not None:
        leaves, structure = jax.tree.flatten(samples)
        semiring.require_values(samples)
    arrays = [np.asarray(leaf).ravel() for leaf in leaves]
    if not arrays or arrays[0].size == 0:
        raise InvalidArgumentError(
            "samples is empty; pass at least one value of the carrier, or None for some chosen here"
        )
    both = [jax.tree.leaves(each) for each in (semiring.zero(dtype), semiring.one(dtype))]
    identities = zip(*both, strict=True)
    joined = [np.array([*pair, *array]).astype(pair[0].dtype) for pair, array in zip(identities, arrays, strict=True)]
    return _Values(joined, structure)


def _agree(left: np.ndarray, right: np.ndarray, operands: Sequence[np.ndarray], rtol: float | None) -> np.ndarray:
    equal = (left == right) | ((left != left) & (right != right))
    if rtol is None:
        rtol = 16 * float(jnp.finfo(left.dtype).eps) if kind_of(left.dtype) == "f" else 0.0
    if rtol == 0:
        return equal
    wide = [np.asarray(side, np.float64) for side in (left, right, *operands)]
    with np.errstate(invalid="ignore"):
        scale = np.max([np.where(np.isfinite(side), np.abs(side), 0.0) for side in wide], axis=0)
        return equal | (np.abs(wide[0] - wide[1]) <= rtol * scale)


def _check_one(law: tuple[str, str, Sides, bool], values: _Values, rtol: float | None) -> LawResult:
    text, names, sides, claimed = law
    grid = [part.ravel() for part in np.meshgrid(*[np.arange(len(values))] * len(names), indexing="ij")]
    left, right = ([np.asarray(x) for x in jax.tree.leaves(side)] for side in sides(*map(values.at, grid)))
    good = np.ones(len(grid[0]), bool)
    for nth, (one, other) in enumerate(zip(left, right, strict=True)):
        good &= _agree(one, other, [values.leaves[nth][part] for part in grid], rtol)
    broken = np.flatnonzero(~good)
    if broken.size == 0:
        return LawResult(text, True, claimed=claimed)
    first = int(broken[0])
    operands = tuple((name, values.shown(int(part[first]))) for name, part in zip(names, grid, strict=True))
    one, other = (_Values(side, values.structure).shown(first) for side in (left, right))
    return LawResult(text, False, operands, one, other, claimed)


def check_laws(
    semiring: Semiring,
    dtype: DTypeLike | None = None,
    *,
    samples: Sequence[Any] | np.ndarray | jax.Array | Any | None = None,
    seed: int = 0,
    rtol: float | None = None,
    throw: bool = False,
) -> LawReport:
    """Test the laws of a semiring on all pairs and triples of some values.

    **Arguments:** `dtype`, by default the first that the semiring is meant for (float32, int32, uint32, bool);
    `samples`, values of the carrier (an array, or a tree of arrays where values are trees), by default `zero`, `one`,
    values at and beside the ends of the declared carrier, both noughts, and a few drawn with `seed`; `rtol`, how far
    the two sides may differ, relative to the largest finite value in sight: by default 0 for integers and bool, 16
    units in the last place for floating dtypes, whose sums and products round; `throw`.

    **Returns** a `LawReport`; with `throw=True` raises `SemiringLawError`, with the counterexample, if a law is broken
    that is claimed, or one is kept that is said to be lacking.
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
    chosen = None
    if semiring.element is None:
        chosen = np.dtype(_DEFAULT_DTYPES[semiring.kinds[0]] if dtype is None else dtype)
        semiring.require(chosen)
    elif dtype is not None:
        semiring.require(dtype)
    values = _default_samples(semiring, chosen, seed) if samples is None else _given(semiring, samples, chosen)
    results = tuple(_check_one(law, values, rtol) for law in _laws(semiring, chosen))
    report = LawReport(semiring.name, chosen, len(values), results)
    if throw and not report.ok:
        raise SemiringLawError(
            f"{report}\nMend the operation or its identity, declare the carrier on which the laws hold, e.g. "
            "Semiring(…, carrier=(0.0, 1.0)), or say which laws it lacks"
        )
    return report
