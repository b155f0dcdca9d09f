"""A fork begins where it was cut, goes on by itself, and knows what was before as long as its parent is there."""

import shutil
import time

import numpy as np
import pytest

import mmsb_jax as mmsb
from mmsb_jax import CorruptLogError, InvalidArgumentError, InvalidTypeError
from mmsb_jax.page import PageChanges, TransactionLog, replay_log
from mmsb_jax.page.history._parent import PARENT_FILE
from tests.recordings import START, write_recording

STEPS = 9


def trees(count=STEPS):
    made = []
    for step in range(count):
        field = np.zeros(40, np.float32)
        field[: step + 1] = np.arange(step + 1) + 0.5
        made.append({"field": field, "n": np.int32(step)})
    return made


def same(a, b):
    np.testing.assert_array_equal(a["field"], b["field"])
    np.testing.assert_array_equal(a["n"], b["n"])


@pytest.fixture
def forked(tmp_path):
    made = trees()
    write_recording(tmp_path / "run", made)
    run = mmsb.open_run(tmp_path / "run", like=made[0])
    return run, run.fork(5, tmp_path / "fork"), made


def go_on(fork, ticks):
    """Commit another counter at some ticks."""
    paging = fork.about.paging
    leaf = paging.leaf("['n']")
    with TransactionLog.open(fork.path, fingerprint={}) as log:
        for tick in ticks:
            words = np.zeros((1, paging.page_words), np.uint32)
            words[0, leaf.offset] = 100 + tick
            bit = np.uint32([[1 << leaf.offset]])
            source = np.int32([log.name_id("mended")])
            log.append_changes(tick, PageChanges.from_rows(np.int32([leaf.first_page]), words, bit, source))
    return mmsb.open_run(fork.path)


def test_it_has_the_past_of_its_parent_and_a_future_of_its_own(forked):
    run, fork, made = forked
    assert (fork.first, fork.last) == (0, 5)
    for epoch in range(6):
        same(fork.at(epoch), made[epoch])
    fork = go_on(fork, [6, 7])
    assert fork.epochs.tolist() == list(range(8))
    same(fork.at(7), made[5] | {"n": np.int32(107)})
    same(run.at(7), made[7])
    expected = [*made[:6], made[5] | {"n": np.int32(106)}, made[5] | {"n": np.int32(107)}]
    for begin in range(8):
        for epoch, tree in fork.iterate(begin):
            same(tree, expected[epoch])
    np.testing.assert_array_equal(replay_log(fork.path, until_tick=5).epoch, replay_log(run.path, until_tick=5).epoch)
    assert mmsb.replay(fork.path).tick == 7  # checks the digest, too


def test_blame_and_history_reach_into_the_parent(forked):
    _, fork, _ = forked
    fork = go_on(fork, [6])
    assert fork.blame("field").epoch.tolist()[:8] == [0, 1, 2, 3, 4, 5, 0, 0]
    assert fork.blame("n").writes[0].source == "mended"
    assert [(write.epoch, write.source) for write in fork.page_history("n")] == [
        (0, "init"),
        *((epoch, "step") for epoch in range(1, 6)),
        (6, "mended"),
    ]
    assert fork.bisect(lambda tree: tree["n"] >= 3) == 3
    assert fork.diff(2, 6).parts[1].new == 106


def test_moments_by_time_reach_into_the_parent(forked):
    _, fork, made = forked
    same(fork.at(time=START + 4), made[3])
    same(fork.at(time=START + 8), made[5])
    same(fork.at(time=time.time()), made[5])


def test_a_fork_of_a_fork(forked, tmp_path):
    _, fork, made = forked
    fork = go_on(fork, [6, 7])
    second = go_on(fork.fork(6, tmp_path / "second"), [8])
    for epoch in range(6):
        same(second.at(epoch), made[epoch])
    assert [int(second.at(epoch)["n"]) for epoch in (6, 7, 8)] == [106, 106, 108]
    early = fork.fork(2, tmp_path / "early")
    same(early.final, made[2])


def test_a_bus_goes_on_with_a_fork(tmp_path):
    with mmsb.start(tmp_path / "run", page_bytes=32, capacity=8) as bus:
        wind, rain = (bus.create_page(8, name=name) for name in ("wind", "rain"))
        bus.add_dependency(wind, rain, weight=2.0)
        for value in (1, 2, 3):
            bus.update_page("wind", np.float32([value, 0]), source="sensor")
    mmsb.open_run(tmp_path / "run").fork(2, tmp_path / "fork")
    with mmsb.start(tmp_path / "fork") as bus:
        assert bus.query_page("wind", dtype=np.float32)[0] == 2
        assert bus.graph.num_edges == 1
        assert bus.tick == 2
        bus.update_page("rain", np.float32([7, 0]))
    assert mmsb.open_run(tmp_path / "fork").at(1)["wind"].view(np.float32)[0] == 1


def test_parent_and_fork_may_move_together(forked, tmp_path):
    made = forked[2]
    (tmp_path / "elsewhere").mkdir()
    for name in ("run", "fork"):
        shutil.move(tmp_path / name, tmp_path / "elsewhere" / name)
    same(mmsb.open_run(tmp_path / "elsewhere" / "fork").at(2), made[2])


def test_without_its_parent_a_fork_still_has_its_own_part(forked, tmp_path):
    _, fork, made = forked
    fork = go_on(fork, [6])
    shutil.rmtree(tmp_path / "run")
    assert mmsb.replay(fork.path).tick == 6
    run = mmsb.open_run(fork.path, like=made[0])
    same(run.at(5), made[5])
    assert run.first == 5
    with pytest.raises(InvalidArgumentError, match=r"has 5 to 6. .* forked at epoch 5 from the run .* Move it back"):
        run.at(2)
    with pytest.raises(InvalidArgumentError, match="begins with the state at tick 5"):
        mmsb.replay(fork.path, tick=2)
    write_recording(tmp_path / "run", made)  # another run at the same place
    with pytest.raises(InvalidArgumentError, match="it is not at"):
        mmsb.open_run(fork.path).at(2)


def test_where_a_fork_can_not_be_made(forked, tmp_path):
    run, _, _ = forked
    with pytest.raises(InvalidArgumentError, match="isn't empty"):
        run.fork(3, tmp_path / "run")
    with pytest.raises(InvalidTypeError, match="path of a new directory"):
        run.fork(3, 7)
    with pytest.raises(InvalidArgumentError, match="this run has 0 to 8"):
        run.fork(9, tmp_path / "other")
    assert not (tmp_path / "other").exists()
    (tmp_path / "empty").mkdir()
    assert run.fork(3, tmp_path / "empty").last == 3


def test_a_damaged_parent_file_is_refused_or_harmless(forked):
    _, fork, made = forked
    file = fork.path / PARENT_FILE
    whole = file.read_bytes()
    refused = 0
    for byte in range(len(whole) - 1):
        damaged = bytearray(whole)
        damaged[byte] ^= 1 << byte % 8
        file.write_bytes(damaged)
        try:
            found = mmsb.open_run(fork.path)
        except CorruptLogError:
            refused += 1
        else:
            same(found.at(2), made[2])
    assert refused > 0.9 * len(whole)
