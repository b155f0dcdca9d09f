"""A graph and its rules as arrays that rewrites work on: edges into pages whose rule is understood; the rest apart."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Int32

from .._errors import InvalidArgumentError
from ..graph import EdgeKind, ShadowPageGraph
from ..graph._traverse import Adjacency, group, levels, reach
from ..propagation import Rule
from ..propagation._rule import Meaning, meaning_of
from ._exactness import Algebra, Met

__all__ = ["Program", "program_of"]

_UNRULED, _OPAQUE = -1, -2


@dataclasses.dataclass(frozen=True)
class Classes:
    """Rules by what they mean: rules of one class do the same to their pages."""

    words: Bool[np.ndarray, "classes classes"]
    """Whether all that pages of class a read and write is among what pages of class b write: [a, b]."""
    algebra: Int32[np.ndarray, " classes"]
    """−1: copies."""
    weighs: Bool[np.ndarray, " classes"]
    strict: Bool[np.ndarray, " classes"]
    """Whether its terms must stay in their order."""
    algebras: tuple[Algebra, ...]


@dataclasses.dataclass(frozen=True)
class Program:
    """Edges into pages of a known class, sorted by child, then parent, in the order in which they are folded."""

    classes: Classes
    class_of_page: Int32[np.ndarray, " pages"]
    """−1: no rule, −2: a rule of which nothing is known."""
    read: Bool[np.ndarray, " pages"]
    """Pages whose contents matter to somebody outside, or to an edge that isn't among these."""
    parent: Int32[np.ndarray, " edges"]
    child: Int32[np.ndarray, " edges"]
    weight: Float32[np.ndarray, " edges"]
    """0 in a graph without weights."""
    fixed: tuple[Int32[np.ndarray, " others"], Int32[np.ndarray, " others"]]
    """Parents and children of all other edges."""

    @property
    def num_pages(self) -> int:
        """Those without rules included."""
        return len(self.class_of_page)

    @property
    def child_class(self) -> Int32[np.ndarray, " edges"]:
        """Class of the page that each edge leads to."""
        return self.class_of_page[self.child]

    @property
    def start(self) -> Int32[np.ndarray, " pages_and_one"]:
        """Where the edges into each page begin."""
        return np.concatenate([[0], np.cumsum(np.bincount(self.child, minlength=self.num_pages))]).astype(np.int32)

    def levels(self, *, everything: bool) -> Int32[np.ndarray, " pages"]:
        """The longest path to each page: of all edges, or of those alone that lead to pages of a known class."""
        others = self.fixed if everything else (self.fixed[0][:0], self.fixed[1][:0])
        parent, child = (np.concatenate(ends) for ends in zip((self.parent, self.child), others, strict=True))
        start, order = group(parent, self.num_pages)
        return levels(np.bincount(child, minlength=self.num_pages).astype(np.int32), start, child[order])

    def needed(self) -> Bool[np.ndarray, " pages"]:
        """Pages that are read, and those that they are computed from."""
        above = reach(Adjacency(self.start, None, self.parent), np.flatnonzero(self.read).astype(np.int32))
        return np.asarray(self.read | above)

    def covered(self, outer: np.ndarray, inner: np.ndarray) -> Bool[np.ndarray, " n"]:
        """Whether pages of known class `outer` read of those of class `inner` only what that computes; or no class."""
        known = inner >= 0
        return known & self.classes.words[outer, np.where(known, inner, 0)]

    def without(self, edges: Bool[np.ndarray, " edges"]) -> Program:
        """The same less some edges."""
        keep = ~edges
        return dataclasses.replace(self, parent=self.parent[keep], child=self.child[keep], weight=self.weight[keep])

    def redirected(
        self, moved: Bool[np.ndarray, " edges"], parent: np.ndarray, weight: np.ndarray
    ) -> tuple[Program, Bool[np.ndarray, " edges"], Int32[np.ndarray, " edges"]]:
        """The same with other parents and weights where `moved`; where that was done; and which edge each was.

        Where terms must stay in their order, either all edges of a page that shall be moved are, or none.
        """
        towards = np.where(moved, parent, self.parent)
        strict = self.classes.strict[self.child_class[1:]]
        falls = (self.child[1:] == self.child[:-1]) & (towards[1:] < towards[:-1]) & strict
        if falls.any():
            stays = np.zeros(self.num_pages, np.bool_)
            stays[self.child[1:][falls]] = True
            moved = moved & ~stays[self.child]
            towards = np.where(moved, parent, self.parent)
        if not moved.any():
            return self, moved, np.arange(len(moved), dtype=np.int32)
        by_parent = group(towards, self.num_pages)[1]
        order = by_parent[group(self.child[by_parent], self.num_pages)[1]]
        chosen = np.where(moved, weight, self.weight)[order]
        after = dataclasses.replace(self, parent=towards[order], child=self.child[order], weight=chosen)
        return after, moved, order

    def copies(self, edges: np.ndarray) -> Bool[np.ndarray, " n"]:
        """Where the page that an edge leads to, if it has no other, holds what its parent does: the same bits."""
        of = self.child_class[edges]
        found = self.classes.algebra[of] < 0
        for number, each in enumerate(self.classes.algebras):
            if each.faithful:
                bare = ~self.classes.weighs[of] | each.is_one(self.weight[edges])
                found |= (self.classes.algebra[of] == number) & bare
        return np.asarray(found)

    def in_line(self, outer: np.ndarray, weight: np.ndarray, inner: np.ndarray) -> Met:
        """What a term of edges' `outer` children becomes when its parent, of edges `inner`, gives way to that's parent.

        `outer` and `inner` are numbers of edges, `weight` is what the outer ones weigh.
        """
        reader, given = self.child_class[outer], self.child_class[inner]
        algebra = self.classes.algebra[reader]
        same = (algebra == self.classes.algebra[given]) & (algebra >= 0) & self.covered(reader, given)
        found = Met(weight.copy(), np.zeros(len(outer), np.bool_))
        for number, each in enumerate(self.classes.algebras):
            some = np.flatnonzero(same & (algebra == number))
            if some.size:
                weighs = (self.classes.weighs[reader[some]], self.classes.weighs[given[some]])
                found.weight[some], found.ok[some] = each.in_line(weight[some], self.weight[inner[some]], *weighs)
        return found


