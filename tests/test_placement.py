"""Where pages live: said truly, moved in sets, never read where they aren't; copies, sizes, and steps in place."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import mmsb_jax as mmsb
from mmsb_jax import _host_pages, _residency
from mmsb_jax._host_pages import HostPages
from mmsb_jax.physical import append_void, enter, rearrange
from tests.model import digest_of

DEVICE = jax.devices()[0]


@pytest.fixture
def bus():
    with mmsb.start(page_bytes=16, capacity=40, device_pages=8) as bus:
        yield bus


def fill(bus, page):
    """Contents that tell pages apart."""
    data = np.arange(page.size, dtype=np.uint8) + np.uint8(1 + page.id)
    bus.update_page(page, data)
    return data


TERM = mmsb.Term(mmsb.semiring.plus_times, read=lambda words: words[0])


def _twice(own, x):
    return own.at[0].set(2 * x)


def doubled(bus, parents, children):
    """Each child becomes twice its parent's first word."""
    bus.add_dependency(parents, children)
    pages = np.concatenate([child.ids for child in np.atleast_1d(np.array(children, object))])
    bus.add_rule(mmsb.Rule("double", pages=pages, terms=[TERM], update=_twice))


# Placement is what it says.


@pytest.mark.parametrize("location", ["device", "host", "unified"])
def test_a_page_lives_where_it_was_asked_to(bus, location):
    page = bus.create_page(40, location=location)
    assert (page.location, page.placement) == (location, "device" if location == "device" else "pinned_host")
    data = fill(bus, page)
    assert bus.query_page(page).tobytes() == data.tobytes()
    stats = bus.stats()
    here, there = {"device": (3, 0), "unified": (3, 3), "host": (0, 3)}[location]
    assert (stats.on_device, stats.in_host_memory, stats.fallbacks) == (here, there, 0)
    bus.delete_page(page)
    assert (bus.stats().on_device, bus.stats().in_host_memory) == (0, 0)


def has_no_pinned_memory(monkeypatch):
    monkeypatch.setattr(_host_pages, "host_memory", lambda kinds: "unpinned_host")


def only_claims_to_have_it(monkeypatch):
    put = jax.device_put

    def refuse(x, to=None, **more):
        if getattr(to, "memory_kind", None) == "pinned_host":
            raise jax.errors.JaxRuntimeError("UNIMPLEMENTED: pinned memory")
        return put(x, to, **more)

    monkeypatch.setattr(jax, "device_put", refuse)


@pytest.mark.parametrize("backend", [has_no_pinned_memory, only_claims_to_have_it])
def test_a_backend_without_pinned_memory_falls_back_visibly(monkeypatch, backend):
    backend(monkeypatch)
    with mmsb.start(page_bytes=16, capacity=8, device_pages=4) as bus:
        pages = [bus.create_page(20, location=where) for where in ("device", "unified", "host")]
        assert [page.placement for page in pages] == ["device", "unpinned_host", "unpinned_host"]
        assert bus.stats().fallbacks == 4
        for page in pages:
            data = fill(bus, page)
            assert bus.query_page(page).tobytes() == data.tobytes()
        assert bus.migrate_page(pages[0], "unified").placement == "unpinned_host"
        assert bus.stats().fallbacks == 6
        assert list(bus.digest()) == digest_of(np.asarray(bus.state.view()))


def test_pinned_memory_is_used_where_the_device_has_it():
    kinds = {memory.kind for memory in DEVICE.addressable_memories()}
    host = HostPages(4, 2, DEVICE)
    host.keep(np.int32([1]), np.uint32([[7, 8]]), np.uint32([3]))
    assert host.memory == mmsb.physical.host_memory(kinds)
    (kept,) = host._sets.values()
    assert host.memory == "unpinned_host" or kept.sharding.memory_kind == "pinned_host"


def test_where_a_page_lives_outlives_the_session_and_changes_nothing_else(run_dir):
    with mmsb.start(run_dir, page_bytes=16, capacity=8) as bus:
        page = bus.create_page(40, name="wind")
        data = fill(bus, page)
        before = bus.digest()
        page = bus.migrate_page(page, "host")
        assert bus.digest() == before
    for room in (None, 2):
        with mmsb.start(run_dir, device_pages=room) as bus:
            again = bus.page("wind")
            assert (again.location, again.placement, again.ids.tolist()) == ("host", "pinned_host", [0, 1, 2])
            assert (bus.digest(), bus.query_page("wind").tobytes()) == (before, data.tobytes())
    assert mmsb.open_run(run_dir).verify().last == 1


