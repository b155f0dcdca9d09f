"""`mmsb blame`: who last wrote each element of a part."""

from argparse import Namespace
from dataclasses import replace
from typing import Any

import numpy as np

from .._errors import InvalidArgumentError
from .._text import printable
from ..page import Blame, Write, open_run
from ._output import in_utc, json_text, local
from ._show import part_of

__all__ = ["run"]


def run(options: Namespace) -> int:
    """Tell who last wrote each element of a part, or one of them."""
    found = open_run(options.path).blame(part_of(options.part), epoch=options.epoch, member=options.member)
    if options.element is not None:
        print(_one(found, options.element, options.json))
    elif options.json:
        print(_as_json(found))
    else:
        writes = tuple(w._replace(source=printable(w.source), intent=printable(w.intent)) for w in found.writes)
        print(replace(found, name=printable(found.name) or "(the tree)", writes=writes))
    return 0


def _one(found: Blame, element: tuple[int, ...], json: bool) -> str:
    shape = found.number.shape
    inside = len(element) == len(shape) and all(-n <= i < n for i, n in zip(element, shape, strict=True))
    if not inside:
        raise InvalidArgumentError(
            f"got the element {list(element)}, but {found.name or 'the tree'} has shape {list(shape)}"
        )
    write = found.at(*element)
    if json:
        return json_text({"part": found.name, "element": element, "write": write and _write(write)})
    if write is None:
        return "never written"
    why = f" / {write.intent}" if write.intent else ""
    return f"epoch {write.epoch}  {local(write.time_ns)}  {printable(write.source + why)}"


def _as_json(found: Blame) -> str:
    counts = np.bincount(found.number.reshape(-1) + 1, minlength=len(found.writes) + 1).tolist()
    about: dict[str, Any] = {
        "part": found.name,
        "member": found.member,
        "shape": found.number.shape,
        "writes": [_write(write) | {"elements": n} for write, n in zip(found.writes, counts[1:], strict=True)],
        "never": counts[0],
        "elements": found.number.reshape(-1).tolist(),
    }
    return json_text(about)


def _write(write: Write) -> dict[str, Any]:
    return {"epoch": write.epoch, "source": write.source, "intent": write.intent, "time": in_utc(write.time_ns)}
