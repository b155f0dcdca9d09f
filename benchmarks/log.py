"""The transaction log: durable appends, reading, replay, searching, compression; beside plain files and NumPy.

A plain file gets the same number of bytes in as many writes, and one sync at its end. Every program's result is what
can be read back from the disk, or what was read.
"""

from __future__ import annotations

import atexit
import itertools
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from crc32c import crc32c

from mmsb_jax.page import PageChanges, TransactionLog, log_stats, read_frames, replay_log, select

from ._harness import Case, OnDisk, Peer, Program

_DISTINCT = 64  # commits with contents of their own, written again and again


@dataclass(frozen=True)
class Commits:
    """So many commits of whole pages, with the names that the programs write to."""

    commits: int
    rows: int
    words: int
    pages: int

    @cached_property
    def folder(self) -> Path:
        folder = Path(tempfile.mkdtemp(prefix="mmsb-bench-"))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        return folder

    @cached_property
    def changes(self) -> list[PageChanges]:
        rng = np.random.default_rng(7)
        return [self._changes(rng) for _ in range(min(self.commits, _DISTINCT))]

    def _changes(self, rng: np.random.Generator) -> PageChanges:
        page = rng.integers(0, self.pages, self.rows).astype(np.int32)
        words = rng.integers(0, 2**32, (self.rows, self.words), dtype=np.uint32)
        return PageChanges(page, np.zeros(self.rows, np.int32), None, words)

    def __iter__(self) -> Iterator[PageChanges]:
        return itertools.islice(itertools.cycle(self.changes), self.commits)

    @property
    def deltas(self) -> int:
        return self.commits * self.rows

    def append(self, path: Path, **options: Any) -> Path:
        """Write the log, durably to the last commit."""
        options = {"page_words": self.words, "capacity": self.pages, "fingerprint": {}} | options
        with TransactionLog.create(path, **options) as log:
            for tick, changes in enumerate(self, 1):
                log.append_changes(tick, changes)
        return path

    @cached_property
    def log(self) -> Path:
        return self.append(self.folder / "log.mmsb")

    @cached_property
    def segments(self) -> list[Path]:
        return sorted((self.log / "log").glob("*.seg"))

    @property
    def bytes(self) -> int:
        return sum(path.stat().st_size for path in self.segments)

    @cached_property
    def final(self) -> np.ndarray:
        """The contents of all pages at the end, by NumPy."""
        pages = np.zeros((self.pages, self.words), np.uint32)
        for changes in self:
            pages[changes.page] = changes.words
        return pages


def _append(commits: Commits) -> Program:
    path = commits.folder / "appended.mmsb"

    def run() -> OnDisk:
        commits.append(path)
        return OnDisk(lambda: replay_log(path).pages)

    return Program(run, before=lambda: shutil.rmtree(path, ignore_errors=True))


