"""`mmsb diff`: two moments of a run, or two runs."""

import os
from argparse import Namespace
from dataclasses import replace
from typing import Any

import numpy as np

from .._errors import InvalidArgumentError
from .._text import counted, printable
from ..page import Difference, PartDifference, Run, open_run
from ._output import json_text, listed

__all__ = ["run"]


def run(options: Namespace) -> int:
    """Tell what differs; 1 if anything does."""
    one = open_run(options.path)
    if options.second is None:
        return _two_runs(one, options.first, options)
    found = one.diff(_epoch(options.first), options.second)
    print(_as_json(found) if options.json else _printable(found))
    return int(bool(found))


def _epoch(text: str) -> int:
    try:
        return int(text)
    except ValueError as why:
        raise InvalidArgumentError(f"got {text!r} for an epoch; pass two epochs of one run, or two runs") from why


def _two_runs(one: Run, path: str, options: Namespace) -> int:
    if path.lstrip("-").isdecimal() and not os.path.exists(path):
        raise InvalidArgumentError(f"got one epoch, {path}; pass two, or another run")
    other = open_run(path)
    shared = np.intersect1d(one.epochs, other.epochs)
    if not len(shared):
        spans = f"one has {one.first} to {one.last}, the other {other.first} to {other.last}"
        raise InvalidArgumentError(f"the runs have no epoch in common: {spans}")
    found = one.first_difference(other)
    if options.json:
        print(_as_json(found or Difference(one.last, other.last, ()), same=found is None and one.last == other.last))
    elif found:
        print(f"the first difference is at epoch {found.first}, of {counted(len(shared), 'epoch')} in common")
        print(*_printable(found).parts, sep="\n")
    else:
        print(f"the same at {counted(len(shared), 'epoch')} in common, {shared[0]} to {shared[-1]}")
        if one.last != other.last:
            longer = options.path if one.last > other.last else path
            print(f"{longer} goes on to {max(one.last, other.last)}")
    return int(found is not None or one.last != other.last)


def _printable(found: Difference) -> Difference:
    parts = tuple(replace(part, name=printable(part.name)) for part in found.parts)
    names = [tuple(map(printable, each)) for each in (found.appeared, found.vanished)]
    return replace(found, parts=parts, appeared=names[0], vanished=names[1])


def _as_json(found: Difference, same: bool | None = None) -> str:
    about: dict[str, Any] = {
        "first": found.first,
        "second": found.second,
        "same": not found if same is None else same,
        "parts": [_part(part) for part in found.parts],
        "appeared": found.appeared,
        "vanished": found.vanished,
    }
    return json_text(about)


def _part(part: PartDifference) -> dict[str, Any]:
    indices = np.stack(part.indices, axis=-1).tolist() if part.indices else [[]] * len(part.elements)
    return {
        "part": part.name,
        "member": part.member,
        "pages": part.pages.tolist(),
        "indices": indices,
        "old": listed(part.old.reshape(-1)[part.elements]),
        "new": listed(part.new.reshape(-1)[part.elements]),
    }
