"""Random graphs with random rules, laid out in arrays of one shape, so that a thousand of them are compiled once.

Beside them the model: NumPy, one page after another.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

import mmsb_jax as mmsb
from mmsb_jax import Rule, RuleGraph, ShadowPageGraph, State, Term, semiring
from mmsb_jax.propagation._plan import with_room

PAGES, WORDS, EDGES, WIDTH = 14, 3, 40, 4
LOWEST = np.iinfo(np.int32).min


def as_i32(words):
    return jax.lax.bitcast_convert_type(words, jnp.int32)


def as_u32(value):
    return jax.lax.bitcast_convert_type(value, jnp.uint32)


def as_f32(words):
    return jax.lax.bitcast_convert_type(words, jnp.float32)


# Each rule with its model: word 0 is computed, word 1 belongs to the outside.
def latest(own, earliest):
    return own.at[0].set(as_u32(jnp.maximum(as_i32(own)[1] % 8, earliest)))


def total(own, summed, bits):
    # A product that is added to a sum: the compiler could round it once or twice.
    return own.at[0].set(as_u32(summed + (own[1] % 4).astype(jnp.float32))).at[2].set(bits)


def at_most_seven(own, count):
    return own.at[0].set(jnp.minimum(count, jnp.uint32(7)))


def in_order(own, parents, mask, weight, *, base):
    """Reads off the parents as the digits of a number: no order but the right one gives the same."""
    digits = (parents[:, 0] % 4 + as_u32(weight) % 3).astype(jnp.uint32)
    number = jnp.uint32(1)
    for digit, exists in zip(digits, mask, strict=True):
        number = jnp.where(exists, number * jnp.uint32(base) + digit, number)
    return own.at[0].set(number % 64)


def model_latest(own, parents):
    fold = max((p[0].view(np.int32) % np.int32(16) + np.int32(w) for p, w in parents), default=np.int32(LOWEST))
    own[0] = np.int32(max(own[1].view(np.int32) % np.int32(8), fold)).view(np.uint32)


def model_total(own, parents):
    fold, bits = np.float32(0), np.uint32(0)
    for p, w in parents:
        fold += np.float32(w) * np.float32(p[0] % np.uint32(1024)) * np.float32(0.1)
        bits |= p[1]
    own[0] = (fold + np.float32(own[1] % np.uint32(4))).view(np.uint32)
    own[2] = bits


def model_at_most_seven(own, parents):
    own[0] = min(np.uint32(7), sum((np.uint32(p[0] % np.uint32(4)) for p, _ in parents), np.uint32(0)))


def model_in_order(own, parents):
    number = 1
    for p, w in parents:
        number = (number * 5 + int(p[0]) % 4 + int(np.float32(w).view(np.uint32)) % 3) % 2**32
    own[0] = np.uint32(number % 64)


def model_copy(own, parents):
    for p, _ in parents:
        own[0], own[2] = p[0], p[2]


def model_least(own, parents):
    numbers = [own_or(p) + np.float32(w) for p, w in parents]
    own[2] = np.float32(min(numbers, default=np.float32(np.inf))).view(np.uint32)


def own_or(words):
    return np.float32(words[2] & np.uint32(0xFF))


MODELS = [model_latest, model_total, model_at_most_seven, model_in_order, model_copy, model_least]
COPY = 4
TENTH = jnp.float32(0.1)
MOST = (EDGES, EDGES, EDGES, 8, 1, EDGES)
"""Parents that a rule's pages may have, for one shape of all its plans."""


def _least(own, folded):
    return own.at[2].set(as_u32(folded))


def _copy(own, parents, mask, weight):
    return jnp.where(mask[0], own.at[jnp.array([0, 2])].set(parents[0, jnp.array([0, 2])]), own)


_LATEST = Term(semiring.max_plus, lambda p: as_i32(p)[0] % 16, weighted=True)
_TOTAL = Term(semiring.plus_times, lambda p: (p[0] % 1024).astype(jnp.float32) * TENTH, weighted=True)
_BITS, _COUNT = Term(semiring.or_and, lambda p: p[1]), Term(semiring.plus_times, lambda p: p[0] % 4)
_LEAST = Term(semiring.min_plus, lambda p: (p[2] & 0xFF).astype(jnp.float32), weighted=True)


def rules_for(groups):
    """A rule for each group of pages; each group has some."""
    return [
        Rule("latest", pages=groups[0], terms=[_LATEST], update=latest),
        Rule("total", pages=groups[1], terms=[_TOTAL, _BITS], update=total),
        Rule("at most seven", pages=groups[2], terms=[_COUNT], update=at_most_seven),
        Rule.of_parents("in order", pages=groups[3], update=in_order, max_parents=MOST[3], static={"base": 5}),
        Rule.of_parents("copy", pages=groups[4], update=_copy, max_parents=1),
        Rule("least", pages=groups[5], terms=[_LEAST], update=_least),
    ]


