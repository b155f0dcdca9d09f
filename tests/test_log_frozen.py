"""Logs that an earlier day wrote are read as they were then, and damaged ones refused, in the same words."""

import json
import shutil

import numpy as np
import pytest

import mmsb_jax as mmsb
from mmsb_jax.page import TransactionLog, replay_log, select
from tests.freeze_log import BEGINS, FROZEN, expected
from tests.log_runs import names_of
from tests.test_log_commits import told

EXPECTED = json.loads((FROZEN / "expected.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", BEGINS)
def test_a_frozen_run_is_read_as_it_was(name):
    assert expected(FROZEN / name) == EXPECTED[name]


def test_the_frozen_indexes_tell_what_the_frames_do(tmp_path):
    assert list((FROZEN / "whole" / "log").glob("*.idx"))
    shutil.copytree(FROZEN / "whole", tmp_path / "bare")
    for index in (tmp_path / "bare").rglob("*.idx"):
        index.unlink()
    for wanted in ({}, {"pages": [3]}, {"ticks": (6, 9)}, {"sources": ["api"]}, {"intents": ["naïve ✓"]}):
        by_index, by_frames = select(FROZEN / "whole", **wanted), select(tmp_path / "bare", **wanted)
        assert told(by_index.commits()) == told(by_frames.commits()) != {}
    assert names_of(FROZEN / "whole")[1:3] == ["api", "sensor"]


@pytest.mark.parametrize("name", BEGINS)
def test_a_frozen_run_goes_on(name, tmp_path):
    shutil.copytree(FROZEN, tmp_path / "log")
    path = tmp_path / "log" / name
    with TransactionLog.open(path, fingerprint={"jax": "now"}) as log:
        before = log.tick
        row = np.array([1], np.int32), np.zeros(1, np.int32), None, np.full((1, 33), 8, np.uint32)
        log.append_changes(before + 1, mmsb.page.PageChanges(*row))
    assert replay_log(path).pages[1, 0] == 8
    assert mmsb.open_run(path).last == before + 1
    mmsb.open_run(path).verify()


# Of each file a byte that counts: where it lies, and what is said of it.
DAMAGE = {
    "a body": ("whole", "log/00000000000000000000.seg", 3000, "the checksum of the frame body is wrong"),
    "a header": ("whole", "log/00000000000000000000.seg", 20, "the checksum of the frame header is wrong"),
    "the base": ("compacted", "log/base", 9, "base"),
    "the identity": ("whole", "run.json", 30, "the identity of the run"),
    "the parent": ("fork", "parent.json", 30, "parent"),
}


@pytest.mark.parametrize("what", DAMAGE)
def test_a_damaged_frozen_run_is_refused(what, tmp_path):
    name, file, at, words = DAMAGE[what]
    shutil.copytree(FROZEN, tmp_path / "log")
    damaged = tmp_path / "log" / name / file
    data = bytearray(damaged.read_bytes())
    data[at] ^= 0x40
    damaged.write_bytes(data)
    with pytest.raises(mmsb.CorruptLogError, match=words):
        mmsb.open_run(tmp_path / "log" / name).verify()
