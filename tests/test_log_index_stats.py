"""Counts of a log, taken from its indexes, are those of a plain loop over its frames."""

from collections import Counter

import numpy as np
import pytest

from mmsb_jax.page import FrameKind, LogStats, MemoryStorage, PageChanges, TransactionLog, log_stats, read_frames
from tests.log_runs import CAPACITY, U32, WORDS, names_of, random_log, write

COMMITS = ("CHANGES", "PAGES", "EDGES")


def counted(storage, segments):
    """The same by a plain loop."""
    names, frames = names_of(storage), list(read_frames(storage))
    kinds, sizes, sources, intents = Counter(), Counter(), Counter(), Counter()
    commits, rows, coded = [frame for frame in frames if frame.kind.name in COMMITS], 0, []
    for frame in frames:
        kinds[frame.kind.name] += 1
        sizes[frame.kind.name] += 64 + len(frame.body)
    for frame in commits:
        intents[names[frame.intent]] += 1
        if frame.kind == FrameKind.CHANGES:
            changes = frame.changes()
            rows += len(changes)
            sources.update({names[source] for source in changes.source.tolist()})
            if frame.is_coded:
                columns = (changes.page, changes.source, changes.mask, changes.words, changes.tick)
                coded.append((len(frame.body), sum(column.nbytes for column in columns if column is not None)))
    return LogStats(
        segments=segments,
        frames=len(frames),
        commits=len(commits),
        rows=rows,
        bytes=sum(sizes.values()),
        frames_by_kind=dict(kinds),
        bytes_by_kind=dict(sizes),
        ticks=(commits[0].tick, commits[-1].tick) if commits else None,
        times=(min(f.time_ns for f in commits), max(f.time_ns for f in commits)) if commits else None,
        by_source=dict(sources),
        by_intent=dict(intents),
        coded=len(coded),
        coded_bytes=sum(size for size, _ in coded),
        coded_raw_bytes=sum(size for _, size in coded),
    )


@pytest.mark.parametrize("sessions", [1, 4])
def test_counts_are_those_of_a_plain_loop(rng, sessions):
    storage = random_log(rng, sessions=sessions)
    segments = [name for name in storage.files if name.endswith(".seg")]
    assert log_stats(storage) == counted(storage, len(segments))
    del storage.files[segments[1].replace(".seg", ".idx")]
    stats = log_stats(storage)
    assert stats.rebuilt == 1
    assert stats.rows == counted(storage, 0).rows


def test_an_open_log_and_an_empty_one_are_counted(rng):
    storage = MemoryStorage()
    with TransactionLog.create(storage, page_words=WORDS, capacity=CAPACITY, fingerprint={}) as log:
        assert log_stats(storage) == counted(storage, 1)
        write(rng, log, 10)
        assert log_stats(storage) == counted(storage, 1)
    assert log_stats(storage) == counted(storage, 1)
    assert log_stats(storage).coded_ratio == 1


def test_compressed_commits_are_counted_with_what_they_saved():
    storage, page = MemoryStorage(), np.arange(CAPACITY, dtype=np.int32)
    mask, tick = np.full((CAPACITY, 1), 5, U32), np.full(CAPACITY, 3, U32)
    options = {"page_words": 64, "capacity": CAPACITY, "fingerprint": {}, "codec": "zstd"}
    with TransactionLog.create(storage, **options) as log:
        log.append_changes(1, PageChanges(page, page * 0, None, np.zeros((CAPACITY, 64), U32)))
        masks = np.concatenate([mask, mask], axis=1)
        log.append_changes(2, PageChanges(page, page * 0, masks, np.zeros(4 * CAPACITY, U32)))
        log.append_changes(3, PageChanges(page, page * 0, None, np.zeros((CAPACITY, 64), U32), tick))
    stats = log_stats(storage)
    assert stats == counted(storage, 1)
    assert stats.coded == 3
    assert stats.coded_ratio > 2
