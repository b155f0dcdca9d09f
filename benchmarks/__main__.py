"""`python -m benchmarks [names…] [--quick] [--json PATH] [--rounds N]`.

Prints a table and writes the runs with their manifest to `benchmarks/results/<device>/<module>.json`, unless only some
of a module's cases were asked for. The exit status is 1 when a target is missed, 2 when something can't be run or
results differ.
On Linux with `GLIBC_TUNABLES=glibc.malloc.hugetlb=1`, unless that variable is set (then as it is).
`--quick` is a tiny version of everything, for the test suite: no targets, peers that aren't installed are named and
left out, nothing is written unless `--json` says where.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import json
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ._harness import BenchmarkError, Case, Row, Timing, device_slug, manifest, measure

MODULES = (
    "deltas",
    "spmv",
    "paths",
    "waves",
    "rewrites",
    "graphs",
    "stream",
    "history",
    "memory",
    "checkpoint",
    "log",
    "record",
    "layout",
    "relayout",
)
IF_NAMED = ("layout",)  # takes as long as all the others together
RESULTS = Path(__file__).parent / "results"
_HEADINGS = ("case", "ours", "compile", "memory", "rate", "peer", "theirs", "ratio", "target", "", "result")


def cases(module: str, names: Sequence[str]) -> list[Case]:
    """The cases of one module whose name, or the module's, starts with one of `names`; if there are none, all,
    but of modules that must be named."""
    if not names and module in IF_NAMED:
        return []
    found: tuple[Case, ...] = importlib.import_module(f"{__package__}.{module}").CASES
    return [case for case in found if not names or module in names or case.name.startswith(tuple(names))]


def _ms(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds * 1e3:.2f} ms"


def _si(rate: float) -> str:
    scale, letter = next(((s, x) for s, x in ((1e9, " G"), (1e6, " M"), (1e3, " k")) if rate >= s), (1, ""))
    return f"{rate / scale:.3g}{letter}"


def _mark(ok: bool | None) -> str:
    return "" if ok is None else "✓" if ok else "✗"


def _peer_cells(peer: Timing) -> tuple[str, ...]:
    name = peer.name if peer.same_result else f"{peer.name} *"
    target = "" if peer.target is None else f"≥ {peer.target:g}"
    return name, _ms(peer.median), f"{peer.ratio:.2f}", target, _mark(peer.ok)


def _lines(row: Row) -> Iterable[tuple[str, ...]]:
    compile_s = None if row.ours.compile_s is None else row.ours.compile_s + (row.ours.lower_s or 0)
    memory = "" if row.ours.peak_bytes is None else f"{row.ours.peak_bytes / 2**20:.1f} MiB"
    rate = "" if row.rate is None else f"{_si(row.rate)} {row.unit}/s"
    head = (row.case, _ms(row.ours.median), _ms(compile_s), memory, rate)
    beside = [_peer_cells(peer) for peer in row.peers] + [(name, "missing", "", "", "") for name in row.missing]
    if row.floor is not None:
        beside.insert(0, ("", "", "", f"≥ {_si(row.floor)}/s", _mark((row.rate or 0) >= row.floor)))
    for figure in row.figures:
        limit = "" if figure.at_most is None else f"≤ {figure.at_most:,.6g}"
        beside.append((f"· {figure.name}", f"{figure.value:,.6g}", "", limit, _mark(figure.ok)))
    for nth, cells in enumerate(beside or [("",) * 5]):
        yield (*(head if nth == 0 else ("",) * 5), *cells, row.digest if nth == 0 else "")


def table(rows: Iterable[Row]) -> str:
    """Rows as text, one line per peer. `*`: the peer computes something else of the same size, as it can't do this."""
    lines = [_HEADINGS, *(line for row in rows for line in _lines(row))]
    widths = [max(len(line[column]) for line in lines) for column in range(len(_HEADINGS))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def _as_json(rows: Sequence[Row], about: dict[str, Any]) -> str:
    return json.dumps({"manifest": about, "rows": [dataclasses.asdict(row) for row in rows]}, indent=1) + "\n"


def _write(path: Path, rows: Sequence[Row], about: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(_as_json(rows, about), encoding="utf-8")


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure against the peers.")
    parser.add_argument(
        "names", nargs="*", help=f"modules or beginnings of case names; by default all but {IF_NAMED[0]}"
    )
    parser.add_argument("--quick", action="store_true", help="tiny sizes, no targets; peers may be missing")
    parser.add_argument(
        "--json", type=Path, help="write everything to this file instead of benchmarks/results/<device>/"
    )
    parser.add_argument("--rounds", type=int, help="timed runs of each program (15, or 2 with --quick)")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run, print, write; returns the exit status."""
    options = _arguments(argv)
    rounds = options.rounds or (2 if options.quick else 15)
    chosen = {module: found for module in MODULES if (found := cases(module, options.names))}
    if not chosen:
        print(f"nothing is called {' or '.join(options.names)}; modules: {', '.join(MODULES)}", file=sys.stderr)
        return 2
    about = manifest()
    print(" ".join(f"{key}={value}" for key, value in about.items() if key != "versions"))
    print(" ".join(f"{package}={version}" for package, version in about["versions"].items()))
    everything: list[Row] = []
    try:
        for module, found in chosen.items():
            rows = [measure(case, quick=options.quick, rounds=rounds) for case in found]
            print("\n" + table(rows), flush=True)
            everything += rows
            if not options.quick and not options.json and (not options.names or module in options.names):
                _write(RESULTS / device_slug() / f"{module}.json", rows, about)
    except BenchmarkError as error:
        print(f"\n{error}", file=sys.stderr)
        return 2
    if options.json:
        _write(options.json, everything, about)
    missed = [row.case for row in everything if not row.ok]
    if missed:
        print(f"\nmissed: {', '.join(missed)}", file=sys.stderr)
    return 1 if missed else 0


def _with_large_pages() -> None:
    """Start anew, with malloc asking for large pages, which NumPy does by itself.

    Otherwise each fresh array of more than 32 MiB costs an interrupt for every 4 KiB of it: of a product with 64
    features that was half the time. glibc reads the setting when a process starts.
    """
    if sys.platform == "linux" and "GLIBC_TUNABLES" not in os.environ:
        os.environ["GLIBC_TUNABLES"] = "glibc.malloc.hugetlb=1"
        os.execv(sys.executable, [sys.executable, "-m", __package__, *sys.argv[1:]])


if __name__ == "__main__":
    _with_large_pages()
    sys.exit(main())
