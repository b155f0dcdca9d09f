"""Law 4: `replay(log) == state` after every commit. A seeded simulator drives a bus and a dumb model side by side.

Everything random comes from one seed; a failure prints it together with the last calls, and `MMSB_SEED` pins it.
"""

from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mmsb_jax as mmsb
from mmsb_jax import DeltaBatch, Rule, Term, semiring
from mmsb_jax._engine import Engine
from mmsb_jax.page import TransactionLog
from tests.model import Model, digest_of

pytestmark = pytest.mark.unchecked

# One shape for all steps, since each compiles. Word 0 of a page is computed where a rule says so; the rest is free.
CAPACITY, WORDS, ROWS = 24, 3, 8
STEPS = 120
PAGE_BYTES = 4 * WORDS
RULED = (6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17)
RULES = [
    Rule(
        "sum and own",
        pages=RULED[:6],
        terms=[Term(semiring.plus_times, lambda p: p[0] % 1000, weighted=True)],
        update=lambda own, total: own.at[0].set(total + own[1] % 8),
    ),
    Rule(
        "largest, at most 50",
        pages=RULED[6:],
        terms=[
            Term(semiring.max_plus, lambda p: (p[0] % 64).astype(jnp.int32)),
            Term(semiring.or_and, lambda p: p[2]),
        ],
        update=lambda own, most, bits: own.at[0].set(jnp.clip(most, 0, 50).astype(jnp.uint32)).at[2].set(bits),
    ),
]


@dataclass
class Board(Model):
    """The model, with pages, edges, rules and what waits to be propagated."""

    alive: dict[int, tuple[list[int], int]] = field(default_factory=dict)
    edges: list[tuple[int, int, int]] = field(default_factory=list)
    rules: int = 0
    waiting: set[int] = field(default_factory=set)

    def ruled(self) -> set[int]:
        return set(RULED[: 6 * self.rules])

    def write(self, page: int, row: np.ndarray, mask: np.ndarray, tick: int) -> bool:
        changed = mask & (self.pages[page] != row)
        self.pages[page][changed] = row[changed]
        if changed.any():
            self.epoch[page] = tick
        return bool(changed.any())

    def recomputed(self, page: int) -> np.ndarray:
        parents = [(self.pages[parent], weight) for parent, child, weight in self.edges if child == page]
        new = self.pages[page].copy()
        if page in RULED[:6]:
            total = sum((int(row[0]) % 1000 * weight for row, weight in parents), 0)
            new[0] = np.uint32((total + int(new[1]) % 8) % 2**32)
        else:
            new[0] = min(50, max((int(row[0]) % 64 for row, _ in parents), default=0))
            new[2] = np.bitwise_or.reduce(np.array([row[2] for row, _ in parents], np.uint32), initial=0)
        return new

    def order(self) -> list[int]:
        pages, left = [], set(range(CAPACITY))
        while left:
            ready = {p for p in left if not any(child == p and parent in left for parent, child, _ in self.edges)}
            pages += sorted(ready)
            left -= ready
        return pages

    def wave(self, dirty: set[int], tick: int) -> bool:
        """Recompute what the dirty pages reach; whether anything changed."""
        moved, changed = set(dirty), False
        for page in self.order():
            reached = page in dirty or any(c == page and p in moved for p, c, _ in self.edges)
            if page not in self.ruled() or not reached:
                continue
            if self.write(page, self.recomputed(page), np.ones(WORDS, bool), tick):
                moved.add(page)
                changed = True
        return changed

    def would_cycle(self, parent: int, child: int) -> bool:
        below, new = {child}, True
        while new:
            new = {c for p, c, _ in self.edges if p in below} - below
            below |= new
        return parent in below


