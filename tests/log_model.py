"""A dumb model of a log: the commits that were handed to it, compared with frames one by one and row by row."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from mmsb_jax.page import Frame, FrameKind, PageChanges, Replayed, Snapshot
from mmsb_jax.page.log._segments import Base

ORIGINAL = Base()
PAGES = 6
INTENTS = ("", "", "tide", "rain", "a longer reason, so that names take some room as well")
SOURCES = ("", "api", "wave", "clock")


@dataclass(eq=False)
class Commit:
    """Rows as they were handed to the log, dense; `sequence` is the number that the log gave, -1 as long as none."""

    tick: int
    page: np.ndarray
    words: np.ndarray
    mask: np.ndarray
    ticks: np.ndarray
    source: list[str]
    intent: str
    digest: tuple[int, int] | None
    chunk: bool
    sequence: int = -1

    @classmethod
    def draw(cls, chance: np.random.Generator, tick: int, page_words: int) -> "Commit":
        """Return any commit that may follow tick `tick`."""
        rows = int(chance.choice([0, 1, 2, 5, 20], p=[0.05, 0.35, 0.3, 0.2, 0.1]))
        chunk = bool(chance.random() < 0.3)
        ticks = tick + np.sort(chance.integers(0, 4 if chunk else 1, rows))
        last = int(max(ticks, default=tick)) + int(chance.integers(0, 2))
        mask = np.ones((rows, page_words), bool) if chance.random() < 0.4 else chance.random((rows, page_words)) < 0.3
        return cls(
            last,
            chance.integers(0, PAGES, rows).astype(np.int32),
            chance.integers(0, 2**32, (rows, page_words), dtype=np.uint32),
            mask,
            (ticks if chunk else np.full(rows, last)).astype(np.uint32),
            [str(name) for name in chance.choice(SOURCES, rows)],
            str(chance.choice(INTENTS)),
            (int(chance.integers(0, 2**32)), last) if chance.random() < 0.3 else None,
            chunk,
        )

    def changes(self, ids: dict[str, int]) -> PageChanges:
        """Return the rows as the log takes them; whole pages where the mask leaves nothing out."""
        source = np.array([ids[name] for name in self.source], np.int32)
        mask = None
        if not self.mask.all():
            bits = np.zeros((len(self.page), 32 * -(-self.mask.shape[1] // 32)), bool)
            bits[:, : self.mask.shape[1]] = self.mask
            mask = np.packbits(bits, axis=1, bitorder="little").view("<u4")
        return PageChanges.from_rows(self.page, self.words, mask, source, self.ticks if self.chunk else None)

    def assert_is(self, frame: Frame, names: dict[int, str]) -> None:
        changes = frame.changes()
        page, words, _, source = changes.to_rows(self.words.shape[1])
        assert (frame.tick, frame.digest, names[frame.intent]) == (self.tick, self.digest, self.intent)
        assert np.array_equal(page, self.page)
        assert [names[each] for each in source.tolist()] == self.source
        assert np.array_equal(words, np.where(self.mask, self.words, 0))
        assert (changes.tick is not None) == self.chunk
        assert changes.tick is None or np.array_equal(changes.tick, self.ticks)


@dataclass
class Model:
    """What was committed, in order. `flying` is a commit of which nobody knows yet whether it is in the log.

    Where the log was cut, the commits stay here: it goes on to hold their sum.
    """

    page_words: int
    commits: list[Commit] = field(default_factory=list)
    names: dict[str, tuple[int, int]] = field(default_factory=dict)  # its id, and a frame that is not before its own
    flying: Commit | None = None
    cut: int = 0  # no commit of this tick or a later one may have been merged

    def check(self, frames: Sequence[Frame], base: Base = ORIGINAL) -> Frame | None:
        """Compare all frames of a log with the commits; return the frame that is the flying commit, if one is."""
        last = base.segment + len(frames) - 1
        assert [frame.sequence for frame in frames] == list(range(base.segment, last + 1))
        assert all(commit.tick < self.cut for commit in self.commits if commit.sequence <= base.merged), "merged"
        known = {commit.sequence: commit for commit in self.commits if commit.sequence > base.merged}
        names, seen, flown = {0: ""}, [], None
        for frame in frames:
            if frame.kind == FrameKind.NAMES:
                names |= dict(frame.new_names())
            elif frame.sequence <= base.merged:
                continue
            elif frame.kind == FrameKind.CHANGES and frame.sequence in known:
                known[frame.sequence].assert_is(frame, names)
                seen.append(frame.sequence)
            elif frame.kind == FrameKind.CHANGES:
                assert flown is None and self.flying is not None, f"frame {frame.sequence} was never committed"  # noqa: PT018
                self.flying.assert_is(frame, names)
                flown = frame
        assert seen == [number for number in known if number <= last], "a commit is missing"
        assert flown is None or not seen or flown.sequence > seen[-1]
        if last >= base.merged:  # one who follows a compacted log may not have come to its names yet
            for name, (number, sequence) in self.names.items():
                assert sequence > last or names.get(number) == name, f"name {number} is {names.get(number)!r}"
        return flown

    def settle(self, last: int, flown: Frame | None) -> None:
        """Forget what came behind frame `last`; the flying commit has been seen in this frame, or hasn't."""
        self.commits = [commit for commit in self.commits if commit.sequence <= last]
        self.names = {name: entry for name, entry in self.names.items() if entry[1] <= last}
        if flown is not None and self.flying is not None:
            self.flying.sequence = flown.sequence
            self.commits.append(self.flying)
            self.flying = None

    def state(self, tick: int = 2**32, sequence: int = 2**64) -> tuple[np.ndarray, np.ndarray]:
        """Return the pages, and the ticks at which they were last written, after a tick or a frame, row by row."""
        pages, epoch = np.zeros((PAGES, self.page_words), np.uint32), np.zeros(PAGES, np.uint32)
        for commit in self.commits:
            if commit.sequence <= sequence:
                for page, words, mask, when in zip(commit.page, commit.words, commit.mask, commit.ticks, strict=True):
                    if when <= tick:
                        pages[page][mask] = words[mask]
                        epoch[page] = when
        return pages, epoch

    def check_state(self, found: Replayed | Snapshot, **until: int) -> None:
        """Compare a state with what the commits add up to."""
        pages, epoch = self.state(**until)
        assert np.array_equal(found.pages, pages)
        assert np.array_equal(found.epoch, epoch)

    def check_rows(self, frame: Frame, changes: PageChanges, chosen: np.ndarray) -> None:
        """Compare what was selected of a frame with these rows of its commit."""
        commit = next(commit for commit in self.commits if commit.sequence == frame.sequence)
        page, words, _, _ = changes.to_rows(self.page_words)
        assert np.array_equal(page, commit.page[chosen])
        assert np.array_equal(words, np.where(commit.mask, commit.words, 0)[chosen])
