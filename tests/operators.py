"""Operators of all shapes, and a dense model of products with them, in plain Python, for every semiring and dtype."""

import itertools
from collections.abc import Iterable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mmsb_jax import semiring as sr
from mmsb_jax.propagation._blocks import PIECE

DTYPES = (np.float32, jnp.bfloat16, np.int32, np.uint32, np.bool_)
PLAIN = tuple(s for s in sr.registered() if not s.argument)
SUPPORTED = [(s, np.dtype(d)) for s in PLAIN for d in DTYPES if s.supports(d)]


class Entries(NamedTuple):
    row: np.ndarray
    col: np.ndarray
    shape: tuple[int, int]


def with_counts(counts: list[int], columns: int, *, seed: int = 0) -> Entries:
    """Rows with so many entries each, in shuffled order, duplicates allowed."""
    rng = np.random.default_rng(seed)
    row = rng.permutation(np.repeat(np.arange(len(counts)), counts))
    return Entries(row, rng.integers(0, max(columns, 1), len(row)), (len(counts), columns))


SHORT = 4
"""A length of pieces with which rows of many compile soon."""


def operators(piece: int) -> dict[str, Entries]:
    """All shapes, where rows are cut into pieces of this length."""
    return {
        "nothing": with_counts([], 0),
        "no rows": with_counts([], 3),
        "no columns": with_counts([0, 0], 0),
        "no entries": with_counts([0, 0, 0, 0], 3),
        "one entry": with_counts([1], 1),
        "wide": with_counts([3, 0, 5], 50),
        "tall": with_counts([1, 2, 0, 1, 0, 0, 3, 1, 2, 0, 1], 2),
        "square": with_counts([0, 1, 2, 3, 4, 5, 0, 7], 8),
        "duplicates": Entries(np.array([1, 0, 1, 1, 0]), np.array([2, 0, 2, 2, 0]), (2, 3)),
        "a piece exactly": with_counts([piece, 1, 0], 9),
        "a piece and one": with_counts([piece + 1, 1, 0, 2], 9),
        "one huge row": with_counts([0, 4 * piece + 44, 2, 0, 1], 40),
        "three levels": with_counts([piece * piece + 5, 0, piece * 3, 1], 60),
    }


OPERATORS = operators(PIECE)


def _saturated(value: int | float, dtype: np.dtype) -> int | float:
    if dtype.kind not in "iu":
        return value
    return max(int(np.iinfo(dtype).min), min(int(np.iinfo(dtype).max), value))


def _wrapped(number: int | float, dtype: np.dtype) -> int | float:
    if dtype.kind not in "iu":
        return number
    return int(np.array(number % 2 ** (8 * dtype.itemsize), np.uint64).astype(dtype))


def _ends(dtype: np.dtype) -> tuple[Any, Any]:
    return (int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)) if dtype.kind in "iu" else (-np.inf, np.inf)


def oracle_pair(name: str, dtype: np.dtype):
    """⊕, ⊗ and zero of a registered semiring, on Python numbers."""
    low, high = _ends(dtype)
    saturated, wrapped = partial(_saturated, dtype=dtype), partial(_wrapped, dtype=dtype)
    choose, times = name.removeprefix("arg_").split("_")
    add, zero = {
        "min": (min, high),
        "max": (max, 0 if times == "times" else low),
        "any": (max, 0),
        "plus": (lambda a, b: wrapped(a + b), 0),
        "or": (lambda a, b: a | b, 0),
        "xor": (lambda a, b: a ^ b, 0),
        "log": (lambda a, b: float(np.logaddexp(a, b)), -np.inf),
    }[choose]
    infinite = zero if choose in ("min", "max") else None  # absorbs
    multiply = {
        "plus": lambda a, b: zero if infinite in (a, b) else saturated(a + b),
        "times": (lambda a, b: wrapped(a * b)) if choose == "plus" else lambda a, b: saturated(a * b),
        "min": min,
        "max": max,
        "and": lambda a, b: a & b,
        "pair": lambda a, b: 1,
        "first": lambda a, b: a,
        "second": lambda a, b: b,
    }[times]
    return add, multiply, zero


def oracle(entries: Entries, values: np.ndarray, x: np.ndarray, name: str) -> np.ndarray:
    dtype = x.dtype
    add, multiply, zero = oracle_pair(name, dtype)
    y = np.full((entries.shape[0], *x.shape[1:]), zero, object)
    for i, j, value in zip(entries.row, entries.col, values, strict=True):
        for place in np.ndindex(x.shape[1:]):
            y[(i, *place)] = add(y[(i, *place)], multiply(value.item(), x[(j, *place)].item()))
    return y.astype(dtype)


def numbers(rng: np.random.Generator, shape: int | tuple[int, ...], name: str, dtype: np.dtype) -> np.ndarray:
    """Small whole numbers, on which every operation is exact in every dtype, with some `zero`s among them."""
    if dtype.kind == "b":
        return rng.random(shape) < 0.5
    low = {"plus_times": -2, "min_plus": -2, "max_plus": -2, "max_min": -2, "min_max": -2, "min_times": 1}
    least = 0 if dtype.kind == "u" and name != "min_times" else low.get(name.removeprefix("arg_"), 0)
    drawn = rng.integers(least, 3, shape).astype(dtype)
    return np.where(rng.random(shape) < 0.1, sr.get(name).zero(dtype), drawn)


def check(found: jax.Array, expected: np.ndarray, semiring: sr.Semiring) -> None:
    if semiring is sr.log_plus:  # rounds
        assert found.dtype == expected.dtype
        np.testing.assert_allclose(*(np.asarray(y, np.float64) for y in (found, expected)), rtol=5e-2)
    else:
        np.testing.assert_array_equal(found, expected, strict=True)


def named(case: object) -> str:
    return case.name if isinstance(case, sr.Semiring | np.dtype) else str(case)


def together(operators: Iterable[Entries]) -> Entries:
    """One operator with all of them along its diagonal: one compilation."""
    row, col, rows, columns = [], [], 0, 0
    for each in operators:
        row.append(each.row + rows)
        col.append(each.col + columns)
        rows, columns = rows + each.shape[0], columns + each.shape[1]
    return Entries(np.concatenate(row), np.concatenate(col), (rows, columns))


PATTERNS = [
    with_counts([0 if gone else 1 + i % 2 for i, gone in enumerate(empty)], 3)
    for empty in itertools.product([False, True], repeat=4)
]
ALL = {piece: together([*operators(piece).values(), *PATTERNS]) for piece in (PIECE, SHORT)}


SMALL = together([OPERATORS["square"], OPERATORS["duplicates"], *PATTERNS])
