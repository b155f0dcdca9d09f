"""Random logs for the tests of searching, and the plain answer to every question about them."""

import numpy as np

from mmsb_jax.page import FrameKind, MemoryStorage, PageChanges, PageRecord, TransactionLog, read_frames

U32, I32 = np.uint32, np.int32
CAPACITY, WORDS = 12, 3
SOURCES, INTENTS = ("api", "sensor", "rule"), ("", "calibrate", "mend")


def random_rows(rng, ticks, sources):
    """Rows of a commit; `ticks` when each happened, or None and a number of rows."""
    rows = rng.integers(0, 6) if ticks is None else len(ticks)
    page = rng.integers(0, CAPACITY, rows).astype(I32)
    words = rng.integers(0, 2**32, (rows, WORDS), dtype=U32)
    mask = rng.integers(0, 2**WORDS, (rows, 1), dtype=U32) if rng.random() < 0.5 else None
    source = rng.choice(sources, rows).astype(I32)
    return PageChanges.from_rows(page, words, mask, source, None if ticks is None else np.array(ticks, U32))


def write(rng, log, commits, tick=0):
    """Append random commits to a log that is at a tick, and return the tick at which it ends."""
    sources = [log.name_id(name) for name in SOURCES]
    for _ in range(commits):
        before, tick = tick, tick + int(rng.integers(0, 4))
        about = {"intent": str(rng.choice(INTENTS)), "time_ns": int(rng.integers(0, 1000))}
        if rng.random() < 0.15:
            page = rng.integers(0, CAPACITY, 2).astype(I32)
            op = str(rng.choice(["create", "delete"]))
            log.append_pages(tick, [PageRecord(op, np.unique(page), 12, f"page {page[0]}")], **about)
        else:
            several = sorted(rng.integers(before, tick + 1, 5).tolist()) if rng.random() < 0.3 else None
            log.append_changes(tick, random_rows(rng, several, sources), **about)
    return tick


def random_log(rng, commits=60, segment_bytes=1500, storage=None, sessions=1):
    """A log of some segments, written by several writers one after the other."""
    storage = MemoryStorage() if storage is None else storage
    options = {"segment_bytes": segment_bytes, "fingerprint": {}}
    log, tick = TransactionLog.create(storage, page_words=WORDS, capacity=CAPACITY, **options), 0
    for session in range(sessions):
        if session:
            log = TransactionLog.open(storage, **options)
        tick = write(rng, log, commits // sessions, tick)
        log.close()
    return storage


def names_of(storage):
    table = {0: ""}
    for frame in read_frames(storage):
        if frame.kind == FrameKind.NAMES:
            table |= dict(frame.new_names())
    return [table[i] for i in range(len(table))]


def all_rows(storage):
    """`(sequence, tick, time, page, source, intent, mask or None, words)` of every row, by plain loops."""
    names = names_of(storage)
    for frame in read_frames(storage):
        if frame.kind != FrameKind.CHANGES:
            continue
        changes = frame.changes()
        page, words, mask, source = changes.to_rows(WORDS)
        for row in range(len(changes)):
            set_here = [i for i in range(WORDS) if mask is None or mask[row, 0] >> i & 1]
            yield (
                frame.sequence,
                frame.tick if changes.tick is None else int(changes.tick[row]),
                frame.time_ns,
                int(page[row]),
                names[source[row]],
                names[frame.intent],
                None if mask is None else mask[row].tolist(),
                [int(words[row, i]) for i in set_here],
            )


def rows_of(storage, selection):
    """What a selection gives, row by row, in the same form."""
    names, found = names_of(storage), []
    for frame, changes in selection:
        assert len(changes)
        words = 0
        for row in range(len(changes)):
            mask = None if changes.mask is None else changes.mask[row].tolist()
            count = WORDS if mask is None else int(np.bitwise_count(changes.mask[row]).sum())
            flat = changes.words.reshape(-1)[words : words + count]
            words += count
            tick = frame.tick if changes.tick is None else int(changes.tick[row])
            place = (frame.sequence, tick, frame.time_ns, int(changes.page[row]), names[changes.source[row]])
            found.append((*place, names[frame.intent], mask, flat.tolist()))
    return found