# Moves, in sets.


def test_a_set_of_pages_moves_in_one_transfer(bus, monkeypatch):
    pages = [bus.create_page(16, location="unified") for _ in range(8)]
    for page in pages:
        fill(bus, page)
    calls = {"enter": 0, "keep": 0}

    def counted(name, real):
        def call(*args):
            calls[name] += len(args[1]) > 0
            return real(*args)

        return call

    monkeypatch.setattr(_residency, "enter", counted("enter", enter))
    monkeypatch.setattr(HostPages, "keep", counted("keep", HostPages.keep))
    others = bus.create_page(6 * 16, location="unified")
    assert bus.stats().on_device == 8
    fill(bus, others)
    assert calls == {"enter": 1, "keep": 1}  # six pages make way for six
    assert bus.stats().evicted == 6
    bus.prefetch(pages[:6])
    assert calls == {"enter": 2, "keep": 2}
    bus.prefetch(others)  # the six haven't changed since they came
    assert calls == {"enter": 3, "keep": 2}
    bus.prefetch(others)
    assert calls == {"enter": 3, "keep": 2}
    for page in pages:
        assert bus.query_page(page)[0] == 1 + page.id


def test_what_was_used_longest_ago_makes_room(bus):
    pages = [bus.create_page(16, location="unified") for _ in range(9)]
    for page in pages[:8]:
        bus.prefetch(page)
    bus.prefetch(pages[0])
    bus.prefetch(pages[8])
    ids = np.concatenate([page.ids for page in pages])
    assert bus._engine.residency.resident(ids).tolist() == [True, False] + [True] * 7


def test_a_wave_brings_in_what_it_needs(bus):
    parents = [bus.create_page(4, location="unified") for _ in range(4)]
    children = [bus.create_page(4, location="unified") for _ in range(4)]
    idle = bus.create_page(8 * 16, location="unified")
    doubled(bus, parents, children)
    for page in parents:
        bus.update_page(page, np.uint32(page.id + 5))
    bus.prefetch(idle)
    assert not bus._engine.residency.resident(np.arange(8)).any()
    bus.propagate()
    assert [int(bus.query_page(child, dtype=np.uint32)[0]) for child in children] == [10, 12, 14, 16]


def test_more_pages_than_there_is_room_for_are_refused_and_nothing_happens(bus):
    many = [bus.create_page(4, location="unified") for _ in range(9)]
    bus.create_page(16)
    doubled(bus, many[:4], many[4:8])
    for page in many[:4]:
        bus.update_page(page, np.uint32(3))
    tick, digest = bus.tick, bus.digest()
    with pytest.raises(mmsb.CapacityError, match=r"8 pages are needed on the device at once.*start the bus with more"):
        bus.propagate()
    with pytest.raises(mmsb.CapacityError, match="9 pages are needed"):
        bus.prefetch(many)
    with pytest.raises(mmsb.CapacityError, match="and only 7 of its 8 rows can be had"):
        bus.create_page(8 * 16)
    with pytest.raises(mmsb.CapacityError):
        bus.migrate_page(many, "device")
    assert [bus.page(page).location for page in many] == ["unified"] * 9
    assert (bus.tick, bus.digest()) == (tick, digest)
    bus.migrate_page(many[:2], "device")
    assert (bus.tick, bus.digest()) == (tick, digest)


def test_no_rule_computes_with_a_host_page(bus):
    parent, child = bus.create_page(4, location="host"), bus.create_page(4)
    doubled(bus, parent, child)
    bus.update_page(parent, np.uint32(4))
    with pytest.raises(mmsb.InvalidArgumentError, match=r"page 0 lives in host memory.*migrate_page"):
        bus.propagate()
    assert not bus.query_page(child).any()
    bus.migrate_page(parent, "unified")
    bus.propagate()
    assert bus.query_page(child, dtype=np.uint32).tolist() == [8]
    with pytest.raises(mmsb.InvalidArgumentError, match="lives in host memory"):
        bus.prefetch(bus.create_page(4, location="host"))


# States that aren't whole stay inside.


