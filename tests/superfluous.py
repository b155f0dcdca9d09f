"""Random programs with much that is superfluous, laid out in arrays of one shape, so that each family compiles once."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

import mmsb_jax as mmsb
from mmsb_jax import Rule, RuleGraph, ShadowPageGraph, Term, semiring
from mmsb_jax.propagation import values_after
from mmsb_jax.propagation._plan import with_room

FREE, WORDS, EDGES, WIDTH = 18, 2, 96, 4


def halved(words):
    return words[0] * jnp.float32(0.5)


def shifted(words):
    return words[0] ^ (words[1] >> 3)


def set_first(own, folded):
    return own.at[0].set(folded)


def joined(one, other):
    with np.errstate(all="ignore"):
        return one + other


# Two programs: where integers are weighed no weight may be a fraction, so floats get one of their own.
FLOATS = [
    functools.partial(Rule.semiring, "min_plus", semiring=semiring.min_plus, weighted=True),
    functools.partial(Rule.semiring, "least", semiring=semiring.min_plus, words=slice(None)),
    functools.partial(Rule.semiring, "max_min", semiring=semiring.max_min, weighted=True),
    functools.partial(Rule.semiring, "max_times", semiring=semiring.max_times, weighted=True),
    functools.partial(Rule.semiring, "greatest", semiring=semiring.max_times),
    functools.partial(Rule.semiring, "plus_times", semiring=semiring.plus_times, weighted=True),
    functools.partial(Rule.passthrough, "copy"),
    functools.partial(Rule.passthrough, "copy first", words=0),
    functools.partial(
        Rule, "opaque", terms=[Term(semiring.plus_times, halved, weighted=True)], update=set_first, dtype=jnp.float32
    ),
]
INTEGERS = [
    functools.partial(Rule.semiring, "plus_times", semiring=semiring.plus_times, weighted=True, dtype=jnp.int32),
    functools.partial(Rule.semiring, "count", semiring=semiring.plus_times, dtype=jnp.int32),
    functools.partial(Rule.semiring, "min_plus", semiring=semiring.min_plus, weighted=True, dtype=jnp.int32),
    functools.partial(Rule.semiring, "max_times", semiring=semiring.max_times, weighted=True, dtype=jnp.int32),
    functools.partial(Rule.semiring, "or_and", semiring=semiring.or_and, weighted=True, dtype=jnp.uint32),
    functools.partial(Rule.semiring, "reached", semiring=semiring.or_and, words=slice(None), dtype=jnp.uint32),
    functools.partial(Rule.semiring, "xor_and", semiring=semiring.xor_and, weighted=True, dtype=jnp.uint32),
    functools.partial(Rule.passthrough, "copy"),
    functools.partial(Rule, "opaque", terms=[Term(semiring.xor_and, shifted)], update=set_first),
]
FAMILIES = {"floats": FLOATS, "integers": INTEGERS}
PAGES = FREE + len(FLOATS)
COPIES = ("copy", "copy first")
WEIGHTS = {
    "floats": np.float32([0, 0, -0.0, 1, 1, 0.5, 0.1, 1.7, 2.5, -3, np.inf, -np.inf, 1e-40, 3e38]),
    "integers": np.float32([0, 0, 1, 1, 1, 2, 3, 5, -1, -7, 2**24, 2**23 + 1]),
}
CONTENTS = {
    "floats": np.concatenate(
        [
            np.float32([0, -0.0, 1, -1, 0.3, 7.7, -2.6, 1e30, -1e30, np.inf, -np.inf, 1e-40, -1e-42]).view(np.uint32),
            np.float32([1.2e-38, -1.7e-38, np.nan]).view(np.uint32),
        ]
    ),
    "integers": np.uint32([0, 1, 2, 3, 9, 2**31 - 1, 2**31, 2**31 - 5, 2**31 + 6, 2**32 - 1, 2**32 - 9, 0xF0F0F0F]),
}


@dataclasses.dataclass
class Case:
    """A random program with much that is superfluous. Each rule has a page besides, so that no rule goes."""

    family: str
    graph: ShadowPageGraph
    rules: list[Rule]
    keep: np.ndarray | None
    ruled: np.ndarray

    @property
    def read(self) -> np.ndarray:
        kept = np.arange(PAGES) if self.keep is None else self.keep
        return np.union1d(kept, np.flatnonzero(~self.ruled))


class Draft:
    """Edges as they are made."""

    def __init__(self, rng, family):
        self.rng, self.family = rng, family
        self.rule = np.full(FREE, -1)
        self.into = [[] for _ in range(FREE)]

    def weight(self):
        return self.rng.choice(WEIGHTS[self.family])

    def parents(self, page, some):
        rng, copies = self.rng, FAMILIES[self.family][self.rule[page]].args[0] in COPIES
        edges = [(int(p), self.weight()) for p in some]
        alike = [p for p in range(page) if self.rule[p] == self.rule[page] and self.into[p]]
        if alike and rng.random() < 0.4:
            edges = list(self.into[rng.choice(alike)])
        for p, w in list(edges):
            if rng.random() < 0.3 and self.into[p]:  # what a longer path implies, or nearly
                far, v = self.into[p][rng.integers(len(self.into[p]))]
                edges.append(
                    (far, rng.choice(np.float32([w, v, self.weight()])) if rng.random() < 0.5 else joined(w, v))
                )
            if rng.random() < 0.2:
                edges.append((p, w if rng.random() < 0.5 else self.weight()))
        self.into[page] = [edges[rng.integers(len(edges))]] if copies else edges[:6]


def draft(rng, family):
    made, kinds = Draft(rng, family), rng.choice(len(FAMILIES[family]), 4)
    for page in range(2, FREE):
        made.rule[page] = rng.choice([-1, *kinds], p=[0.1, *[0.9 / 4] * 4])
        if made.rule[page] >= 0:
            few = rng.choice([1, 1, 1, 2, 3])
            made.parents(page, rng.integers(max(0, page - 6), page, few))
    return made


def case_of(seed, family):
    rng = np.random.default_rng(seed)
    made = draft(rng, family)
    ids = rng.permutation(PAGES)
    edges = [(ids[p], ids[c], w) for c in range(FREE) for p, w in made.into[c]][: EDGES - 2]
    edges += [(ids[0], ids[1], np.float32(1))]  # to a page without a rule
    parent, child, weight = (np.array(part) for part in zip(*edges, strict=True))
    kind = np.where(rng.random(len(edges)) < 0.06, rng.integers(1, 4, len(edges)), 0)
    weight = np.where(np.isnan(weight) | (np.abs(weight) > 2**24) & (family == "integers"), 1, weight)
    graph = ShadowPageGraph.from_edges(parent, child, weight=weight, kind=kind, num_pages=PAGES)
    groups = [np.append(ids[np.flatnonzero(made.rule == number)], ids[FREE + number]) for number in range(len(FLOATS))]
    rules = [make(pages=pages) for make, pages in zip(FAMILIES[family], groups, strict=True)]
    keep = np.union1d(ids[FREE:], rng.choice(PAGES, rng.integers(0, 6)))
    ruled = np.isin(np.arange(PAGES), np.concatenate(groups))
    return Case(family, graph, rules, None if rng.random() < 0.25 else keep, ruled)


def plan_of(case, graph, rules):
    plan = RuleGraph.of(graph, rules, width=WIDTH, lanes=2, sweep_above=6)
    recipes = tuple(
        recipe if recipe.gathers else dataclasses.replace(recipe, max_parents=EDGES, batch=WIDTH)
        for recipe in plan.recipes
    )
    plan = with_room(plan, edges=EDGES, stages=PAGES, windows=PAGES, swept=PAGES + WIDTH, recipes=recipes)
    assert plan.whole_weights or case.family == "floats"
    return dataclasses.replace(plan, whole_weights=case.family == "integers")


everything = jax.jit(values_after)
wave = jax.jit(functools.partial(mmsb.propagate, capacity=0))


def bits(case, words):
    """Of a NaN, the sign isn't kept."""
    words = np.asarray(words)
    return np.where(np.isnan(words.view(np.float32)) & (case.family == "floats"), np.uint32(0x7FC00000), words)[
        case.read
    ]
