"""What a user does with a bus: dependencies, rules, waves, ticks; and when a commit fails."""

import logging

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mmsb_jax as mmsb
from mmsb_jax import DeltaBatch, Rule, Term, _engine, semiring
from mmsb_jax._errors import InvalidArgumentError
from mmsb_jax.graph import ShadowPageGraph
from mmsb_jax.page import FrameKind, MemoryStorage
from tests.runs import CAPACITY, PAGE_BYTES, floats, run_log, start, total_rule, value


@pytest.fixture
def new_run(run_dir):
    with mmsb.start(run_dir, page_bytes=PAGE_BYTES, capacity=CAPACITY) as bus:
        yield bus


@pytest.fixture
def bus():
    with start() as bus:
        yield bus


class TestDependencies:
    def edges(self, bus):
        graph = bus.graph
        return list(zip(graph.parent.tolist(), graph.child.tolist(), graph.weight.tolist(), strict=True))

    def test_pages_ids_names_lists_and_arrays(self, bus):
        a, b, c = (bus.create_page(PAGE_BYTES, name=name) for name in "abc")
        bus.add_dependency(a, b, weight=1)
        bus.add_dependency("a", c.id, weight=np.float64(2))
        d, e = bus.create_page(PAGE_BYTES), bus.create_page(PAGE_BYTES)
        bus.add_dependency([a, "b"], np.array([3, 3]) * 0 + d.id, weight=[3, 4])
        bus.add_dependency(jnp.array([e.id]), (1, 2), weight=jnp.array([5, 6], jnp.float32))
        assert sorted(self.edges(bus)) == [(0, 1, 1), (0, 2, 2), (0, 3, 3), (1, 3, 4), (4, 1, 5), (4, 2, 6)]
        assert bus.stats().edges == 6

    def test_a_small_change_of_a_large_graph_builds_nothing_anew(self, monkeypatch):
        """Counted in edges that a graph was built from."""
        with mmsb.start(page_bytes=PAGE_BYTES, capacity=200) as bus:
            for _ in range(200):
                bus.create_page(PAGE_BYTES)
            bus.add_dependency(np.arange(190), np.arange(190) + 1)
            assert bus.graph.num_edges == 190
            built, build = [], ShadowPageGraph.from_edges.__func__

            def counted(cls, parent, child, **more):
                built.append(np.size(parent))
                return build(cls, parent, child, **more)

            monkeypatch.setattr(ShadowPageGraph, "from_edges", classmethod(counted))
            bus.add_dependency(3, 150, "control")
            bus.remove_dependency(40, 41)
            bus.add_dependency([40, 7], [199, 198], weight=2)
            with pytest.raises(InvalidArgumentError, match="40 -> 199 is a data dependency already"):
                bus.add_dependency(40, 199)
            with pytest.raises(InvalidArgumentError, match="there is no edge 40 -> 41 to remove"):
                bus.remove_dependency(40, 41)
            graph = bus.graph
            assert built == []
            told = bus._catalog.edges
            anew = ShadowPageGraph.from_edges(
                told.parent, told.child, weight=told.weight, kind=told.kind, num_pages=200
            )
            assert built == [192], "the check can't fail"
            chex.assert_trees_all_equal(graph, anew)

    def test_a_page_of_several_stands_for_all_of_them(self, bus):
        wide, narrow = bus.create_page(2 * PAGE_BYTES), bus.create_page(4)
        bus.add_dependency(wide, narrow)
        assert self.edges(bus) == [(0, 2, 0), (1, 2, 0)]
        bus.add_dependency([], [])
        assert bus.graph.num_edges == 2

    def test_a_cycle_is_refused_by_name(self, new_run, run_dir):
        a, b, c = (new_run.create_page(4) for _ in range(3))
        new_run.add_dependency([a, b], [b, c])
        before = (self.edges(new_run), run_log(run_dir))
        with pytest.raises(mmsb.GraphCycleError, match="0 -> 1 -> 2 -> 0") as caught:
            new_run.add_dependency(c, a)
        assert caught.value.cycle == (0, 1, 2, 0)
        with pytest.raises(mmsb.GraphCycleError, match="depends on itself"):
            new_run.add_dependency(a, a)
        assert (self.edges(new_run), run_log(run_dir)) == before
        new_run.add_dependency(a, c)

    def test_removing_takes_edges_of_all_kinds_and_no_others(self, new_run, run_dir):
        pages = [new_run.create_page(4).id for _ in range(3)]
        new_run.add_dependency([0, 0, 1], [1, 2, 2], weight=[1, 3, 4])
        new_run.add_dependency(0, 1, "control", weight=2)
        new_run.remove_dependency(pages[0], pages[1])
        assert self.edges(new_run) == [(0, 2, 3), (1, 2, 4)]
        new_run.add_dependency(0, 1, weight=9)
        new_run.stop()
        with start(run_dir) as bus:
            assert self.edges(bus) == [(0, 1, 9), (0, 2, 3), (1, 2, 4)]

    def test_a_page_that_is_needed_stays(self, bus):
        a, b = bus.create_page(4), bus.create_page(4)
        bus.add_dependency(a, b)
        for page in (a, b):
            with pytest.raises(mmsb.InvalidArgumentError, match="0 -> 1; remove them with remove_dependency first"):
                bus.delete_page(page)
        bus.add_rule(total_rule(b.ids))
        bus.remove_dependency(a, b)
        bus.delete_page(a)
        with pytest.raises(mmsb.InvalidArgumentError, match="is computed by rule 'total'"):
            bus.delete_page(b)


