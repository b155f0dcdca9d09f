"""Rules: those that see their parents, ready-made ones, static parameters, and what is refused by name."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mmsb_jax as mmsb
from mmsb_jax import Rule, RuleGraph, ShadowPageGraph, State, Term, semiring
from mmsb_jax.propagation import values_after
from tests.runs import start

after = jax.jit(values_after)


def plan_of(*rules, parent=(0, 1), child=(2, 2), weight=None, pages=3, **options):
    ends = np.array(parent, np.int32), np.array(child, np.int32)
    return RuleGraph.of(ShadowPageGraph.from_edges(*ends, weight=weight, num_pages=pages), rules, **options)


def keep(own, parents, mask, weight):
    return own


class TestOfParents:
    def test_parents_come_by_ascending_id_with_mask_and_weight(self):
        def show(own, parents, mask, weight):
            seen = [parents[:, 0], mask.astype(jnp.float32), weight]
            return own.at[:].set(jnp.concatenate(seen))

        rule = Rule.of_parents("show", pages=[0, 4], update=show, max_parents=3, dtype=jnp.float32)
        plan = plan_of(rule, parent=[3, 1], child=[4, 4], weight=[30, 10], pages=5)
        values = np.arange(5, dtype=np.float32)[:, None] * np.ones((5, 9), np.float32)
        assert after(plan, values)[4].tolist() == [1, 3, 0, 1, 1, 0, 10, 30, 0]
        assert after(plan, values)[0].tolist() == [0] * 9
        assert after(plan_of(rule, parent=[3, 1], child=[4, 4], pages=5), values)[4, 6:].tolist() == [1, 1, 0]

    def test_room_is_that_of_the_page_with_most_parents(self):
        plan = plan_of(Rule.of_parents("keep", pages=[0, 2], update=keep))
        assert plan.recipes[0].max_parents == 2
        assert plan_of(Rule.of_parents("keep", pages=[0], update=keep)).recipes[0].max_parents == 0

    def test_too_many_parents(self):
        with pytest.raises(mmsb.InvalidArgumentError, match="page 2 has 2 parents, but rule 'keep' has room for 1"):
            plan_of(Rule.of_parents("keep", pages=[2], update=keep, max_parents=1))

    @pytest.mark.parametrize("most", [-1, 1.5, "two", True])
    def test_room_that_is_no_number(self, most):
        with pytest.raises(mmsb.InvalidTypeError, match="max_parents"):
            Rule.of_parents("keep", pages=[2], update=keep, max_parents=most)

    def test_a_sum_has_the_same_bits_in_the_queue_and_in_a_sweep(self, rng):
        def mean(own, parents, mask, weight):
            return own.at[:].set(jnp.sum(parents * weight[:, None], axis=0) / jnp.float32(7))

        pages = 600
        rule = Rule.of_parents("mean", pages=np.arange(60, pages), update=mean, dtype=jnp.float32)
        child = np.repeat(np.arange(60, pages), 5)
        graph = ShadowPageGraph.from_edges(
            rng.integers(0, child // 2), child, weight=rng.normal(size=len(child)), num_pages=pages
        )
        state = State.create(pages, page_bytes=32)
        values = rng.normal(size=(pages, 8)).astype(np.float32)
        state = mmsb.apply(state, mmsb.DeltaBatch.make(state, np.arange(pages), values))
        run = jax.jit(functools.partial(mmsb.propagate, capacity=1))
        ways = [run(RuleGraph.of(graph, [rule], sweep_above=n), state, np.arange(pages)).state for n in (0, 2**31 - 1)]
        np.testing.assert_array_equal(ways[0].view(), ways[1].view())
        whole = after(RuleGraph.of(graph, [rule]), values)
        np.testing.assert_array_equal(np.asarray(whole), ways[0].view(jnp.float32))


class TestReadyMade:
    def test_passthrough_copies_all_or_some(self):
        values = np.uint32([[1, 2, 3], [7, 8, 9]])
        for words, expected in [(None, [1, 2, 3]), (1, [7, 2, 9]), (-1, [7, 8, 3]), (slice(0, 2), [1, 2, 9])]:
            plan = plan_of(Rule.passthrough("copy", pages=[1], words=words), parent=[0], child=[1], pages=2)
            assert after(plan, values)[1].tolist() == expected

    def test_passthrough_lets_gradients_through(self):
        plan = plan_of(Rule.passthrough("copy", pages=[2], words=0), parent=[1], child=[2])
        found = jax.grad(lambda v: values_after(plan, v)[2].sum())(jnp.ones((3, 2), jnp.float32))
        assert found.tolist() == [[0, 0], [1, 0], [0, 1]]

    def test_passthrough_without_a_parent_stays_and_with_two_is_refused(self):
        plan = plan_of(Rule.passthrough("copy", pages=[1]), parent=[], child=[], pages=2)
        assert after(plan, np.uint32([[1], [7]]))[1].tolist() == [7]
        with pytest.raises(mmsb.InvalidArgumentError, match="page 2 has 2 parents, but rule 'copy' has room for 1"):
            plan_of(Rule.passthrough("copy", pages=[2]))

    def test_semiring_rules_of_several_kinds_in_one_graph(self):
        rules = [
            Rule.semiring("soonest", pages=[2], semiring=semiring.min_plus, words=1, weighted=True),
            Rule.semiring("all bits", pages=[3], semiring=semiring.or_and, words=slice(0, 1), dtype=jnp.uint32),
            Rule.semiring("sum", pages=[4], semiring=semiring.plus_times, words=slice(None), dtype=jnp.int32),
            Rule.passthrough("copy", pages=[5]),
        ]
        child = [2, 2, 3, 3, 4, 4, 5]
        plan = plan_of(*rules, parent=[0, 1, 0, 1, 0, 1, 2], child=child, weight=[2, 1, 0, 0, 0, 0, 0], pages=6)
        words = np.zeros((6, 2), np.uint32)
        words[:2, 0] = [5, 9]
        words[:2, 1] = np.float32([1.5, 3]).view(np.uint32)
        out = np.asarray(after(plan, words))
        assert out[2, 1].view(np.float32) == 3.5
        assert out[3].tolist() == [5 | 9, 0]
        assert out[4, 0] == 14
        assert out[5].tolist() == out[2].tolist()

    @pytest.mark.parametrize("words", ["all", 1.5, [0, 1]])
    def test_words_that_are_no_words(self, words):
        with pytest.raises(mmsb.InvalidTypeError, match="pass an index, a slice"):
            Rule.passthrough("copy", pages=[1], words=words)

    def test_no_semiring(self):
        with pytest.raises(mmsb.InvalidTypeError, match="where a Semiring is needed"):
            Rule.semiring("sum", pages=[1], semiring="plus_times")


def shifted(own, first, *, by):
    return own + first + jnp.uint32(by)


FIRST = Term(semiring.plus_times, lambda parent: parent[0])


class TestStaticParameters:
    def test_equal_ones_share_what_is_compiled(self):
        traced = []

        @jax.jit
        def run(plan, values):
            traced.append(plan)
            return values_after(plan, values)

        values = np.uint32([[1], [2], [0]])
        for by, traces in ((3, 1), (3, 1), (4, 2)):
            rule = Rule("shifted", pages=[2], terms=[FIRST], update=shifted, static={"by": by})
            assert int(run(plan_of(rule), values)[2, 0]) == 3 + by
            assert len(traced) == traces
        for _ in range(2):
            run(plan_of(Rule.semiring("sum", pages=[2], semiring=semiring.plus_times)), values)
        assert len(traced) == 3

    def test_no_hash(self):
        with pytest.raises(mmsb.InvalidTypeError, match="a ndarray for its static parameter 'by', which has no hash"):
            Rule("shifted", pages=[2], terms=[FIRST], update=shifted, static={"by": np.ones(2)})
        with pytest.raises(mmsb.InvalidTypeError, match="pass a mapping"):
            Rule("shifted", pages=[2], terms=[FIRST], update=shifted, static=[3])

    @pytest.mark.parametrize("dtype", [jnp.float16, np.float64, "words"])
    def test_dtypes_that_are_no_words(self, dtype):
        with pytest.raises(mmsb.InvalidTypeError, match="uint32, int32 or float32"):
            Rule("shifted", pages=[2], terms=[FIRST], update=shifted, dtype=dtype)


def printing(own, first):
    jax.debug.print("{}", first)
    return own


def calling(own, first):
    return jax.pure_callback(lambda x: np.asarray(x), jax.ShapeDtypeStruct(own.shape, own.dtype), own)


def hidden(own, first):
    return jax.lax.cond(first > 0, lambda x: calling(x, first), lambda x: x, own)


def reporting(own, first):
    jax.experimental.io_callback(lambda x: None, None, own)
    return own


class TestRefusals:
    BAD = (
        (lambda own, first: first, r"returned uint32\[\]; it must return the page's new words, uint32\[2\]"),
        (lambda own, first: own.astype(jnp.int32), "returned"),
        (lambda own: own, r"update\(uint32\[2\], uint32\[\]\) fails with TypeError"),
        (lambda own, first: own if first > 0 else own + 1, "fails with TracerBoolConversionError"),
        (printing, "has side effects"),
        (calling, "has side effects .*pure_callback"),
        (hidden, "has side effects .*pure_callback"),
        (reporting, "has side effects .*io_callback"),
    )

    @pytest.mark.parametrize(("update", "message"), BAD)
    def test_when_it_is_laid_out_on_the_bus_and_when_it_runs(self, update, message):
        rule = Rule("bad", pages=[2], terms=[FIRST], update=update)
        with pytest.raises(mmsb.InvalidTypeError, match=f"rule 'bad'.*{message}"):
            plan_of(rule, page_bytes=8)
        with pytest.raises(mmsb.InvalidTypeError, match=message):
            mmsb.propagate(plan_of(rule), State.create(3, page_bytes=8), [0], capacity=1)

    def test_on_the_bus_nothing_is_left_behind(self):
        with start() as bus:
            page, other = bus.create_page(4), bus.create_page(4)
            bus.add_dependency(page, other)
            with pytest.raises(mmsb.InvalidTypeError, match="side effects"):
                bus.add_rule(Rule("bad", pages=other, terms=[FIRST], update=printing))
            bus.add_rule(Rule.passthrough("good", pages=other))
            bus.update_page(page, np.uint32(5))
            bus.propagate()
            assert bus.query_page(other, dtype=np.uint32) == 5

    def test_a_read_and_a_rule_of_parents_are_looked_at_too(self):
        def shown(parent):
            jax.debug.print("{}", parent)
            return parent[0]

        read = Rule("bad", pages=[2], terms=[Term(semiring.plus_times, shown)], update=lambda own, x: own)
        seen = Rule.of_parents("bad", pages=[2], update=lambda own, parents, mask, weight: parents)
        other = Rule.semiring("bad", pages=[2], semiring=semiring.log_plus, dtype=jnp.int32)
        with pytest.raises(mmsb.InvalidTypeError, match="read has side effects"):
            plan_of(read, page_bytes=8)
        with pytest.raises(mmsb.InvalidTypeError, match=r"'bad': read returns int32\[1\], and log_plus is not defined"):
            plan_of(other, page_bytes=8)
        with pytest.raises(mmsb.InvalidTypeError, match="it must return the page's new words"):
            plan_of(seen, page_bytes=8)

    @pytest.mark.parametrize("above", [-1, 0.5, "all"])
    def test_capacity_of_the_queue(self, above):
        with pytest.raises(mmsb.InvalidTypeError, match="sweep_above"):
            plan_of(Rule.passthrough("copy", pages=[1]), sweep_above=above)
