"""`verify` compares the log with its digests and with its checkpoints, and says where they part."""

import numpy as np
import pytest

import mmsb_jax as mmsb
from mmsb_jax import CorruptCheckpointError, ReplayDivergenceError
from mmsb_jax.page import (
    FrameKind,
    MemoryStorage,
    Snapshot,
    read_frames,
    replay_log,
    verify,
    write_checkpoint,
)
from mmsb_jax.page.log._frame import pack_header
from tests.recordings import write_recording


def recorded(chunk=1):
    storage = MemoryStorage()
    trees = [{"x": np.arange(40, dtype=np.float32) * (step % 3), "n": np.int32(step)} for step in range(8)]
    write_recording(storage, trees, chunk=chunk, segment_bytes=3000)
    return storage


def a_bus():
    with mmsb.start(page_bytes=16, capacity=8) as bus:
        page, other = bus.create_page(30), bus.create_page(4, name="other")
        bus.update_page(page, np.arange(30, dtype=np.uint8))
        bus.update_page(other, np.float32([3]))
        bus.delete_page(page)
        bus.update_page(other, np.float32([5]))
        return bus.history()


def snapshot(storage, sequence):
    found = replay_log(storage, until_sequence=sequence, checkpoints=False)
    return Snapshot(found.pages, found.epoch, found.tick, found.sequence, found.digest, found.names)


def test_everything_is_counted():
    run = a_bus()
    found = run.verify()
    assert (found.first, found.last, found.digests) == (0, 4, 6)
    assert found.commits >= 4
    storage = recorded()
    write_checkpoint(storage, snapshot(storage, 5))
    found = verify(storage)
    assert (found.digests, found.checkpoints, found.last) == (7, 1, 7)
    assert found.frames > found.commits == 9
    assert verify(recorded(chunk=3)).digests == 3


def test_a_wrong_digest_is_found_where_it_is():
    storage = recorded()
    frame = next(frame for frame in read_frames(storage) if frame.kind == FrameKind.CHANGES and frame.tick == 4)
    name = frame.file.removeprefix("memory:")
    wrong = pack_header(frame.header._replace(digest_low=frame.header.digest_low ^ 1))
    storage.files[name][frame.offset : frame.offset + 64] = wrong
    with pytest.raises(ReplayDivergenceError, match=rf"commit of tick 4 \(frame {frame.sequence}"):
        verify(storage)


def test_a_checkpoint_that_is_not_the_state_is_found():
    storage = recorded()
    for change in ("pages", "epoch", "digest"):
        copy = MemoryStorage({name: bytearray(data) for name, data in storage.files.items()})
        held = snapshot(copy, 6)
        pages, epoch, digest = held.pages.copy(), held.epoch.copy(), held.digest
        if change == "pages":
            pages[0, 0] ^= 1
        elif change == "epoch":
            epoch[0] -= 1
        else:
            digest = (1, 2)
        write_checkpoint(copy, Snapshot(pages, epoch, held.tick, held.sequence, digest, held.names))
        with pytest.raises(ReplayDivergenceError, match="isn't the state that the log leads to"):
            verify(copy)


def test_a_damaged_checkpoint_is_found():
    storage = recorded()
    write_checkpoint(storage, snapshot(storage, 6))
    part = next(name for name in storage.files if name.endswith(".safetensors"))
    storage.files[part][-1] ^= 1
    with pytest.raises(CorruptCheckpointError):
        verify(storage)


def test_replay_from_every_checkpoint_is_replay_from_the_beginning(rng):
    """Law 4. A checkpoint is used, which shows where the log before it is gone."""
    storage = recorded()
    numbers = [frame.sequence for frame in read_frames(storage) if frame.kind == FrameKind.CHANGES]
    whole = [replay_log(storage, until_tick=tick, checkpoints=False) for tick in range(8)]
    for number in numbers[::2]:
        write_checkpoint(storage, snapshot(storage, number))
        for tick, expected in enumerate(whole):
            found = replay_log(storage, until_tick=tick)
            np.testing.assert_array_equal(found.pages, expected.pages)
            np.testing.assert_array_equal(found.epoch, expected.epoch)
            assert (found.tick, found.digest, found.names) == (expected.tick, expected.digest, expected.names)
            assert found.environment == expected.environment
            assert found.skipped == ()
    first = min(name for name in storage.files if name.endswith(".seg"))
    storage.files[first][200] ^= 1  # damage that only those who read it meet
    assert replay_log(storage).digest == whole[-1].digest


def test_a_damaged_checkpoint_is_passed_over_and_told():
    storage = recorded()
    for number in (4, 6):
        write_checkpoint(storage, snapshot(storage, number))
    part = max(name for name in storage.files if name.endswith(".safetensors"))
    storage.files[part][-1] ^= 1
    found = replay_log(storage)
    np.testing.assert_array_equal(found.pages, replay_log(storage, checkpoints=False).pages)
    assert [type(why) for why in found.skipped] == [CorruptCheckpointError]