class TestPropagation:
    def test_a_change_of_the_graph_compiles_nothing_anew(self):
        with start() as bus:
            a, b, c, d = (bus.create_page(PAGE_BYTES) for _ in range(4))
            bus.add_dependency(a, c, weight=1)
            bus.add_rule(total_rule([c.id, d.id]))
            bus.propagate()
            compiled = _engine._wave._cache_size()
            bus.add_dependency([b, a, c], [c, d, d], weight=[2, 3, 1])
            bus.propagate()
            bus.remove_dependency(a, c)
            bus.propagate()
            assert _engine._wave._cache_size() == compiled

    @pytest.fixture
    def chain(self, bus):
        """a -> b -> c -> d, each the sum of its parents; d also depends on e."""
        pages = [bus.create_page(4, name=name) for name in "abcde"]
        bus.add_dependency([0, 1, 2, 4], [1, 2, 3, 3], weight=1)
        bus.add_rule(total_rule([1, 2, 3], weighted=True))
        return pages

    def test_immediate_without_pages_takes_what_was_updated(self, bus, chain):
        bus.update_page("a", np.float32(1))
        bus.update_page("e", np.float32(10))
        assert value(bus, "d") == 0
        tick = bus.tick
        report = bus.propagate(intent="bring up to date")
        assert (int(report.recomputed), int(report.changed)) == (3, 3)
        assert [value(bus, name) for name in "abcde"] == [1, 1, 1, 11, 10]
        assert bus.tick == tick + 1
        assert int(bus.propagate().recomputed) == 0
        assert bus.tick == tick + 1

    def test_immediate_with_pages_takes_these_alone(self, bus, chain):
        bus.update_page("a", np.float32(1))
        bus.update_page("e", np.float32(10))
        bus.propagate("e")
        assert [value(bus, name) for name in "abcde"] == [1, 0, 0, 10, 10]
        bus.propagate()
        assert [value(bus, name) for name in "abcde"] == [1, 1, 1, 11, 10]

    def test_deferred_waits_for_a_batch(self, bus, chain):
        bus.update_page("a", np.float32(1))
        assert bus.propagate(mode="deferred") is None
        assert bus.propagate("e", mode="deferred") is None
        assert value(bus, "b") == 0
        report = bus.propagate("c", mode="batch")
        assert int(report.recomputed) == 3
        assert value(bus, "d") == 1

    def test_a_wave_stops_where_nothing_changes(self, bus, chain):
        tick = bus.tick
        report = bus.propagate(chain)
        assert (int(report.recomputed), int(report.changed), bus.tick) == (3, 0, tick)
        stats = bus.stats()
        assert (stats.waves, stats.pages_recomputed, stats.pages_cut_off) == (1, 3, 3)

    def test_edges_of_other_kinds_carry_nothing(self, bus):
        a, b = bus.create_page(4), bus.create_page(4)
        bus.add_dependency(a, b, kind="control")
        bus.add_rule(total_rule(b.ids))
        bus.update_page(a, np.float32(1))
        bus.propagate()
        assert value(bus, b) == 0

    def test_new_edges_and_rules_take_part_in_the_next_wave(self, bus, chain):
        bus.add_dependency("a", "d", weight=100)
        bus.update_page("a", np.float32(1))
        bus.propagate()
        assert value(bus, "d") == 101
        bus.remove_dependency("a", "d")
        bus.propagate("a")
        assert value(bus, "d") == 101, "this wave begins at a, and d doesn't depend on it any more"
        bus.propagate()
        assert value(bus, "d") == 1

    def test_a_new_rule_makes_good_what_was_left_undone(self, run_dir):
        for reopened in (False, True):
            with mmsb.start(run_dir, page_bytes=8, capacity=4) as bus:
                a, b = (bus.create_page(8, name=name, exist_ok=True) for name in "ab")
                if not reopened:
                    bus.add_dependency(a, b)
                    bus.update_page(a, np.array([3, 0], np.float32))
                    bus.propagate()  # without a rule there is nothing to do, and nothing is forgotten
                    continue
                bus.add_rule(total_rule(b.ids))
                assert int(bus.propagate().recomputed) == 1
                assert bus.query_page(b, dtype=np.float32)[0] == 3
                tick = bus.tick
                assert int(bus.propagate().recomputed) == 0
                assert bus.tick == tick

    def test_a_tick_applies_and_propagates_in_one_commit(self, bus, chain):
        bus.update_page("e", np.float32(1))  # propagated first, by itself
        tick, commits = bus.tick, bus.stats().commits
        page = np.array([0, 4, 0, CAPACITY], np.int32)
        words = np.stack([floats(number) for number in (5, 7, 6, 99)])
        report = bus.apply(DeltaBatch.make(bus.state, page, words))
        assert int(report.changed) == 3
        assert [value(bus, name) for name in "abcde"] == [6, 6, 6, 13, 7]
        assert (bus.tick, bus.stats().commits) == (tick + 2, commits + 2)
        bus.apply(DeltaBatch.empty(bus.state, 4))
        assert bus.tick == tick + 3, "time passes even when nothing happens"
        bus.apply(DeltaBatch.empty(bus.state))
        assert bus.tick == tick + 4

    @pytest.mark.parametrize("how", ["apply", "propagate"])
    def test_a_wave_larger_than_its_room_is_logged_whole(self, run_dir, how):
        """One delta changes many pages: more than the step makes room for at first."""
        children = 70
        with mmsb.start(run_dir, page_bytes=8, capacity=children + 2) as bus:
            root, leaves = bus.create_page(8), bus.create_page(8 * children)
            bus.add_dependency(root, leaves)
            bus.add_rule(total_rule(leaves.ids))
            for number in range(1, 4):
                words = np.array([number, number], np.float32)
                if how == "apply":
                    report = bus.apply(bus.batch([0], words, source="sensor"))
                else:
                    bus.update_page(root, words, source="sensor")
                    report = bus.propagate()
                written = {"sensor": [], "propagation": []}
                for frame in bus.frames():
                    if frame.kind == FrameKind.CHANGES and frame.tick >= bus.tick - (how == "propagate"):
                        changes = frame.changes()
                        for name, rows in written.items():
                            chosen = changes.source == bus.source_id(name)
                            rows += zip(changes.page[chosen].tolist(), changes.mask[chosen, 0].tolist(), strict=True)
                assert written["sensor"] == [(0, 0b11)]
                assert sorted(written["propagation"]) == [(page, 0b01) for page in range(1, children + 1)]
                assert int(report.changed) == children
                for state in (mmsb.replay(run_dir), bus.state):
                    assert state.view(jnp.float32)[1 : children + 1, 0].tolist() == [number] * children
                    assert tuple(mmsb.digest(state).tolist()) == bus.digest()
                np.testing.assert_array_equal(mmsb.replay(run_dir).epoch, bus.state.epoch)

    def test_rules_that_cannot_work_are_refused_when_added(self, bus, chain):
        e = bus.page("e").ids
        wrong = Rule("wrong", pages=e, terms=[], update=lambda own: own[0])
        with pytest.raises(mmsb.InvalidTypeError, match="must return the page's new words"):
            bus.add_rule(wrong)
        odd = Rule(
            "odd",
            pages=e,
            terms=[Term(semiring.or_and, lambda p: p[0].astype(jnp.complex64))],
            update=lambda own, x: own,
        )
        with pytest.raises(mmsb.InvalidTypeError, match="or_and is not defined on complex64"):
            bus.add_rule(odd)
        with pytest.raises(mmsb.InvalidArgumentError, match="has two rules"):
            bus.add_rule(total_rule([3]))
        with pytest.raises(mmsb.InvalidArgumentError, match="'total' has a weighted term, but the dependency 0 -> 3"):
            bus.add_dependency("a", "d")
        assert bus.graph.num_edges == 4
        bus.update_page("a", np.float32(1))
        bus.propagate()
        assert value(bus, "d") == 1


