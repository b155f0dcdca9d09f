"""A fork whose own log was compacted never shows its parent's future for what it has lost."""

import numpy as np
import pytest

import mmsb_jax as mmsb
from mmsb_jax import InvalidArgumentError
from mmsb_jax.page import TransactionLog, compact
from tests.test_fork import forked, go_on, same  # noqa: F401

AT = 5


def compacted(fork, before):
    go_on(fork, [6, 7, 8])
    with TransactionLog.open(fork.path, fingerprint={}) as log:
        compact(log, before)
    return mmsb.open_run(fork.path)


def test_what_was_merged_behind_the_fork_is_gone_with_all_before(forked):  # noqa: F811
    run, fork, _ = forked
    cut = compacted(fork, 8)
    assert (cut.first, cut.last) == (7, 8)
    for epoch in (0, AT, 6):
        with pytest.raises(InvalidArgumentError, match=r"7 to 8\. The log was compacted behind epoch 5"):
            cut.at(epoch)
    assert [int(tree["n"]) for _, tree in cut] == [107, 108]
    assert {write.epoch for write in cut.page_history("n")} <= {7, 8}
    np.testing.assert_array_equal(cut.blame("n").epoch, 8)
    assert run.last == 8


def test_one_that_was_not_cut_behind_the_fork_keeps_its_past(forked):  # noqa: F811
    _, fork, made = forked
    kept = compacted(fork, 6)
    for epoch in range(AT + 1):
        same(kept.at(epoch), made[epoch])
    assert [int(tree["n"]) for _, tree in kept] == [*range(AT + 1), 106, 107, 108]
