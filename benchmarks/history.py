"""A long history: opening it, and the state at random epochs, must cost the same however long it is."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import mmsb_jax as mmsb
from mmsb_jax.page import About, PageChanges, Snapshot, TransactionLog, write_checkpoint

from ._harness import Case, Peer, Program

PAGE_BYTES = 256
CHANGED = 256  # pages a step, one stretch of the state after the other
STEPS = 64  # in a frame
LOOKS = 5


@dataclass(frozen=True)
class Lengths:
    """Bytes of deltas in the long history and in the short one, and the number of pages of the state."""

    long: float
    short: float
    pages: int = 65_536


def _lengths(long: float) -> object:
    return lambda quick: Lengths(2.5e7, 1.3e7, 4096) if quick else Lengths(long, 1e8)


def _stretch(step: int, pages: int) -> np.ndarray:
    return (step * CHANGED + np.arange(CHANGED)) % pages


def _state(step: int, pages: int) -> np.ndarray:
    """uint32[pages]: the last step up to this one that wrote each page; 0 for none."""
    turns = pages // CHANGED
    turn = np.arange(pages) // CHANGED
    last = step - (step - turn) % turns
    return np.where(last > 0, last, 0).astype(np.uint32)


def _history(size: float, pages: int) -> mmsb.Run:
    """Steps of which each fills its stretch of pages with its number; a keyframe for every eight states of deltas."""
    folder = Path(tempfile.mkdtemp(prefix="mmsb-bench-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    words = PAGE_BYTES // 4
    tree = {"u": np.zeros((pages, words), np.float32)}
    about = About(mmsb.Paging.like(tree, page_bytes=PAGE_BYTES))
    frames = int(size / (STEPS * CHANGED * PAGE_BYTES))
    keyframe = max(1, 8 * pages // (STEPS * CHANGED))
    with TransactionLog.create(folder / "run", page_words=words, capacity=pages, sync="none") as log:
        log.append_pages(0, about.records())
        base = None
        for first in range(1, frames * STEPS + 1, STEPS):
            ticks = np.repeat(np.arange(first, first + STEPS, dtype=np.uint32), CHANGED)
            page = np.concatenate([_stretch(step, pages) for step in range(first, first + STEPS)]).astype(np.int32)
            rows = np.broadcast_to(ticks[:, None], (len(ticks), words)).copy()
            last = first + STEPS - 1
            log.append_changes(last, PageChanges(page, np.zeros(len(page), np.int32), None, rows, ticks))
            if last // STEPS % keyframe == 0:
                log.sync()
                epoch = _state(last, pages)
                contents = np.broadcast_to(epoch[:, None], (pages, words)).copy()
                state = Snapshot(contents, epoch, last, log.sequence, names=log.names, records=about.records())
                base = write_checkpoint(folder / "run", state, base=base)
    return mmsb.open_run(folder / "run")


def _opened(run: mmsb.Run) -> Program:
    first, last = run.first, run.last

    def look() -> np.ndarray:
        again = mmsb.open_run(run.path)
        return np.array([again.first == first, again.last == last])

    return Program(look)


def _looked_at(run: mmsb.Run, pages: int) -> Program:
    """The states at some random epochs, compared with what they must be; the same number is right in every run."""
    random = np.random.default_rng(0)

    def look() -> np.ndarray:
        right = 0
        for epoch in random.integers(1, run.last, LOOKS).tolist():
            found = run.at(epoch)["u"].view(np.uint32)
            right += bool((found == _state(epoch, pages)[:, None]).all())
        return np.array([right])

    return Program(look)


def _same(ours: np.ndarray, theirs: np.ndarray) -> None:
    np.testing.assert_array_equal(ours, theirs)


def _case(what: str, long: float) -> tuple[Case, ...]:
    """Long against short: a ratio of 1 is a cost that doesn't grow; how far a keyframe is away varies it."""
    peer = f"the same in {0.1:g} GB"
    return (
        Case(
            f"history/open {what}",
            _lengths(long),
            lambda lengths: _opened(_history(lengths.long, lengths.pages)),
            (Peer(peer, lambda lengths: _opened(_history(lengths.short, lengths.pages)), _same, target=0.5),),
        ),
        Case(
            f"history/at() of {LOOKS} random epochs in {what}",
            _lengths(long),
            lambda lengths: _looked_at(_history(lengths.long, lengths.pages), lengths.pages),
            (
                Peer(
                    peer,
                    lambda lengths: _looked_at(_history(lengths.short, lengths.pages), lengths.pages),
                    _same,
                    target=0.5,
                ),
            ),
        ),
    )


CASES: tuple[Case, ...] = (*_case("1 GB", 1e9), *_case("5 GB", 5e9))
