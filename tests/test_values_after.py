"""`values_after`: a wave over everything, through every transformation of JAX."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

import mmsb_jax as mmsb
from mmsb_jax import Rule, RuleGraph, ShadowPageGraph, State, Term, semiring
from mmsb_jax.propagation import values_after

PAGES, WORDS = 40, 2


def gain(own, folded):
    return own.at[0].set(jnp.tanh(folded) + own[1] * folded)


@functools.cache
def network(longest=False):
    """Five layers of smooth rules of three kinds, or with `longest` a page of many parents."""
    rng = np.random.default_rng(1)
    child = np.repeat(np.arange(8, PAGES), 3)
    parent = rng.integers(0, child // 8 * 8)
    if longest:
        parent, child = np.concatenate([parent, np.arange(38)]), np.concatenate([child, np.full(38, 39)])
    weight = rng.normal(size=len(child)).astype(np.float32)
    graph = ShadowPageGraph.from_edges(parent, child, weight=weight, num_pages=PAGES)

    def spread(own, parents, mask, weight):
        return own.at[0].set(jnp.sum(jnp.where(mask, jnp.sin(parents[:, 0]) * weight, jnp.float32(0))))

    summed = Term(semiring.plus_times, lambda parent: parent[0], weighted=True)
    most = Term(semiring.max_plus, lambda parent: parent[0], weighted=True)
    rules = [
        Rule("gain", pages=np.arange(8, PAGES, 3), terms=[summed], update=gain, dtype=jnp.float32),
        Rule("most", pages=np.arange(9, PAGES, 3), terms=[most], update=gain, dtype=jnp.float32),
        Rule.of_parents("spread", pages=np.arange(10, PAGES, 3), update=spread, dtype=jnp.float32),
    ]
    return graph, RuleGraph.of(graph, rules)


@pytest.fixture
def values(rng):
    return jnp.asarray(rng.normal(size=(PAGES, WORDS)).astype(np.float32))


after = jax.jit(values_after)


@pytest.mark.parametrize("longest", [False, True])
def test_gradients_agree_with_finite_differences(longest, values):
    graph, plan = network(longest)

    @jax.jit
    def last(values, weight):
        return values_after(plan, values, weight=weight)[-8:, 0]

    check_grads(last, (values, jnp.asarray(graph.weight)), order=1, modes=["fwd", "rev"], atol=2e-2, rtol=2e-2)


def test_the_same_words_as_a_wave_bit_for_bit(values):
    _, plan = network(True)
    state = State.create(PAGES, page_bytes=4 * WORDS)
    state = mmsb.apply(state, mmsb.DeltaBatch.make(state, np.arange(PAGES), values))
    wave = jax.jit(functools.partial(mmsb.propagate, capacity=1))(plan, state, np.arange(PAGES))
    np.testing.assert_array_equal(wave.state.view(), np.asarray(after(plan, values)).view(np.uint32))


def test_a_gradient_reaches_ancestors_only(values):
    graph, plan = network()
    found = jax.jit(jax.grad(lambda v: values_after(plan, v)[PAGES - 1, 0]))(values)
    reached = set(np.flatnonzero(np.any(np.asarray(found) != 0, axis=1)).tolist())
    assert reached
    assert reached <= {*graph.ancestors(PAGES - 1).tolist(), PAGES - 1}


def test_gradients_end_where_words_are_integers():
    copy = Rule("copy", pages=[1], terms=[Term(semiring.plus_times, lambda p: p[0])], update=lambda own, x: own + x)
    plan = RuleGraph.of(ShadowPageGraph.from_edges([0], [1], num_pages=2), [copy])
    found = jax.grad(lambda v: values_after(plan, v).sum())(jnp.ones((2, 1), jnp.float32))
    assert found.tolist() == [[1], [0]]


def test_no_nan_from_parents_that_are_not_there():
    root = Term(semiring.plus_times, lambda parent: jnp.sqrt(parent[0]))
    rules = [
        Rule.passthrough("copy", pages=[1]),
        Rule("root", pages=[2, 3], terms=[root], update=lambda own, x: own.at[0].set(x), dtype=jnp.float32),
    ]
    # Lanes without a parent read that of the first edge: page 0, where the slope of the root is infinite.
    graph = ShadowPageGraph.from_edges([0, 4, 5], [1, 2, 2], num_pages=6)
    values = jnp.array([[0], [0], [0], [0], [4], [16]], jnp.float32)
    found = jax.grad(lambda v: values_after(RuleGraph.of(graph, rules), v)[2:4].sum())(values)
    assert found.ravel().tolist() == [0, 0, 0, 0, 0.25, 0.125]


def test_vmap_and_scan(values):
    _, plan = network()
    worlds = jnp.stack([values, values + 1, 2 * values])
    together = jax.jit(jax.vmap(values_after, in_axes=(None, 0)))(plan, worlds)
    chex.assert_trees_all_close(together, jnp.stack([after(plan, world) for world in worlds]), rtol=1e-6)

    @jax.jit
    def chained(values):
        return jax.lax.scan(lambda v, _: (values_after(plan, 0.5 * v), None), values, length=3)[0]

    expected = values
    for _ in range(3):
        expected = after(plan, 0.5 * expected)
    chex.assert_trees_all_close(chained(values), expected, rtol=1e-5)
    slope = jax.jit(jax.grad(lambda v: chained(v)[-1, 0]))(values)
    nudge = jnp.zeros_like(values).at[0, 0].set(1e-2)
    measured = (chained(values + nudge) - chained(values - nudge))[-1, 0] / 2e-2
    np.testing.assert_allclose(slope[0, 0], measured, atol=1e-2)


def test_weights_of_edges_that_no_rule_reads():
    graph = ShadowPageGraph.from_edges(
        [0, 0, 1], [1, 2, 2], weight=[5, 6, 7], kind=["data", "control", "data"], num_pages=3
    )
    total = Rule.semiring("total", pages=[2], semiring=semiring.plus_times, weighted=True)
    plan, values = RuleGraph.of(graph, [total]), jnp.array([[1], [2], [0]], jnp.float32)
    found = jax.grad(lambda w: values_after(plan, values, weight=w)[2, 0])(jnp.asarray(graph.weight))
    assert dict(zip(zip(graph.parent.tolist(), graph.child.tolist(), strict=True), found.tolist(), strict=True)) == {
        (0, 1): 0,
        (0, 2): 0,
        (1, 2): 2,
    }


class TestRefusals:
    graph, plan = network()

    def test_no_rules(self):
        with pytest.raises(mmsb.InvalidTypeError, match=r"pass RuleGraph.of\(graph, rules\)"):
            values_after(self.graph, np.zeros((PAGES, WORDS), np.float32))

    @pytest.mark.parametrize(
        "values", [np.zeros((PAGES, WORDS)), np.zeros((PAGES, WORDS), bool), [[1.0], [1.0, 2.0]], "no"]
    )
    def test_no_words(self, values):
        with pytest.raises(mmsb.InvalidTypeError, match="values"):
            values_after(self.plan, values)

    @pytest.mark.parametrize("shape", [(PAGES,), (PAGES - 1, WORDS), (PAGES, 0), (1, PAGES, WORDS)])
    def test_other_shapes(self, shape):
        with pytest.raises(mmsb.InvalidArgumentError, match="by page id"):
            values_after(self.plan, np.zeros(shape, np.float32))

    def test_weights(self, values):
        with pytest.raises(mmsb.InvalidArgumentError, match="one for each edge"):
            values_after(self.plan, values, weight=np.zeros(3, np.float32))
        with pytest.raises(mmsb.InvalidTypeError, match="pass float32"):
            values_after(self.plan, values, weight=np.zeros(self.graph.num_edges, np.int32))
        bare = RuleGraph.of(ShadowPageGraph.from_edges([0], [1], num_pages=2), [Rule.passthrough("copy", pages=[1])])
        with pytest.raises(mmsb.InvalidArgumentError, match="made without"):
            values_after(bare, np.zeros((2, 1), np.float32), weight=np.zeros(1, np.float32))
