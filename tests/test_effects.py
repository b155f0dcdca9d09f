"""What edges of the kinds CONTROL, DEVICE_SYNC and COMPILER do: examples, and random programs against sets."""

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

import mmsb_jax as mmsb
from mmsb_jax import EventKind
from tests.runs import CAPACITY, PAGE_BYTES, start


def one(number):
    return np.float32(number)


def listed(pages):
    return [page.name for page in pages]


TERM = mmsb.Term(mmsb.semiring.plus_times, lambda parent: parent[0])


def _counted(own, total):
    return own.at[0].set(own[0] + 1).at[1].set(total)


def counting(pages):
    """Adds its parents along DATA edges to what it holds: it tells how often it ran."""
    return mmsb.Rule("count", pages=pages, terms=[TERM], update=_counted)


@pytest.fixture
def bus():
    with start() as bus:
        for name in "abcdef":
            bus.create_page(8, name=name)
        yield bus


def runs(bus, page):
    return int(bus.query_page(page, dtype=np.uint32)[0])


class TestControl:
    @pytest.fixture
    def chain(self, bus):
        """a -control-> b -data-> c -control-> d, where b and d have rules; c has none."""
        for parent, child, kind in (("a", "b", "control"), ("b", "c", "data"), ("c", "d", "control")):
            bus.add_dependency(parent, child, kind)
        bus.add_rule(counting([1, 3]))
        bus.propagate()
        assert bus.state.pages[:, 0].sum() == 2  # the new rules ran once
        return bus

    def test_stale_spreads_and_goes_when_somebody_asks(self, chain):
        tick = chain.update_page("a", one(1).tobytes() * 2)
        assert listed(chain.stale()) == ["b", "c", "d"]
        chain.propagate()
        assert (chain.tick, listed(chain.stale())) == (tick, ["b", "c", "d"])
        assert runs(chain, "b") == 2
        assert (chain.tick, listed(chain.stale())) == (tick + 1, ["c", "d"])
        assert (runs(chain, "b"), runs(chain, "d"), chain.tick) == (2, 2, tick + 2)
        assert listed(chain.stale()) == ["c"]
        chain.query_page("c")
        assert listed(chain.stale()) == ["c"]  # nobody can make it but who writes it
        chain.update_page("c", bytes([1] * 8))
        assert listed(chain.stale()) == ["d"]

    def test_who_asks_for_the_last_gets_all_before_it_once(self, chain):
        chain.update_page("a", one(1).tobytes() * 2)
        tick = chain.tick
        assert runs(chain, "d") == 2
        assert (chain.tick, listed(chain.stale())) == (tick + 1, ["c"])
        assert (runs(chain, "b"), chain.tick) == (2, tick + 1)

    def test_a_wave_that_names_it_does_as_well(self, chain):
        chain.update_page("a", one(1).tobytes() * 2)
        report = chain.propagate("d")
        assert (int(report.recomputed), listed(chain.stale())) == (2, ["c"])

    def test_other_ways_to_look_recompute_nothing(self, chain):
        chain.update_page("a", one(1).tobytes() * 2)
        before, digest = chain.tick, chain.digest()
        with chain.transaction() as tx:
            assert tx.query_page("b", dtype=np.uint32)[0] == 1
        assert chain.state.pages[1, 0] == 1
        assert (chain.tick, chain.digest(), len(chain.stale())) == (before, digest, 3)

    def test_it_is_told_once_with_its_cause(self, chain):
        told = []
        chain.subscribe(EventKind.PAGE_STALE, told.append)
        chain.update_page("a", bytes([1] * 8), source="me", intent="why")
        chain.update_page("a", bytes([2] * 8))
        (event,) = told
        assert (listed(event.pages), event.causes.tolist()) == (["b", "c", "d"], [0])
        assert (event.tick, event.source, event.intent) == (1 + 1, "me", "why")
        runs(chain, "b")
        chain.update_page("a", bytes([3] * 8))
        assert [listed(event.pages) for event in told] == [["b", "c", "d"], ["b"]]

    def test_a_recomputation_that_changes_nothing_is_no_commit(self, bus):
        bus.add_dependency("a", "b", "control")
        bus.add_dependency("c", "b", "data")
        rule = counting([1])
        bus.add_rule(mmsb.Rule("sum", pages=[1], terms=rule.terms, update=lambda own, total: own.at[0].set(total)))
        bus.update_page("a", bytes([1] * 8))
        assert (runs(bus, "b"), bus.tick, listed(bus.stale())) == (0, 1, [])

    def test_written_with_its_parent_it_is_not_stale(self, bus):
        told = []
        bus.subscribe("page_stale", told.append)
        bus.add_dependency("a", "b", "control")
        with bus.transaction() as tx:
            tx.update_page("a", bytes([1] * 8))
            tx.update_page("b", bytes([1] * 8))
        assert (bus.stale(), told) == ((), [])

    def test_one_that_lives_on_the_host_cannot_be_recomputed(self, bus):
        bus.add_dependency("a", "b", "control")
        bus.add_rule(counting([1]))
        bus.propagate()
        bus.migrate_page("b", "host")
        bus.update_page("a", bytes([1] * 8))
        with pytest.raises(mmsb.InvalidArgumentError, match="page 1 lives in host memory"):
            bus.query_page("b")
        assert listed(bus.stale()) == ["b"]
        bus.migrate_page("b", "unified")
        assert runs(bus, "b") == 2


