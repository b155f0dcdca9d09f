"""`rewrite`: another graph for the same contents, with fewer edges and pages to compute, found by algebra."""

from __future__ import annotations

import dataclasses
import html
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import equinox as eqx
import numpy as np
from jaxtyping import Bool, Int32
from numpy.typing import ArrayLike

from .._errors import InvalidArgumentError, InvalidTypeError
from .._require import require_instance
from ..graph import ShadowPageGraph
from ..graph._edges import page_ids
from ..propagation import Rule
from ..propagation._plan import rule_numbers
from ._program import Program, program_of
from ._redundant import redundant
from ._rewrites import chains, parallel, unread
from ._shared import shared

__all__ = ["RewriteReport", "Rewritten", "rewrite"]

# In the order in which they are tried: what makes work for another stands before it.
_REWRITES: dict[str, Callable[[Program], tuple[Program, int]]] = {
    "unread": unread,
    "chains": chains,
    "shared": shared,
    "parallel": parallel,
    "redundant": redundant,
}


@dataclasses.dataclass(frozen=True)
class RewriteReport:
    """What a rewriting came to. Prints as a table.

    >>> graph = mmsb.ShadowPageGraph.from_edges([0, 0], [1, 1], num_pages=2)
    >>> highest = mmsb.Rule.semiring("highest", pages=[1], semiring=mmsb.semiring.max_min)
    >>> print(rewrite(graph, [highest]).report)
    2 to 1 edges, 1 to 1 pages with a rule (... s)
      unread            0  pages that nobody reads
      chains            0  edges led past a page that only weighs or copies
      shared            0  edges led to a page that computes the same
      parallel          1  edges merged with one beside them
      redundant         0  edges that a longer path implies
    """

    edges: tuple[int, int]
    """Before and after, of all kinds."""
    pages: tuple[int, int]
    """Pages with a rule, before and after."""
    counts: dict[str, int]
    """Changes by the name of the rewrite."""
    exact: bool
    seconds: float

    def __str__(self) -> str:
        edges, pages = (f"{before:,} to {after:,}" for before, after in (self.edges, self.pages))
        rounding = "" if self.exact else ", equal but for rounding"
        lines = [f"  {name:<10}{count:>9,}  {_MEANS[name]}" for name, count in self.counts.items()]
        return "\n".join([f"{edges} edges, {pages} pages with a rule ({self.seconds:.2f} s{rounding})", *lines])

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(str(self))}</pre>"


_MEANS = {
    "unread": "pages that nobody reads",
    "chains": "edges led past a page that only weighs or copies",
    "shared": "edges led to a page that computes the same",
    "parallel": "edges merged with one beside them",
    "redundant": "edges that a longer path implies",
}


@dataclasses.dataclass(frozen=True)
class Rewritten:
    """A graph and its rules after `rewrite`.

    >>> graph = mmsb.ShadowPageGraph.from_edges([0, 1], [1, 2], num_pages=3)
    >>> copy = mmsb.Rule.passthrough("copy", pages=[1, 2])
    >>> found = rewrite(graph, [copy], keep=[2])
    >>> found.graph.parents(2), found.rules[0].pages, found.dropped
    (array([0], dtype=int32), array([2]), array([1], dtype=int32))
    """

    graph: ShadowPageGraph
    """Of the same page ids; edges that no rewrite touches are as they were."""
    rules: tuple[Rule, ...]
    """Those that still have pages, less the pages that are no longer computed."""
    dropped: Int32[np.ndarray, " pages"]
    """Pages that had a rule and aren't computed any more: their contents stay what they were."""
    report: RewriteReport


