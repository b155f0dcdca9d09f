"""The same stream, killed half-way and taken up again from its log."""

import random
import signal
import subprocess
import sys
from pathlib import Path

from ._board import open_board
from ._flights import Flights
from ._stream import stream


class CrashError(RuntimeError):
    """The crash didn't go as it should, or something was lost."""


def stream_through_a_crash(path: Path, flights: Flights, hours: int) -> tuple[int, tuple[int, int]]:
    """Stream in a child process, kill it in the middle, go on here.

    Returns the last tick that the child acknowledged, and the digest in the end.
    """
    acknowledged = _run_and_kill(path, hours)
    bus, layout = open_board(str(path), flights)
    with bus:
        if bus.tick < acknowledged:
            raise CrashError(f"tick {acknowledged} was acknowledged, but the log ends at tick {bus.tick}")
        stream(bus, flights, layout, hours=hours)
        return acknowledged, bus.digest()


def _run_and_kill(path: Path, hours: int) -> int:
    command = [sys.executable, "-m", "demo", "--stream-only", "--hours", str(hours), "--out", str(path)]
    acknowledged, after = 0, random.randint(hours // 3, 2 * hours // 3)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parent.parent) as child:
        assert child.stdout is not None
        for line in child.stdout:
            acknowledged = int(line)
            if acknowledged >= after:
                child.send_signal(signal.SIGKILL)
                break
    if child.returncode != -signal.SIGKILL:
        raise CrashError(f"the child was to die by SIGKILL, but ended with status {child.returncode}")
    return acknowledged