class TestDeviceSync:
    @pytest.fixture
    def small(self):
        """Room for two pages on the device; a, which lives there, asks for u, v and h."""
        with start(device_pages=2) as bus:
            bus.create_page(4, name="a")
            for name, location in (("u", "unified"), ("v", "unified"), ("h", "host")):
                bus.create_page(4, name=name, location=location)
            yield bus

    def on_device(self, bus, name):
        return bool(bus._engine.residency.resident(bus.page(name).ids).all())

    def test_scheduled_carried_out_and_told(self, small):
        told = []
        small.subscribe(["sync_needed", "sync_done"], told.append)
        small.add_dependency(["a", "a"], ["u", "h"], "device_sync")
        small.update_page("a", one(1), source="me")
        assert (listed(small.unsynced()), self.on_device(small, "u")) == (["u", "h"], False)
        assert listed(small.sync_pages("h")) == ["h"]
        assert listed(small.sync_pages()) == ["u"]
        assert (small.unsynced(), self.on_device(small, "u"), self.on_device(small, "h")) == ((), True, False)
        assert [(str(event.kind), listed(event.pages), event.source) for event in told] == [
            ("sync_needed", ["u", "h"], "me"),
            ("sync_done", ["h"], None),
            ("sync_done", ["u"], None),
        ]
        assert small.sync_pages() == ()

    @pytest.mark.parametrize("how", ["propagate", "apply"])
    def test_the_next_wave_carries_it_out(self, small, how):
        small.add_dependency("a", "u", "device_sync")
        small.update_page("a", one(1))
        if how == "propagate":
            small.propagate()
        else:
            small.apply(small.batch([1], np.zeros((1, PAGE_BYTES // 4), np.uint32)))
        assert (small.unsynced(), self.on_device(small, "u")) == ((), True)

    def test_what_does_not_fit_stays_scheduled(self, small):
        small.add_dependency(["a", "a"], ["u", "v"], "device_sync")
        small.update_page("a", one(1))
        small.propagate()
        with pytest.raises(mmsb.CapacityError, match="more device_pages"):
            small.sync_pages()
        assert listed(small.unsynced()) == ["u", "v"]
        assert listed(small.sync_pages("v")) == ["v"]
        assert listed(small.sync_pages()) == ["u"]

    def test_without_limits_there_is_nothing_to_move(self, bus):
        bus.add_dependency("a", "b", "device_sync")
        bus.update_page("a", bytes([1] * 8))
        assert listed(bus.sync_pages()) == ["b"]
        assert bus.stats().fetched == 0


class TestCompiler:
    def test_all_behind_it_is_invalid_until_it_is_said_to_be_valid(self, bus):
        told = []
        bus.subscribe("artefact_invalidated", told.append)
        bus.add_dependency(["a", "b", "c"], ["b", "c", "d"], "compiler")
        bus.add_dependency("d", "e", "data")
        bus.update_page("b", bytes([1] * 8))
        assert listed(bus.invalidated()) == ["c", "d"]
        bus.revalidate("d")
        assert listed(bus.invalidated()) == ["c"]
        bus.update_page("a", bytes([1] * 8))
        assert listed(bus.invalidated()) == ["b", "c", "d"]
        assert [listed(event.pages) for event in told] == [["c", "d"], ["b", "d"]]


def test_marks_go_with_their_pages(bus):
    for kind in ("control", "device_sync", "compiler"):
        bus.add_dependency("a", "f", kind)
    bus.update_page("a", bytes([1] * 8))
    assert [listed(found()) for found in (bus.stale, bus.unsynced, bus.invalidated)] == [["f"]] * 3
    bus.remove_dependency("a", "f")
    bus.delete_page("f")
    again = bus.create_page(8, name="f")
    assert (again.id, bus.stale(), bus.unsynced(), bus.invalidated()) == (5, (), (), ())


def test_after_reopening_all_is_marked_that_could_be(run_dir):
    with start(run_dir, page_bytes=PAGE_BYTES, capacity=CAPACITY) as bus:
        for name in "abcdef":
            bus.create_page(8, name=name)
        bus.add_dependency(["a", "b"], ["b", "c"], "control")
        bus.add_dependency("c", "d", "data")
        bus.add_dependency("a", "e", "compiler")
        bus.add_dependency("a", "f", "device_sync")

    with start(run_dir) as bus:
        assert [listed(found()) for found in (bus.stale, bus.unsynced, bus.invalidated)] == [["b", "c", "d"], [], ["e"]]
        bus.add_rule(counting([1, 2, 3]))
        assert runs(bus, "d") == 1
        assert bus.stale() == ()


def test_looking_at_marks_of_a_closed_bus(bus):
    bus.stop()
    for call in (bus.stale, bus.invalidated, bus.unsynced, bus.sync_pages, lambda: bus.revalidate("a")):
        with pytest.raises(mmsb.BusClosedError):
            call()


# Random programs. A page with a rule counts its recomputations in word 0, so each leaves a trace.

PAGES = 7
KINDS = ("data", "control", "device_sync", "compiler")
EDGES = st.lists(st.tuples(st.integers(0, PAGES - 1), st.integers(0, PAGES - 1), st.sampled_from(KINDS)), max_size=12)
STEP = st.tuples(
    st.sampled_from(["write", "write", "ask", "ask", "revalidate", "sync", "rewire", "name"]),
    st.integers(0, PAGES - 1),
    st.integers(0, PAGES - 1),
    st.sampled_from(KINDS),
)


NAMES = {"page_stale": "stale", "sync_needed": "unsynced", "artefact_invalidated": "invalid"}


class Marks:
    """The definitions of `docs/bus.md`, in sets. `edges`: (parent, child, kind), each parent before its child."""

    def __init__(self, edges, ruled):
        self.edges, self.ruled = set(edges), ruled
        self.stale, self.invalid, self.unsynced = set(), set(), set()
        self.told = {}  # by the last step: what is marked that wasn't before

    def marks(self):
        return {"stale": self.stale, "invalid": self.invalid, "unsynced": self.unsynced}

    def step(self, pages, *kinds):
        return {child for parent, child, kind in self.edges if parent in pages and kind in kinds}

    def reach(self, pages, *kinds):
        found = set()
        while new := self.step(pages | found, *kinds) - found:
            found |= new
        return found

    def changed(self, pages, fresh=frozenset()):
        before = {name: set(marked) for name, marked in self.marks().items()}
        if pages:
            first = self.step(pages, "control")
            fresh = fresh | (pages - self.ruled)
            self.stale = (self.stale | first | self.reach(first, "data", "control")) - fresh
            self.invalid |= self.reach(pages, "compiler")
            self.unsynced |= self.step(pages, "device_sync")
        self.stale -= fresh
        self.told = {name: new for name, marked in self.marks().items() if (new := marked - before[name])}

    def needed(self, page):
        """The stale pages with a rule that this one needs, and all that a wave from them recomputes."""
        if page not in self.ruled or page not in self.stale:
            return set()
        above = {p for p in range(PAGES) if page in self.reach({p}, "data", "control")} | {page}
        return above & self.stale & self.ruled

    def wave(self, seeds):
        """Pages that a wave recomputes: each rule here changes its page, so nothing stops it but pages without one."""
        recomputed = set()
        for page in range(PAGES):
            parents = {parent for parent, child, kind in self.edges if child == page and kind == "data"}
            if page in self.ruled and (page in seeds or parents & (seeds | recomputed)):
                recomputed.add(page)
        return recomputed


def program(edges, ruled, steps):
    """Do the same to a bus and to the model, and compare after each step."""
    with start() as bus:
        for _ in range(PAGES):
            bus.create_page(8)
        model, counts, told = Marks(edges, ruled), np.zeros(PAGES, int), []
        for parent, child, kind in sorted(edges):
            bus.add_dependency(parent, child, kind)
        if ruled:
            bus.add_rule(COUNTING)
            bus.propagate()
            first = model.wave(ruled | model.step(set(range(PAGES)), "data"))
            counts[list(first)] += 1
            model.changed(first)
        bus.subscribe(["page_stale", "sync_needed", "artefact_invalidated"], told.append)
        for number, (what, page, other, kind) in enumerate(steps, 1):
            told.clear()
            model.told = {}
            act(bus, model, counts, number, what, page, other, kind)
            assert marks_of(bus) == model.marks()
            assert {NAMES[event.kind]: set(event.ids.tolist()) for event in told} == model.told
            assert bus.state.view()[:PAGES, 0].tolist() == counts.tolist()
        assert bus.replay().pages.tolist() == bus.state.pages.tolist()


@hypothesis.given(EDGES, st.lists(STEP, min_size=5, max_size=25))
def test_random_programs_mark_what_the_model_marks(edges, steps):
    program({(min(p, c), max(p, c), kind) for p, c, kind in edges if p != c}, set(), steps)


RULED = {1, 2, 4, 6}
COUNTING = counting(sorted(RULED))
GRAPHS = {  # few, since each compiles a wave
    "a ladder": {(0, 1, "control"), (1, 2, "control"), (2, 3, "data"), (3, 4, "control"), (4, 6, "data")}
    | {(0, 5, "compiler"), (5, 6, "compiler"), (1, 6, "device_sync")},
    "a fan": {(0, page, "control") for page in (1, 3, 6)}
    | {(0, 2, "data"), (2, 4, "control"), (1, 4, "data")}
    | {(2, 5, "device_sync"), (2, 6, "compiler")},
}


@pytest.mark.parametrize("graph", GRAPHS)
@hypothesis.settings(max_examples=25)
@hypothesis.given(st.lists(STEP.filter(lambda step: step[0] != "rewire"), min_size=10, max_size=25))
def test_random_programs_recompute_what_the_model_recomputes(graph, steps):
    program(GRAPHS[graph], RULED, steps)


def marks_of(bus):
    found = {"stale": bus.stale(), "invalid": bus.invalidated(), "unsynced": bus.unsynced()}
    return {name: {page.id for page in pages} for name, pages in found.items()}


def act(bus, model, counts, number, what, page, other, kind):
    if what == "write":  # word 1, which says nothing of how often a rule ran
        bus.update_page(page, np.array([counts[page], 1000 + number], np.uint32))
        model.changed({page})
    elif what in ("ask", "name"):
        needed = model.needed(page)
        if what == "ask":
            bus.query_page(page)
            seeds = needed
        else:
            bus.propagate([page])
            seeds = needed | {page}
            model.unsynced = set()
        recomputed = model.wave(seeds)
        counts[list(recomputed)] += 1
        model.changed(recomputed, needed)
    elif what == "revalidate":
        bus.revalidate(page)
        model.invalid.discard(page)
    elif what == "sync":
        assert {each.id for each in bus.sync_pages()} == model.unsynced
        model.unsynced = set()
    else:
        rewire(bus, model, *sorted((page, other)), kind)


def rewire(bus, model, parent, child, kind):
    there = {edge for edge in model.edges if edge[:2] == (parent, child)}
    if there:
        bus.remove_dependency(parent, child)
        model.edges -= there
    elif parent != child:
        bus.add_dependency(parent, child, kind)
        model.edges.add((parent, child, kind))


def test_the_check_notices(monkeypatch):
    """Marks that spread one step too short."""
    steps = [("write", 0, 0, "data")]
    program(GRAPHS["a ladder"], set(), steps)
    monkeypatch.setattr(Marks, "reach", Marks.step)
    with pytest.raises(AssertionError):
        program(GRAPHS["a ladder"], set(), steps)