def program_of(
    graph: ShadowPageGraph, rules: Sequence[Rule], rule_of_page: np.ndarray, keep: np.ndarray | None, *, exact: bool
) -> tuple[Program, Bool[np.ndarray, " edges"]]:
    """The program of a graph, and which of its edges it has."""
    if graph.weight is None and any(term.weighted for rule in rules for term in rule.terms):
        raise InvalidArgumentError("a term is weighted, but the graph's edges have no weights; pass weight=…")
    meanings = [meaning_of(rule) for rule in rules]
    distinct = list(dict.fromkeys(meaning for meaning in meanings if meaning is not None))
    number = {meaning: count for count, meaning in enumerate(distinct)}
    of_rule = np.array([*(number.get(each, _OPAQUE) for each in meanings), _UNRULED], np.int32)  # type: ignore[arg-type]
    class_of_page = of_rule[rule_of_page]
    data = graph.kind == EdgeKind.DATA
    into = data & (class_of_page[graph.child] >= 0)
    # Integers that are weighed forbid fractions to all: see `RuleGraph.whole_weights`. An unknown term may read some.
    whole = any(
        term.weighted and (meaning is None or meaning.dtype != np.float32)
        for rule, meaning in zip(rules, meanings, strict=True)
        for term in rule.terms
    )
    read = np.full(graph.num_pages, keep is None)
    read[[] if keep is None else keep] = True
    read[graph.parent[~into]] = True
    read[graph.child[~data]] = True
    return Program(
        classes=_classes(distinct, exact=exact, whole=whole),
        class_of_page=class_of_page,
        read=read,
        parent=graph.parent[into],
        child=graph.child[into],
        weight=np.zeros(int(into.sum()), np.float32) if graph.weight is None else graph.weight[into],
        fixed=(graph.parent[~into], graph.child[~into]),
    ), into


def _classes(meanings: list[Meaning], *, exact: bool, whole: bool) -> Classes:
    pairs: dict[Any, int] = {}
    algebra = [
        -1 if each.semiring is None else pairs.setdefault((each.semiring, each.dtype), len(pairs)) for each in meanings
    ]
    algebras = tuple(Algebra(*pair, exact=exact, whole=whole) for pair in pairs)
    words = list(dict.fromkeys(each.words for each in meanings))
    covers = np.array([[b.cover(a) for b in words] for a in words], np.bool_).reshape(len(words), len(words))
    at = np.array([words.index(each.words) for each in meanings], np.int32)
    return Classes(
        words=covers[at[:, None], at[None, :]],
        algebra=np.array(algebra, np.int32),
        weighs=np.array([each.weighted for each in meanings], np.bool_),
        strict=np.array([number >= 0 and not algebras[number].order_free for number in algebra], np.bool_),
        algebras=algebras,
    )