def _plain(commits: Commits) -> Program:
    """The same bytes: the arrays, and zeros where the log has headers."""
    path = commits.folder / "plain"
    arrays = sum(array.nbytes for array in _arrays(commits.changes[0]))
    padding = bytes(-(-(commits.bytes - commits.commits * arrays) // commits.commits))

    def run() -> OnDisk:
        handle = os.open(path, os.O_CREAT | os.O_RDWR, 0o644)
        for changes in commits:
            os.writev(handle, [*_arrays(changes), padding])
        os.fdatasync(handle)
        os.close(handle)
        return OnDisk(lambda: _read_plain(commits, path, arrays + len(padding)))

    return Program(run, before=lambda: path.unlink(missing_ok=True))


def _arrays(changes: PageChanges) -> list[np.ndarray]:
    return [changes.page, changes.source, changes.words]


def _read_plain(commits: Commits, path: Path, step: int) -> np.ndarray:
    data, pages = path.read_bytes(), np.zeros((commits.pages, commits.words), np.uint32)
    for number in range(commits.commits):
        page = np.frombuffer(data, np.int32, commits.rows, number * step)
        words = np.frombuffer(data, np.uint32, commits.rows * commits.words, number * step + 8 * commits.rows)
        pages[page] = words.reshape(commits.rows, commits.words)
    return pages


def _scan(commits: Commits) -> Program:
    """Every frame, verified; the result is the number of rows."""
    place = commits.log
    return Program(lambda: np.int64(sum(frame.rows for frame in read_frames(place) if frame.kind.name == "CHANGES")))


def _read_and_sum(commits: Commits) -> Program:
    """The same files in pieces of 2 MiB, each with its CRC-32C."""
    segments, piece = commits.segments, 2 << 20

    def run() -> np.int64:
        for path in segments:
            with open(path, "rb", buffering=0) as file:
                buffer = bytearray(piece)
                while got := file.readinto(buffer):
                    crc32c(memoryview(buffer)[:got])
        return np.int64(commits.deltas)

    return Program(run)


def _replay(commits: Commits) -> Program:
    place = commits.log
    return Program(lambda: replay_log(place).pages)


def _assign(commits: Commits) -> Program:
    """Assignments of arrays that are in memory: no file, no checksum."""
    commits.changes  # noqa: B018

    def run() -> np.ndarray:
        pages = np.zeros((commits.pages, commits.words), np.uint32)
        for changes in commits:
            pages[changes.page] = changes.words
        return pages

    return Program(run)


def _search(commits: Commits) -> Program:
    """All rows of one page, in a window of ticks."""
    place, (page, *ticks) = commits.log, _wanted(commits)
    return Program(lambda: np.concatenate([rows.words for _, rows in select(place, pages=page, ticks=ticks)]))


def _read_all(commits: Commits) -> Program:
    page, first, last = _wanted(commits)

    def run() -> np.ndarray:
        found = []
        for frame in read_frames(commits.log):
            if frame.kind.name == "CHANGES" and first <= frame.tick <= last:
                changes = frame.changes()
                found.append(changes.words[changes.page == page])
        return np.concatenate(found)

    return Program(run)


def _wanted(commits: Commits) -> tuple[int, int, int]:
    """A page, and ticks in the middle at which it is changed."""
    first = commits.commits // 2
    page = int(commits.changes[first % len(commits.changes)].page[0])
    return page, first + 1, first + max(commits.commits // 20, 1)


@dataclass(frozen=True)
class Field(Commits):
    """States of a reaction and diffusion (Gray and Scott's), every page in each commit of 16 steps."""

    side: int = 0

    @cached_property
    def changes(self) -> list[PageChanges]:
        rng = np.random.default_rng(7)
        u = np.ones((self.side, self.side), np.float32) - rng.random((self.side, self.side), np.float32) / 50
        v = (rng.random((self.side, self.side)) < 0.02).astype(np.float32)
        for _ in range(300):
            u, v = _react(u, v)
        found = []
        for _ in range(self.commits):
            states = []
            for _ in range(16):
                u, v = _react(u, v)
                states.append(np.concatenate([u, v], axis=None).view(np.uint32).reshape(-1, self.words))
            page = np.tile(np.arange(self.pages, dtype=np.int32), 16)
            found.append(PageChanges(page, page * np.int32(0), None, np.concatenate(states)))
        return found


def _react(u: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    def spread(a: np.ndarray) -> np.ndarray:
        return np.roll(a, 1, 0) + np.roll(a, -1, 0) + np.roll(a, 1, 1) + np.roll(a, -1, 1) - 4 * a

    reaction = u * v * v
    du = np.float32(0.16) * spread(u) - reaction + np.float32(0.037) * (1 - u)
    dv = np.float32(0.08) * spread(v) + reaction - np.float32(0.097) * v
    return u + du, v + dv


def _field(side: int, commits: int) -> Field:
    pages = 2 * side * side // 256
    return Field(commits, 16 * pages, 256, pages, side)


def _append_coded(codec: str) -> Callable[[Commits], Program]:
    def prepare(commits: Commits) -> Program:
        path = commits.folder / f"{codec}.mmsb"

        def run() -> OnDisk:
            commits.append(path, codec=codec)
            return OnDisk(lambda: replay_log(path).pages)

        return Program(run, before=lambda: shutil.rmtree(path, ignore_errors=True))

    return prepare


def _replay_coded(codec: str) -> Callable[[Commits], Program]:
    def prepare(commits: Commits) -> Program:
        path = commits.append(commits.folder / f"replayed-{codec}.mmsb", codec=codec)
        smaller = log_stats(path).coded_ratio
        assert smaller > 1.5, f"{codec} made the log {smaller} times smaller"
        print(f"log/…, {codec}: {smaller:.2f} times smaller")
        return Program(lambda: replay_log(path).pages)

    return prepare


def _equal(ours: Any, theirs: Any) -> None:
    np.testing.assert_array_equal(np.asarray(ours), np.asarray(theirs))


def _commits(quick: bool, *shape: int) -> Commits:
    return Commits(8, 16, shape[2], 64) if quick else Commits(*shape)


PLAIN = Peer("plain file", _plain, _equal, target=0.7)
UNCODED = Peer("uncompressed", _append, _equal)

CASES: tuple[Case, ...] = (
    Case(
        "log/append, 256 of 256 bytes a commit",
        lambda quick: _commits(quick, 8000, 256, 64, 65536),
        _append,
        (PLAIN,),
        lambda commits: commits.deltas,
        "deltas",
    ),
    Case(
        "log/append, 1,024 of 64 bytes a commit",
        lambda quick: _commits(quick, 6000, 1024, 16, 65536),
        _append,
        (PLAIN,),
        lambda commits: commits.deltas,
        "deltas",
        5e6,
    ),
    Case(
        "log/scan, frames of 68 kB",
        lambda quick: _commits(quick, 8000, 256, 64, 65536),
        _scan,
        (Peer("read and sum", _read_and_sum, _equal),),
        lambda commits: commits.bytes,
        "B",
        1e9,
    ),
    Case(
        "log/scan, frames of 5 kB",
        lambda quick: _commits(quick, 60_000, 19, 64, 65536),
        _scan,
        (Peer("read and sum", _read_and_sum, _equal),),
        lambda commits: commits.bytes,
        "B",
        1e9,
    ),
    Case(
        "log/replay, 256 of 256 bytes a commit",
        lambda quick: _commits(quick, 8000, 256, 64, 65536),
        _replay,
        (Peer("NumPy, from memory", _assign, _equal),),
        lambda commits: commits.deltas,
        "deltas",
    ),
    Case(
        "log/replay, 8,192 of 256 bytes a commit",
        lambda quick: _commits(quick, 250, 8192, 64, 65536),
        _replay,
        (Peer("NumPy, from memory", _assign, _equal),),
        lambda commits: commits.deltas,
        "deltas",
        20e6,
    ),
    Case(
        "log/a page in a window of ticks",
        lambda quick: _commits(quick, 8000, 256, 64, 65536),
        _search,
        (Peer("reading all", _read_all, _equal, target=5.0),),
        lambda commits: 1,
        "searches",
    ),
    *(
        Case(
            f"log/append, {codec}, reaction and diffusion",
            lambda quick: _field(32, 2) if quick else _field(512, 6),
            _append_coded(codec),
            (UNCODED,),
            lambda commits: 4 * commits.deltas * commits.words,
            "B",
        )
        for codec in ("lz4", "zstd")
    ),
    *(
        Case(
            f"log/replay, {codec}, reaction and diffusion",
            lambda quick: _field(32, 2) if quick else _field(512, 6),
            _replay_coded(codec),
            (Peer("uncompressed", _replay, _equal),),
            lambda commits: 4 * commits.deltas * commits.words,
            "B",
        )
        for codec in ("lz4", "zstd")
    ),
)
