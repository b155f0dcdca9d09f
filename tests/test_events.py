"""Events: what is told, to whom, when, and what a handler can't break."""

import warnings

import numpy as np
import pytest

import mmsb_jax as mmsb
from mmsb_jax import EventKind, HandlerFailedWarning
from tests.runs import PAGE_BYTES, start, total_rule, value


def one(number):
    return np.float32(number)


@pytest.fixture
def bus():
    with start() as bus:
        for name in "abc":
            bus.create_page(4, name=name)
        yield bus


@pytest.fixture
def told(bus):
    """What a subscriber to everything is told of."""
    events = []
    bus.subscribe(list(EventKind), events.append)
    return events


def kinds(events):
    return [(str(event.kind), [page.name for page in event.pages]) for event in events]


class TestWhatIsTold:
    def test_a_page_from_beginning_to_end(self, bus, told):
        page = bus.create_page(PAGE_BYTES + 1, name="new")
        tick = bus.update_page(page, bytes(PAGE_BYTES) + b"x", source="me", intent="why")
        page = bus.resize_page(page, 4)
        bus.delete_page(page)
        assert kinds(told) == [
            ("page_created", ["new"]),
            ("delta_applied", ["new"]),
            ("page_changed", ["new"]),
            ("page_changed", ["new"]),
            ("page_deleted", ["new"]),
        ]
        created, applied, changed, resized, deleted = told
        assert (created.tick, created.ids.tolist(), created.source) == (0, [3, 4], None)
        for event in (applied, changed):
            assert (event.tick, event.ids.tolist(), event.source, event.intent) == (tick, [4], "me", "why")
        assert (applied.changes.page.tolist(), applied.changes.words.tolist()) == ([4], [ord("x")])
        assert (resized.source, resized.ids.tolist(), resized.tick) == ("resize", [3], 2)
        assert (deleted.pages, deleted.tick) == ((page,), 3)
        with pytest.raises(AttributeError):
            created.tick = 5
        with pytest.raises(ValueError, match="read-only"):
            created.ids[0] = 5

    def test_a_commit_of_several_sources_is_an_event_for_each(self, bus, told):
        bus.add_dependency("a", "b")
        bus.add_rule(total_rule(bus.page("b").ids))
        bus.propagate()
        told.clear()
        words = np.zeros((2, PAGE_BYTES // 4), np.float32)
        words[:, 0] = 1
        deltas = bus.batch([2, 0], words, source="sensor")
        bus.apply(deltas, intent="tick")
        told = [event for event in told if event.kind == "page_changed"]
        assert [(event.source, event.ids.tolist(), event.tick, event.intent) for event in told] == [
            ("sensor", [0, 2], 1, "tick"),
            ("propagation", [1], 1, "tick"),
        ]

    def test_what_a_wave_has_to_recompute_is_invalidated_until_then(self, bus, told):
        bus.add_dependency(["a", "b"], ["c", "c"])
        bus.add_rule(total_rule(bus.page("c").ids))
        bus.propagate()
        bus.update_page("b", one(1))
        bus.propagate()
        assert kinds(told) == [
            ("page_invalidated", ["c"]),
            ("delta_applied", ["b"]),
            ("page_changed", ["b"]),
            ("page_invalidated", ["c"]),
            ("delta_applied", ["c"]),
            ("page_changed", ["c"]),
        ]
        assert [event.causes.tolist() for event in told if event.kind == "page_invalidated"] == [[0, 1], [1]]
        told.clear()
        with bus.transaction(propagate=True) as tx:
            tx.update_page("a", one(5))
        assert "page_invalidated" not in [event.kind for event in told]

    def test_a_transaction_is_told_of_as_one(self, bus, told):
        with bus.transaction(intent="both") as tx:
            tx.update_page("a", one(1))
            tx.update_page("b", one(2))
            assert told == []
        assert kinds(told) == [("delta_applied", ["a", "b"]), ("page_changed", ["a", "b"])]
        assert len({(event.tick, event.intent) for event in told}) == 1

    def test_what_did_not_happen_is_not_told(self, bus, told):
        bus.update_page("a", one(0))
        bus.propagate()
        with pytest.raises(mmsb.InvalidDeltaError):
            bus.update_page("a", b"")
        tx = bus.transaction()
        tx.update_page("a", one(1))
        tx.rollback()
        assert told == []

    def test_ones_own(self, bus, told):
        events = []
        bus.subscribe(["solver.converged", "optimisation_done"], events.append)
        bus.emit("solver.converged", pages="a", source="me", intent="why", data=5)
        bus.emit("optimisation_started")
        bus.emit(EventKind.OPTIMISATION_DONE, pages=["a", 2])
        first, second = events
        assert (first.kind, first.source, first.intent, first.data) == ("solver.converged", "me", "why", 5)
        assert (first.pages, first.tick) == ((bus.page("a"),), 0)
        assert (second.ids.tolist(), second.data, type(second)) == ([0, 2], None, mmsb.CustomEvent)
        assert kinds(told) == [("optimisation_started", []), ("optimisation_done", ["a", "c"])]
        assert len(list(bus.frames())) == bus.stats().log_frames


class TestWhoIsTold:
    def test_filters(self, bus):
        got = {name: [] for name in ("page", "pages", "source", "where", "kind")}
        bus.subscribe("page_changed", got["page"].append, pages="a")
        bus.subscribe("page_changed", got["pages"].append, pages=[bus.page("a"), 1])
        bus.subscribe("page_changed", got["source"].append, source="x")
        bus.subscribe("page_changed", got["where"].append, lambda event: event.tick == 2, pages="b")
        bus.subscribe("page_deleted", got["kind"].append)
        for tick, (page, source) in enumerate([("a", "x"), ("b", "x"), ("c", "y"), ("a", "y")], 1):
            bus.update_page(page, one(tick), source=source)
        found = {name: [event.tick for event in events] for name, events in got.items()}
        assert found == {"page": [1, 4], "pages": [1, 2, 4], "source": [1, 2], "where": [2], "kind": []}

    def test_a_filter_means_the_page_and_not_its_id(self, bus):
        got = []
        bus.subscribe(["page_created", "page_changed"], got.append, pages="c")
        bus.resize_page("c", 3 * PAGE_BYTES)
        bus.update_page("c", bytes(2 * PAGE_BYTES) + b"x" * PAGE_BYTES)  # an id that it has got since
        bus.delete_page("c")
        again = bus.create_page(4, name="c")
        bus.update_page(again, one(1))
        assert (again.id, [event.ids.tolist() for event in got]) == (2, [[2, 3, 4], [4]])

    def test_cancelled_is_told_nothing_more(self, bus):
        got = []
        subscription = bus.subscribe("page_changed", got.append)
        other = bus.subscribe("page_changed", lambda event: bus.unsubscribe(other))
        bus.update_page("a", one(1))
        assert (subscription.active, other.active) == (True, False)
        subscription.cancel()
        subscription.cancel()
        bus.unsubscribe(subscription)
        bus.update_page("a", one(2))
        assert (len(got), bus.stats().events) == (1, 2)
        assert repr(subscription) == "Subscription(page_changed -> list.append, cancelled)"

    def test_subscribed_in_between_hears_of_what_comes_after(self, bus):
        late, early = [], []

        def subscribe(event):
            early.append(event.tick)
            if event.tick == 1:
                bus.update_page("b", one(2))
                bus.subscribe("page_changed", lambda event: late.append(event.tick))
                bus.update_page("b", one(3))

        bus.subscribe("page_changed", subscribe)
        bus.update_page("a", one(1))
        assert (early, late) == ([1, 2, 3], [3])


class TestWhen:
    def test_the_commit_is_in_the_log_before(self, run_dir):
        with start(run_dir, page_bytes=PAGE_BYTES, capacity=4, sync="commit") as bus:
            page, seen = bus.create_page(4), []

            def look(event):
                seen.append((event.tick, int(mmsb.replay(run_dir).tick), bus.tick, value(bus, page)))

            bus.subscribe("page_changed", look)
            bus.update_page(page, one(7))
        assert seen == [(1, 1, 1, 7)]

    def test_what_a_handler_does_is_told_in_the_order_of_commits(self, bus):
        order = []

        def first(event):
            order.append(("first", event.tick))
            if event.tick < 4:
                assert bus.update_page("b", one(10 + event.tick)) == bus.tick
                order.append(("made", bus.tick))

        bus.subscribe("page_changed", first)
        bus.subscribe("page_changed", lambda event: order.append(("second", event.tick)))
        bus.update_page("a", one(1))
        told = [(who, tick) for who, tick in order if who != "made"]
        assert told == [(who, tick) for tick in (1, 2, 3, 4) for who in ("first", "second")]
        assert order.index(("made", 2)) < order.index(("second", 1))

    def test_a_call_of_two_commits_is_told_of_at_its_end(self, bus):
        seen = []
        bus.update_page("a", one(3))
        bus.subscribe(["page_created", "page_changed"], lambda event: seen.append(value(bus, "copy")))
        bus.clone_page("a", name="copy")
        assert seen == [3, 3]

    def test_a_handler_may_delete_what_the_next_event_is_about(self, bus):
        seen = []

        def delete(event):
            if "b" in {page.name for page in bus.pages}:
                bus.delete_page("b")

        bus.subscribe("page_changed", delete)
        bus.subscribe(["page_changed", "page_deleted"], lambda event: seen.append((event.tick, str(event.kind))))
        with bus.transaction() as tx:
            tx.update_page("a", one(1))
            tx.update_page("b", one(1))
        assert seen == [(1, "page_changed"), (2, "page_deleted")]

    def test_a_transaction_is_over_when_its_handlers_run(self, bus):
        seen = []
        bus.subscribe("page_changed", lambda event: seen.append(repr(tx)))
        with bus.transaction() as tx:
            tx.update_page("a", one(1))
        assert seen == ["Transaction(over: it was committed at tick 1)"]

    def test_a_handler_may_stop_the_bus(self, bus):
        seen = []
        bus.subscribe("page_changed", lambda event: bus.stop())
        bus.subscribe("page_changed", seen.append)
        assert bus.update_page("a", one(1)) == 1
        assert [event.tick for event in seen] == [1]


class TestFailures:
    def test_one_harms_nobody_and_is_reported_each_time(self, bus):
        seen = []

        def broken(event):
            raise ValueError(f"at {event.tick}")

        bus.subscribe("page_changed", broken)
        bus.subscribe("page_changed", seen.append)
        for number in (1, 2, 3):
            with pytest.warns(HandlerFailedWarning) as caught:
                assert bus.update_page("a", one(number)) == number
            (warning,) = caught
            text = str(warning.message)
            assert f"ValueError: at {number}" in text
            assert text.endswith(f"Failure {number} on this bus")
            for part in ("TestFailures", "broken", "'page_changed'", "test_events.py", "The commit stands"):
                assert part in text
        assert [event.tick for event in seen] == [1, 2, 3]
        assert (value(bus, "a"), bus.stats().handler_failures, bus.stats().events) == (3, 3, 6)
        assert bus.replay().pages.tolist() == bus.state.pages.tolist()

    def test_a_filter_may_fail_as_well(self, bus):
        bus.subscribe("page_changed", print, lambda event: event.colour)
        with pytest.warns(HandlerFailedWarning, match="no attribute 'colour'"):
            bus.update_page("a", one(1))

    def test_no_two_reports_are_alike(self, bus):
        """Python shows a warning of the same text and place once."""
        bus.subscribe("my.event", lambda event: 1 / 0)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("default")
            for _ in range(3):
                bus.emit("my.event")
        assert len(caught) == 3

    def test_warnings_as_errors_come_when_all_have_been_told(self, bus):
        seen = []
        bus.subscribe("page_changed", lambda event: 1 / 0)
        bus.subscribe("page_changed", seen.append)
        with pytest.raises(HandlerFailedWarning, match="ZeroDivisionError"):
            bus.update_page("a", one(1))
        assert (len(seen), value(bus, "a")) == (1, 1)

    def test_an_interrupt_ends_the_call_and_loses_no_event(self, bus):
        seen = []

        def interrupted(event):
            if event.tick == 1:
                raise KeyboardInterrupt

        bus.subscribe("page_changed", interrupted)
        bus.subscribe("page_changed", lambda event: seen.append(event.tick))
        with pytest.raises(KeyboardInterrupt):
            bus.update_page("a", one(1))
        assert (value(bus, "a"), bus.tick) == (1, 1)
        bus.update_page("a", one(2))
        assert seen == [1, 2]

    def test_a_call_that_fails_half_way_tells_of_what_it_did(self, bus, monkeypatch):
        seen = []
        bus.add_dependency("a", "b")
        bus.add_rule(total_rule(bus.page("b").ids))
        bus.update_page("a", one(1))
        bus.subscribe("page_changed", seen.append)
        monkeypatch.setattr(bus._engine, "tick", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            bus.apply(bus.batch(2, np.zeros((1, PAGE_BYTES // 4), np.uint32)))
        assert [(event.tick, event.source) for event in seen] == [(2, "propagation")]


def test_nothing_is_made_for_nobody(bus, monkeypatch):
    def made(*_, **__):
        raise AssertionError("an event was made")

    monkeypatch.setattr(mmsb.Event, "__init__", made)
    monkeypatch.setattr(mmsb.DeltaApplied, "__init__", made)
    bus.subscribe("page_deleted", print)
    bus.update_page("a", one(1))
    bus.create_page(4)
