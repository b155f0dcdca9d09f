"""The lines of a log: whether indexes tell them or frames, they are what a plain loop over everything finds."""

import os
from collections import defaultdict
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmsb_jax import CorruptLogError
from mmsb_jax.page import FrameKind, TransactionLog, read_frames, select
from mmsb_jax.page.query._reader import LogReader
from tests.log_runs import CAPACITY, all_rows, names_of, random_log, random_rows, write
from tests.test_log_select import expected, filters, one_of, within


@pytest.fixture(scope="module")
def logs():
    seed = int(os.environ["MMSB_SEED"])
    found = [random_log(np.random.default_rng([seed, i]), sessions=i) for i in (1, 2, 3)]
    return [(storage, list(all_rows(storage))) for storage in found]


def by_rows(rows):
    """`{sequence: (first, last, rows, sources)}` of rows as `all_rows` gives them."""
    grouped = defaultdict(list)
    for sequence, tick, _, _, source, *_ in rows:
        grouped[sequence].append((tick, source))
    return {
        sequence: (found[0][0], found[-1][0], len(found), {source for _, source in found})
        for sequence, found in grouped.items()
    }


def by_frames(storage, rows, kinds, ticks=None, times=None, intents=None):
    """The same of whole frames: a chunk has the ticks behind the frame before it."""
    names, grouped, found = names_of(storage), by_rows(rows), {}
    for frame in read_frames(storage):
        fits = within(frame.tick, ticks) and within(frame.time_ns, times) and one_of(names[frame.intent], intents)
        if frame.kind in kinds and fits:
            first = min(frame.tick_before + 1, frame.tick) if frame.has_ticks else frame.tick
            sources = grouped.get(frame.sequence, (0, 0, 0, set()))[3]
            found[frame.sequence] = (first, frame.tick, frame.rows, sources)
    return found


def told(commits):
    return {each.sequence: (each.first, each.tick, each.rows, set(each.sources)) for each in commits}


@settings(max_examples=50)
@given(st.integers(0, 2), filters, st.none() | st.integers(0, 5))
def test_commits_are_what_a_plain_loop_finds(logs, number, chosen, last):
    storage, rows = logs[number]
    catalogue = (FrameKind.PAGES, FrameKind.EDGES)
    plain = {name: value for name, value in chosen.items() if name in ("ticks", "times", "intents")}
    if chosen.keys() & {"pages", "sources"}:
        wanted = by_rows(expected(rows, **chosen))
    elif (chosen.get("ticks") or (None, None)) in ((None, None), (0, None)):
        wanted = by_frames(storage, rows, (FrameKind.CHANGES, *catalogue), **plain)
    else:
        wanted = by_rows(expected(rows, **chosen)) | by_frames(storage, rows, catalogue, **plain)
    ordered = dict(sorted(wanted.items())[0 if last is None else max(0, len(wanted) - last) :])
    found = list(select(storage, **chosen).commits(last=last))
    assert told(found) == ordered
    assert [each.sequence for each in found] == list(ordered)


def test_every_field_is_that_of_the_frame(logs):
    storage, _ = logs[0]
    names = names_of(storage)
    frames = {frame.sequence: frame for frame in read_frames(storage)}
    for each in select(storage).commits():
        frame = frames[each.sequence]
        assert each[3:6] == (frame.time_ns, frame.kind, frame.rows)
        assert (each.intent, each.digest) == (names[frame.intent], frame.digest)


def test_a_listing_opens_no_frame_but_for_names(logs):
    storage, _ = logs[0]
    selection = select(storage)
    assert len(list(selection.commits())) > 20
    assert selection.counts.frames <= 2 * len(LogReader(storage).segments)
    assert selection.counts.bytes < 2000


@pytest.mark.parametrize("chosen", [{}, {"sources": "late"}, {"pages": 3}], ids=str)
def test_following_goes_on_where_the_listing_ends(rng, chosen):
    """Also past new names, new pages and new segments."""
    storage = random_log(rng, commits=10)
    log = TransactionLog.open(storage, fingerprint={}, segment_bytes=700)
    grown = iter(range(4))

    def stop():
        if next(grown, None) is None:
            return True
        late = log.name_id("late")
        log.append_changes(log.tick, replace(random_rows(rng, [log.tick] * 4, [late]), tick=None), intent="still here")
        write(rng, log, 3, log.tick)
        return False

    found = list(select(storage, **chosen).commits(last=1, follow=True, stop=stop))
    log.close()
    whole = list(select(storage, **chosen).commits())
    assert whole[-len(found) :] == found
    assert sum(each.intent == "still here" for each in found) == 4 or chosen == {"pages": 3}
    assert len(found) < len(whole) or chosen


def test_a_name_that_is_nowhere_is_damage(logs, monkeypatch):
    storage, _ = logs[0]
    read = LogReader._read_names
    monkeypatch.setattr(LogReader, "_read_names", lambda reader: read(reader)[:1])
    for chosen in ({}, {"pages": range(CAPACITY)}):
        with pytest.raises(CorruptLogError, match=r"\.seg, byte \d+: .*name"):
            list(select(storage, **chosen).commits())