class Simulation:
    """A bus on disk and its model; every step does the same to both, and compares all that can be seen."""

    def __init__(self, path, seed: int) -> None:
        self.path, self.rng = path, np.random.default_rng(seed)
        self.bus = mmsb.start(path, page_bytes=PAGE_BYTES, capacity=CAPACITY)
        self.model = Board(np.zeros((CAPACITY, WORDS), np.uint32), np.zeros(CAPACITY, np.uint32))
        self.history = [self.model.copy()]
        self.snapshots = []
        self.calls = []
        for _ in range(18):  # so many that rules and edges have pages to work on
            self.create(PAGE_BYTES)

    def run(self, steps: int) -> None:
        actions = [self.update, self.tick, self.wave, self.create, self.delete, self.snapshot, self.reopen]
        actions += [self.look_back, self.rewire]
        weights = np.array([6, 9, 5, 1.5, 1.5, 2, 0.5, 1, 0.7])
        self.rewire()
        for _ in range(steps):
            actions[self.rng.choice(len(actions), p=weights / weights.sum())]()
            self.check()

    def check(self) -> None:
        """State, log and model agree on everything; snapshots are what they were."""
        assert self.bus.tick == self.model.tick >= self.history[-1].tick
        assert (self.model.epoch >= self.history[-1].epoch).all()
        if self.model.tick > self.history[-1].tick:
            self.history.append(self.model.copy())
        digest = tuple(digest_of(self.model.pages))
        assert self.bus.digest() == digest
        self.model.assert_is(mmsb.replay(self.path))
        if self.rng.random() < 0.1:  # not each time: it makes the next step work on a copy
            self.model.assert_is(self.bus.state)
        for page, (ids, size) in self.model.alive.items():
            read = self.bus.query_page(page)
            assert read.tobytes() == self.model.pages[ids].tobytes()[:size]
        graph = self.bus.graph
        edges = zip(graph.parent.tolist(), graph.child.tolist(), graph.weight.tolist(), strict=True)
        assert sorted(edges) == sorted(self.model.edges)

    # What a user may do.

    def create(self, size: int | None = None) -> None:
        size = int(self.rng.integers(1, 3 * PAGE_BYTES)) if size is None else size
        free = [page for page in range(CAPACITY) if all(page not in ids for ids, _ in self.model.alive.values())]
        count = -(-size // PAGE_BYTES)
        self.calls.append(f"create_page({size})")
        if count > len(free):
            with pytest.raises(mmsb.CapacityError):
                self.bus.create_page(size)
            return
        page = self.bus.create_page(size)
        assert page.ids.tolist() == free[:count]
        self.model.alive[page.id] = (free[:count], size)

    def delete(self) -> None:
        if not self.model.alive:
            return
        page = int(self.rng.choice(list(self.model.alive)))
        ids, _ = self.model.alive[page]
        self.calls.append(f"delete_page({page})")
        if any(p in ids or c in ids for p, c, _ in self.model.edges) or self.model.ruled() & set(ids):
            with pytest.raises(mmsb.InvalidArgumentError):
                self.bus.delete_page(page)
            return
        self.bus.delete_page(page)
        del self.model.alive[page]
        self.model.tick += 1
        self.model.pages[ids], self.model.epoch[ids] = 0, self.model.tick
        self.model.waiting -= set(ids)

    def update(self) -> None:
        page = int(self.rng.choice(list(self.model.alive)))
        ids, size = self.model.alive[page]
        data = np.zeros(len(ids) * PAGE_BYTES, np.uint8)
        data[:size] = self.rng.integers(0, 256, size) * (self.rng.random(size) < 0.3)
        if self.rng.random() < 0.2:
            data[:size] = self.model.pages[ids].reshape(-1).view(np.uint8)[:size]
        self.calls.append(f"update_page({page}, {data[:size].tolist()})")
        tick = self.bus.update_page(page, data[:size].tobytes(), source=str(self.rng.choice(["x", "y"])))
        rows, everywhere = data.view(np.uint32).reshape(-1, WORDS), np.ones(WORDS, bool)
        changed = [self.model.write(*row, everywhere, self.model.tick + 1) for row in zip(ids, rows, strict=True)]
        assert (tick is not None) == any(changed)
        if any(changed):
            self.model.tick += 1
            self.model.waiting |= set(ids)

    def pages(self) -> list[int]:
        return sorted(page for ids, _ in self.model.alive.values() for page in ids)

    def tick(self) -> None:
        page = self.rng.choice([*self.pages(), CAPACITY], ROWS).astype(np.int32)
        words = self.rng.integers(0, 200, (ROWS, WORDS), np.uint32)
        mask = self.rng.random((ROWS, WORDS)) < 0.6
        self.calls.append(f"apply({page.tolist()}, {words.tolist()}, {mask.tolist()})")
        deltas = DeltaBatch.make(self.template, page, words, mask=mask, source=self.bus.source_id("outside"))
        self.bus.apply(deltas, intent="tick")
        self.propagated(self.model.waiting)
        before = self.model.copy()
        self.model.tick += 1
        for row, number in enumerate(page.tolist()):
            if number < CAPACITY:
                self.model.pages[number][mask[row]] = words[row][mask[row]]
        dirty = set(np.flatnonzero((before.pages != self.model.pages).any(axis=1)).tolist())
        self.model.epoch[sorted(dirty)] = self.model.tick
        self.model.wave(dirty, self.model.tick)

    def wave(self) -> None:
        mode = str(self.rng.choice(["immediate", "deferred", "batch"]))
        some = self.rng.random() < 0.5
        pages = self.rng.choice(self.pages(), self.rng.integers(0, 5)).tolist() if some else None
        self.calls.append(f"propagate({pages}, {mode!r})")
        self.bus.propagate(pages, mode)
        if mode == "deferred":
            self.model.waiting |= set(pages or [])
        else:
            self.propagated(set(pages or []) | (self.model.waiting if pages is None or mode == "batch" else set()))

    def propagated(self, dirty: set[int]) -> None:
        self.model.tick += self.model.wave(dirty, self.model.tick + 1)
        self.model.waiting -= dirty

    def rewire(self) -> None:
        """Many changes of the graph at once, since a wave is compiled for each graph that it runs on."""
        self.add_rule()
        for _ in range(self.rng.integers(6, 14)):
            (self.depend if self.rng.random() < 0.8 else self.forget)()
            self.check()

    def depend(self) -> None:
        parents, children = self.rng.choice(self.pages(), (2, self.rng.integers(1, 3)))
        weight = int(self.rng.integers(1, 4))
        before = list(self.model.edges)
        self.calls.append(f"add_dependency({parents.tolist()}, {children.tolist()}, weight={weight})")
        new = list(zip(parents.tolist(), children.tolist(), strict=True))
        if len(set(new)) < len(new) or {edge[:2] for edge in before} & set(new):
            with pytest.raises(mmsb.InvalidArgumentError, match="dependency already, or is passed twice"):
                self.bus.add_dependency(parents, children, weight=weight)
            return
        for parent, child in new:
            if self.model.would_cycle(parent, child):
                self.model.edges = before
                with pytest.raises(mmsb.GraphCycleError):
                    self.bus.add_dependency(parents, children, weight=weight)
                return
            self.model.edges.append((parent, child, weight))
        self.bus.add_dependency(parents, children, weight=weight)
        self.model.waiting |= set(children.tolist())

    def forget(self) -> None:
        if self.model.edges:
            parent, child, _ = self.model.edges[self.rng.integers(len(self.model.edges))]
            self.calls.append(f"remove_dependency({parent}, {child})")
            self.bus.remove_dependency(parent, child)
            self.model.edges = [edge for edge in self.model.edges if edge[:2] != (parent, child)]
            self.model.waiting.add(child)

    def add_rule(self) -> None:
        wanted = set(RULED[6 * self.model.rules :][:6])
        if wanted and wanted <= set(self.pages()):
            self.calls.append(f"add_rule(RULES[{self.model.rules}])")
            self.bus.add_rule(RULES[self.model.rules])
            self.model.rules += 1
            self.model.waiting |= wanted

    def snapshot(self) -> None:
        self.snapshots = [*self.snapshots[-2:], (self.bus.state, self.model.copy())]
        for state, model in self.snapshots:
            Model(model.pages, model.epoch, model.tick).assert_is(state)
        old, new = self.snapshots[0][0], self.snapshots[-1][0]
        changed = mmsb.apply(old, mmsb.diff(old, new, CAPACITY)).view()
        np.testing.assert_array_equal(changed, self.model.pages)

    def reopen(self) -> None:
        self.calls.append("stop(); start(path)")
        self.bus.stop()
        self.bus = mmsb.start(self.path)
        rules, self.model.rules, self.model.waiting = self.model.rules, 0, set()
        for _ in range(rules):
            self.add_rule()
        self.model.assert_is(self.bus.state)

    def look_back(self) -> None:
        past = self.history[self.rng.integers(len(self.history))]
        Model(past.pages, past.epoch, past.tick).assert_is(mmsb.replay(self.path, tick=past.tick))

    @property
    def template(self) -> mmsb.State:
        return mmsb.State.create(CAPACITY, page_bytes=PAGE_BYTES)


def simulate(path, seed: int, steps: int) -> Simulation:
    simulation = Simulation(path, seed)
    try:
        simulation.run(steps)
    except BaseException as error:
        error.add_note(f"simulation seed {seed}, {len(simulation.calls)} calls; the last:")
        error.add_note("\n".join(simulation.calls[-6:]))
        raise
    finally:
        simulation.bus.stop()
    return simulation


@pytest.mark.parametrize("number", range(3))
def test_log_state_and_model_agree_after_every_call(run_dir, rng, number):
    assert simulate(run_dir, int(rng.integers(2**32)), STEPS).model.tick > STEPS // 4


def test_what_was_simulated_is_not_trivial(run_dir):
    """With a fixed seed: waves, refusals, deletes and reopening all happen, so the check above means something."""
    done = simulate(run_dir, 1, STEPS)
    called = {call.split("(")[0] for call in done.calls}
    assert called == {
        "create_page", "delete_page", "update_page", "apply", "propagate", "add_dependency", "remove_dependency",
        "add_rule", "stop",
    }  # fmt: skip
    assert done.model.rules == 2
    assert len(done.model.edges) > 5
    assert done.model.tick > STEPS // 2


# Canaries: buses that are broken on purpose. The simulator has to notice each.


def drop_a_row(monkeypatch):
    append = TransactionLog.append_changes

    def forgetful(self, tick, changes, **options):
        if len(changes) > 2:
            page, words, mask, source = changes.to_rows(WORDS)
            changes = type(changes).from_rows(page[1:], words[1:], mask[1:], source[1:])
        return append(self, tick, changes, **options)

    monkeypatch.setattr(TransactionLog, "append_changes", forgetful)


def miss_an_epoch(monkeypatch):
    adopt = Engine.adopt

    def late(self, step):
        adopt(self, step._replace(state=jax.tree.map(lambda x: x, step.state).advance()))

    monkeypatch.setattr(Engine, "adopt", late)


def forget_what_waits(monkeypatch):
    update = mmsb.Bus.update_page

    def careless(self, *args, **options):
        tick = update(self, *args, **options)
        self._pending.clear()
        return tick

    monkeypatch.setattr(mmsb.Bus, "update_page", careless)


def change_the_digest(monkeypatch):
    lanes = Engine.lanes
    monkeypatch.setattr(Engine, "lanes", lambda self, of=None: (lanes(self, of)[0] ^ 1, lanes(self, of)[1]))


@pytest.mark.parametrize("sabotage", [drop_a_row, miss_an_epoch, forget_what_waits, change_the_digest])
def test_a_broken_bus_is_caught(run_dir, monkeypatch, sabotage):
    sabotage(monkeypatch)
    with pytest.raises((AssertionError, mmsb.ReplayDivergenceError)) as caught:
        simulate(run_dir, 1, STEPS)
    assert "simulation seed 1" in caught.value.__notes__[0]
