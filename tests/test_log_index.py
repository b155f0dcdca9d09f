"""The index of a segment: lists made by counting are those of a plain loop, and come back from the file, or not at all."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmsb_jax.page import MemoryStorage
from mmsb_jax.page._frame import FORMAT_VERSION, FrameHeader, pack_header
from mmsb_jax.page._identity import RunIdentity
from mmsb_jax.page._index import Postings, StretchBuilder
from mmsb_jax.page._index_file import encode_block, index_name, read_blocks
from mmsb_jax.page._segments import segment_name

I32, U32 = np.int32, np.uint32
RUN = RunIdentity("0123abcd" * 4, "2026-01-01", 4, 40)


def lists(postings):
    """`{key: frames}`, by a plain loop over the bounds."""
    bounds = postings.bounds.tolist()
    return {key: postings.frames[bounds[i] : bounds[i + 1]].tolist() for i, key in enumerate(postings.keys.tolist())}


def expected(rows):
    """The same from `[[ids of frame 0], [ids of frame 1], …]`."""
    found = {}
    for frame, ids in enumerate(rows):
        for key in sorted(set(ids)):
            found.setdefault(key, []).append(frame)
    return dict(sorted(found.items()))


rows_of_frames = st.lists(st.lists(st.integers(0, 39), max_size=6), max_size=8)


@given(rows_of_frames, st.sampled_from([40, 2**31 - 1]), st.lists(st.integers(-1, 45), max_size=5))
def test_postings_are_those_of_a_plain_loop(rows, limit, wanted):
    """A great limit takes the other way, which sorts."""
    ids = np.array([key for frame in rows for key in frame], I32)
    first_row = np.cumsum([0, *map(len, rows)])
    postings = Postings.of(ids, first_row, limit=limit)
    assert lists(postings) == expected(rows)
    held = [frame for frame, keys in enumerate(rows) if set(keys) & set(wanted)]
    assert postings.frames_of(np.array(wanted, I32)).tolist() == held