def _assign(rng, parents_of):
    """A rule for most pages, each at least once, none with more parents than it takes; -1: no rule."""
    kinds = rng.choice(len(MODELS), rng.integers(1, len(MODELS) + 1))  # few kinds make stages of many pages
    rule = np.where(rng.random(PAGES) < 0.2, -1, rng.choice(kinds, PAGES))
    few = sorted(range(PAGES), key=lambda page: (len(parents_of[page]), rng.random()))
    for number, page in zip((COPY, 3, 0, 1, 2, 5), few, strict=False):
        rule[page] = number
    for page in range(PAGES):
        if rule[page] >= 0 and len(parents_of[page]) > MOST[rule[page]]:
            rule[page] = 2
    return rule


def of_one_shape(plan):
    """The same plan with room for `EDGES` edges and a stage and a window for each page; the rest is empty."""
    assert plan.width == WIDTH
    recipes = tuple(
        dataclasses.replace(recipe, max_parents=most, batch=WIDTH)
        for recipe, most in zip(plan.recipes, MOST, strict=True)
    )
    return with_room(plan, edges=EDGES, stages=PAGES, windows=PAGES, swept=PAGES + WIDTH, recipes=recipes)


class Case:
    """A random acyclic graph with random rules, and its model."""

    def __init__(self, seed: int, *, lanes: int = 2, sweep_above: int = 6, slot_of_page=None) -> None:
        rng = np.random.default_rng(seed)
        order = rng.permutation(PAGES)
        ends = np.sort(rng.integers(0, PAGES, (rng.integers(0, EDGES), 2)), axis=1)
        ends = order[ends[ends[:, 0] < ends[:, 1]]]
        self.parent, self.child = ends[:, 0], ends[:, 1]
        self.weight = rng.choice([1, 2, 4], len(ends)).astype(np.float32)  # powers of two: no rounding in the product
        self.edges_of = [
            sorted(np.flatnonzero(self.child == page), key=lambda e: (self.parent[e], e)) for page in range(PAGES)
        ]
        self.rule = _assign(rng, self.edges_of)
        graph = ShadowPageGraph.from_edges(self.parent, self.child, weight=self.weight, num_pages=PAGES)
        self.order = graph.topological_order()
        rules = rules_for([np.flatnonzero(self.rule == number) for number in range(len(MODELS))])
        how = {"lanes": lanes, "width": WIDTH, "sweep_above": sweep_above, "slot_of_page": slot_of_page}
        self.exact = RuleGraph.of(graph, rules, **how)
        self.plan = of_one_shape(self.exact)

    def recompute(self, pages: np.ndarray, page: int) -> None:
        if self.rule[page] >= 0:
            MODELS[self.rule[page]](pages[page], [(pages[self.parent[e]], self.weight[e]) for e in self.edges_of[page]])

    def everything(self, pages: np.ndarray) -> np.ndarray:
        pages = pages.copy()
        with np.errstate(over="ignore"):
            for page in self.order:
                self.recompute(pages, page)
        return pages

    def wave(self, pages: np.ndarray, dirty: np.ndarray) -> tuple[np.ndarray, int, int]:
        """Pages after, how many were recomputed, how many changed."""
        pages, moved, recomputed, changed = pages.copy(), set(dirty.tolist()), 0, 0
        for page in self.order:
            parents = {self.parent[e] for e in self.edges_of[page]}
            if self.rule[page] >= 0 and (page in dirty or parents & moved):
                before = pages[page].copy()
                with np.errstate(over="ignore"):
                    self.recompute(pages, page)
                recomputed += 1
                if (before != pages[page]).any():
                    changed += 1
                    moved.add(int(page))
        return pages, recomputed, changed


def fresh_state(rng, case):
    """All derived words up to date, in a shuffled layout."""
    pages = case.everything(rng.integers(0, 2**32, (PAGES, WORDS), np.uint32))
    slot_of_page = rng.permutation(PAGES).astype(np.int32)
    slots = np.empty_like(pages)
    slots[slot_of_page] = pages
    return State(jnp.asarray(slots), jnp.asarray(slot_of_page), jnp.zeros(PAGES, jnp.uint32), jnp.asarray(np.uint32(5)))


def poke(rng, state, most=4):
    """Random writes from outside to a few pages; returns the state and the pages."""
    rows = int(rng.integers(0, most))
    page = np.full(most, PAGES, np.int32)
    page[:rows] = rng.choice(PAGES, rows, replace=False)
    words = rng.integers(0, 2**32, (most, WORDS), np.uint32)
    mask = np.tile([False, True, False], (most, 1))
    return _apply(state, mmsb.DeltaBatch.make(state, page, words, mask=mask)), jnp.asarray(page)


_apply = jax.jit(mmsb.apply)
