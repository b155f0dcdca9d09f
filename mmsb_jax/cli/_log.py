"""`mmsb log`: the commits of a run, newest last."""

from argparse import Namespace
from collections.abc import Iterable
from typing import Any

from .._text import printable, table
from ..page import Commit
from ._filters import selected
from ._output import in_utc, json_text, local

__all__ = ["run"]

_COLUMNS = {"sequence": 8, "epoch": 9, "time": 23, "kind": 7, "rows": 7, "digest": 16, "sources": 8, "intent": 0}
_NUMBERS = ("sequence", "epoch", "rows")
_BEFORE_FOLLOWING = 10


def run(options: Namespace) -> int:
    """List the commits of a run that hold what is asked for."""
    last = _BEFORE_FOLLOWING if options.follow and options.last is None else options.last
    commits = selected(options).commits(last=last, follow=options.follow)
    for line in map(_as_json, commits) if options.json else _as_table(commits, at_once=options.follow):
        print(line, flush=options.follow)
    return 0


def _as_table(commits: Iterable[Commit], *, at_once: bool) -> Iterable[str]:
    if at_once:  # widths can't wait for what is still to come
        return table(tuple(_COLUMNS), map(_cells, commits), _NUMBERS, least=tuple(_COLUMNS.values()), at_once=1)
    return table(tuple(_COLUMNS), map(_cells, commits), _NUMBERS)


def _cells(commit: Commit) -> list[str]:
    epoch = str(commit.tick) if commit.first == commit.tick else f"{commit.first}-{commit.tick}"
    about = [commit.kind.name.lower(), f"{commit.rows:,}", _hex(commit), ", ".join(commit.sources), commit.intent]
    return [str(commit.sequence), epoch, local(commit.time_ns), *map(printable, about)]


def _as_json(commit: Commit) -> str:
    found: dict[str, Any] = {
        "sequence": commit.sequence,
        "first_epoch": commit.first,
        "epoch": commit.tick,
        "time": in_utc(commit.time_ns),
        "kind": commit.kind.name.lower(),
        "rows": commit.rows,
        "sources": commit.sources,
        "intent": commit.intent,
        "digest": _hex(commit) or None,
    }
    return json_text(found)


def _hex(commit: Commit) -> str:
    return "".join(f"{lane:08x}" for lane in commit.digest or ())