def rewrite(
    graph: ShadowPageGraph | Any,
    rules: Sequence[Rule] | Any,
    keep: ArrayLike | Any | None = None,
    *,
    exact: bool | Any = True,
    only: Iterable[str] | Any | None = None,
) -> Rewritten:
    """Find a smaller graph after which every page that is read holds the same, in full recomputation and in waves.

    Five rewrites, until none finds anything: edges between the same pages merged by ⊕ ("parallel"), readers led past
    pages that only weigh or copy, by ⊗ ("chains"), edges that an idempotent ⊕ makes redundant beside a longer path
    ("redundant"), pages that nobody reads ("unread"), and pages that compute the same ("shared").

    Rules made by `Rule.semiring` and `Rule.passthrough` are understood. Pages with any other rule stay as they are, and
    so do edges of other kinds than DATA, edges to pages without a rule, and all pages that these start from.

    **Arguments:**

    - `keep`: ids of the pages that somebody reads from outside; None: all, so that all are computed on, and only edges
      can go. Pages without a rule always count as read.
    - `exact`: only what keeps all bits, whatever the pages contain (of a NaN alone the sign may change, where ⊕ is a
      minimum). It decides by semiring, dtype and weights: sums of floats aren't touched, since they round, nor are
      weights of min-plus on floats added up. False: also what is equal but for rounding, on the semiring's carrier.
    - `only`: names of rewrites to apply, instead of all.

    **Returns:** `Rewritten`. Takes some seconds for a million edges.

    **Raises:** as `RuleGraph.of` does for the graph and the rules; `PageNotFoundError` for a page in `keep` that isn't
    there; `InvalidTypeError`, `InvalidArgumentError`.

    >>> graph = mmsb.ShadowPageGraph.from_edges([0, 1, 2, 0, 2], [1, 2, 3, 3, 3], num_pages=4)
    >>> soonest = mmsb.Rule.semiring("soonest", pages=[1, 2, 3], semiring=mmsb.semiring.min_plus)
    >>> found = rewrite(graph, [soonest], keep=[3])
    >>> found.graph, found.dropped.tolist()
    (ShadowPageGraph(4 pages, 1 edges: 1 data; 2 levels, unweighted), [1, 2])
    >>> rewrite(graph, [soonest], only=["parallel", "redundant"]).graph.num_edges
    3
    """
    begin = time.perf_counter()
    of_page = _checked(graph, rules, exact)
    names = _chosen(only)
    kept = None if keep is None else page_ids(keep, graph.num_pages, "keep")
    program, into = program_of(graph, rules, of_page, kept, exact=bool(exact))
    before = program
    counts = dict.fromkeys(names, 0)
    waiting = list(names)  # those that haven't seen the present program
    while waiting:
        name = waiting.pop(0)
        program, changes = _REWRITES[name](program)
        counts[name] += changes
        if changes:
            waiting += [other for other in names if other not in waiting]
    dropped = (before.class_of_page != -1) & (program.class_of_page == -1)
    after = graph if not any(counts.values()) else _graph(graph, program, into)
    left = _rules(rules, dropped)
    report = RewriteReport(
        edges=(graph.num_edges, after.num_edges),
        pages=(int((of_page >= 0).sum()), int((of_page >= 0).sum() - dropped.sum())),
        counts=counts,
        exact=bool(exact),
        seconds=time.perf_counter() - begin,
    )
    return Rewritten(after, left, np.flatnonzero(dropped).astype(np.int32), report)


def _checked(graph: Any, rules: Any, exact: Any) -> Int32[np.ndarray, " pages"]:
    """The number of each page's rule."""
    require_instance(graph, ShadowPageGraph, "ShadowPageGraph.from_edges(…) makes one")
    if not isinstance(rules, Sequence) or isinstance(rules, str):
        raise InvalidTypeError(f"got rules of type {type(rules).__name__}; pass a list of Rules: those of the graph")
    for rule in rules:
        require_instance(rule, Rule, "Rule(name, pages=…, terms=…, update=…) makes one")
    if not isinstance(exact, bool | np.bool_):
        raise InvalidTypeError(f"got exact={exact!r}; pass True to keep all bits, or False to allow for rounding")
    return rule_numbers(graph, rules)


def _chosen(only: Any) -> tuple[str, ...]:
    if only is None:
        return tuple(_REWRITES)
    known = ", ".join(repr(name) for name in _REWRITES)
    if isinstance(only, str) or not isinstance(only, Iterable):
        raise InvalidTypeError(f"got only={only!r}; pass a list of names, of {known}")
    asked = list(only)
    for name in asked:
        if not isinstance(name, str) or name not in _REWRITES:
            raise InvalidArgumentError(f"got only={asked!r}, but no rewrite is called {name!r}; there are {known}")
    return tuple(name for name in _REWRITES if name in asked)


def _graph(graph: ShadowPageGraph, program: Program, into: Bool[np.ndarray, " edges"]) -> ShadowPageGraph:
    others = ~into
    return ShadowPageGraph.from_edges(
        np.concatenate([graph.parent[others], program.parent]),
        np.concatenate([graph.child[others], program.child]),
        weight=None if graph.weight is None else np.concatenate([graph.weight[others], program.weight]),
        kind=np.concatenate([graph.kind[others], np.zeros(len(program.parent), np.int8)]),
        num_pages=graph.num_pages,
    )


def _rules(rules: Sequence[Rule], dropped: Bool[np.ndarray, " pages"]) -> tuple[Rule, ...]:
    """A rule without pages is none."""
    found = []
    for rule in rules:
        gone = dropped[rule.pages]
        if not gone.any():
            found.append(rule)
        elif not gone.all():
            found.append(eqx.tree_at(lambda each: each.pages, rule, rule.pages[~gone]))
    return tuple(found)
