"""Checkpoints of a bus: opening begins with the newest one, and the log before it may go."""

import numpy as np
import pytest

import mmsb_jax as mmsb
from mmsb_jax import BusClosedError, InvalidArgumentError, _session
from mmsb_jax.page import checkpoints, replay_log
from tests.runs import floats, start, total_rule


def build(bus):
    a, b, total = (bus.create_page(8, name=name) for name in ("a", "b", "total"))
    bus.add_dependency([a, b], total)
    bus.add_rule(total_rule(total))
    for value in range(1, 5):
        bus.update_page(a, floats(value)[:2], source="api")
        bus.propagate()


def look(bus):
    pages = [bus.query_page(page).tolist() for page in bus.pages]
    return pages, bus.graph.num_edges, bus.tick, bus.digest(), np.asarray(bus.state.epoch).tolist()


def test_opening_begins_with_the_newest_checkpoint(run_dir):
    with start(run_dir, page_bytes=32, capacity=16) as bus:
        build(bus)
        info = bus.checkpoint()
        assert info.tick == bus.tick
        again = bus.checkpoint()
        assert again == info  # nothing happened since
        bus.update_page("b", floats(9)[:2])
        bus.propagate()
        expected = look(bus)
    # What is before the checkpoint isn't read any more: damage there doesn't matter to those who go on.
    with start(run_dir) as bus:
        assert look(bus) == expected
        bus.add_rule(total_rule(bus.page("total")))
        bus.update_page("a", floats(1)[:2])
        bus.propagate()
        assert bus.query_page("total", dtype=np.float32)[0] == 10
        assert bus.history().verify().checkpoints == 1


def test_the_log_before_a_checkpoint_is_not_read(run_dir):
    with start(run_dir, page_bytes=32, capacity=16) as bus:
        build(bus)
        expected = look(bus)
        bus.checkpoint()
    segment = next((run_dir / "log").glob("*.seg"))
    data = bytearray(segment.read_bytes())
    at = data.index(b"MMSB", data.index(b"total"))  # a frame behind those that made the pages
    for found in replay_log(run_dir).skipped:
        raise AssertionError(found)
    data[at + 70] ^= 1
    segment.write_bytes(data)
    with pytest.raises(mmsb.CorruptLogError):
        replay_log(run_dir, checkpoints=False)
    assert np.asarray(mmsb.replay(run_dir).epoch).tolist() == expected[-1]


def test_a_long_log_gets_checkpoints_by_itself(run_dir, monkeypatch):
    monkeypatch.setattr(_session, "_TAIL_BYTES", 2000)
    monkeypatch.setattr(_session, "_TAIL_STATES", 0)
    with start(run_dir, page_bytes=32, capacity=16) as bus:
        build(bus)
        expected = look(bus)
    assert len(checkpoints(run_dir)) > 1
    with start(run_dir) as bus:
        assert look(bus) == expected
        assert bus.history().verify().checkpoints > 1


def test_a_bus_in_memory_is_kept_by_stop(tmp_path):
    bus = start()
    build(bus)
    expected = look(bus)
    with pytest.raises(InvalidArgumentError, match="isn't empty"):
        bus.stop(checkpoint_path=tmp_path.parent)
    assert look(bus) == expected
    bus.stop(checkpoint_path=tmp_path / "kept")
    with pytest.raises(BusClosedError):
        bus.checkpoint()
    with start(tmp_path / "kept") as bus:
        assert look(bus) == expected
        with pytest.raises(InvalidArgumentError, match="it was in memory"):
            bus.history().at(1)


def test_compaction_of_a_live_bus(run_dir):
    with start(run_dir, page_bytes=32, capacity=16) as bus:
        build(bus)
        bus.checkpoint()
        bus.update_page("b", floats(3)[:2])
        expected = look(bus)
        with pytest.raises(InvalidArgumentError, match="got before=99, but the log ends at tick 9"):
            bus.compact(before=99)
        done = bus.compact(before=bus.tick)
        assert done.merged > 5
        assert look(bus) == expected
        bus.update_page("b", floats(4)[:2])
        expected = look(bus)
        assert bus.history().first == done.first
    with start(run_dir) as bus:
        assert look(bus) == expected
        assert bus.history().verify().last == bus.tick
