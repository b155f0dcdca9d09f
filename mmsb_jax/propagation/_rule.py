"""Rules: how a page recomputes itself from its parents. And `RuleGraph`: a graph whose pages have rules."""

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float32, Int32

from .._errors import InvalidArgumentError, InvalidTypeError
from .._require import require_instance
from ..graph import EdgeKind, ShadowPageGraph
from ..semiring import Semiring

__all__ = ["Rule", "RuleGraph", "Term"]


class Term(eqx.Module):
    """What a rule takes in: `⊕` over all parents of `weight ⊗ read(parent)`.

    **Arguments:**

    - `semiring`: gives ⊕, ⊗ and what an empty sum is.
    - `read`: from the words of one parent page, `uint32[words]`, to a message: an array of any shape and of a dtype
      that the semiring carries.
    - `weighted`: whether the edge's weight, cast to the message's dtype, is ⊗-multiplied to the message.

    The fold runs over the parents in ascending order of their ids, whatever order the edges came in. See `Rule`.

    ```python
    >>> import mmsb_jax as mmsb
    >>> mmsb.Term(mmsb.semiring.max_plus, read=lambda parent: parent[0].astype("float32"), weighted=True).weighted
    True

    ```
    """

    semiring: Semiring
    read: Callable[..., Any] = eqx.field(static=True)
    weighted: bool = eqx.field(static=True)

    def __init__(self, semiring: Any, read: Any, *, weighted: bool = False) -> None:
        if not isinstance(semiring, Semiring) or not callable(read):
            raise InvalidTypeError(
                f"a term needs a Semiring and a function; got a {type(semiring).__name__} and a {type(read).__name__}, "
                "instead of, for example, Term(mmsb.semiring.plus_times, read=lambda words: words[0])"
            )
        self.semiring, self.read, self.weighted = semiring, read, bool(weighted)


class Rule(eqx.Module):
    """How some pages recompute themselves: `new = update(own, *folded)`, one folded value for each term.

    **Arguments:**

    - `name`: for messages.
    - `pages`: what it computes: ids, or pages of a bus, or a list of them.
    - `terms`: what is gathered from the parents along DATA edges; each term may use another semiring.
    - `update`: from the page's own words, `uint32[words]`, and the folded terms to its new words. Words that it
      leaves as they are belong to whoever writes them from outside.

    ```python
    >>> import mmsb_jax as mmsb, jax.numpy as jnp
    >>> from mmsb_jax.propagation import Rule, Term
    >>> total = Rule("total", pages=[2], update=lambda own, total: own.at[0].set(total),
    ...              terms=[Term(mmsb.semiring.plus_times, read=lambda parent: parent[0])])
    >>> graph = mmsb.ShadowPageGraph.from_edges([0, 1], [2, 2], num_pages=3)
    >>> state = mmsb.State.create(3, page_bytes=4)
    >>> state = mmsb.apply(state, mmsb.DeltaBatch.make(state, [0, 1], jnp.array([[3], [4]], jnp.uint32)))
    >>> wave = mmsb.propagate(mmsb.RuleGraph.of(graph, [total]), state, [0, 1], capacity=3)
    >>> wave.state.view()[2, 0]
    Array(7, dtype=uint32)

    ```
    """

    name: str
    terms: tuple[Term, ...]
    update: Callable[..., Any]
    pages: np.ndarray

    def __init__(
        self,
        name: str,
        *,
        pages: Any,
        terms: Sequence[Any] | Any,
        update: Callable[..., Any] | Any,
    ) -> None:
        self.name = name
        listed = isinstance(terms, Sequence) and all(isinstance(term, Term) for term in terms)
        self.terms = tuple(terms) if listed else ()
        self.update = update
        self.pages = _page_ids(pages)
        if not listed or not callable(update):
            raise InvalidTypeError(f"rule {name!r} needs terms=[Term(semiring, read=…), …] and a function for update")
        if self.pages.dtype.kind not in "iu" or self.pages.ndim != 1 or self.pages.size == 0:
            raise InvalidTypeError(
                f"rule {name!r} got pages of shape {self.pages.shape} and dtype {self.pages.dtype}; "
                "pass the ids of the pages that it computes, at least one"
            )


def _page_ids(pages: Any) -> np.ndarray:
    """Ids, from ids or from whatever has `ids`, such as the pages of a bus."""
    if hasattr(pages, "ids"):
        return np.asarray(pages.ids)
    if isinstance(pages, Sequence) and any(hasattr(page, "ids") for page in pages):
        return np.concatenate([_page_ids(page) for page in pages])
    try:
        return np.atleast_1d(np.asarray(pages))
    except ValueError as why:
        raise InvalidTypeError(f"got pages that are no regular array ({why}); pass the ids in a flat list") from why


