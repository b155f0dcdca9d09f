"""`mmsb show`: what there was at a moment."""

from argparse import Namespace
from typing import Any

import jax
import numpy as np

from .._errors import InvalidArgumentError
from .._text import consecutive, printable
from ..page import Parts, PartValue, open_run
from ._output import json_text, listed

__all__ = ["part_of", "run"]


def run(options: Namespace) -> int:
    """Show all parts with their figures, or the values of those asked for."""
    history, only = open_run(options.path), part_of(options.part)
    found = history.parts(options.epoch, time=options.time, only=only, member=options.member)
    if options.dtype is not None:
        if history.about is not None:
            raise InvalidArgumentError("got --dtype, but this is a recorded run: its parts have dtypes of their own")
        found = Parts(found.epoch, [_seen_as(part, _dtype(options.dtype), only) for part in found])
    if options.json:
        print(json_text({"epoch": found.epoch, "parts": [_as_json(part, only is not None) for part in found]}))
    elif only is None:
        print(found)
    else:
        for part in found:
            print(f"{printable(part.name) or '(the tree)'}  {part.dtype}{list(part.shape)}  epoch {found.epoch}")
            print(_data(part.value))
    return 0


def part_of(text: str | None) -> str | int | None:
    """What a PART means: a name, or the number of a page."""
    return int(text) if text is not None and text.isdecimal() else text


def _dtype(text: str) -> np.dtype:
    try:
        return np.dtype(text)
    except TypeError as why:
        raise InvalidArgumentError(f"got --dtype {text}, which NumPy doesn't know; for instance float32") from why


def _seen_as(part: PartValue, dtype: np.dtype, only: str | int | None) -> PartValue:
    """A page that doesn't fit stays as it is, unless it was asked for."""
    return part if only is None and part.value.nbytes % dtype.itemsize else part.seen_as(dtype)


def _data(value: Any) -> Any:
    return np.asarray(jax.random.key_data(value)) if isinstance(value, jax.Array) else value


def _as_json(part: PartValue, with_values: bool) -> dict[str, Any]:
    found = {
        "part": part.name,
        "dtype": part.dtype,
        "shape": part.shape,
        "pages": list(consecutive(part.pages.tolist())),
        "min": listed(part.low),
        "mean": listed(part.mean),
        "max": listed(part.high),
        "nans": part.nans,
    }
    return found | ({"values": listed(part.value)} if with_values else {})
