"""The form of a tree: its structure, what its leaves are, and what in it is no data. Takes trees apart and together."""

import dataclasses
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import jax

from .._errors import InvalidArgumentError, InvalidTypeError
from ._carry import judge, named
from ._leaf import Leaf

__all__ = ["Form", "Static"]

_keystr = jax.tree_util.keystr


@dataclass(frozen=True)
class Static:
    """A leaf that is no data: a function, a text."""

    value: Any


@dataclass(frozen=True)
class Form:
    """Everything about a tree but the contents of its arrays. Hashable."""

    treedef: Any
    """A `PyTreeDef`."""
    leaves: tuple[Leaf, ...]
    """The leaves that are data, in the order of the tree."""
    statics: tuple[tuple[int, Hashable], ...]
    """The other leaves, each behind its number among all of them."""

    @classmethod
    def of(cls, tree: Any) -> "Form":
        """The form of a tree; its leaves have no place yet. Raises `InvalidTypeError`, which names the leaf."""
        with_path, treedef = jax.tree_util.tree_flatten_with_path(tree)
        judged = [judge(_keystr(path), value) for path, value in with_path]
        statics = tuple((i, with_path[i][1]) for i, leaf in enumerate(judged) if leaf is None)
        return cls(treedef, tuple(leaf for leaf in judged if leaf is not None), statics)

    def __post_init__(self) -> None:
        paths = [leaf.path for leaf in self.leaves]
        if len(set(paths)) < len(paths):
            twin = next(path for i, path in enumerate(paths) if path in paths[:i])
            raise InvalidArgumentError(
                f"two leaves of this tree have the path {twin!r}; give its nodes keys that differ"
            )

    def values(self, tree: Any) -> list[Any]:
        """The leaves of a tree of this form that are data. Raises `InvalidTypeError`, which names the first other."""
        with_path, treedef = jax.tree_util.tree_flatten_with_path(tree)
        if not _equal(treedef, self.treedef):
            raise InvalidTypeError(self._other_structure([_keystr(path) for path, _ in with_path], treedef))
        for wanted, (path, value) in zip(self.slots(), with_path, strict=True):
            _require_same(wanted, _keystr(path), value)
        statics = dict(self.statics)
        return [value for i, (_, value) in enumerate(with_path) if i not in statics]

    def unflatten(self, values: Sequence[Any]) -> Any:
        """A tree of this form with these values for its leaves."""
        rest = iter(values)
        return jax.tree.unflatten(
            self.treedef, [next(rest) if isinstance(slot, Leaf) else slot.value for slot in self.slots()]
        )

    def slots(self) -> list[Leaf | Static]:
        """All leaves in the order of the tree."""
        slots: list[Leaf | Static] = list(self.leaves)
        for i, value in self.statics:
            slots.insert(i, Static(value))
        return slots

    def _other_structure(self, paths: Sequence[str], treedef: Any) -> str:
        blank = jax.tree.unflatten(self.treedef, [0] * self.treedef.num_leaves)
        own = [_keystr(path) for path, _ in jax.tree_util.tree_flatten_with_path(blank)[0]]
        for path in own:
            if path not in paths:
                return f"{named(path)} is missing from this tree, which has {len(paths)} leaves"
        for path in paths:
            if path not in own:
                return f"{named(path)} isn't in the tree that was paged; make a paging of the new tree"
        return f"this tree has the structure {treedef}, and the one that was paged {self.treedef}"


def _equal(treedef: Any, other: Any) -> bool:
    try:
        return bool(treedef == other)
    except ValueError as why:
        raise InvalidTypeError(
            "the tree has static structure that can't be compared, such as an array in a static field of a module; "
            f"jit can't take it either ({why}). Make it a leaf, or a tuple"
        ) from why


def _require_same(wanted: Leaf | Static, path: str, value: Any) -> None:
    found = judge(path, value)
    if isinstance(wanted, Static):
        if found is not None or value != wanted.value:
            raise InvalidTypeError(f"{named(path)} is {value!r}, and {wanted.value!r} in the tree that was paged")
    elif found is None or _bare(found) != _bare(wanted):
        is_now = repr(value) if found is None else _shown(found)
        raise InvalidTypeError(f"{named(path)} is {is_now}, and {_shown(wanted)} in the tree that was paged")


def _bare(leaf: Leaf) -> Leaf:
    return dataclasses.replace(leaf, path="", pages=range(0), offset=0)


def _shown(leaf: Leaf) -> str:
    dtype = leaf.dtype.name if leaf.impl is None else f"key<{leaf.impl}>"
    return f"{dtype}[{', '.join(map(str, leaf.shape))}]"
