"""`mmsb stats`: how large a run is, what it is made of, and where it came from."""

from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .._text import counted, printable
from ..page import LogStats, Run, checkpoints, log_stats, open_run, read_frames
from ._output import in_utc, json_text, local

__all__ = ["run"]


def run(options: Namespace) -> int:
    """Tell what a run is, from its indexes: the log itself isn't read."""
    log = log_stats(options.path)
    found = _facts(open_run(options.path), Path(options.path), log)
    if options.json:
        print(json_text(found))
        return 0
    lines = list(_lines(found, log.times))
    width = max(len(name) for name, _ in lines)
    for name, value in lines:
        print(f"{name:<{width}}  {printable(value)}")
    return 0


def _facts(run: Run, path: Path, log: LogStats) -> dict[str, Any]:
    header = next(iter(read_frames(path, start=0))).environment()
    about = run.about
    return {
        "run_id": header["run_id"],
        "created": header["created"],
        "page_bytes": 4 * int(header["page_words"]),
        "capacity": int(header["capacity"]),
        "recorded": about and {"every": about.every, "members": about.members, "leaves": len(about.paging.leaves)},
        "first_epoch": run.first,
        "last_epoch": run.last,
        "segments": log.segments,
        "frames": log.frames,
        "commits": log.commits,
        "rows": log.rows,
        "log_bytes": log.bytes,
        "bytes_by_kind": {kind.lower(): size for kind, size in log.bytes_by_kind.items()},
        "compressed": log.coded_ratio,
        "times": log.times and [in_utc(time) for time in log.times],
        "by_source": log.by_source,
        "by_intent": log.by_intent,
        "checkpoints": [info.tick for info in checkpoints(path)],
        "disk_bytes": sum(file.stat().st_size for file in path.rglob("*") if file.is_file()),
        "environment": {key[4:]: value for key, value in header.items() if key.startswith("env.")},
    }


def _lines(found: dict[str, Any], times: tuple[int, int] | None) -> Iterator[tuple[str, str]]:
    pages = f"{counted(found['capacity'], 'page')} of {found['page_bytes']:,} bytes"
    yield "run", found["run_id"]
    if recorded := found["recorded"]:
        every = "" if recorded["every"] == 1 else f" every {recorded['every']} steps"
        members = "" if recorded["members"] is None else f" of each of {counted(recorded['members'], 'member')}"
        yield "state", f"recorded{every}: {counted(recorded['leaves'], 'array')}{members}, {pages}"
    else:
        yield "state", f"a bus with room for {pages}"
    yield "epochs", f"{found['first_epoch']:,} to {found['last_epoch']:,}"
    yield "commits", f"{found['commits']:,}, with {counted(found['rows'], 'changed page')}"
    if times:
        yield "written", f"from {local(times[0])} to {local(times[1])}"
    for what in ("source", "intent"):
        if listed := {name: n for name, n in found[f"by_{what}"].items() if name}:
            yield f"by {what}", ", ".join(f"{name} {n:,}" for name, n in _most(listed))
    smaller = "" if found["compressed"] == 1 else f", compressed {found['compressed']:.1f} times"
    yield "log", f"{counted(found['log_bytes'], 'byte')} in {counted(found['segments'], 'segment')}{smaller}"
    ticks = found["checkpoints"]
    yield "checkpoints", f"{len(ticks)}, the newest at epoch {ticks[-1]:,}" if ticks else "none"
    yield "on disk", f"{counted(found['disk_bytes'], 'byte')} in all"
    yield from ((name, value) for name, value in found["environment"].items() if value)


def _most(counts: dict[str, int], shown: int = 8) -> list[tuple[str, int]]:
    ordered = sorted(counts.items(), key=lambda item: -item[1])
    return [*ordered[:shown], *([("and others", sum(n for _, n in ordered[shown:]))] if ordered[shown:] else [])]
