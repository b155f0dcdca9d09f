"""The one check that every layer needs: is this the kind of thing that was asked for?"""

import operator
from typing import Any

import numpy as np

from ._errors import InvalidArgumentError, InvalidTypeError

__all__ = ["require_capacity", "require_instance", "whole_number"]


def require_instance(value: Any, kind: type, how: str) -> None:
    """Raise `InvalidTypeError` unless `value` is a `kind`; `how` says how to make one."""
    if not isinstance(value, kind):
        raise InvalidTypeError(f"got a {type(value).__name__} where a {kind.__name__} is needed: {how}")


def require_capacity(capacity: Any) -> None:
    """Raise unless `capacity` is a number of rows: `InvalidTypeError`, `InvalidArgumentError`."""
    number = whole_number(capacity)
    if number is None:
        raise InvalidTypeError(f"got capacity={capacity!r}; pass a whole number of rows (static under jit)")
    if number < 0:
        raise InvalidArgumentError(f"got capacity={capacity}; pass how many changed pages to make room for")


def whole_number(value: Any) -> int | None:
    """An integer of Python, NumPy or JAX, also in an array without dimensions, as an int; None for anything else."""
    if isinstance(value, bool) or getattr(value, "dtype", None) == np.bool_:
        return None
    try:
        return operator.index(value)
    except TypeError:
        return None
