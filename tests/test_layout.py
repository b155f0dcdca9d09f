"""Layouts: what they cost, how they are found, and that moving pages changes nothing but where they lie."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.sparse

import mmsb_jax as mmsb
from mmsb_jax import layout as lay
from mmsb_jax.adaptive._baselines import BASELINES
from mmsb_jax.adaptive._coarse import coarsen, hierarchy
from mmsb_jax.adaptive._moves import _moved, improve
from mmsb_jax.adaptive._optimize import _run_many
from mmsb_jax.adaptive._swaps import exchange


def random_affinity(rng: np.random.Generator, pages: int, pairs: int) -> lay.Affinity:
    one, other = rng.integers(0, pages, (2, pairs))
    return lay.Affinity(one, other, rng.integers(1, 5, pairs).astype(np.float64), num_pages=pages)


def grid(side: int, rng: np.random.Generator) -> lay.Affinity:
    ids = rng.permutation(side * side).reshape(side, side)
    one = np.concatenate([ids[:-1].ravel(), ids[:, :-1].ravel()])
    return lay.Affinity(one, np.concatenate([ids[1:].ravel(), ids[:, 1:].ravel()]), num_pages=side * side)


def slots_of(order: np.ndarray) -> np.ndarray:
    return lay.Layout.in_order(order).slot_of_page


# What is used together.


def test_pairs_stand_once_and_weights_are_added(rng: np.random.Generator):
    one, other, weight = rng.integers(0, 9, 200), rng.integers(0, 9, 200), rng.random(200)
    found = lay.Affinity(one, other, weight, num_pages=9)
    dense = np.zeros((9, 9))
    np.add.at(dense, (one, other), weight)
    dense = np.triu(dense + dense.T, 1)
    np.testing.assert_allclose(np.triu(found.matrix().toarray()), dense, rtol=1e-6)
    assert (found.one < found.other).all()


def test_every_source_says_the_same():
    graph = mmsb.ShadowPageGraph.from_edges([0, 1, 0], [1, 2, 2], kind=["data", "data", "control"], num_pages=4)
    matrix = mmsb.SparseMatrix.from_coo([1, 2], [0, 1], None, (4, 4))
    sparse = scipy.sparse.coo_array(([-1.0, 1.0], ([1, 2], [0, 1])), shape=(4, 4))
    trace = lay.Trace([[0, 1], [2, 1], [3]], num_pages=4)
    for source in (graph, matrix, sparse, trace):
        found = lay.Affinity.of(source)
        assert (found.one.tolist(), found.other.tolist(), found.weight.tolist()) == ([0, 1], [1, 2], [1, 1]), source


def test_pairs_of_large_batches_are_a_fair_sample(rng: np.random.Generator):
    batches = [rng.permutation(6000)[:3000] for _ in range(2)]
    trace = lay.Trace([*batches, [7]], num_pages=6000)
    one, other, weight = trace.pairs()
    assert (one != other).all()
    assert len(one) < 200_000
    expected = sum(len(batch) * (len(batch) - 1) / 2 for batch in batches)
    np.testing.assert_allclose(weight.sum(), expected, rtol=1e-6)
    together = [np.isin(one, batch) & np.isin(other, batch) for batch in batches]
    assert (together[0] | together[1]).all()


# Objectives.


@pytest.mark.parametrize(
    "objective", [lay.Linear(), lay.Log(8), lay.Cut(4), lay.Dirty(8), lay.Linear() + 2 * lay.Log(4)]
)
def test_the_gradient_is_that_of_the_sum_over_pairs(objective: lay.Objective, rng: np.random.Generator):
    affinity = random_affinity(rng, 30, 120)
    pairs, x = lay.Pairs.of(affinity), jnp.asarray(rng.random(30) * 40, jnp.float32)

    def plain(x: jax.Array, scale: jax.Array) -> jax.Array:
        return jnp.sum(affinity.weight * objective.between(x[affinity.one], x[affinity.other], scale))

    for scale in (jnp.float32(0.5), jnp.float32(20)):
        np.testing.assert_allclose(objective(x, pairs, scale), plain(x, scale), rtol=2e-5)
        found = jax.jit(jax.grad(objective))(x, pairs, scale)
        np.testing.assert_allclose(found, jax.grad(plain)(x, scale), rtol=1e-4, atol=1e-4)
        many = jax.vmap(jax.grad(objective), in_axes=(0, None, None))(jnp.stack([x, 2 * x]), pairs, scale)
        np.testing.assert_allclose(many[0], found, rtol=1e-5, atol=1e-5)


def test_exact_costs_of_a_layout_that_can_be_counted():
    affinity, slots = lay.Affinity([0, 1, 2], [1, 2, 3], [1, 2, 4], num_pages=4), np.array([0, 3, 1, 2])
    assert lay.Linear().cost(affinity, slots) == 1 * 3 + 2 * 2 + 4 * 1
    assert lay.Log(2).cost(affinity, slots) == 7
    assert lay.Cut(4).cost(affinity, slots) == 7
    # 0 with 1: blocks 0 and 1; 1 with 0 and 2: both; 2 with 1 and 3: both; 3 with 2: both.
    assert lay.Dirty(2).cost(affinity, slots) == 2
    assert lay.Dirty(2, lay.Trace([[0, 2], [1], [1, 2, 3]], num_pages=4)).cost(affinity, slots) == 4 / 3
    assert (lay.Linear() + 0.5 * lay.Log(2)).cost(affinity, slots) == 14.5


def test_batches_times_blocks_may_exceed_32_bits():
    """In 32 bits, batch 65,536 + b of so many blocks would be taken for batch b."""
    pages = 1 << 16
    trace = lay.Trace([[pages - 1], *[[0]] * 70_000], num_pages=pages)
    assert lay.Dirty(1, trace).cost(lay.Affinity([], [], num_pages=pages), np.arange(pages)) == 1


def test_pages_that_nobody_hit_count_alike():
    nobody = lay.Affinity([0], [1], num_pages=4, hits=np.zeros(4))
    assert lay.Dirty(1).cost(nobody, np.arange(4)) == 1.5


# Finding one.


def test_windows_come_out_in_their_best_order(rng: np.random.Generator):
    """Eight pages are one window of eight blocks of one slot: all orders can be tried."""
    everything = np.array(list(itertools.permutations(range(8))))
    for _ in range(5):
        affinity = random_affinity(rng, 8, 14)
        costs = (affinity.weight * np.abs(everything[:, affinity.one] - everything[:, affinity.other])).sum(1)
        found = improve(affinity, rng.permutation(8).astype(np.int32), rounds=1)
        assert lay.Linear().cost(affinity, slots_of(found)) == costs.min()


def test_a_window_minds_the_pages_outside_and_blocks_of_several(rng: np.random.Generator):
    """Blocks of two slots, with pages to their left and right: of all orders of the blocks, none is better."""
    everything = np.array(list(itertools.permutations(range(8))))
    for _ in range(3):
        affinity, order = random_affinity(rng, 21, 60), rng.permutation(21).astype(np.int32)
        blocks = order[3:19].reshape(8, 2)[everything].reshape(len(everything), 16)
        left, right = (np.broadcast_to(part, (len(everything), len(part))) for part in (order[:3], order[19:]))
        slots = np.argsort(np.concatenate([left, blocks, right], axis=1), axis=1)
        costs = (affinity.weight * np.abs(slots[:, affinity.one] - slots[:, affinity.other])).sum(1)
        found = _moved(affinity, order, 2, 3)
        assert lay.Linear().cost(affinity, slots_of(order if found is None else found)) == costs.min()


def test_moves_make_nothing_worse(rng: np.random.Generator):
    affinity, order = grid(12, rng), rng.permutation(144).astype(np.int32)
    found = improve(affinity, order, rounds=2)
    assert sorted(found) == list(range(144))
    assert lay.Linear().cost(affinity, slots_of(found)) < 0.8 * lay.Linear().cost(affinity, slots_of(order))


def test_exchanges_bring_together_what_belongs_together(rng: np.random.Generator):
    """Cliques with a few pages exchanged come home; sizes stay whatever happens."""
    ids = rng.permutation(80).reshape(10, 8)
    inside = [pair for clique in ids for pair in itertools.combinations(clique, 2)]
    cliques = lay.Affinity(*np.array(inside).T, num_pages=80)
    part = np.empty(80, np.int64)
    part[ids] = np.arange(10)[:, None]
    part[ids[:, 0]] = np.roll(part[ids[:, 0]], 1)
    found = exchange(cliques, part, 100, seed=1)
    assert (np.bincount(found) == 8).all()
    assert (found[cliques.one] == found[cliques.other]).all()
    for _ in range(5):
        affinity = random_affinity(rng, 50, 150)
        part = np.sort(rng.integers(0, 6, 50))
        moved = exchange(affinity, part, 20, seed=2)
        np.testing.assert_array_equal(np.bincount(moved, minlength=6), np.bincount(part, minlength=6))
        before, after = (affinity.weight[p[affinity.one] != p[affinity.other]].sum() for p in (part, moved))
        assert after <= before


@pytest.mark.parametrize("objective", ["linear", "log", "cut", "dirty"])
def test_never_worse_than_what_is_known(objective: str, rng: np.random.Generator):
    affinity = grid(9, rng) if objective == "log" else random_affinity(rng, 60, 100)
    block = 9
    present = lay.Layout(rng.permutation(affinity.num_pages))
    found = lay.optimize(affinity, objective=objective, block=block, present=present, budget=0.2, key=3)
    assert found.report.missing == ()
    assert set(found.report.costs) == {"present", "descent", *BASELINES}
    goal = {"linear": lay.Linear(), "log": lay.Log(block), "cut": lay.Cut(8), "dirty": lay.Dirty(block)}[objective]
    assert goal.cost(affinity, found.layout.slot_of_page) == found.report.cost == min(found.report.costs.values())
    for name, make in BASELINES.items():
        part = -(-affinity.num_pages // 8) if objective == "cut" else block
        assert found.report.costs[name] == goal.cost(affinity, slots_of(make(affinity, part))), name
    again = lay.optimize(affinity, objective=objective, block=block, present=present, budget=0.2, key=3)
    assert again.layout == found.layout


def test_a_good_layout_is_left_alone():
    """A chain in order can't be improved on, and ties leave things as they are."""
    found = lay.optimize(lay.Affinity(np.arange(49), np.arange(1, 50), num_pages=50), budget=0.1)
    assert found.report.best == "present"
    assert found.layout == lay.Layout.identity(50)
    assert found.report.gain == 0
    nothing = lay.optimize(lay.Affinity([], [], num_pages=5))
    assert nothing.layout == lay.Layout.identity(5)


