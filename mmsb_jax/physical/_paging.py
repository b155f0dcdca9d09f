"""Any pytree on pages, without loss: a static layout, and the way there and back inside `jit`."""

import dataclasses
import difflib
import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, UInt32

from .._errors import InvalidArgumentError, InvalidTypeError, PageNotFoundError
from .._require import require_instance
from ._description import described, from_description
from ._form import Form
from ._layout import place
from ._leaf import Leaf
from ._state import State, page_words_of

__all__ = ["Paging"]


@dataclass(frozen=True)
class Paging:
    """How the leaves of a tree lie on the pages of a state. Static: hashable, and the same for trees of one form.

    It carries every dtype of JAX bit for bit (NaN payloads and -0.0 included), typed PRNG keys, and numbers, which
    become arrays as JAX makes them. What is neither is structure, and stays in the paging as it is.

    ```python
    >>> import mmsb_jax as mmsb, jax, jax.numpy as jnp
    >>> tree = {"field": jnp.ones((2, 300), jnp.bfloat16), "key": jax.random.key(7), "act": jax.nn.relu}
    >>> paging, state = mmsb.Paging.of(tree, page_bytes=1024)
    >>> paging
    Paging(2 leaves on 3 pages of 1024 bytes)
    >>> @jax.jit
    ... def step(state):
    ...     tree = paging.to_tree(state)
    ...     return paging.write(state.advance(), tree | {"field": 2 * tree["field"]})
    >>> after = step(state)
    >>> after.epoch.tolist(), paging.pages_of("['field']").tolist()
    ([1, 1, 0], [0, 1])

    ```
    """

    form: Form
    """The structure of the tree, and its leaves."""
    num_pages: int
    """How many pages they lie on; at least one."""
    page_words: int
    """Words in a page."""

    @classmethod
    def of(cls, tree: Any, *, page_bytes: int | Any = 1024) -> tuple["Paging", State]:
        """The layout of a tree, and a state at tick 0 that holds it.

        **Arguments:**

        - `tree`: any pytree.
        - `page_bytes`: size of a page, a multiple of 4.

        **Raises:** `InvalidTypeError`, which names the leaf, for what pages can't carry without loss: arrays of
        objects, strings or dates, and 64-bit NumPy arrays where JAX is set to 32 bits. `InvalidArgumentError` for
        sizes that can't be.
        """
        paging = cls.like(tree, page_bytes=page_bytes)
        pages = paging.to_pages(tree)
        blank = State.create(paging.num_pages, page_bytes=4 * paging.page_words)
        return paging, eqx.tree_at(lambda state: state.pages, blank, pages)

    @classmethod
    def like(cls, tree: Any, *, page_bytes: int | Any = 1024) -> "Paging":
        """The layout alone. Of the leaves only dtypes and shapes matter, so it takes what `jax.eval_shape` returns.

        **Raises:** as `of`.

        ```python
        >>> import mmsb_jax as mmsb, jax
        >>> mmsb.Paging.like([jax.ShapeDtypeStruct((1000, 1000), "float32")])
        Paging(1 leaf on 3907 pages of 1024 bytes)

        ```
        """
        page_words = page_words_of(page_bytes)
        form = Form.of(tree)
        leaves, pages = place(form.leaves, page_words)
        return cls(dataclasses.replace(form, leaves=leaves), pages, page_words)

    def __hash__(self) -> int:
        return self._hash

    # Between trees and pages.

    def to_tree(self, state: State | Any) -> Any:
        """The tree that a state holds, as JAX arrays.

        **Raises:** `InvalidArgumentError` for a state of another size, `InvalidTypeError` for 64-bit leaves when JAX
        is set to 32 bits.
        """
        self._check_state(state)
        return self.tree([self._words_at(state, leaf) for leaf in self.leaves])

    def write(self, state: State | Any, tree: Any) -> State:
        """The state with this tree on it. Only pages that differ are written and stamped, with the state's tick.

        **Raises:** as `check`; `InvalidArgumentError` for a state of another size.
        """
        self._check_state(state)
        old, new = state.view(), self.to_pages(tree)
        changed = (old != new).any(axis=1)
        # A write that depends on what was read can be done in place.
        rows = jnp.where(changed[:, None], new, old)
        pages = state.pages.at[state.slot_of_page].set(rows, mode="promise_in_bounds", unique_indices=True)
        epoch = jnp.where(changed, state.tick, state.epoch)
        return eqx.tree_at(lambda s: (s.pages, s.epoch), state, (pages, epoch))

    def to_pages(self, tree: Any) -> UInt32[Array, "pages words"]:
        """The tree as pages, in the order of their ids; words that belong to no leaf are zero. Raises as `check`."""
        return _assembled(self, self.words(tree))

    def words(self, tree: Any) -> list[UInt32[Array, " _"]]:
        """The leaves as flat words, one array a leaf. Inside `jit`, those of 4-byte types cost nothing.

        **Raises:** as `check`.
        """
        values = self.form.values(tree)
        return [leaf.to_words(value) for leaf, value in zip(self.leaves, values, strict=True)]

    def tree(self, words: Sequence[UInt32[Array, " _"]]) -> Any:
        """The inverse of `words`. Raises `InvalidTypeError` for 64-bit leaves when JAX is set to 32 bits."""
        return self.form.unflatten([leaf.from_words(flat) for leaf, flat in zip(self.leaves, words, strict=True)])

    def from_pages(self, pages: np.ndarray | Any) -> Any:
        """The tree on pages that lie on the host, as NumPy arrays: views of `pages` where that is possible.

        Typed keys come back as keys. Nothing depends on whether JAX is set to 64 bits.

        **Arguments:**

        - `pages`: uint32[num_pages, page_words], in the order of their ids.

        **Raises:** `InvalidArgumentError` for another shape or dtype.

        ```python
        >>> import mmsb_jax as mmsb, numpy as np
        >>> paging, state = mmsb.Paging.of({"x": np.float32([1, 2])}, page_bytes=16)
        >>> paging.from_pages(np.asarray(state.view()))
        {'x': array([1., 2.], dtype=float32)}

        ```
        """
        found = (getattr(pages, "dtype", type(pages).__name__), np.shape(pages))
        if found != (np.uint32, (self.num_pages, self.page_words)):
            raise InvalidArgumentError(
                f"got pages of dtype {found[0]} and shape {found[1]}; needed are uint32[{self.num_pages}, "
                f"{self.page_words}], in the order of their ids, such as np.asarray(state.view())"
            )
        flat = np.ascontiguousarray(pages).reshape(-1)
        starts = [self._start(leaf) for leaf in self.leaves]
        return self.form.unflatten(
            [leaf.to_numpy(flat[at : at + leaf.words]) for leaf, at in zip(self.leaves, starts, strict=True)]
        )

    # Looking at it.

    @property
    def leaves(self) -> tuple[Leaf, ...]:
        """The leaves that lie on pages, in the order of the tree."""
        return self.form.leaves

    def leaf(self, path: str | Any) -> Leaf:
        """The leaf at a path. Raises `PageNotFoundError` when none is there."""
        if not isinstance(path, str) or path not in self._by_path:
            raise self._unknown(path)
        return self._by_path[path]

    def pages_of(self, path: str | Any) -> np.ndarray:
        """int32, ascending: the ids of a leaf's pages, or of all leaves below a node; `""` is the whole tree.

        **Raises:** `PageNotFoundError` when nothing has this path.
        """
        leaves = [leaf for leaf in self.leaves if isinstance(path, str) and _is_below(leaf.path, path)]
        if not leaves and path != "":
            raise self._unknown(path)
        ids = [np.arange(leaf.pages.start, leaf.pages.stop, dtype=np.int32) for leaf in leaves]
        return np.unique(np.concatenate([np.zeros(0, np.int32), *ids]))

    @functools.cached_property
    def groups(self) -> tuple[tuple[Leaf, ...], ...]:
        """The leaves by their pages, in order: one that has pages of its own, or some that share a page.

        Leaves without words are in none of them.
        """
        by_page: dict[int, list[Leaf]] = {}
        for leaf in filter(lambda leaf: leaf.words, self.leaves):
            by_page.setdefault(leaf.first_page, []).append(leaf)
        return tuple(tuple(by_page[page]) for page in sorted(by_page))

    def check(self, tree: Any) -> None:
        """Raise unless a tree has this structure, with leaves of these dtypes and shapes; name the first that differs.

        **Raises:** `InvalidTypeError`.
        """
        self.form.values(tree)

    def matches(self, tree: Any) -> bool:
        """Whether `check` accepts a tree."""
        try:
            self.check(tree)
        except InvalidTypeError:
            return False
        return True

    def describe(self) -> dict[str, Any]:
        """All of this as data that JSON can carry, deterministic, and without code.

        ```python
        >>> import mmsb_jax as mmsb
        >>> mmsb.Paging.like((1.5, None)).describe()["tree"]
        {'tuple': [0, None]}

        ```
        """
        return described(self.form, self.num_pages, self.page_words)

    @classmethod
    def from_description(cls, description: Any) -> "Paging":
        """What `describe` returned, as a paging. Dicts, lists, tuples and None come back as they were.

        Nodes of other types, such as modules and named tuples, come back as an `OrderedDict` by the names of their
        fields, and static leaves as text: no code is looked for. The leaves keep their paths and places.

        **Raises:** `InvalidArgumentError` for anything that `describe` can't have returned.
        """
        return cls(*from_description(description))

    def __repr__(self) -> str:
        leaves = "1 leaf" if len(self.leaves) == 1 else f"{len(self.leaves)} leaves"
        pages = "1 page" if self.num_pages == 1 else f"{self.num_pages} pages"
        return f"Paging({leaves} on {pages} of {4 * self.page_words} bytes)"

    @functools.cached_property
    def _hash(self) -> int:  # jit asks for it with every call
        return hash((self.form, self.num_pages, self.page_words))

    @functools.cached_property
    def _by_path(self) -> dict[str, Leaf]:
        return {leaf.path: leaf for leaf in self.leaves}

    def _start(self, leaf: Leaf) -> int:
        return leaf.first_page * self.page_words + leaf.offset

    def _words_at(self, state: State, leaf: Leaf) -> UInt32[Array, " words"]:
        rows = state.rows(jnp.arange(leaf.pages.start, leaf.pages.stop, dtype=jnp.int32))
        return rows.reshape(-1)[leaf.offset : leaf.offset + leaf.words]

    def _check_state(self, state: Any) -> None:
        require_instance(state, State, "Paging.of(tree) makes one that fits")
        state.require_whole("a paging")
        if (state.num_pages, state.page_words) != (self.num_pages, self.page_words):
            raise InvalidArgumentError(
                f"got a state of {state.num_pages} pages of {state.page_words} words; this tree lies on "
                f"{self.num_pages} pages of {self.page_words}"
            )

    def _unknown(self, path: Any) -> PageNotFoundError:
        paths = list(self._by_path)
        near = difflib.get_close_matches(path, paths, n=1) if isinstance(path, str) else []
        hint = f"; did you mean {near[0]!r}?" if near else ""
        known = ", ".join(map(repr, paths[:5])) or "none"
        return PageNotFoundError(f"no leaf has the path {path!r}; there are {known}{', …' * (len(paths) > 5)}{hint}")


@functools.partial(jax.jit, static_argnums=0)
def _assembled(paging: Paging, words: Sequence[UInt32[Array, " _"]]) -> UInt32[Array, "pages words"]:
    """Words and the gaps behind them, in one row."""
    at = 0
    pieces: list[Array] = []
    for leaf, flat in sorted(zip(paging.leaves, words, strict=True), key=lambda pair: paging._start(pair[0])):
        if leaf.words:
            start = paging._start(leaf)
            pieces += [jnp.zeros(start - at, jnp.uint32), flat]
            at = start + leaf.words
    pieces.append(jnp.zeros(paging.num_pages * paging.page_words - at, jnp.uint32))
    return jnp.concatenate(pieces).reshape(paging.num_pages, paging.page_words)


def _is_below(path: str, node: str) -> bool:
    rest = path.removeprefix(node)
    return path.startswith(node) and (not rest or not node or rest[0] in ".[")
