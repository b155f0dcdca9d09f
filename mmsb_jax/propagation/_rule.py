"""Rules: how a page recomputes itself from its parents."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from .._errors import InvalidTypeError
from .._require import require_instance, whole_number
from ..semiring import Semiring

__all__ = ["Rule", "Term"]

_WORD_DTYPES = tuple(map(np.dtype, (np.uint32, np.int32, np.float32)))


class Term(eqx.Module):
    """What a rule takes in: `⊕` over all parents of `weight ⊗ read(parent)`.

    **Arguments:**

    - `semiring`: gives ⊕, ⊗ and what an empty sum is.
    - `read`: from the words of one parent page, `uint32[words]` (or of the rule's dtype), to a message: an array of
      any shape and of a dtype that the semiring carries.
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


class Parents(NamedTuple):
    """Stands in a rule for its terms: it sees the parents themselves, `most` of them, or as many as there are."""

    most: int | None


class Rule(eqx.Module):
    """How some pages recompute themselves: `new = update(own, *folded)`, one folded value for each term.

    **Arguments:**

    - `name`: for messages.
    - `pages`: what it computes: ids, or pages of a bus, or a list of them.
    - `terms`: what is gathered from the parents along DATA edges; each term may use another semiring.
    - `update`: from the page's own words, `uint32[words]`, and the folded terms to its new words. Words that it
      leaves as they are belong to whoever writes them from outside.
    - `dtype`: how the rule sees words, its own and its parents': uint32, int32 or float32. What a gradient shall pass
      through (`values_after`) has to see float32. None, for rules that only move words: as they come.
    - `static`: parameters of `update`, passed to it by name; hashable. Rules that share their functions and have equal
      parameters share what is compiled, which two lambdas with different constants can't.

    Its functions are traced: they take and return arrays, have no side effects and call nothing on the host.

    **Raises:** `InvalidTypeError` for arguments of another kind. `RuleGraph.of` with `page_bytes`, and
    `bus.add_rule`, raise it for functions that don't return what they must, or have side effects.

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
    parents: Parents | None
    update: Callable[..., Any]
    pages: np.ndarray
    dtype: np.dtype | None
    static: tuple[tuple[str, Hashable], ...]

    def __init__(
        self,
        name: str,
        *,
        pages: Any,
        terms: Sequence[Any] | Any,
        update: Callable[..., Any] | Any,
        dtype: Any = jnp.uint32,
        static: Mapping[str, Hashable] | Any | None = None,
    ) -> None:
        self.name = name
        self.parents = terms if isinstance(terms, Parents) else None
        listed = isinstance(terms, Sequence) and all(isinstance(term, Term) for term in terms)
        self.terms = tuple(terms) if listed else ()
        self.update = update
        self.pages = _page_ids(pages)
        self.dtype = _word_dtype(name, dtype)
        self.static = _static(name, static)
        if not (listed or self.parents) or not callable(update):
            raise InvalidTypeError(f"rule {name!r} needs terms=[Term(semiring, read=…), …] and a function for update")
        if self.pages.dtype.kind not in "iu" or self.pages.ndim != 1 or self.pages.size == 0:
            raise InvalidTypeError(
                f"rule {name!r} got pages of shape {self.pages.shape} and dtype {self.pages.dtype}; "
                "pass the ids of the pages that it computes, or bus.page(name), at least one"
            )

    @classmethod
    def of_parents(
        cls,
        name: str,
        *,
        pages: Any,
        update: Callable[..., Any] | Any,
        max_parents: int | Any | None = None,
        dtype: Any = jnp.uint32,
        static: Mapping[str, Hashable] | Any | None = None,
    ) -> "Rule":
        """A rule that sees its parents themselves: `new = update(own, parents, mask, weight)`.

        **Arguments:**

        - `update`: gets `own`, `[words]`; `parents`, `[max_parents, words]`, by ascending id (of parallel edges, each
          counts), zeros where there are fewer; `mask`, `bool[max_parents]`, which of them exist; and `weight`,
          `float32[max_parents]`, of their edges: 1 in a graph without weights, 0 where there is no parent.
        - `max_parents`: room for so many (static); None: for as many as the page with most has.

        The rest as for `Rule`. What can be said as a fold, is better a `Term`: it needs no room, and its order of
        floating-point operations is fixed, whatever the compiler does.

        **Raises:** as `Rule` does; `RuleGraph.of` raises `InvalidArgumentError` when a page has more parents.

        ```python
        >>> import mmsb_jax as mmsb, jax.numpy as jnp, numpy as np
        >>> middle = lambda own, parents, mask, weight: jnp.sort(parents, axis=0)[1]
        >>> rule = mmsb.Rule.of_parents("median", pages=[3], update=middle, max_parents=3)
        >>> graph = mmsb.RuleGraph.of(mmsb.ShadowPageGraph.from_edges([0, 1, 2], [3, 3, 3], num_pages=4), [rule])
        >>> mmsb.propagation.values_after(graph, np.uint32([[5], [9], [2], [0]])).ravel().tolist()
        [5, 9, 2, 5]

        ```
        """
        most = None if max_parents is None else whole_number(max_parents)
        if (most is None and max_parents is not None) or (most is not None and most < 0):
            raise InvalidTypeError(f"rule {name!r} got max_parents={max_parents!r}; pass a whole number, or None")
        return cls(name, pages=pages, terms=Parents(most), update=update, dtype=dtype, static=static)

    @classmethod
    def passthrough(cls, name: str, *, pages: Any, words: int | slice | Any = None) -> "Rule":
        """Pages that copy their single parent: all of it, or the words at an index or a slice.

        A page without a parent stays as it is. **Raises:** `InvalidTypeError`; `RuleGraph.of` raises
        `InvalidArgumentError` for a page with two parents.

        ```python
        >>> import mmsb_jax as mmsb, numpy as np
        >>> mirror = mmsb.Rule.passthrough("mirror", pages=[1], words=slice(1, 3))
        >>> graph = mmsb.RuleGraph.of(mmsb.ShadowPageGraph.from_edges([0], [1], num_pages=2), [mirror])
        >>> mmsb.propagation.values_after(graph, np.uint32([[1, 2, 3, 4], [0, 0, 0, 0]]))[1].tolist()
        [0, 2, 3, 0]

        ```
        """
        return cls(name, pages=pages, terms=Parents(1), update=_Copy(_Words.of(name, words)), dtype=None)

    @classmethod
    def semiring(
        cls,
        name: str,
        *,
        pages: Any,
        semiring: Semiring | Any,
        words: int | slice | Any = 0,
        dtype: Any = jnp.float32,
        weighted: bool = False,
    ) -> "Rule":
        """Pages whose words at `words` are `⊕` over their parents of `weight ⊗` the same words, seen as `dtype`.

        **Raises:** as `Rule` and `Term` do.

        ```python
        >>> import mmsb_jax as mmsb, numpy as np
        >>> rule = mmsb.Rule.semiring("soonest", pages=[2], semiring=mmsb.semiring.min_plus, weighted=True)
        >>> roads = mmsb.ShadowPageGraph.from_edges([0, 1], [2, 2], weight=[5, 1], num_pages=3)
        >>> mmsb.propagation.values_after(mmsb.RuleGraph.of(roads, [rule]), np.float32([[1], [4], [0]])).tolist()
        [[1.0], [4.0], [5.0]]

        ```
        """
        require_instance(semiring, Semiring, "take one of mmsb.semiring, or make one")
        read = _Words.of(name, words)
        return cls(name, pages=pages, terms=[Term(semiring, read, weighted=weighted)], update=_Set(read), dtype=dtype)


class Meaning(NamedTuple):
    """What a rule does, where that is known: its words are those of its one parent, or a fold of those of them all."""

    words: "_Words"
    semiring: Semiring | None
    """None: a copy."""
    dtype: np.dtype | None
    weighted: bool


def meaning_of(rule: Rule) -> Meaning | None:
    """What `Rule.semiring` and `Rule.passthrough` were told; None for all other rules, of which nothing is known.

    >>> import mmsb_jax as mmsb
    >>> meaning_of(mmsb.Rule.semiring("sum", pages=[2], semiring=mmsb.semiring.plus_times)).dtype
    dtype('float32')
    """
    update = rule.update
    if rule.static:
        return None
    if isinstance(update, _Copy) and rule.parents == Parents(1) and rule.dtype is None:
        return Meaning(update.words, None, None, False)
    # Without a dtype, words are what a caller passes: here of this kind, there of that.
    if isinstance(update, _Set) and len(rule.terms) == 1 and rule.dtype is not None:
        term = rule.terms[0]
        if term.read == update.words and term.semiring.supports(rule.dtype):
            return Meaning(update.words, term.semiring, rule.dtype, term.weighted)
    return None


@dataclass(frozen=True)
class _Words:
    """Some words of a page. These are values, so that rules made twice are equal and share what is compiled."""

    start: int | None
    stop: int | None
    step: int | None

    @classmethod
    def of(cls, name: str, words: Any) -> "_Words":
        if isinstance(words, slice):
            return cls(words.start, words.stop, words.step)
        number = 0 if words is None else whole_number(words)
        if number is None:
            raise InvalidTypeError(f"rule {name!r} got words={words!r}; pass an index, a slice, or leave it out")
        return cls(None, None, None) if words is None else cls(number, number + 1 or None, None)

    @property
    def slice(self) -> slice:
        return slice(self.start, self.stop, self.step)

    def cover(self, other: "_Words") -> bool:
        """Whether all words of `other` are among these, however long a page is."""
        (low, high, step), (first, last, stride) = self._plain(), other._plain()
        if (low, high, step) in ((first, last, stride), (0, None, 1)):
            return True
        inside = step == 1 and stride > 0 and 0 <= low <= first
        return inside and (high is None or (last is not None and 0 <= last <= high))

    def _plain(self) -> tuple[int, int | None, int]:
        return self.start or 0, self.stop, self.step or 1

    def __call__(self, page: Array) -> Array:
        return page[self.slice]


@dataclass(frozen=True)
class _Set:
    words: _Words

    def __call__(self, own: Array, folded: Array) -> Array:
        return own.at[self.words.slice].set(folded)


@dataclass(frozen=True)
class _Copy:
    words: _Words

    def __call__(self, own: Array, parents: Array, mask: Array, weight: Array) -> Array:
        part = self.words.slice
        return own.at[part].set(jnp.where(mask[0], parents[0, part], own[part]))


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


def _word_dtype(name: str, dtype: Any) -> np.dtype | None:
    if dtype is None:
        return None
    try:
        found = np.dtype(dtype)
    except TypeError as why:
        raise InvalidTypeError(f"rule {name!r} got dtype={dtype!r}; pass uint32, int32 or float32") from why
    if found not in _WORD_DTYPES:
        raise InvalidTypeError(f"rule {name!r} got dtype={found}; words are seen as uint32, int32 or float32")
    return found


def _static(name: str, static: Any) -> tuple[tuple[str, Hashable], ...]:
    if static is None:
        return ()
    if not isinstance(static, Mapping) or not all(isinstance(key, str) for key in static):
        raise InvalidTypeError(f"rule {name!r} got static={static!r}; pass a mapping from parameter name to value")
    for key, value in static.items():
        try:
            hash(value)
        except TypeError as why:
            raise InvalidTypeError(
                f"rule {name!r} got a {type(value).__name__} for its static parameter {key!r}, which has no hash; "
                "pass numbers, text or tuples, and let arrays be contents of pages"
            ) from why
    return tuple(sorted(static.items()))
