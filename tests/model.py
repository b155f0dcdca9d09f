"""A dumb model of the bus in plain NumPy, row by row and word by word, that everything is checked against."""

from dataclasses import dataclass

import numpy as np

from mmsb_jax import DeltaBatch, State


@dataclass
class Model:
    """Pages by id, the tick at which each was last written, and the present tick."""

    pages: np.ndarray
    epoch: np.ndarray
    tick: int = 0

    @classmethod
    def of(cls, state: State) -> "Model":
        return cls(np.asarray(state.view()).copy(), np.asarray(state.epoch).copy(), int(state.tick))

    def copy(self) -> "Model":
        return Model(self.pages.copy(), self.epoch.copy(), self.tick)

    def apply(self, deltas: DeltaBatch) -> "Model":
        after = self.copy()
        mask = np.asarray(deltas.dense_mask())
        for row, page in enumerate(np.asarray(deltas.page)):
            if 0 <= page < len(self.pages) and mask[row].any():
                for word in np.flatnonzero(mask[row]):
                    after.pages[page, word] = np.asarray(deltas.words)[row, word]
                after.epoch[page] = self.tick
        return after

    def assert_is(self, state: State) -> None:
        np.testing.assert_array_equal(np.asarray(state.view()), self.pages)
        np.testing.assert_array_equal(np.asarray(state.epoch), self.epoch)
        assert int(state.tick) == self.tick


def digest_of(pages: np.ndarray) -> list[int]:
    """The digest, word by word, in Python's integers."""

    def finalise(x: int) -> int:
        x = (x ^ (x >> 16)) * 0x85EBCA6B % 2**32
        x = (x ^ (x >> 13)) * 0xC2B2AE35 % 2**32
        return x ^ (x >> 16)

    lanes = []
    for page_seed, word_seed in ((0x9E3779B9, 0xC2B2AE3D), (0x7F4A7C15, 0x27D4EB2F)):
        total = 0
        for page, word in zip(*np.nonzero(pages), strict=True):
            key = finalise((int(page) + page_seed) % 2**32) ^ finalise((int(word) * word_seed + 1) % 2**32) | 1
            total += finalise(finalise(int(pages[page, word])) * key % 2**32)
        lanes.append(total % 2**32)
    return lanes
