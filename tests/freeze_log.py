"""Makes `tests/frozen/log`: `python -m tests.freeze_log`. Done once; what it made is never made again.

A later version of the format gets frozen runs of its own, beside these, which stay readable. Three runs:

- `whole`: every kind of frame, whole and masked rows, rows of several ticks, each codec, four segments with indexes.
- `compacted`: the same, cut off behind tick 4: its first segment is a base.
- `fork`: another future from tick 9 of `whole`, which it refers to.

`expected.json` holds, of each run and tick, the SHA-256 of the replayed pages and epochs, and what else was told.
"""

import dataclasses
import hashlib
import json
import shutil
from pathlib import Path

import numpy as np

import mmsb_jax as mmsb
from mmsb_jax.page import EdgeRecords, PageChanges, PageRecord, TransactionLog, compact, read_frames, replay_log
from mmsb_jax.page.history._parent import PARENT_FILE, read_parent, write_parent
from mmsb_jax.page.log._storage import DirectoryStorage
from tests.model import digest_of

FROZEN = Path(__file__).parent / "frozen" / "log"
BEGINS = {"whole": 0, "compacted": 4, "fork": 9}  # the first tick of each log
WORDS, CAPACITY = 33, 16


def rows(rng, page, mask=None, ticks=None):
    words = rng.integers(0, 2**32, (len(page), WORDS), dtype=np.uint32)
    words[:, 5:] = words[:, :1]  # so that compression pays
    tick = None if ticks is None else np.array(ticks, np.uint32)
    return PageChanges.from_rows(np.array(page, np.int32), words, mask, np.arange(len(page), dtype=np.int32) % 3, tick)


def write(path):
    rng = np.random.default_rng(2026)
    options = {"segment_bytes": 2500, "sync": "none"}
    shape = {"page_words": WORDS, "capacity": CAPACITY, "fingerprint": {"jax": "0.10.2", "cpu": "α"}}
    with TransactionLog.create(path, **shape, **options) as log:
        for name in ("api", "sensor"):
            log.name_id(name)
        pages = np.array([3, 4], np.int32)
        log.append_pages(0, [PageRecord("create", pages, 8 * WORDS, "wind", metadata={"unit": "m/s"})])
        edges = np.array([3], np.int32), np.array([4], np.int32)
        log.append_edges(1, EdgeRecords.of(1, *edges, weight=np.array([0.5], np.float32)))
        first, state = rows(rng, [3, 0, 15]), np.zeros((CAPACITY, WORDS), np.uint32)
        state[first.page] = first.words
        log.append_changes(2, first, intent="calibrate", digest=tuple(digest_of(state)))
        log.append_changes(2, rows(rng, []))
        mask = np.array([[5, 0], [2**32 - 1, 1]], np.uint32)
        log.append_changes(4, rows(rng, [3, 3], mask), intent="naïve ✓")
        log.append_changes(8, rows(rng, [1, 2, 1], None, [5, 6, 8]))
    for codec in ("lz4", "zstd"):
        with TransactionLog.open(path, codec=codec, fingerprint={"jax": "0.12.0"}, **options) as log:
            for _ in range(4):
                log.append_changes(log.tick + 1, rows(rng, [0, 1, 2, 3, 4, 5, 6, 7]))


def state(place, tick):
    found = replay_log(place, until_tick=tick, checkpoints=False)
    return hashlib.sha256(found.pages.tobytes() + found.epoch.tobytes()).hexdigest()


def expected(path):
    """What is to be found in a run, from whatever version reads it."""
    run, frames = mmsb.open_run(path), list(read_frames(path))
    return {
        "first": run.first,
        "last": run.last,
        "frames": [f"{frame.sequence} {frame.kind.name} {frame.tick} {frame.rows} {frame.digest}" for frame in frames],
        "states": {str(tick): state(path, tick) for tick in range(BEGINS[path.name], run.last + 1)},
        "names": list(replay_log(path).names),
    }


def _forget_this_machine(path):
    """The fork keeps where its parent was, absolutely; here as if it had been elsewhere."""
    storage = DirectoryStorage(path)
    parent = read_parent(storage)
    storage.remove(PARENT_FILE)
    write_parent(storage, dataclasses.replace(parent, path="/runs/whole"))
    storage.close()


def main():
    shutil.rmtree(FROZEN, ignore_errors=True)
    write(FROZEN / "whole")
    shutil.copytree(FROZEN / "whole", FROZEN / "compacted")
    with TransactionLog.open(FROZEN / "compacted", fingerprint={"jax": "0.12.0"}, segment_bytes=2500) as log:
        compact(log, before=7)
    mmsb.open_run(FROZEN / "whole").fork(9, FROZEN / "fork")
    _forget_this_machine(FROZEN / "fork")
    with TransactionLog.open(FROZEN / "fork", fingerprint={"jax": "0.12.0"}) as log:
        log.append_changes(10, rows(np.random.default_rng(7), [9, 3]), intent="otherwise")
    for lock in FROZEN.rglob("lock"):
        lock.unlink()
    found = {name: expected(FROZEN / name) for name in BEGINS}
    (FROZEN / "expected.json").write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
