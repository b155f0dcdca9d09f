"""Rows as a stream of Arrow batches: what other programs read is what a plain loop over the log finds."""

from datetime import UTC, datetime

import duckdb
import jax.numpy as jnp
import numpy as np
import pyarrow as pa
import pytest

from mmsb_jax import PageNotFoundError
from mmsb_jax.page import MemoryStorage, PageChanges, PageRecord, TransactionLog, select
from mmsb_jax.page.log._about import About
from mmsb_jax.page.query import _arrow as arrow
from mmsb_jax.physical import Paging
from tests.log_runs import I32, U32, all_rows, random_log

COLUMNS = ["sequence", "tick", "time", "page", "source", "intent", "mask", "words"]


def as_rows(table):
    """The columns that every log has, in the form of `all_rows`."""
    rows = zip(*(table.column(name).to_pylist() for name in COLUMNS if name != "time"), strict=True)
    times = table.column("time").cast(pa.int64()).to_pylist()
    return [(*row[:2], time, *row[2:]) for row, time in zip(rows, times, strict=True)]


@pytest.mark.parametrize("most", [(1 << 16, 1 << 22), (7, 1 << 22), (1 << 16, 9)])
def test_the_stream_holds_every_row(rng, monkeypatch, most):
    monkeypatch.setattr(arrow, "_MOST_ROWS", most[0])
    monkeypatch.setattr(arrow, "_MOST_WORDS", most[1])
    storage = random_log(rng)
    reader = select(storage).to_arrow()
    assert reader.schema == arrow.ROWS
    batches = list(reader)
    assert max(batch.num_rows for batch in batches) <= most[0]
    assert (len(batches) > 5) == (most != (1 << 16, 1 << 22))
    for batch in batches:
        batch.validate(full=True)
    assert as_rows(pa.Table.from_batches(batches)) == list(all_rows(storage))


def test_the_stream_keeps_to_the_filters(rng):
    storage = random_log(rng)
    found = as_rows(select(storage, pages=[2, 3], sources="sensor", ticks=(5, None)).to_arrow().read_all())
    assert found == [r for r in all_rows(storage) if r[3] in (2, 3) and r[4] == "sensor" and r[1] >= 5]
    nothing = select(storage, ticks=(5, 4)).to_arrow().read_all()
    assert (nothing.num_rows, nothing.schema) == (0, arrow.ROWS)


def test_duckdb_and_pandas_read_it(rng, run_dir):
    random_log(rng, storage=run_dir)
    rows = list(all_rows(run_dir))
    query = "select source, count(*), sum(len(words)), max(tick) from log group by source order by source"
    by_source = {}
    for row in rows:
        count, words, tick = by_source.get(row[4], (0, 0, 0))
        by_source[row[4]] = count + 1, words + len(row[7]), max(tick, row[1])
    found = duckdb.from_arrow(select(run_dir).to_arrow()).query("log", query).fetchall()
    assert found == [(source, *sums) for source, sums in sorted(by_source.items())]
    frame = select(run_dir).to_arrow().read_pandas()
    assert frame["page"].tolist() == [row[3] for row in rows]
    assert frame["intent"].tolist() == [row[5] for row in rows]


def pages_by_tick(storage, leaves):
    return {frame.tick: rows.page.tolist() for frame, rows in select(storage, leaves=leaves)}


def words_at(*pages):
    return PageChanges(np.array(pages, I32), np.zeros(len(pages), I32), None, np.zeros((len(pages), 4), U32))