def test_a_shuffled_grid_comes_out_as_local_as_it_can_be(rng: np.random.Generator):
    """Less than row by row, which costs 2 × 24 × 25 × 13 = 15,600; reverse Cuthill-McKee comes to about 20,000."""
    found = lay.optimize(grid(25, rng))
    assert found.report.best == "descent"
    assert found.report.cost < 14_300
    assert found.report.costs["rcm"] > 19_000


def test_large_graphs_go_by_coarse_ones(rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("mmsb_jax.adaptive._optimize._SMALL", 100)
    monkeypatch.setattr("mmsb_jax.adaptive._optimize._COARSEST", 200)
    said: list[str] = []
    found = lay.optimize(grid(25, rng), progress=said.append)
    assert sum(line.startswith("descent") for line in said) >= 3
    assert found.report.cost < 14_600


def test_coarse_graphs_keep_all_weight_between_their_pages(rng: np.random.Generator):
    affinity = random_affinity(rng, 500, 900)
    coarse = coarsen(affinity, np.ones(500))
    assert coarse.affinity.num_pages < 400
    np.testing.assert_array_equal(coarse.size, np.bincount(coarse.of_page, minlength=coarse.affinity.num_pages))
    apart = coarse.of_page[affinity.one] != coarse.of_page[affinity.other]
    np.testing.assert_allclose(coarse.affinity.weight.sum(), affinity.weight[apart].sum(), rtol=1e-6)
    star = lay.Affinity(np.zeros(999, int), np.arange(1, 1000), num_pages=1000)
    assert coarsen(star, np.ones(1000)).affinity.num_pages == 1
    assert hierarchy(lay.Affinity([], [], num_pages=100), 10) == []


def test_a_descent_in_ones_own_jit_with_ones_own_optimiser(rng: np.random.Generator):
    affinity = grid(8, rng)
    pairs = lay.Pairs.of(affinity)
    descent = lay.Descent(lay.Linear(), pages=64, rounds=50, optimizer=optax.sgd(0.05, momentum=0.9))

    @jax.jit
    def run(start: jax.Array) -> lay.DescentState:
        return jax.lax.scan(lambda state, _: (descent.update(state, pairs), None), descent.init(start), length=50)[0]

    start = rng.permutation(64)
    end = descent.order(run(jnp.asarray(start, jnp.float32)))
    assert lay.Linear().cost(affinity, end.slot_of_page) < 0.5 * lay.Linear().cost(affinity, start)


# Having one.


def test_layouts_are_permutations(rng: np.random.Generator):
    one, other = (lay.Layout(rng.permutation(20)) for _ in range(2))
    np.testing.assert_array_equal(one.slot_of_page[one.page_of_slot], np.arange(20))
    assert one.inverse().after(one) == lay.Layout.identity(20)
    assert one.inverse().after(other.after(one)) != other or one == other
    assert other.inverse().after(other.after(one)) == one
    assert len({one, lay.Layout(one.slot_of_page), other}) == 2


def test_moving_pages_changes_only_where_they_lie(rng: np.random.Generator):
    state = mmsb.State.create(50, page_bytes=32)
    words = rng.integers(0, 2**32, (50, 8), np.uint32)
    state = mmsb.apply(state.advance(), mmsb.DeltaBatch.make(state, np.arange(50), words))
    one, other = (lay.Layout(rng.permutation(50)) for _ in range(2))
    moved = lay.relayout(lay.relayout(state, one), other)
    np.testing.assert_array_equal(moved.view(), state.view())
    np.testing.assert_array_equal(mmsb.digest(moved), mmsb.digest(state))
    np.testing.assert_array_equal(moved.epoch, state.epoch)
    np.testing.assert_array_equal(moved.pages[other.slot_of_page], words)
    assert lay.Layout.of(moved) == other
    change = mmsb.DeltaBatch.make(state, [3, 7], words[:2])
    np.testing.assert_array_equal(mmsb.apply(moved, change).view(), mmsb.apply(state, change).view())
    back = lay.relayout(moved, lay.Layout.of(state))
    assert jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), back, state))