class Recipe(eqx.Module):
    """A rule without its pages, all static: what a compiled wave is specialised on."""

    name: str = eqx.field(static=True)
    terms: tuple[Term, ...]
    update: Callable[..., Any] = eqx.field(static=True)
    max_parents: int = eqx.field(static=True)
    lanes: int = eqx.field(static=True)
    """How many pages are recomputed side by side: the fewer, the more parents they have."""


class RuleGraph(eqx.Module):
    """A graph whose pages know how to recompute themselves, laid out for `propagate`. Made on the host, once.

    Pages with a rule are grouped into *stages*, by level and rule: a page's parents always lie in earlier stages, and
    the pages of one stage can be recomputed side by side.

    ```python
    >>> import mmsb_jax as mmsb
    >>> term = mmsb.Term(mmsb.semiring.plus_times, read=lambda parent: parent[0])
    >>> total = mmsb.Rule("total", pages=[2], terms=[term], update=lambda own, x: own.at[0].set(x))
    >>> graph = mmsb.RuleGraph.of(mmsb.ShadowPageGraph.from_edges([0, 1], [2, 2], num_pages=3), [total])
    >>> graph
    RuleGraph(3 pages, 1 rule, 1 stage)

    ```
    """

    in_start: Int32[Array, " pages_and_one"]
    """Where the incoming edges of a page begin in `in_parent` (edges by child, then parent)."""
    in_parent: Int32[Array, " edges"]
    in_weight: Float32[Array, " edges"] | None
    out_start: Int32[Array, " pages_and_one"]
    """Where the outgoing edges of a page begin in `out_child`."""
    out_child: Int32[Array, " edges"]
    stage_of_page: Int32[Array, " pages"]
    """The stage that computes a page; the sentinel `stages` for pages without a rule."""
    stage_start: Int32[Array, " stages_and_one"]
    """Where a stage's part of the queue begins."""
    stage_rule: Int32[Array, " stages"]
    stage_lanes: Int32[Array, " stages"]
    """`lanes` of the stage's recipe."""
    recipes: tuple[Recipe, ...]
    max_children: int = eqx.field(static=True)
    whole_weights: bool = eqx.field(static=True)
    """Whether every weight is a whole number that float32 holds exactly: only then may messages be integers."""

    @classmethod
    def of(cls, graph: ShadowPageGraph, rules: Sequence[Rule], *, lanes: int = 32) -> "RuleGraph":
        """Lay out a graph and its rules.

        **Raises:** `InvalidArgumentError` when two rules compute one page, when a rule names a page that the graph
        hasn't, when a weighted term meets a graph without weights, or `lanes` isn't positive.
        """
        require_instance(graph, ShadowPageGraph, "ShadowPageGraph.from_edges(…) makes one")
        for rule in rules:
            require_instance(rule, Rule, "Rule(name, pages=…, terms=…, update=…) makes one")
        if lanes < 1:
            raise InvalidArgumentError(f"got lanes={lanes}; recompute at least one page at a time")
        rule_of_page = _rule_of_page(graph, rules)
        used = (graph.kind == EdgeKind.DATA) & (rule_of_page[graph.child] >= 0)
        parent, child = graph.parent[used], graph.child[used]  # sorted by child, then parent
        weight = None if graph.weight is None else graph.weight[used]
        if weight is None and any(term.weighted for rule in rules for term in rule.terms):
            raise InvalidArgumentError("a term is weighted, but the graph's edges have no weights; pass weight=…")
        in_degree = np.bincount(child, minlength=graph.num_pages)
        out_degree = np.bincount(parent, minlength=graph.num_pages)
        by_parent = np.argsort(parent, kind="stable")
        stage_of_page, stage_start, stage_rule = _stages(graph.levels(), rule_of_page)
        recipes = tuple(_recipe(rule, int(in_degree[rule.pages].max()), lanes) for rule in rules)
        return cls(
            in_start=_starts(in_degree),
            in_parent=_never_empty(parent),
            in_weight=None if weight is None else _never_empty(weight),
            out_start=_starts(out_degree),
            out_child=_never_empty(child[by_parent]),
            stage_of_page=jnp.asarray(stage_of_page),
            stage_start=stage_start,
            stage_rule=jnp.asarray(stage_rule),
            stage_lanes=jnp.asarray([recipes[rule].lanes for rule in stage_rule], jnp.int32),
            recipes=recipes,
            max_children=int(out_degree.max(initial=0)),
            whole_weights=weight is None or bool(np.all((weight == np.floor(weight)) & (np.abs(weight) <= 2**24))),
        )

    def __repr__(self) -> str:
        rules, stages = len(self.recipes), self.num_stages
        plural = ("s" if rules != 1 else "", "s" if stages != 1 else "")
        return f"RuleGraph({self.num_pages} pages, {rules} rule{plural[0]}, {stages} stage{plural[1]})"

    @property
    def lanes(self) -> int:
        """The most pages that are recomputed side by side."""
        return max((recipe.lanes for recipe in self.recipes), default=1)

    @property
    def num_pages(self) -> int:
        """How many page ids the graph has."""
        return self.stage_of_page.shape[-1]

    @property
    def num_stages(self) -> int:
        """How many stages a wave can pass through."""
        return self.stage_rule.shape[-1]


