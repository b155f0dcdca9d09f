"""What callers of the bus pass, checked before anything happens: a bad call leaves no trace."""

import json
import os
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from ._errors import InvalidArgumentError, InvalidDeltaError, InvalidTypeError
from ._require import whole_number
from .page import DeltaBatch
from .physical import Allocator

__all__ = [
    "as_bytes",
    "as_intent",
    "as_metadata",
    "as_path",
    "as_text",
    "as_view_dtype",
    "as_whole_number",
    "check_batch",
]


def as_whole_number(what: str, value: Any) -> int:
    """A whole number. Raises `InvalidTypeError`."""
    number = whole_number(value)
    if number is None:
        raise InvalidTypeError(f"got {what}={value!r} of type {type(value).__name__}; pass a whole number")
    return number


def as_text(what: str, value: Any) -> str:
    """Text that the log can keep. Raises `InvalidTypeError`, `InvalidArgumentError`."""
    if not isinstance(value, str):
        raise InvalidTypeError(f"got {what}={value!r} of type {type(value).__name__}; pass a string")
    try:
        value.encode()
    except UnicodeEncodeError as why:
        raise InvalidArgumentError(
            f"got {what}={value!r}, which isn't text that UTF-8 can write ({why.reason}); replace those characters"
        ) from why
    return value


def as_intent(value: Any) -> str | None:
    """Text, or None for none. Raises `InvalidTypeError`, `InvalidArgumentError`."""
    return None if value is None else as_text("intent", value)


def as_metadata(value: Any) -> dict[str, Any]:
    """Metadata as the log will give it back. Raises `InvalidTypeError`, `InvalidArgumentError`."""
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise InvalidTypeError(f"got metadata of type {type(value).__name__}; pass a dict with strings as keys")
    if strange := [key for key in value if not isinstance(key, str)]:
        raise InvalidTypeError(f"got metadata with the key {strange[0]!r}; keys are strings")
    try:
        metadata: dict[str, Any] = json.loads(json.dumps(dict(value), allow_nan=False))
    except (TypeError, ValueError, RecursionError) as why:
        raise InvalidArgumentError(
            f"the log can't keep this metadata: {why}. Use what JSON has: strings, finite numbers, bools, None, lists "
            "and dicts; `.item()` and `.tolist()` make those of arrays"
        ) from why
    return metadata


def as_path(path: Any) -> str:
    """The path of a run. Raises `InvalidTypeError`, `InvalidArgumentError`."""
    text = os.fspath(path) if isinstance(path, os.PathLike) else path
    if not isinstance(text, str):
        raise InvalidTypeError(f"got a path of type {type(path).__name__}; pass a string, a pathlib.Path, or None")
    if not text or "\0" in text:
        raise InvalidArgumentError(
            f"got the path {text!r}; name a directory for the run, or pass None for one in memory"
        )
    return text


def as_view_dtype(dtype: Any, size: int, what: object) -> np.dtype:
    """The dtype that `size` bytes are to be seen as. Raises `InvalidTypeError`, `InvalidArgumentError`."""
    try:
        wanted = np.dtype(dtype)
    except (TypeError, ValueError) as why:
        raise InvalidTypeError(f"got dtype={dtype!r}, which isn't one ({why}); pass for instance np.float32") from why
    if dtype is None or wanted.hasobject or wanted.itemsize == 0:
        raise InvalidTypeError(f"got dtype={dtype!r}; bytes can be seen as a dtype of fixed size, such as np.float32")
    if size % wanted.itemsize:
        raise InvalidArgumentError(
            f"{what} can't be seen as {wanted}: {size} bytes aren't a multiple of {wanted.itemsize}"
        )
    return wanted


def as_bytes(data: Any, size: int, what: object) -> np.ndarray:
    """`data` as uint8[size]. Raises `InvalidTypeError`, and `InvalidDeltaError` when it has another size."""
    array = _as_array(data)
    if array.dtype.hasobject or array.dtype.kind in "UT":
        raise InvalidTypeError(
            f"got a {type(data).__name__} of dtype {array.dtype}; pass bytes, or an array of numbers or bools "
            "(text has no bytes before it is encoded: `text.encode()`)"
        )
    if array.nbytes != size:
        passed = (
            ""
            if isinstance(data, bytes)
            else f" (dtype {array.dtype}, shape {array.shape} was passed; cast it if that isn't meant)"
        )
        raise InvalidDeltaError(f"got {array.nbytes} bytes for {what}; pass exactly {size} bytes{passed}")
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8)


def _as_array(data: Any) -> np.ndarray:
    if isinstance(data, jax.core.Tracer):
        raise InvalidTypeError("got an array that is being traced; a bus works outside jit, inside use mmsb.tick")
    if isinstance(data, bytes | bytearray):
        return np.frombuffer(data, np.uint8)
    try:
        return np.asarray(data)
    except (TypeError, ValueError) as why:
        raise InvalidTypeError(
            f"got a {type(data).__name__} that is no regular array ({why}); pass bytes, or an array of numbers or bools"
        ) from why


def check_batch(deltas: Any, *, alive: Allocator, page_words: int, names: int) -> None:
    """Raise unless the log and the state can take these deltas: `InvalidTypeError`, `InvalidDeltaError`.

    **Arguments:**

    - `alive`: knows which pages there are.
    - `names`: how many sources have a name.
    """
    if not isinstance(deltas, DeltaBatch):
        raise InvalidTypeError(f"got a {type(deltas).__name__}; pass a DeltaBatch, such as bus.batch(page, words)")
    if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(deltas)):
        raise InvalidTypeError("got deltas that are being traced; a bus works outside jit, inside use mmsb.tick")
    if deltas.page_words != page_words:
        raise InvalidDeltaError(
            f"got deltas for pages of {deltas.page_words} words; the pages of this bus have {page_words}"
        )
    _check_columns(deltas, page_words)
    if int(deltas.dropped):
        raise InvalidDeltaError(
            f"this batch is incomplete: {int(deltas.dropped)} rows did not fit when it was made; make it with more room"
        )
    page, source = np.asarray(deltas.page), np.asarray(deltas.source)
    used = page != alive.capacity
    dead = page[used][~alive.alive(page[used])]
    if dead.size:
        raise InvalidDeltaError(f"a row names page {dead[0]}, which was never created or is deleted")
    unknown = source[used & ((source < 0) | (source >= names))]
    if unknown.size:
        raise InvalidDeltaError(f"a row has source {unknown[0]}, which no name stands for; use bus.source_id(name)")


def _check_columns(deltas: DeltaBatch, page_words: int) -> None:
    rows = np.shape(deltas.page)[0] if np.ndim(deltas.page) == 1 else -1
    wanted = {
        "page": (np.int32, (rows,)),
        "words": (np.uint32, (rows, page_words)),
        "mask": (np.uint32, (rows, -(-page_words // 32))),
        "source": (np.int32, (rows,)),
        "dropped": (np.int32, ()),
    }
    for name, (dtype, shape) in wanted.items():
        column = getattr(deltas, name)
        if column is None and name == "mask":
            continue
        if getattr(column, "dtype", None) != dtype or np.shape(column) != shape:
            found = f"dtype {getattr(column, 'dtype', type(column).__name__)} and shape {np.shape(column)}"
            raise InvalidDeltaError(
                f"got deltas whose {name} has {found}; a batch of n rows needs page int32[n], words uint32[n, "
                f"{page_words}], mask None or uint32[n, {-(-page_words // 32)}], source int32[n] and dropped int32[]: "
                "bus.batch(page, words) makes them"
            )