def test_a_wave_comes_to_the_same_bits_in_any_layout(rng: np.random.Generator):
    graph = mmsb.ShadowPageGraph.from_edges([0, 1, 2, 3], [4, 4, 5, 5], num_pages=6)
    term = mmsb.Term(mmsb.semiring.plus_times, read=lambda parent: parent.view(jnp.float32)[0])
    rule = mmsb.Rule("sum", pages=[4, 5], terms=[term], update=lambda own, x: own.at[0].set(x.view(jnp.uint32)))
    rules = mmsb.RuleGraph.of(graph, [rule])
    state = mmsb.State.create(6, page_bytes=8)
    values = rng.random((6, 2)).astype(np.float32).view(np.uint32)
    state = mmsb.apply(state.advance(), mmsb.DeltaBatch.make(state, np.arange(6), values))
    plain = mmsb.propagate(rules, state, np.arange(4), capacity=6)
    moved = mmsb.propagate(rules, lay.relayout(state, lay.Layout(rng.permutation(6))), np.arange(4), capacity=6)
    np.testing.assert_array_equal(moved.state.view(), plain.state.view())
    np.testing.assert_array_equal(moved.deltas.page, plain.deltas.page)


@pytest.mark.parametrize("goal", [lay.Linear(), lay.Log(8), lay.Linear() + 0.5 * lay.Dirty(4)])
def test_gradients_by_scale_and_weights_are_right(goal, rng):
    one, other = rng.integers(0, 30, (2, 60))
    affinity = lay.Affinity(one, other, rng.random(60) + 0.5, num_pages=30)
    pairs, positions = lay.Pairs.of(affinity), jnp.asarray(rng.normal(size=30) * 20, jnp.float32)
    scale = jnp.float32(3)

    def near(function, at, step=0.05):
        return float((function(at + step) - function(at - step)) / np.float32(2 * step))

    by_scale = jax.grad(lambda s: goal(positions, pairs, s))
    np.testing.assert_allclose(by_scale(scale), near(lambda s: goal(positions, pairs, s), scale), rtol=2e-2)

    def weighted(factor):
        return goal(positions, jax.tree.map(lambda a: a * factor if a.dtype == jnp.float32 else a, pairs), scale)

    np.testing.assert_allclose(jax.grad(weighted)(jnp.float32(1)), goal(positions, pairs, scale), rtol=1e-5)
    both = jax.grad(lambda x, s: goal(x, pairs, s), argnums=(0, 1))(positions, scale)
    np.testing.assert_array_equal(both[0], jax.grad(lambda x: goal(x, pairs, scale))(positions))
    np.testing.assert_array_equal(both[1], by_scale(scale))


