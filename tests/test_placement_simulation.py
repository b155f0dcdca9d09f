"""Law 4 wherever pages live: the simulator of `test_bus_simulation.py`, with pages that move, grow, shrink and double.

The device has room for some pages only, so that steps evict pages and fetch others all the time.
"""

import numpy as np
import pytest

import mmsb_jax as mmsb
from mmsb_jax._host_pages import HostPages
from mmsb_jax._residency import Residency
from tests.model import Model
from tests.test_bus_simulation import CAPACITY, PAGE_BYTES, WORDS, Simulation

pytestmark = pytest.mark.unchecked

ROOM, STEPS = 13, 45
HOMES = ("device", "unified", "unified", "unified", "unified", "host")


class PlacedSimulation(Simulation):
    """A bus whose pages live anywhere, beside the model that knows of no places."""

    def __init__(self, path, seed: int) -> None:
        self.refused = self.short_of_room = self.fetched = self.evicted = 0
        super().__init__(path, seed)
        self.bus.migrate_page(list(range(4, 18)), "unified")
        self.open(ROOM)

    def run(self, steps: int) -> None:
        actions = [self.update, self.tick, self.wave, self.create, self.delete, self.snapshot, self.reopen]
        actions += [self.clone, self.resize, self.migrate, self.prefetch]
        weights = np.array([5, 9, 5, 1.5, 1.5, 1, 1, 1.5, 3, 4, 1])
        self.rewire()
        for _ in range(steps):
            actions[self.rng.choice(len(actions), p=weights / weights.sum())]()
            self.check()

    def check(self) -> None:
        super().check()
        if (engine := self.bus._engine).residency is not None:
            assert not np.asarray(engine._state.pages[-1]).any(), "a page without a row was written"
            slots = np.asarray(engine._state.slot_of_page)
            taken = slots[slots < engine.residency.slots]
            assert len(set(taken.tolist())) == len(taken) <= engine.residency.slots
            assert self.bus.stats().on_device == np.count_nonzero(slots[self.pages()] < engine.residency.slots)
        elsewhere = sum(len(page.ids) for page in self.bus.pages if page.location != "device")
        assert self.bus.stats().in_host_memory == elsewhere

    def open(self, room: int | None) -> None:
        stats = self.bus.stats()
        self.fetched, self.evicted = self.fetched + stats.fetched, self.evicted + stats.evicted
        self.bus.stop()
        self.bus = mmsb.start(self.path, device_pages=room)

    def attempt(self, action) -> None:
        """Something that may need a host page, or more pages than there is room for; then nothing has happened."""
        try:
            action()
            return
        except (mmsb.CapacityError, mmsb.InvalidArgumentError) as error:
            why = str(error)
        self.short_of_room += "rows can be had" in why
        self.refused += "lives in host memory and takes no part" in why
        assert "rows can be had" in why or "lives in host memory and takes no part" in why
        if not self.bus._pending:  # `apply` begins with what waits, and that may have gone well
            self.propagated(self.model.waiting)

    def wave(self) -> None:
        self.attempt(super().wave)

    def tick(self) -> None:
        self.attempt(super().tick)

    def home(self) -> str:
        living_there = sum(len(page.ids) for page in self.bus.pages if page.location == "device")
        return str(self.rng.choice(HOMES if living_there < ROOM - 6 else HOMES[1:]))

    def create(self, size: int | None = None) -> None:
        if size is not None:
            super().create(size)
            return
        size, home = int(self.rng.integers(1, 3 * PAGE_BYTES)), self.home()
        free = sorted(set(range(CAPACITY)) - set(self.pages()))
        count = -(-size // PAGE_BYTES)
        self.calls.append(f"create_page({size}, location={home!r})")
        if count > len(free):
            with pytest.raises(mmsb.CapacityError):
                self.bus.create_page(size, location=home)
            return
        page = self.bus.create_page(size, location=home)
        assert (page.location, page.placement) == (home, "device" if home == "device" else "pinned_host")
        self.model.alive[page.id] = (free[:count], size)

    def put(self, ids: list[int], data: np.ndarray) -> None:
        """Contents of whole pages in the model, as one commit if anything differs."""
        rows = data.view(np.uint32).reshape(-1, WORDS)
        everywhere = np.ones(WORDS, bool)
        changed = [self.model.write(*row, everywhere, self.model.tick + 1) for row in zip(ids, rows, strict=True)]
        if any(changed):
            self.model.tick += 1
            self.model.waiting |= set(ids)

    def bytes_of(self, page: int) -> np.ndarray:
        ids, size = self.model.alive[page]
        data = self.model.pages[ids].reshape(-1).view(np.uint8).copy()
        data[size:] = 0
        return data

    def clone(self) -> None:
        page = int(self.rng.choice(list(self.model.alive)))
        ids, size = self.model.alive[page]
        free = sorted(set(range(CAPACITY)) - set(self.pages()))
        if len(ids) > len(free):
            return
        home = self.home()
        self.calls.append(f"clone_page({page}, location={home!r})")
        new = self.bus.clone_page(page, location=home)
        self.model.alive[new.id] = (free[: len(ids)], size)
        self.put(free[: len(ids)], self.bytes_of(page))

    def resize(self) -> None:
        page = int(self.rng.choice(list(self.model.alive)))
        ids, old = self.model.alive[page]
        size = int(self.rng.integers(1, 3 * PAGE_BYTES))
        free = sorted(set(range(CAPACITY)) - set(self.pages()))
        count = -(-size // PAGE_BYTES)
        self.calls.append(f"resize_page({page}, {size})")
        lost, more = ids[count:], count - len(ids)
        needed = {end for edge in self.model.edges for end in edge[:2]} | self.model.ruled()
        if more > len(free) or needed & set(lost):
            with pytest.raises((mmsb.CapacityError, mmsb.InvalidArgumentError)):
                self.bus.resize_page(page, size)
            return
        after = self.bus.resize_page(self.bus.page(page), size)
        self.model.alive[page] = (ids[:count] + free[: max(more, 0)], size)
        assert (after.ids.tolist(), after.size) == self.model.alive[page]
        if size < old:
            data = np.zeros(len(ids) * PAGE_BYTES, np.uint8)
            whole = self.model.pages[ids].reshape(-1).view(np.uint8)
            data[:size], data[count * PAGE_BYTES : old] = whole[:size], whole[count * PAGE_BYTES : old]
            self.put(ids, data)
        if lost:
            self.model.tick += 1
            self.model.pages[lost], self.model.epoch[lost] = 0, self.model.tick
            self.model.waiting -= set(lost)

    def migrate(self) -> None:
        pages = self.rng.choice(list(self.model.alive), self.rng.integers(1, 4)).tolist()
        home = self.home()
        self.calls.append(f"migrate_page({pages}, {home!r})")
        self.attempt(lambda: self.bus.migrate_page(pages, home))

    def prefetch(self) -> None:
        pages = self.rng.choice(self.pages(), self.rng.integers(0, 6)).tolist()
        self.calls.append(f"prefetch({pages})")
        self.attempt(lambda: self.bus.prefetch(pages))

    def reopen(self) -> None:
        room = [None, ROOM, ROOM, ROOM][self.rng.integers(4)]
        self.calls.append(f"stop(); start(path, device_pages={room})")
        before = {page.id: (page.ids.tolist(), page.location, page.placement) for page in self.bus.pages}
        if room and sum(len(ids) for ids, home, _ in before.values() if home == "device") > room:
            with pytest.raises(mmsb.CapacityError, match="rows can be had"):
                self.open(room)
            room = None
        self.open(room)
        assert before == {page.id: (page.ids.tolist(), page.location, page.placement) for page in self.bus.pages}
        rules, self.model.rules, self.model.waiting = self.model.rules, 0, set()
        for _ in range(rules):
            self.add_rule()
        Model(self.model.pages, self.model.epoch, self.model.tick).assert_is(self.bus.state)


def simulate(path, seed: int) -> PlacedSimulation:
    simulation = PlacedSimulation(path, seed)
    try:
        simulation.run(STEPS)
    except BaseException as error:
        error.add_note(f"simulation seed {seed}, {len(simulation.calls)} calls; the last:")
        error.add_note("\n".join(simulation.calls[-6:]))
        raise
    finally:
        simulation.bus.stop()
    return simulation


def test_log_state_and_model_agree_wherever_pages_live(run_dir, rng):
    simulate(run_dir, int(rng.integers(2**32)))


def test_what_was_simulated_is_not_trivial(run_dir):
    done = simulate(run_dir, 10)
    called = {call.split("(")[0] for call in done.calls}
    assert {"clone_page", "resize_page", "migrate_page", "prefetch", "stop", "apply", "propagate"} <= called
    assert min(done.fetched, done.evicted) > 10
    assert min(done.refused, done.short_of_room) > 0


# Canaries: a bookkeeping that is broken on purpose. The simulator has to notice each.


def fetch_too_little(monkeypatch):
    fetch = Residency.fetch
    monkeypatch.setattr(
        Residency, "fetch", lambda self, state, ids, **more: fetch(self, state, np.unique(ids)[1:], **more)
    )


def trust_every_copy(monkeypatch):
    monkeypatch.setattr(HostPages, "holds", lambda self, ids, epoch: self.has[ids])


@pytest.mark.parametrize("sabotage", [fetch_too_little, trust_every_copy])
def test_a_broken_bookkeeping_is_caught(run_dir, monkeypatch, sabotage):
    sabotage(monkeypatch)
    with pytest.raises((AssertionError, mmsb.ReplayDivergenceError)) as caught:
        simulate(run_dir, 8)
    assert "simulation seed 8" in caught.value.__notes__[0]
