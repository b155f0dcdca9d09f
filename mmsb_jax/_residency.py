"""Which pages have a row on the device, which should, and the moves between: sets of pages, one transfer each.

The design is told in `physical/_placement.py`.
"""

import jax
import numpy as np
from jaxtyping import Array, Int32, UInt32

from ._errors import CapacityError, InvalidArgumentError
from ._host_pages import HostPages, rounded_up
from .physical import State, append_void, begin_partial, enter, leave, make_whole

__all__ = ["LOCATIONS", "Residency"]

LOCATIONS = ("device", "host", "unified")
_DEVICE, _HOST, _UNIFIED = range(3)


class Residency:
    """The bookkeeping of a state that isn't whole, on the host. Each call takes the state and returns the next one.

    - A page at home on the *device* has a row there at all times.
    - A *unified* page gets one when a step needs it, and keeps it until others need the room.
    - A *host* page gets one only while it is written, and never takes part in a wave.
    """

    def __init__(self, slot_of_page: np.ndarray, slots: int, host: HostPages) -> None:
        self.slots, self.host = slots, host
        self.fetched = self.evicted = 0
        self._slot = slot_of_page.copy()
        self._home = np.full(len(slot_of_page), _DEVICE, np.uint8)
        self._used = np.zeros(len(slot_of_page), np.int64)
        self._clock = 0
        self._free = np.setdiff1d(np.arange(slots, dtype=np.int32), slot_of_page)
        self._visitors: np.ndarray = np.zeros(0, np.int32)

    @classmethod
    def begin(cls, slots: int, page_words: int, epoch: np.ndarray, tick: int) -> tuple["Residency", State]:
        """Room for `slots` rows on the device; so far all pages are zero, and without a row."""
        state = begin_partial(slots, page_words, epoch=epoch, tick=tick)
        return cls(np.asarray(state.slot_of_page), slots, _host_pages(state)), state

    @classmethod
    def of(cls, state: State) -> tuple["Residency", State]:
        """A whole state, which stays as it is, with a row for every page: there is always room for all."""
        partial = append_void(state)
        return cls(np.asarray(state.slot_of_page), state.num_pages, _host_pages(partial)), partial

    # What a step needs.

    def fetch(self, state: State, ids: np.ndarray, *, written: np.ndarray | None = None) -> State:
        """Give pages rows on the device, at the expense of unified pages that were used longest ago.

        Host pages only get one when they are `written`, and nothing else; `send_home` sees them off again.

        **Raises:** `InvalidArgumentError` for other host pages, `CapacityError` when there are too many pages.
        """
        self._refuse_host_pages(ids)
        ids = np.unique(ids if written is None else np.concatenate([ids, written])).astype(np.int32)
        missing = ids[~self.resident(ids)]
        self._clock += 1
        self._used[ids] = self._clock
        if not len(missing):
            return state
        state = self._make_room(state, len(missing), ids)
        self._visitors = np.concatenate([self._visitors, missing[self._home[missing] == _HOST]])
        self.fetched += int(np.count_nonzero(self.host.has[missing]))
        padded = np.zeros((rounded_up(len(missing)), state.page_words), np.uint32)
        padded[: len(missing)] = self.host.rows(missing)
        return self._enter(state, missing, padded)

    def send_home(self, state: State) -> State:
        """Host pages that were written leave the device."""
        visitors, self._visitors = self._visitors, np.zeros(0, np.int32)
        return self._leave(state, visitors)

    # Where pages live.

    def settle(self, state: State, ids: np.ndarray, location: str) -> State:
        """These pages live here from now on. Raises `CapacityError` when the device has no room for them."""
        home, before = LOCATIONS.index(location), self._home[ids]
        self._home[ids] = home
        if home != _DEVICE:
            return self._leave(state, ids)
        try:
            state = self.fetch(state, ids)
        except CapacityError:
            self._home[ids] = before
            raise
        self.host.drop(ids)
        return state

    def forget(self, state: State, ids: np.ndarray) -> State:
        """These pages are zero, and nobody's."""
        self.host.drop(ids)
        self._home[ids] = _DEVICE
        self._visitors = np.setdiff1d(self._visitors, ids)
        return self._give_up(state, ids[self.resident(ids)])

    def resident(self, ids: np.ndarray) -> np.ndarray:
        """bool[n]: which pages have a row on the device."""
        return self._slot[ids] < self.slots

    def away(self) -> int:
        """How many pages live in host memory."""
        return int(np.count_nonzero(self._home))

    # Looking at pages.

    def read(self, state: State, ids: np.ndarray) -> np.ndarray:
        """uint32[n, page_words]: contents of pages, from wherever they are. Moves none."""
        here = self.resident(ids)
        found = np.empty((len(ids), state.page_words), np.uint32)
        found[~here] = self.host.rows(ids[~here])
        if here.any():
            found[here] = np.asarray(_rows(state, _padded(ids[here], state.num_pages)))[: np.count_nonzero(here)]
        return found

    def whole(self, state: State) -> State:
        """A whole state with the same contents and memory of its own."""
        ids = np.flatnonzero((self._slot == self.slots) & self.host.has).astype(np.int32)
        rows = np.zeros((rounded_up(len(ids)), state.page_words), np.uint32)
        rows[: len(ids)] = self.host.rows(ids)
        return make_whole(state, _padded(ids, state.num_pages), rows)

    def whole_on_host(self, state: State) -> State:
        """The same in the memory of the process, whatever the device is: for what is about to be written to a disk."""
        pages = self.read(state, np.arange(state.num_pages, dtype=np.int32))
        parts = (pages, np.arange(state.num_pages, dtype=np.int32), np.array(state.epoch), np.array(state.tick))
        return State(*jax.device_put(parts, jax.devices("cpu")[0]))

    # Moves.

    def _make_room(self, state: State, rows: int, needed: np.ndarray) -> State:
        short = rows - len(self._free)
        if short <= 0:
            return state
        may_leave = (self._home == _UNIFIED) & (self._slot < self.slots)
        may_leave[needed] = False
        candidates = np.flatnonzero(may_leave)
        if len(candidates) < short:
            fixed = int(np.count_nonzero((self._home == _DEVICE) & (self._slot < self.slots)))
            raise CapacityError(
                f"{len(needed)} pages are needed on the device at once, {rows} of them have no row there, and only "
                f"{len(self._free) + len(candidates)} of its {self.slots} rows can be had ({fixed} are taken by pages "
                "that live there); start the bus with more device_pages, or move pages to 'unified'"
            )
        oldest = np.argpartition(self._used[candidates], short - 1)[:short]
        return self._leave(state, candidates[oldest].astype(np.int32))

    def _enter(self, state: State, ids: np.ndarray, rows: UInt32[Array, "n words"] | np.ndarray) -> State:
        slots, self._free = self._free[: len(ids)], self._free[len(ids) :]
        self._slot[ids] = slots
        padded = _padded(ids, state.num_pages)
        return enter(state, padded, np.concatenate([slots, np.zeros(len(padded) - len(ids), np.int32)]), rows)

    def _leave(self, state: State, ids: np.ndarray) -> State:
        """Take rows off the device; those whose copy on the host isn't current are copied there first."""
        ids = ids[self.resident(ids)]
        if not len(ids):
            return state
        epoch = np.asarray(_epochs(state, _padded(ids, state.num_pages)))[: len(ids)]
        stale = ~self.host.holds(ids, epoch)
        self.host.keep(ids[stale], _rows(state, _padded(ids[stale], state.num_pages)), epoch[stale])
        self.evicted += len(ids)
        return self._give_up(state, ids)

    def _give_up(self, state: State, ids: np.ndarray) -> State:
        if not len(ids):
            return state
        self._free = np.concatenate([self._free, self._slot[ids]])
        self._slot[ids] = self.slots
        return leave(state, _padded(ids, state.num_pages))

    def _refuse_host_pages(self, ids: np.ndarray) -> None:
        refused = ids[self._home[ids] == _HOST]
        if len(refused):
            raise InvalidArgumentError(
                f"page {refused[0]} lives in host memory and takes no part in computations on the device; "
                "bus.migrate_page(page, 'unified') lets it be streamed there when it is needed, 'device' moves it there"
            )


_rows = jax.jit(lambda state, ids: state.rows(ids))
_epochs = jax.jit(lambda state, ids: state.epoch.at[ids].get(mode="clip"))


def _padded(ids: np.ndarray, sentinel: int) -> Int32[np.ndarray, " n"]:
    padded = np.full(rounded_up(len(ids)), sentinel, np.int32)
    padded[: len(ids)] = ids
    return padded


def _host_pages(state: State) -> HostPages:
    return HostPages(state.num_pages, state.page_words, next(iter(state.pages.devices())))
