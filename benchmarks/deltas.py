"""Deltas per second: `apply` against the same assignment in NumPy, and the digest.

The first case is the benchmark of the system that this one re-imagines: 20,000 dense deltas of 128 bytes on 64 pages,
which it applies at 2.29 M/s with two workers on a machine of this class.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

import mmsb_jax as mmsb
from mmsb_jax import DeltaBatch, State

from ._harness import Case, Peer, Program, compiled


@dataclass(frozen=True)
class Inputs:
    state: State
    deltas: DeltaBatch
    page: np.ndarray
    words: np.ndarray
    mask: np.ndarray | None


def _inputs(pages: int, page_words: int, rows: int, masked: bool, quick: bool) -> Inputs:
    if quick:
        pages, rows = min(pages, 64), min(rows, 256)
    rng = np.random.default_rng(7)
    state = State.create(pages, page_bytes=4 * page_words).advance()
    page = rng.integers(0, pages, rows, np.int32)
    words = rng.integers(0, 2**32, (rows, page_words), np.uint32)
    mask = rng.random((rows, page_words)) < 0.5 if masked else None
    return Inputs(state, DeltaBatch.make(state, page, words, mask=mask), page, words, mask)


def _ours(inputs: Inputs) -> Program:
    return compiled(mmsb.apply, inputs.state, inputs.deltas)


def _numpy(inputs: Inputs) -> Program:
    """Fancy assignment: NumPy documents that the last of several equal indices wins."""
    before = np.asarray(inputs.state.view())

    def run() -> np.ndarray:
        pages = before.copy()
        if inputs.mask is None:
            pages[inputs.page] = inputs.words
        else:
            row, word = np.nonzero(inputs.mask)
            pages[inputs.page[row], word] = inputs.words[row, word]
        return pages

    return Program(run)


def _same_pages(ours: State, theirs: np.ndarray) -> None:
    np.testing.assert_array_equal(np.asarray(ours.view()), theirs)


def _case(name: str, pages: int, page_words: int, rows: int, masked: bool, floor: float) -> Case:
    return Case(
        name=f"deltas/{name}",
        make=lambda quick: _inputs(pages, page_words, rows, masked, quick),
        ours=_ours,
        peers=(Peer("NumPy", _numpy, _same_pages),),
        items=lambda inputs: len(inputs.deltas),
        unit="deltas",
        floor=floor,
    )


def _full_state(quick: bool) -> State:
    pages = 64 if quick else 368_896
    rng = np.random.default_rng(7)
    state = State.create(pages, page_bytes=64)
    words = rng.integers(0, 2**32, (pages, 16), np.uint32)
    return mmsb.apply(state, DeltaBatch.make(state, np.arange(pages), words))


def _copy(state: State) -> Program:
    return compiled(lambda pages: pages ^ np.uint32(1), state.pages)


CASES: tuple[Case, ...] = (
    _case("20,000 x 128 bytes on 64 pages", 64, 32, 20_000, False, 40e6),
    _case("1,000,000 x 16 bytes on 65,536 pages", 65_536, 4, 1_000_000, False, 100e6),
    _case("1,000,000 x 16 bytes masked on 65,536 pages", 65_536, 4, 1_000_000, True, 20e6),
    Case(
        name="deltas/digest of 368,896 pages of 64 bytes",
        make=_full_state,
        ours=lambda state: compiled(mmsb.digest, state),
        peers=(Peer("one pass over the pages", _copy, None),),
        items=lambda state: state.pages.size,
        unit="words",
    ),
)
