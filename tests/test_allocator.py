"""Page ids: handed out lowest first, given back, never alive twice; against a set of integers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import mmsb_jax as mmsb
from mmsb_jax.physical import Allocator, AllocatorStats

CAPACITY = 12


def ids(*numbers):
    return np.array(numbers, np.int32)


@given(st.lists(st.tuples(st.sampled_from(["allocate", "claim", "release"]), st.integers(0, 2**32 - 1)), max_size=40))
def test_against_a_set(program):
    allocator, alive, seen, reused, high_water = Allocator.create(CAPACITY), set(), set(), 0, 0
    for action, seed in program:
        rng = np.random.default_rng(seed)
        before = allocator.generation.copy()
        if action == "release":
            chosen = rng.permutation(sorted(alive)).astype(np.int32)[: rng.integers(CAPACITY + 1)]
            allocator = allocator.release(chosen)
            alive -= set(chosen.tolist())
        elif len(alive) < CAPACITY:
            free = sorted(set(range(CAPACITY)) - alive)
            count = int(rng.integers(1, len(free) + 1))
            if action == "allocate":
                allocator, chosen = allocator.allocate(count)
                assert chosen.tolist() == free[:count]
                assert chosen.dtype == np.int32
            else:
                chosen = rng.permutation(free).astype(np.int32)[:count]
                allocator = allocator.claim(chosen)
            reused += len(seen & set(chosen.tolist()))
            alive |= set(chosen.tolist())
            seen |= alive
            high_water = max(high_water, len(alive))
        else:
            continue
        assert allocator.live == len(alive)
        assert np.flatnonzero(allocator.alive(np.arange(CAPACITY))).tolist() == sorted(alive)
        bumped = np.isin(np.arange(CAPACITY), chosen)
        np.testing.assert_array_equal(allocator.generation, before + bumped)
        runs = "".join("x" if i in alive else " " for i in range(CAPACITY)).split("x")
        free = CAPACITY - len(alive)
        fragmentation = 1 - max(map(len, runs)) / free if free else 0.0
        assert allocator.stats() == AllocatorStats(CAPACITY, len(alive), free, high_water, reused, fragmentation)


def test_an_allocator_never_changes():
    empty = Allocator.create(3)
    full, _ = empty.allocate(3)
    full.release(ids(1))
    assert (empty.live, full.live) == (0, 3)
    with pytest.raises(ValueError, match="read-only"):
        full.generation[0] = 0


@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.uint32, np.uint64])
def test_ids_of_any_integer_width_may_be_asked_for(dtype):
    allocator, _ = Allocator.create(3).allocate(2)
    top = np.iinfo(dtype).max
    assert allocator.alive(np.array([0, 1, 2, 3, top], dtype)).tolist() == [True, True, False, False, False]


@pytest.mark.parametrize(
    ("act", "error", "text"),
    [
        (lambda a: Allocator.create(-1), mmsb.InvalidArgumentError, "capacity=-1"),
        (lambda a: a.allocate(0), mmsb.InvalidArgumentError, "count=0; allocate at least one"),
        (lambda a: a.allocate(3), mmsb.CapacityError, "2 of 4 are in use; start the bus with a capacity of at least 5"),
        (lambda a: a.claim(ids(2, 1)), mmsb.InvalidArgumentError, r"\[1\] are in use already"),
        (lambda a: a.claim(ids(2, 2)), mmsb.InvalidArgumentError, "occur twice"),
        (lambda a: a.claim(ids(4)), mmsb.PageNotFoundError, "page 4 can't be; the ids are 0 to 3"),
        (lambda a: a.claim(ids(-1)), mmsb.PageNotFoundError, "page -1 can't be"),
        (lambda a: a.release(ids(2)), mmsb.PageNotFoundError, "page 2 doesn't exist"),
        (lambda a: a.release(ids(0, 0)), mmsb.InvalidArgumentError, "occur twice"),
        (lambda a: a.release(ids(0, 9)), mmsb.PageNotFoundError, "page 9 doesn't exist"),
    ],
)
def test_bad_input_is_named(act, error, text):
    allocator, _ = Allocator.create(4).allocate(2)
    with pytest.raises(error, match=text):
        act(allocator)
    assert (allocator.live, allocator.generation.tolist()) == (2, [1, 1, 0, 0])