def test_an_objectives_own_parameters_have_gradients(rng):
    class Power(lay.Linear):
        exponent: jax.Array

        def between(self, x, other, scale):
            return ((x - other) ** 2 + scale**2) ** self.exponent

    pairs = lay.Pairs.of(lay.Affinity([0], [1], num_pages=2))
    found = jax.grad(lambda e: Power(e)(jnp.float32([0, 3]), pairs, 4))(jnp.float32(0.5))
    np.testing.assert_allclose(found, 5 * np.log(25), rtol=1e-5)  # d/de 25^e


def test_a_second_optimisation_compiles_nothing(rng):
    chain = rng.permutation(40)
    affinity = lay.Affinity(chain[:-1], chain[1:], num_pages=40)
    first = lay.optimize(affinity, objective="log", block=4, budget=0.02)
    before = _run_many._cache_size()
    again = lay.optimize(affinity, objective="log", block=4, budget=0.02)
    assert _run_many._cache_size() == before
    assert again.layout == first.layout
    assert again.report.layouts[again.report.best] == again.layout
    for name, layout in again.report.layouts.items():
        assert again.report.costs[name] >= again.report.cost == lay.Log(4).cost(affinity, again.layout.slot_of_page)
        assert name == "descent" or again.report.costs[name] == lay.Log(4).cost(affinity, layout.slot_of_page)


