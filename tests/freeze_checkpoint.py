"""Makes `tests/frozen/checkpoint`: `python -m tests.freeze_checkpoint`. Done once; what it made is never made again.

A later version of the format gets a frozen run of its own, beside this one, which stays readable.
"""

import shutil
from pathlib import Path

import numpy as np

from mmsb_jax.page import write_checkpoint
from tests.checkpoint_runs import WORDS, SmallRun

FROZEN = Path(__file__).parent / "frozen" / "checkpoint"
PART_BYTES = 16 * WORDS


def states(run):
    """Bring a run to two states, and give a snapshot of each: the second shares a part and the catalogue."""
    run.create([3, 7], "wind", unit="m/s")
    run.commit(1, [3, 7], np.arange(8, dtype=np.uint32).reshape(2, 4), source="api")
    run.link(3, 7, 0.5)
    yield run.snapshot(digest=(1, 2**32 - 1))
    run.commit(4, [0, 9], np.full((2, 4), 0x7FC00001, np.uint32))
    run.commit(6, [9], np.full((1, 4), 0x80000000, np.uint32))
    yield run.snapshot()


def main():
    shutil.rmtree(FROZEN, ignore_errors=True)
    run, base = SmallRun(FROZEN), None
    for snapshot in states(run):
        base = write_checkpoint(FROZEN, snapshot, base=base, part_bytes=PART_BYTES)
    run.log.close()
    for path in (FROZEN / "log").iterdir():
        if path.suffix != ".seg" and path.name != "mark":  # no concern of checkpoints
            path.unlink()


if __name__ == "__main__":
    main()
