"""Layouts that come by themselves: measured, decided, and told why."""

import numpy as np
import pytest

import mmsb_jax as mmsb

from .test_bus_layout import PAGES, assert_same, contents, filled

Layout, Policy = mmsb.layout.Layout, mmsb.layout.Policy

SIDE = 384


def stencil(ids):
    """Every other page of a grid is the greatest of its four neighbours."""
    y, x = np.indices(ids.shape)
    computed = (y + x) % 2 == 1
    ends = []
    for dy, dx in ((0, 1), (0, -1), (1, 0), (-1, 0)):
        there = computed & (y + dy >= 0) & (y + dy < SIDE) & (x + dx >= 0) & (x + dx < SIDE)
        ends.append((ids[y[there] + dy, x[there] + dx], ids[there]))
    parent, child = (np.concatenate(each) for each in zip(*ends, strict=True))
    graph = mmsb.ShadowPageGraph.from_edges(parent, child, num_pages=ids.size)
    return graph, mmsb.Rule.semiring("most", pages=ids[computed], semiring=mmsb.semiring.max_plus)


def in_good_order(ids):
    y, x = np.indices(ids.shape)
    return Layout.in_order(ids.ravel()[np.lexsort([x.ravel(), y.ravel(), ((y + x) % 2).ravel()])])


class TestAdvice:
    def test_a_shuffled_grid_is_laid_out_and_a_good_order_left_alone(self, rng):
        ids = rng.permutation(SIDE * SIDE).reshape(SIDE, SIDE)
        graph, rule = stencil(ids)
        state = mmsb.State.create(ids.size, page_bytes=256)
        found = mmsb.layout.advise(state, graph, [rule], waves=1e6)
        assert found.worth
        assert found.payback.found * 1.25 < found.payback.present
        assert "after" in found.reason
        assert "waves it pays back" in found.reason
        assert not mmsb.layout.advise(state, graph, [rule], waves=1).worth
        ordered = mmsb.layout.relayout(state, in_good_order(ids))
        for state_then in (ordered, mmsb.layout.relayout(state, found.layout)):
            assert not mmsb.layout.advise(state_then, graph, [rule], waves=1e6).worth

    def test_nothing_to_read(self):
        graph = mmsb.ShadowPageGraph.from_edges([], [], num_pages=4)
        assert mmsb.layout.advise(mmsb.State.create(4), graph, [], waves=1).reason == "no page with a rule has parents"

    @pytest.mark.parametrize("how", [{"waves": -1}, {"waves": "many"}, {"waves": 1, "share": 2}])
    def test_bad_figures_are_refused(self, how):
        graph = mmsb.ShadowPageGraph.from_edges([0], [1], num_pages=4)
        with pytest.raises(mmsb.InvalidArgumentError, match="pass a number from 0"):
            mmsb.layout.advise(mmsb.State.create(4), graph, [], **how)


@pytest.mark.unchecked
class TestByItself:
    def run(self, mode, ids, layout=None):
        graph, rule = stencil(ids)
        with mmsb.start(page_bytes=256, capacity=ids.size, layout=Policy(mode, horizon=10**9, patience=0)) as bus:
            told = []
            bus.subscribe(["optimisation_started", "optimisation_done"], lambda event: told.append(event.kind))
            page = bus.create_page(256 * ids.size)
            bus.add_dependency(graph.parent, graph.child)
            bus.add_rule(rule)
            if layout is not None:
                bus.relayout(layout)
            before = bus.layout
            free = np.setdiff1d(np.arange(ids.size), rule.pages)[:1]
            for value in range(5):
                bus.apply(bus.batch(free, np.full((1, 64), value, np.float32)))
            assert bus.page(page).id == 0
            return (
                bus.layout_decisions,
                bus.layout != before,
                told,
                contents(bus),
            )

    def test_the_bus_moves_pages_when_that_pays_back_and_says_why(self, rng):
        ids = rng.permutation(SIDE * SIDE).reshape(SIDE, SIDE)
        decisions, moved, told, here = self.run("auto", ids)
        assert moved
        applied = [decision for decision in decisions if decision.applied]
        assert applied
        assert applied[0].payback.waves < 10**9
        assert told[:2] == ["optimisation_started", "optimisation_done"]
        advised, moved, _, there = self.run("advise", ids)
        assert not moved
        assert any(decision.worth for decision in advised)
        assert not any(decision.applied for decision in advised)
        assert_same(here, there)

    def test_off_means_off(self):
        with mmsb.start(page_bytes=8, capacity=PAGES) as bus:
            filled(bus)
            assert bus.layout_decisions == ()
            assert bus.layout == Layout.identity(PAGES)

    def test_a_good_order_is_left_alone(self, rng):
        ids = rng.permutation(SIDE * SIDE).reshape(SIDE, SIDE)
        decisions, moved, *_ = self.run("auto", ids, in_good_order(ids))
        assert not moved
        assert decisions
        assert not any(decision.worth for decision in decisions)

    def test_a_look_that_fails_harms_nobody(self, monkeypatch):
        def fails(*_, **__):
            raise MemoryError("no room for a second copy")

        monkeypatch.setattr("mmsb_jax._arranging.advise", fails)
        with mmsb.start(page_bytes=8, capacity=PAGES, layout=Policy("auto", horizon=np.int64(5), patience=0)) as bus:
            pages, _ = filled(bus)
            for value in range(5):
                bus.update_page(pages[0], np.float32([value + 100, 0]))
                bus.propagate()
            assert [each.reason for each in bus.layout_decisions][:1] == [
                "the look failed: MemoryError: no room for a second copy"
            ]
            assert not bus._pending

    def test_pages_in_host_memory_are_looked_at_ever_more_seldom(self):
        with mmsb.start(page_bytes=8, capacity=PAGES, device_pages=PAGES, layout=Policy("auto", patience=1e-9)) as bus:
            pages, _ = filled(bus)
            for value in range(12):
                bus.update_page(pages[0], np.float32([value + 100, 0]))
                bus.propagate()
            assert all("host memory" in decision.reason for decision in bus.layout_decisions)
            with pytest.raises(mmsb.InvalidArgumentError, match="migrate_page"):
                bus.optimize_layout()
