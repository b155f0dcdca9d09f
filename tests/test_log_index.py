"""The index of a segment: lists made by counting are those of a plain loop, and come back from the file, or not at all."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mmsb_jax.page._index import Column

I32, U32 = np.int32, np.uint32


def expected(rows, wanted):
    """The frames of `[[ids of frame 0], [ids of frame 1], …]` that hold any of some ids, by a plain loop."""
    return [frame for frame, ids in enumerate(rows) if set(ids) & set(wanted)]


def column(rows):
    return Column(np.array([len(ids) for ids in rows], U32), np.array([i for ids in rows for i in ids], I32))


rows_of_frames = st.lists(st.lists(st.integers(0, 9), max_size=6), max_size=8)


@given(rows_of_frames, st.lists(st.integers(-1, 12), min_size=1, max_size=5))
def test_a_column_finds_what_a_plain_loop_finds(rows, wanted):
    found = column(rows)
    assert found.frames_of(np.array(wanted, I32)).tolist() == expected(rows, wanted)
    short = found.without_runs()
    assert short.counts.tolist() == [
        len([1 for i, _ in enumerate(ids) if i == 0 or ids[i] != ids[i - 1]]) for ids in rows
    ]
    assert short.frames_of(np.array(wanted, I32)).tolist() == expected(rows, wanted)
