"""`mmsb`: what a run's log says, from a terminal. It reads only.

Exit status: 0 when all is well, 1 when the run is damaged or can't be read, 2 for a wrong command or a path that holds
no run.
"""

import argparse
import json
import os
import sys
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

from . import __version__
from ._errors import LogNotFoundError, MMSBError
from .page import Frame, FrameKind, digest, read_frames, replay_log, verified_state

__all__ = ["main"]

_COLUMNS = ("sequence", "tick", "time", "kind", "rows", "sources", "intent", "digest")
_NUMBERS = ("sequence", "tick", "rows")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status. `arguments` are those of the process by default."""
    options = _parser().parse_args(arguments)
    try:
        options.run(options)
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader, for instance `head`, has seen enough. What is left in the buffer must not fail at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (MMSBError, OSError) as error:
        print(f"mmsb: {error}", file=sys.stderr)
        return 2 if isinstance(error, LogNotFoundError) else 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="mmsb", description="Look into the log of a run. Nothing is ever written.")
    parser.add_argument("--version", action="version", version=f"mmsb-jax {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    log = commands.add_parser("log", help="list the commits: when, who, why, how much")
    log.add_argument("path", help="directory of the run")
    log.add_argument("--json", action="store_true", help="one JSON object a line instead of a table")
    log.add_argument("--limit", type=_count, metavar="N", help="the last N commits only")
    log.set_defaults(run=_log)
    verify = commands.add_parser("verify", help="replay the whole log and compare digests")
    verify.add_argument("path", help="directory of the run")
    verify.set_defaults(run=_verify)
    return parser


def _count(text: str) -> int:
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError(f"{number} is negative; give a number of commits")
    return number


def _log(options: argparse.Namespace) -> None:
    rows: Iterable[dict[str, Any]] = _commits(read_frames(options.path))
    if options.limit is not None:
        rows = deque(rows, options.limit)
    if options.json:
        for row in rows:
            print(json.dumps(row))
    else:
        _print_table([_cells(row) for row in rows])


def _verify(options: argparse.Namespace) -> None:
    replayed = replay_log(options.path)
    state = verified_state(replayed)
    print(f"frames  {replayed.sequence + 1:,}")
    print(f"ticks   {replayed.tick:,}")
    print(f"digest  {_hex(tuple(digest(state).tolist()))}")
    print("ok")


def _commits(frames: Iterable[Frame]) -> Iterator[dict[str, Any]]:
    names = {0: ""}
    for frame in frames:
        if frame.kind == FrameKind.NAMES:
            names |= dict(frame.new_names())
        elif frame.kind != FrameKind.HEADER:
            yield {
                "sequence": frame.sequence,
                "tick": frame.tick,
                "time": datetime.fromtimestamp(frame.time_ns / 1e9, UTC).isoformat(timespec="milliseconds"),
                "kind": frame.kind.name.lower(),
                "rows": frame.rows,
                "sources": [names[number] for number in _sources(frame)],
                "intent": names[frame.intent],
                "digest": _hex(frame.digest),
            }


def _sources(frame: Frame) -> list[int]:
    return sorted(set(frame.changes().source.tolist())) if frame.kind == FrameKind.CHANGES else []


def _hex(lanes: tuple[int, ...] | None) -> str:
    return "".join(f"{lane:08x}" for lane in lanes or ())


def _cells(row: dict[str, Any]) -> list[str]:
    shown = row | {"sources": ", ".join(row["sources"])}
    return [_printable(str(shown[column])) for column in _COLUMNS]


def _printable(text: str) -> str:
    """Names come from whoever wrote the log: a line break or an escape sequence must not reach the terminal."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def _print_table(rows: list[list[str]]) -> None:
    table = [list(_COLUMNS), *rows]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for row in table:
        cells = [
            cell.rjust(width) if name in _NUMBERS else cell.ljust(width)
            for name, cell, width in zip(_COLUMNS, row, widths, strict=True)
        ]
        print("  ".join(cells).rstrip())