def test_no_pages_at_all():
    found = lay.optimize(lay.Affinity([], [], num_pages=0))
    assert len(found.layout) == 0
    assert found.report.best == "present"


BAD = [
    (
        lambda: lay.optimize(lay.Affinity([0], [1], num_pages=2), key=jax.random.split(jax.random.key(0))),
        TypeError,
        "key",
    ),
    (lambda: lay.optimize(lay.Affinity([0], [1], num_pages=2), page_bytes=3), ValueError, "page_bytes"),
    (lambda: lay.Trace.of("state"), TypeError, "State"),
    (lambda: lay.Cut(2).shard(np.zeros((2, 2), np.int32)), ValueError, "slots of shape"),
    (lambda: lay.Affinity([0], [5], num_pages=3), ValueError, "0 to 5|from 5 to 5"),
    (lambda: lay.Affinity([0, 1], [1], num_pages=3), ValueError, "2 and 1 page ids"),
    (lambda: lay.Affinity([0], [1], [-1.0], num_pages=3), ValueError, "finite numbers"),
    (lambda: lay.Affinity([0], [1], [np.nan], num_pages=3), ValueError, "finite numbers"),
    (lambda: lay.Affinity([0.5], [1], num_pages=3), TypeError, "page ids"),
    (lambda: lay.Affinity([0], [1], num_pages=-1), ValueError, "num_pages"),
    (lambda: lay.Affinity([0], [1], num_pages=2, hits=[1.0]), ValueError, "hits"),
    (lambda: lay.Affinity.of("graph"), TypeError, "ShadowPageGraph"),
    (lambda: lay.Affinity.of(scipy.sparse.coo_array((2, 3))), ValueError, "square"),
    (lambda: lay.Trace([[0, 9]], num_pages=3), ValueError, "there are 3"),
    (lambda: lay.Trace([[0.5]], num_pages=3), TypeError, "page ids"),
    (lambda: lay.Trace([[0]], num_pages="3"), ValueError, "num_pages"),
    (lambda: lay.Layout([0, 0, 1]), ValueError, "no permutation"),
    (lambda: lay.Layout([0, 3]), ValueError, "no permutation"),
    (lambda: lay.Layout([0.0, 1.0]), TypeError, "integers"),
    (lambda: lay.Layout([1, 0]).after(lay.Layout([0])), ValueError, "1 and 2 pages"),
    (lambda: lay.relayout(mmsb.State.create(3), lay.Layout([1, 0])), ValueError, "2 pages for a state of 3"),
    (lambda: lay.relayout(mmsb.State.create(2), [1, 0]), TypeError, "optimize"),
    (lambda: lay.relayout([1], lay.Layout([0])), TypeError, "State.create"),
    (
        lambda: lay.optimize(lay.Affinity([0], [1], num_pages=2), objective="best"),
        ValueError,
        "linear, log, cut, dirty",
    ),
    (lambda: lay.optimize(lay.Affinity([0], [1], num_pages=2), objective=3), TypeError, "pass an Objective"),
    (lambda: lay.optimize(lay.Affinity([0], [1], num_pages=2), block=0), ValueError, "block=0"),
    (lambda: lay.optimize(lay.Affinity([0], [1], num_pages=2), shards=1.5), ValueError, "shards=1.5"),
    (lambda: lay.optimize(lay.Affinity([0], [1], num_pages=2), budget=0), ValueError, "budget=0"),
    (lambda: lay.optimize(lay.Affinity([0], [1], num_pages=2), key=-1), TypeError, "key=-1"),
    (lambda: lay.optimize(lay.Affinity([0], [1], num_pages=2), present=[0, 1]), TypeError, "Layout.of"),
    (lambda: lay.optimize(lay.Affinity([0], [1], num_pages=2), present=lay.Layout([0])), ValueError, "1 pages"),
    (lambda: lay.optimize([[0, 1]]), TypeError, "ShadowPageGraph"),
    (lambda: lay.locality([[0]]), TypeError, "Trace"),
    (lambda: lay.locality(lay.Trace([[0]], num_pages=1), block=0), ValueError, "block=0"),
    (lambda: lay.locality(lay.Trace([[0]], num_pages=1), layout=lay.Layout([1, 0])), ValueError, "2 pages"),
]


@pytest.mark.parametrize("number", range(len(BAD)))
def test_bad_input_is_named(number: int):
    call, error, text = BAD[number]
    with pytest.raises(error, match=text) as caught:
        call()
    assert isinstance(caught.value, mmsb.MMSBError)
