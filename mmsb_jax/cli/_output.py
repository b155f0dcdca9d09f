"""What commands print: JSON that any program reads, times, and arrays as lists."""

import json
import math
from datetime import UTC, datetime
from typing import Any

import jax
import numpy as np

__all__ = ["in_utc", "json_text", "listed", "local"]


def json_text(value: Any) -> str:
    """A value as one line of strict JSON, in ASCII: whatever a name holds, no terminal acts upon it."""
    return json.dumps(value, allow_nan=False)


def in_utc(time_ns: int) -> str:
    """A time in nanoseconds since 1970, for programs."""
    return datetime.fromtimestamp(time_ns / 1e9, UTC).isoformat(timespec="microseconds")


def local(time_ns: int) -> str:
    """The same for people, where they are."""
    return datetime.fromtimestamp(time_ns / 1e9).isoformat(" ", timespec="milliseconds")


def listed(value: Any) -> Any:
    """An array, or a number, as JSON has it: nested lists; complex numbers are pairs, keys the words of their data.

    >>> listed(np.float32([[1, np.nan], [np.inf, 0.5]])), listed(np.complex64(1j)), listed(None)
    ([[1.0, 'NaN'], ['Infinity', 0.5]], [0.0, 1.0], None)
    """
    if isinstance(value, jax.Array):  # a typed key
        value = np.asarray(jax.random.key_data(value))
    if value is None or isinstance(value, bool | int):
        return value
    array = np.asarray(value)
    if array.dtype.kind == "c":
        array = np.stack([array.real, array.imag], axis=-1)
    if array.dtype.isbuiltin != 1:
        array = array.astype(np.float32)
    found = array.tolist()
    return found if array.dtype.kind != "f" or np.isfinite(array).all() else _spelled(found)


def _spelled(value: Any) -> Any:
    if isinstance(value, list):
        return [_spelled(each) for each in value]
    if math.isnan(value):
        return "NaN"
    return value if math.isfinite(value) else "Infinity" if value > 0 else "-Infinity"
