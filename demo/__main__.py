"""`python -m demo`: stream a year of flights through the bus, look at it, and prove that the log tells all of it.

`python -m demo --crash` also does it in a process that is killed half-way, and goes on from its log.
"""

import argparse
import shutil
import subprocess
import sys
import time
from pathlib import Path

import mmsb_jax as mmsb

from . import _report
from ._board import open_board
from ._cascades import worst_cascades
from ._crash import CrashError, stream_through_a_crash
from ._flights import HOURS, Flights, MissingDataError, load
from ._stream import Streamed, stream, tick_at

FOLDER = Path(__file__).parent


class DemoError(RuntimeError):
    """Something that should be equal isn't."""


def main(argv: list[str] | None = None) -> int:
    """Run the demo. Returns the exit status: 0 only when everything matched."""
    arguments = _arguments(argv)
    try:
        if arguments.stream_only:
            return _stream_only(arguments.out, arguments.hours)
        return _run(arguments)
    except (CrashError, DemoError, MissingDataError, mmsb.MMSBError) as error:
        print(f"\ndemo failed: {error}", file=sys.stderr)
        return 1


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m demo", description=__doc__)
    parser.add_argument("--crash", action="store_true", help="also kill a run half-way and let it go on")
    parser.add_argument("--out", type=Path, default=FOLDER / "out" / "year.mmsb", help="where the run goes; replaced")
    parser.add_argument("--report", type=Path, default=FOLDER / "report.png", help="where the picture goes")
    parser.add_argument("--hours", type=int, default=HOURS, help="stop after so many hours of the year (default: all)")
    parser.add_argument("--stream-only", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    if not 24 <= arguments.hours <= HOURS:
        parser.error(f"--hours {arguments.hours}: the year has 24 to {HOURS} of them to show something")
    return arguments


def _run(arguments: argparse.Namespace) -> int:
    began = time.perf_counter()
    flights = load()
    _remove_run(arguments.out)
    print("Laying out the board and loading the timetable ...")
    bus, layout = open_board(str(arguments.out), flights)
    print(f"{len(flights):,} flights of {flights.aircraft:,} aircraft on {layout.capacity:,} pages; {bus.graph}")
    with bus, _progress(arguments.hours) as bar:
        streamed = stream(bus, flights, layout, hours=arguments.hours, done=lambda hour: bar.update())
        digest = bus.digest()
    _print_rate(streamed, arguments.out)
    _check_replay(arguments.out, digest, streamed)

    print("\nThe ten worst knock-on cascades of the year, as the waves pushed them along:\n")
    cascades = worst_cascades(str(arguments.out), flights)
    print(_report.describe(cascades, flights))
    print("\nThe board as it stood on 8 February 2013 at 18:00, read back by replay:\n")
    evening = mmsb.replay(arguments.out, tick=tick_at(min(_report.BLIZZARD_HOURS, arguments.hours)))
    text, board = _report.blizzard(evening, layout, flights)
    print(text)
    _report.draw(arguments.report, mmsb.replay(arguments.out), layout, flights, cascades[0], board)
    print(f"\nPicture: {arguments.report}")
    if arguments.crash:
        _crash(arguments.out, flights, arguments.hours, digest)
    print(f"Done in {time.perf_counter() - began:.0f} s.")
    return 0


def _print_rate(streamed: Streamed, path: Path) -> None:
    stats = streamed.stats
    size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file()) / 2**20
    print(
        f"{streamed.ticks:,} ticks in {streamed.seconds:.1f} s, each computed, logged and committed: "
        f"{streamed.ticks / streamed.seconds:,.0f} ticks/s and {streamed.deltas / streamed.seconds:,.0f} deltas/s\n"
        f"{stats.deltas:,} deltas in {stats.commits:,} commits, {size:.0f} MiB of log; "
        f"{stats.pages_recomputed:,} pages recomputed, of which {stats.pages_cut_off:,} came out unchanged"
    )


def _check_replay(path: Path, digest: tuple[int, int], streamed: Streamed) -> None:
    """Replay in this process and in a new one; both must end in the same bits."""
    began = time.perf_counter()
    here = tuple(mmsb.digest(mmsb.replay(path)).tolist())
    seconds = time.perf_counter() - began
    script = "import mmsb_jax, sys; print(mmsb_jax.digest(mmsb_jax.replay(sys.argv[1])).tolist())"
    child = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=False)
    if child.returncode != 0:
        raise DemoError(f"replaying in a new process failed:\n{child.stderr}")
    there = tuple(int(lane) for lane in child.stdout.strip("[]\n").split(","))
    if here != digest or there != digest:
        raise DemoError(f"replay gave other bits: live {hexed(digest)}, here {hexed(here)}, new process {hexed(there)}")
    print(
        f"replaying the log gives the same bits, here and in a new process: digest {hexed(digest)} "
        f"({seconds:.2f} s, {streamed.seconds / seconds:.0f} times faster than streaming)"
    )


def _crash(path: Path, flights: Flights, hours: int, digest: tuple[int, int]) -> None:
    print("\nThe same stream in a process that is killed half-way:")
    other = path.with_name("crashed.mmsb")
    _remove_run(other)
    killed_at, resumed = stream_through_a_crash(other, flights, hours)
    if resumed != digest:
        raise DemoError(f"after the crash the year ends in {hexed(resumed)}, without it in {hexed(digest)}")
    print(f"SIGKILL after tick {killed_at:,}, reopened, continued: the same digest {hexed(resumed)}")


def _stream_only(path: Path, hours: int) -> int:
    """The child of `--crash`: stream and say each tick once it is committed."""
    flights = load()
    bus, layout = open_board(str(path), flights)
    with bus:
        stream(bus, flights, layout, hours=hours, done=lambda hour: print(bus.tick, flush=True))
    return 0


def hexed(digest: tuple[int, int]) -> str:
    """A digest as people write it."""
    return "".join(f"{lane:08x}" for lane in digest)


def _progress(total: int):
    from tqdm import tqdm

    return tqdm(total=total, unit=" ticks", desc="2013", smoothing=0.05, mininterval=0.2)


def _remove_run(path: Path) -> None:
    if path.exists():
        if not (path / "run.json").exists():
            raise DemoError(f"{path} exists and is no run; pass another --out")
        shutil.rmtree(path)


if __name__ == "__main__":
    sys.exit(main())