def test_nothing_compiles_twice(bus, caplog):
    pages = [bus.create_page(PAGE_BYTES) for _ in range(6)]
    bus.add_dependency(pages[0], pages[1:])
    bus.add_rule(total_rule([1, 2, 3, 4, 5]))

    def everything(number):
        for page in pages[:2]:
            bus.update_page(page, floats(number))
        bus.propagate(pages[: 1 + number % 3])
        bus.propagate(pages, mode="batch")
        state = bus.state
        for rows in ([0, 1], [0, CAPACITY]):
            deltas = DeltaBatch.make(state, rows, np.stack([floats(-number)] * 2))
            bus.apply(deltas)
        bus.query_page(pages[0])
        bus.delete_page(bus.create_page(4))
        bus.digest(), bus.stats()

    everything(1)
    jax.config.update("jax_log_compiles", True)
    try:
        with caplog.at_level(logging.WARNING):
            everything(2)
            everything(3)
    finally:
        jax.config.update("jax_log_compiles", False)
    assert [record.message for record in caplog.records if "ompil" in record.message] == []


def test_counts_and_how_a_bus_prints(bus):
    a, b = bus.create_page(PAGE_BYTES, name="a"), bus.create_page(PAGE_BYTES + 1)
    bus.add_dependency(a, b)
    bus.update_page(a, floats(1, 2))
    bus.update_page(b, bytes(PAGE_BYTES) + b"\x01")
    stats = bus.stats()
    assert (stats.tick, stats.pages, stats.capacity, stats.page_bytes, stats.edges) == (2, 3, CAPACITY, PAGE_BYTES, 2)
    assert (stats.commits, stats.deltas, stats.words_changed) == (2, 2, 3)
    assert stats.log_bytes > 0
    assert "words changed" in str(stats)
    assert repr(bus) == "Bus(2 pages, 2 dependencies, tick 2)"
    bus.stop()
    assert repr(bus) == "Bus(closed: it was stopped)"
    bus.stop()
    assert (bus.tick, bus.digest(), len(bus.pages), bus.graph.num_edges) == (2, bus.digest(), 2, 2)


