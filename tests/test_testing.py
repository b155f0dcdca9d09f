"""`mmsb.testing` passes what is the same, and says where two runs part."""

import itertools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mmsb_jax as mmsb
from mmsb_jax import InvalidArgumentError
from mmsb_jax.page import MemoryStorage, TransactionLog
from mmsb_jax.testing import ReplayDifference, assert_replay_identical, assert_runs_identical
from tests.recordings import write_recording

pytest_plugins = ["mmsb_jax.testing.fixtures"]


def walk(tree):
    key, sub = jax.random.split(tree["key"])
    return {"x": tree["x"] + jax.random.normal(sub, (5,)), "key": key, "n": tree["n"] + 1}


INIT = {"x": jnp.zeros(5), "key": jax.random.key(3), "n": 0}


def test_a_pure_step_passes():
    assert_replay_identical(walk, INIT, 6)
    assert_replay_identical(walk, INIT, 7, every=3, cuts=[4])


def test_inputs_and_outputs_pass():
    def step(tree, x):
        return {"total": tree["total"] + x}, tree["total"] * 2

    assert_replay_identical(step, {"total": jnp.float32(0)}, 5, xs=np.arange(5, dtype=np.float32), cuts=[2])


def test_a_step_that_is_not_pure_is_caught():
    """Traced anew for every run, it finds another number each time."""
    numbers = itertools.count()

    def step(tree):
        return tree | {"n": tree["n"] + next(numbers)}

    with pytest.raises(ReplayDifference, match=r"done again, it differs from the first run at epoch 1") as caught:
        assert_replay_identical(step, {"n": jnp.int32(0), "fixed": jnp.zeros(3)}, 4)
    assert caught.value.epoch == 1
    assert [part.name for part in caught.value.difference.parts] == ["['n']"]


def recording(values, every=1):
    storage = MemoryStorage()
    write_recording(storage, [{"u": np.float32(value)} for value in values], every=every)
    return mmsb.open_run(storage)


def test_the_first_epoch_leaf_and_element_are_named():
    one = recording([[0, 0], [1, 1], [2, 2], [3, 3]])
    two = recording([[0, 0], [1, 1], [2, 7], [3, 3]])
    assert_runs_identical(one, recording([[0, 0], [1, 1], [2, 2], [3, 3]]))
    expected = "the second differs from the first run at epoch 2 for the first time:\n['u']: 1 of 2 elements"
    with pytest.raises(ReplayDifference, match=re.escape(expected)) as caught:
        assert_runs_identical(one, two)
    assert caught.value.difference.parts[0].elements.tolist() == [1]


def test_runs_recorded_at_other_steps_are_compared_where_both_were():
    fine = recording([[0], [1], [2], [3], [4]])
    assert_runs_identical(fine, recording([[0], [2], [4]], every=2))
    with pytest.raises(ReplayDifference, match="at epoch 2"):
        assert_runs_identical(fine, recording([[0], [5], [4]], every=2))


def test_runs_that_can_not_be_the_same():
    one = recording([[0], [1]])
    with pytest.raises(AssertionError, match="ends at epoch 2, but the first run at 1"):
        assert_runs_identical(one, recording([[0], [1], [2]]))
    with pytest.raises(AssertionError, match="other leaves"):
        assert_runs_identical(one, recording([[0, 0], [1, 1]]))


@pytest.mark.parametrize("cuts", [[0], [6], ["half"], [2.5]])
def test_impossible_cuts_are_refused(cuts):
    with pytest.raises(InvalidArgumentError, match="cuts lie between 1 and steps - 1 = 5"):
        assert_replay_identical(walk, INIT, 6, cuts=cuts)


def test_too_few_steps_are_refused():
    with pytest.raises(InvalidArgumentError, match="at least 2 steps"):
        assert_replay_identical(walk, INIT, 1)


def test_the_fixtures(mmsb_bus, mmsb_path):
    page = mmsb_bus.create_page(4)
    mmsb_bus.update_page(page, np.float32([3]))
    assert (mmsb_path / "run.json").exists()
    with pytest.raises(mmsb.LogLockedError):
        TransactionLog.open(mmsb_path, fingerprint={})