def test_pages_of_a_bus_have_the_names_they_had_at_the_time():
    storage = MemoryStorage()
    first, second = np.array([1], I32), np.array([1, 3], I32)
    with TransactionLog.create(storage, page_words=4, capacity=8, fingerprint={}) as log:
        log.append_changes(1, words_at(1, 2))
        log.append_pages(2, [PageRecord("create", first, 16, "wind")])
        log.append_changes(3, words_at(1, 2))
        log.append_pages(4, [PageRecord("delete", first), PageRecord("create", second, 32, "rain")])
        log.append_changes(5, words_at(1, 2, 3))
    table = select(storage).to_arrow().read_all()
    assert table.column("leaf").to_pylist() == [None, None, "wind", None, "rain", None, "rain"]
    assert table.column("member").null_count == 7
    assert pages_by_tick(storage, "wind") == {1: [1], 3: [1], 5: [1]}
    assert pages_by_tick(storage, "rain") == {1: [1], 3: [1], 5: [1, 3]}


TREE = {"big": {"u": jnp.zeros(20, jnp.float32), "v": jnp.zeros(9, jnp.float32)}, "k": 3, "t": (0, jnp.float32(1))}


def recorded(members=None):
    """A recorded run of one commit that changes each page, and one that changes word 1 alone, in pages of 8 words."""
    storage, about = MemoryStorage(), About(Paging.like(TREE, page_bytes=32), members=members)
    pages = np.arange(about.num_pages, dtype=I32)
    whole = np.zeros((len(pages), 8), U32)
    options = {"page_words": 8, "capacity": about.num_pages, "fingerprint": {}}
    with TransactionLog.create(storage, **options) as log:
        log.append_pages(0, about.records())
        log.append_changes(0, PageChanges(pages, pages * 0, None, whole))
        log.append_changes(1, PageChanges(pages, pages * 0, np.full((len(pages), 1), 2, U32), whole[:, 0].copy()))
    return storage, about


def test_leaves_are_found_by_tree_path_and_those_below_too():
    storage, about = recorded()
    paths = {leaf.path: leaf for leaf in about.paging.leaves}
    u, v = (list(paths[f"['big']['{name}']"].pages) for name in "uv")
    shared = paths["['k']"].first_page
    assert pages_by_tick(storage, "['big']['u']") == {0: u, 1: u}
    assert pages_by_tick(storage, "['big']['v']") == {0: v, 1: v[:1]}, "its second page ends with its first word"
    assert pages_by_tick(storage, ["['big']"]) == {0: u + v, 1: u + v[:1]}
    assert pages_by_tick(storage, "big") == pages_by_tick(storage, "['big']")
    for path in ("['k']", "['t'][0]", "['t'][1]"):  # on one page; word 1 belongs to one of them
        of_word_1 = paths[path].offset == 1
        assert pages_by_tick(storage, path) == ({0: [shared], 1: [shared]} if of_word_1 else {0: [shared]})
    with pytest.raises(PageNotFoundError, match=r"called 'bag'; did you mean|there are"):
        list(select(storage, leaves="bag"))


def test_members_of_an_ensemble_have_a_column():
    storage, about = recorded(members=3)
    table = select(storage, ticks=(0, 0)).to_arrow().read_all()
    each = about.paging.num_pages
    assert table.column("member").to_pylist() == [page // each for page in range(3 * each)]
    leaf = table.column("leaf").to_pylist()
    assert leaf == leaf[:each] * 3
    assert set(leaf) == {", ".join(leaf.path for leaf in group) for group in about.paging.groups}
    u = list(next(leaf.pages for leaf in about.paging.leaves if leaf.path.endswith("['u']")))
    assert pages_by_tick(storage, "['big']['u']")[0] == [m * each + page for m in range(3) for page in u]


def test_a_time_that_arrow_can_not_say_is_null():
    storage = MemoryStorage()
    with TransactionLog.create(storage, page_words=4, capacity=8, fingerprint={}) as log:
        log.append_changes(1, words_at(1), time_ns=1_700_000_000_000_000_001)
        log.append_changes(2, words_at(1), time_ns=2**64 - 1)
    times = select(storage).to_arrow().read_all().column("time")
    assert times.cast(pa.int64()).to_pylist() == [1_700_000_000_000_000_001, None]
    assert times[0].cast(pa.timestamp("s", "UTC"), safe=False).as_py() == datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)