def test_what_needs_all_pages_refuses_a_state_that_is_not_whole():
    paging, whole = mmsb.Paging.of(jnp.arange(100, dtype=jnp.int32), page_bytes=64)
    partial = append_void(whole)
    deltas = mmsb.DeltaBatch.make(whole, [0], np.zeros((1, 16), np.uint32))
    for use in (
        mmsb.State.view,
        mmsb.digest,
        paging.to_tree,
        lambda state: mmsb.apply(state, deltas),
        lambda state: mmsb.diff(state, whole, 3),
        lambda state: paging.write(state, jnp.arange(100, dtype=jnp.int32)),
        lambda state: rearrange(state, np.arange(7, dtype=np.int32)),
        append_void,
    ):
        use(whole)
        with pytest.raises(mmsb.InvalidArgumentError, match="needs a whole state, but some pages of this one"):
            use(partial)


def test_the_state_of_a_bus_is_whole_and_stays_as_it_is(bus):
    pages = [bus.create_page(30, location=where) for where in ("device", "unified", "host")]
    data = [fill(bus, page) for page in pages]
    state = bus.state
    assert state.whole
    assert mmsb.digest(state).tolist() == list(bus.digest()) == digest_of(np.asarray(state.view()))
    for page in pages:
        bus.update_page(page, np.zeros(30, np.uint8))
    seen = np.asarray(state.view()).view(np.uint8)
    for page, was in zip(pages, data, strict=True):
        assert seen[page.ids].tobytes()[:30] == was.tobytes()


def test_rearranging_moves_rows_and_nothing_else(rng):
    state = mmsb.State.create(50, page_bytes=8).advance()
    words = rng.integers(0, 2**32, (50, 2), np.uint32)
    state = mmsb.apply(state, mmsb.DeltaBatch.make(state, np.arange(50), words))
    slots = rng.permutation(50).astype(np.int32)
    moved = jax.jit(rearrange)(state, jnp.asarray(slots))
    np.testing.assert_array_equal(moved.pages[slots], words)
    np.testing.assert_array_equal(moved.view(), words)
    assert mmsb.digest(moved).tolist() == mmsb.digest(state).tolist()
    np.testing.assert_array_equal(rearrange(moved, np.arange(50, dtype=np.int32)).pages, words)
    with pytest.raises(mmsb.InvalidArgumentError, match="no permutation of 0 to 49"):
        rearrange(state, np.zeros(50, np.int32))


# Sets of rows in host memory, against a dict.

moves = st.lists(st.tuples(st.sampled_from(["keep", "keep", "drop"]), st.integers(0, 2**32 - 1)), max_size=40)


@given(moves)
def test_host_pages_against_a_dict(program):
    host, model = HostPages(30, 2, DEVICE), {}
    for action, seed in program:
        rng = np.random.default_rng(seed)
        ids = rng.permutation(30).astype(np.int32)[: rng.integers(12)]
        if action == "drop":
            host.drop(ids)
            model = {page: kept for page, kept in model.items() if page not in ids}
        else:
            rows, epoch = rng.integers(0, 2**32, (len(ids) + 3, 2), np.uint32), rng.integers(0, 3, 30, np.uint32)
            host.keep(ids, rows, epoch[ids])
            model |= {page: (rows[i].tolist(), epoch[page]) for i, page in enumerate(ids.tolist())}
        everything = np.arange(30, dtype=np.int32)
        asked = rng.integers(0, 3, 30, np.uint32)
        assert host.rows(everything).tolist() == [model.get(page, ([0, 0], 0))[0] for page in range(30)]
        assert host.holds(everything, asked).tolist() == [
            page in model and model[page][1] == asked[page] for page in range(30)
        ]
        assert host.count == len(model) == np.count_nonzero(host.has)
        assert host.rows_held <= 64 + 15 or host.rows_held <= 2 * host.count


def test_what_is_kept_stays_small_when_single_pages_of_large_sets_are_kept_anew(rng):
    host, rows = HostPages(200, 2, DEVICE), rng.integers(0, 2**32, (200, 2), np.uint32)
    epoch = np.arange(200, dtype=np.uint32)
    most = 0
    for first in range(0, 180, 2):  # each set keeps but two of its rows
        ids = np.arange(first, first + 20, dtype=np.int32)
        host.keep(ids, rows[ids], epoch[ids])
        most = max(most, host.rows_held)
        np.testing.assert_array_equal(host.rows(ids), rows[ids])
    everything = np.arange(198, dtype=np.int32)
    np.testing.assert_array_equal(host.rows(everything), rows[everything])
    assert host.holds(everything, epoch[everything]).all()
    assert 200 < most <= 2 * 198 + 20


