"""A recorded run written row by row from trees in NumPy: what `record` must produce, and what history is tested on."""

import numpy as np

import mmsb_jax as mmsb
from mmsb_jax.page import PageChanges, TransactionLog
from mmsb_jax.page.log._about import About

START = 1_000_000_000  # chunks are committed so many seconds after 1970, and as many more as steps were done


def write_recording(place, trees, *, every=1, chunk=3, page_bytes=64, intent=None, **options):
    """Log `trees`, one a recorded step, in chunks; returns the paging."""
    paging = mmsb.Paging.like(trees[0], page_bytes=page_bytes)
    pages = [np.asarray(paging.to_pages(tree)) for tree in trees]
    return write_pages(place, paging, pages, every=every, chunk=chunk, intent=intent, **options)


def write_pages(place, paging, pages, *, every=1, chunk=3, members=None, intent=None, **options):
    about = About(paging, every, members)
    with TransactionLog.create(
        place, page_words=paging.page_words, capacity=about.num_pages, fingerprint={}, **options
    ) as log:
        source = log.name_id("step")
        log.append_pages(0, about.records(), time_ns=START * 10**9)
        ids = np.arange(about.num_pages, dtype=np.int32)
        init = np.full(len(ids), log.name_id("init"), np.int32)
        log.append_changes(0, PageChanges(ids, init, None, pages[0]), time_ns=START * 10**9)
        for begin in range(1, len(pages), chunk):
            steps = range(begin, min(begin + chunk, len(pages)))
            log.append_changes(
                steps[-1] * every,
                _rows(pages, steps, every, source),
                digest=_digest(pages[steps[-1]]),
                intent=intent,
                time_ns=(START + 1 + steps[-1]) * 10**9,
            )
    return paging


def _rows(pages, steps, every, source):
    parts = [_row(pages[step - 1], pages[step], step * every, source) for step in steps]
    page, words, mask, sources, tick = (np.concatenate(column) for column in zip(*parts, strict=True))
    return PageChanges.from_rows(page, words, mask, sources, tick)


def _row(old, new, tick, source):
    differs = old != new
    page = np.flatnonzero(differs.any(axis=1)).astype(np.int32)
    padded = np.zeros((len(page), -(-old.shape[1] // 32) * 32), bool)
    padded[:, : old.shape[1]] = differs[page]
    mask = np.packbits(padded, axis=1, bitorder="little").view("<u4").astype(np.uint32)
    return page, new[page], mask, np.full(len(page), source, np.int32), np.full(len(page), tick, np.uint32)


def _digest(pages):
    state = mmsb.State.create(len(pages), page_bytes=4 * pages.shape[1])
    filled = mmsb.apply(state, mmsb.DeltaBatch.make(state, np.arange(len(pages)), pages))
    return tuple(mmsb.digest(filled).tolist())