def message_of(term: Term, page_words: int) -> jax.ShapeDtypeStruct:
    """Shape and dtype of a term's message. Raises `InvalidTypeError` when `read` doesn't return one array."""
    message = jax.eval_shape(term.read, jax.ShapeDtypeStruct((page_words,), jnp.uint32))
    if not isinstance(message, jax.ShapeDtypeStruct):
        raise InvalidTypeError(f"a term's read must return one array; it returned {message}")
    return message


def check_recipe(recipe: Recipe, page_words: int) -> None:
    """Raise `InvalidTypeError` when the rule doesn't return the words of one page."""
    own = jax.ShapeDtypeStruct((page_words,), jnp.uint32)
    messages = [message_of(term, page_words) for term in recipe.terms]
    with warnings.catch_warnings(record=True) as raised:
        # JAX only warns when floats are written into words, and cuts off what is behind the point.
        warnings.simplefilter("always", FutureWarning)
        new = jax.eval_shape(recipe.update, own, *messages)
    mismatch = next((str(w.message) for w in raised if "incompatible types" in str(w.message)), None)
    if mismatch or getattr(new, "shape", None) != own.shape or getattr(new, "dtype", None) != own.dtype:
        raise InvalidTypeError(
            f"rule {recipe.name!r} "
            + ("writes values of another dtype into words" if mismatch else f"returned {new}")
            + f"; it must return the page's new words, uint32[{page_words}]: start from its first argument, and turn "
            "what isn't uint32 into words, as in `own.at[0].set(mmsb.as_words(x))`"
        )


def _rule_of_page(graph: ShadowPageGraph, rules: Sequence[Rule]) -> Int32[np.ndarray, " pages"]:
    rule_of_page = np.full(graph.num_pages, -1, np.int32)
    for number, rule in enumerate(rules):
        outside = rule.pages[(rule.pages < 0) | (rule.pages >= graph.num_pages)]
        if outside.size:
            raise InvalidArgumentError(
                f"rule {rule.name!r} names page {outside[0]}, but the graph has pages 0 to {graph.num_pages - 1}"
            )
        taken = rule.pages[rule_of_page[rule.pages] >= 0]
        if taken.size:
            other = rules[rule_of_page[taken[0]]].name
            raise InvalidArgumentError(
                f"page {taken[0]} has two rules, {other!r} and {rule.name!r}; give one rule both terms"
            )
        rule_of_page[rule.pages] = number
    return rule_of_page


def _stages(
    levels: Int32[np.ndarray, " pages"], rule_of_page: Int32[np.ndarray, " pages"]
) -> tuple[np.ndarray, Array, np.ndarray]:
    """Group pages by (level, rule), in that order."""
    ruled = rule_of_page >= 0
    rules = int(rule_of_page.max(initial=0)) + 1
    keys, stage, sizes = np.unique(
        levels[ruled].astype(np.int64) * rules + rule_of_page[ruled], return_inverse=True, return_counts=True
    )
    stage_of_page = np.full(len(levels), len(keys), np.int32)
    stage_of_page[ruled] = stage
    return stage_of_page, _starts(sizes), (keys % rules).astype(np.int32)


def _recipe(rule: Rule, max_parents: int, lanes: int) -> Recipe:
    # A window costs lanes x (parents of its largest page), so pages of high degree go round in small company.
    fewer = max(1, lanes * 8 // max(max_parents, 8))
    return Recipe(rule.name, rule.terms, rule.update, max_parents, max(fewer, min(lanes, 8)))


def _starts(sizes: np.ndarray) -> Int32[Array, " n_and_one"]:
    return jnp.asarray(np.concatenate([[0], np.cumsum(sizes)]).astype(np.int32))


def _never_empty(values: np.ndarray) -> Array:
    """Masked lanes read element 0, so there has to be one."""
    return jnp.asarray(values if len(values) else np.zeros(1, values.dtype))