class Full(MemoryStorage):
    """A device on which no file can grow once `full` is set."""

    full = False

    def write(self, name, offset, buffers):
        if self.full and offset + sum(map(len, buffers)) > self.size(name):
            raise OSError(28, "No space left on device")
        super().write(name, offset, buffers)


@pytest.mark.parametrize("call", ["update", "apply", "create", "delete", "depend", "wave"])
def test_when_the_log_fails_the_bus_closes_and_nothing_acknowledged_is_lost(monkeypatch, call):
    storage = Full()
    monkeypatch.setattr("mmsb_jax._opening.MemoryStorage", lambda: storage)
    bus = start()
    a, b = bus.create_page(4), bus.create_page(4)
    spare = bus.create_page(4)
    bus.add_dependency(a, b)
    bus.add_rule(total_rule(b.ids))
    bus.source_id("propagation")
    bus.update_page(a, np.float32(1))
    digest, tick, state = bus.digest(), bus.tick, bus.state
    storage.full = True
    calls = {
        "update": lambda: bus.update_page(a, np.float32(2)),
        "apply": lambda: bus.apply(DeltaBatch.make(state, [0], floats(2))),
        "create": lambda: bus.create_page(4),
        "delete": lambda: bus.delete_page(spare),
        "depend": lambda: bus.add_dependency(a, spare),
        "wave": bus.propagate,
    }
    with pytest.raises(mmsb.LogFailedError, match="No space left"):
        calls[call]()
    for attempt in calls.values():
        with pytest.raises(mmsb.BusClosedError, match=r"a commit failed \(LogFailedError: .*No space left"):
            attempt()
    bus.stop()
    replayed = mmsb.replay(MemoryStorage(storage.files))
    assert (tuple(mmsb.digest(replayed).tolist()), int(replayed.tick)) == (digest, tick)


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
def test_an_error_in_the_middle_of_a_commit_closes_the_bus(bus, monkeypatch, error):
    page = bus.create_page(4)

    def interrupted(*_, **__):
        raise error

    monkeypatch.setattr("mmsb_jax._engine.Engine.changes", interrupted)
    with pytest.raises(error):
        bus.update_page(page, np.int32(1))
    with pytest.raises(mmsb.BusClosedError, match=error.__name__):
        bus.query_page(page)