# Copies and sizes.


def test_a_clone_is_a_page_of_its_own(bus):
    page = bus.create_page(40, name="wind", metadata={"unit": "m/s"}, location="unified")
    data = fill(bus, page)
    twin = bus.clone_page("wind", name="calm", location="host", intent="to compare")
    assert (twin.size, twin.location, twin.metadata) == (40, "host", {"unit": "m/s"})
    bus.update_page(page, np.zeros(40, np.uint8))
    assert bus.query_page("calm").tobytes() == data.tobytes()
    assert [row.source for row in bus.history().page_history("calm")] == ["clone"]
    with pytest.raises(mmsb.InvalidArgumentError, match="a page named 'calm' already"):
        bus.clone_page(page, name="calm")


def test_a_page_grows_into_zeros_and_shrinks_for_good(bus):
    page = bus.create_page(20)
    bus.create_page(4)
    data = fill(bus, page)
    grown = bus.resize_page(page, 60)
    assert (grown.ids.tolist(), grown.size) == ([0, 1, 3, 4], 60)
    assert bus.query_page(page).tobytes() == data.tobytes() + bytes(40)  # the old handle means the same page
    fill(bus, grown)
    assert bus.resize_page(grown, 5).ids.tolist() == [0]
    again = bus.resize_page(page, 30)
    assert again.ids.tolist() == [0, 1]
    assert bus.query_page(again).tobytes() == bytes([1, 2, 3, 4, 5]) + bytes(25)
    assert bus.stats().ids_reused == 1
    assert bus.resize_page(page, 30).ids.tolist() == [0, 1]


def test_what_a_dependency_or_a_rule_needs_is_not_lost(bus):
    page, other = bus.create_page(40), bus.create_page(4)
    fill(bus, page)
    bus.add_dependency(page.ids[2], other)
    with pytest.raises(mmsb.InvalidArgumentError, match="dependencies, such as 2 -> 3"):
        bus.resize_page(page, 20)
    assert bus.query_page(page)[39] == 40
    assert bus.resize_page(page, 33).ids.tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("act", "error", "text"),
    [
        (lambda bus: bus.resize_page("wind", 0), mmsb.InvalidArgumentError, "size=0"),
        (lambda bus: bus.resize_page("wind", 2.5), mmsb.InvalidTypeError, "size=2.5"),
        (lambda bus: bus.resize_page("wind", 10**6), mmsb.CapacityError, "in use"),
        (lambda bus: bus.resize_page("wind", 9 * 16), mmsb.CapacityError, "rows can be had"),
        (lambda bus: bus.resize_page("wnd", 8), mmsb.PageNotFoundError, "did you mean 'wind'"),
        (lambda bus: bus.clone_page(7), mmsb.PageNotFoundError, "no page begins at id 7"),
        (lambda bus: bus.clone_page("wind", location="moon"), mmsb.InvalidArgumentError, "location='moon'"),
        (lambda bus: bus.migrate_page("wind", "moon"), mmsb.InvalidArgumentError, "location='moon'"),
        (lambda bus: bus.migrate_page(["wind", 9], "host"), mmsb.PageNotFoundError, "no page begins at id 9"),
        (lambda bus: bus.prefetch(39), mmsb.PageNotFoundError, "page 39 doesn't exist"),
        (lambda bus: mmsb.start(device_pages=0), mmsb.InvalidArgumentError, "device_pages=0"),
        (lambda bus: mmsb.start(device_pages="2"), mmsb.InvalidTypeError, "device_pages='2'"),
    ],
)
def test_bad_input_changes_nothing(bus, act, error, text):
    page = bus.create_page(20, name="wind")
    fill(bus, page)
    before = (bus.digest(), bus.tick, [(one.size, one.location, one.ids.tolist()) for one in bus.pages])
    with pytest.raises(error, match=text):
        act(bus)
    assert before == (bus.digest(), bus.tick, [(one.size, one.location, one.ids.tolist()) for one in bus.pages])
    assert bus.update_page(page, np.zeros(20, np.uint8)) == 2


def test_a_bus_updates_its_rows_where_they_are(bus):
    pages = [bus.create_page(16, location=where) for where in ("device", "unified", "unified")]
    fill(bus, pages[0])
    where = bus._engine._state.pages.unsafe_buffer_pointer()
    for page in pages:
        fill(bus, page)
        assert bus._engine._state.pages.unsafe_buffer_pointer() == where
