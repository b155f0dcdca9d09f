"""A paging as data: what a log tells about its pages, so that a reader needs no code of the writer's.

The tree is told by its nodes. A number is a leaf, by its place in the list of leaves; null is None; `{"list": …}` and
`{"tuple": …}` hold children, `{"dict": …}` pairs of key and child; `{"node": type, "children": …}` is a node of any
other type, with its children by name; `{"static": text}` is a leaf that is no data.
"""

import itertools
import reprlib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

import jax

from .._errors import InvalidArgumentError
from ._form import Form, Static
from ._leaf import CARRIED, Leaf, key_words

__all__ = ["described", "from_description"]

_MOST_WORDS = 2**40
_DEEPEST = 200


def described(form: Form, num_pages: int, page_words: int) -> dict[str, Any]:
    """A paging's parts as data that JSON can carry."""
    numbers = itertools.count()
    values = [next(numbers) if isinstance(slot, Leaf) else slot for slot in form.slots()]
    return {
        "page_words": page_words,
        "num_pages": num_pages,
        "leaves": [_leaf_data(leaf) for leaf in form.leaves],
        "tree": _node(jax.tree.unflatten(form.treedef, values), 0),
    }


def _leaf_data(leaf: Leaf) -> dict[str, Any]:
    data = {"path": leaf.path, "dtype": leaf.dtype.name, "shape": list(leaf.shape), "kind": leaf.kind}
    impl = {} if leaf.impl is None else {"impl": str(leaf.impl)}
    return data | impl | {"page": leaf.first_page, "offset": leaf.offset}


def _node(node: Any, depth: int) -> Any:
    if depth > _DEEPEST:
        raise InvalidArgumentError(f"this tree is more than {_DEEPEST} nodes deep; flatten it to describe it")
    if node is None or type(node) is int:
        return node
    if isinstance(node, Static):
        return {"static": _static_text(node.value)}
    below, _ = jax.tree_util.tree_flatten_with_path(node, is_leaf=lambda x: x is not node)
    children = [_node(child, depth + 1) for _, child in below]
    if type(node) in (list, tuple):
        return {type(node).__name__: children}
    names = [_name(path[-1]) for path, _ in below]
    if type(node) is dict and all(isinstance(name, str | int) for name in names):
        return {"dict": [list(pair) for pair in zip(names, children, strict=True)]}
    unique = len(set(map(str, names))) == len(names)
    texts = map(str, names if unique else range(len(names)))
    return {"node": _type_name(type(node)), "children": [list(pair) for pair in zip(texts, children, strict=True)]}


def _name(entry: Any) -> Any:
    """The name of a child: an attribute, a dict's key, an index."""
    match entry:
        case jax.tree_util.GetAttrKey(name=name):
            return name
        case jax.tree_util.SequenceKey(idx=index):
            return index
        case jax.tree_util.DictKey(key=key) | jax.tree_util.FlattenedIndexKey(key=key):
            return key
    return str(entry)


def _static_text(value: Any) -> str:
    """A name that is the same in every process: no addresses."""
    if isinstance(value, str):
        return value
    named = value if hasattr(value, "__qualname__") else type(value)
    return f"<{_type_name(named)}>"


def _type_name(named: Any) -> str:
    return f"{getattr(named, '__module__', None) or ''}.{named.__qualname__}".lstrip(".")


def from_description(description: Any) -> tuple[Form, int, int]:
    """The parts of a paging. Raises `InvalidArgumentError`; nothing of the size of the data is ever allocated."""
    try:
        page_words, num_pages = _whole(description["page_words"], 1), _whole(description["num_pages"], 1)
        _require(num_pages < 2**31 - 1 and num_pages * page_words <= _MOST_WORDS, "too many pages")
        leaves = tuple(_leaf(data, page_words) for data in _list(description["leaves"]))
        _check_places(leaves, num_pages, page_words)
        reader = _Reader()
        values, treedef = jax.tree.flatten(reader.node(description["tree"], 0))
    except (KeyError, TypeError, ValueError, RecursionError) as why:
        raise InvalidArgumentError(f"this isn't the description of a paging: {why}") from why
    numbers = [value for value in values if not isinstance(value, Static)]
    if numbers != list(range(len(leaves))):
        raise InvalidArgumentError(
            f"this isn't the description of a paging: its tree must name its {len(leaves)} leaves once each, in order"
        )
    statics = tuple((i, value.value) for i, value in enumerate(values) if isinstance(value, Static))
    return Form(treedef, leaves, statics), num_pages, page_words


def _leaf(data: Any, page_words: int) -> Leaf:
    path, dtype, kind = _text(data["path"]), _text(data["dtype"]), data["kind"]
    shape = tuple(_whole(length, 0) for length in _list(data["shape"]))
    _require(dtype in CARRIED, f"{path}: no dtype is called {dtype!r}")
    _require(kind in ("array", "key"), f"{path}: no kind is called {kind!r}")
    _require(len(shape) <= 32, f"{path}: more dimensions than NumPy has")
    impl = None
    if kind == "key":
        impl = _text(data["impl"])
        key_words(impl)  # a ValueError when there is none of this name
        _require(dtype == "uint32", f"{path}: the data of keys is uint32, not {dtype}")
    page, offset = _whole(data["page"], 0), _whole(data["offset"], 0)
    words = Leaf(path, CARRIED[dtype], shape, impl).words
    _require(words <= _MOST_WORDS, f"{path}: too large")
    _require(offset < page_words, f"{path}: it begins behind the end of its page")
    pages = range(page, page + -(-(offset + words) // page_words)) if words else range(0)
    return Leaf(path, CARRIED[dtype], shape, impl, pages, offset if words else 0)


def _check_places(leaves: Sequence[Leaf], num_pages: int, page_words: int) -> None:
    at, before = 0, ""
    for start, leaf in sorted(
        ((leaf.first_page * page_words + leaf.offset, leaf) for leaf in leaves if leaf.words), key=lambda pair: pair[0]
    ):
        _require(start >= at, f"{leaf.path} and {before} overlap")
        at, before = start + leaf.words, leaf.path
    _require(at <= num_pages * page_words, f"{before} ends behind the last page")
    _require(len({leaf.path for leaf in leaves}) == len(leaves), "two leaves have the same path")


class _Reader:
    """Builds a tree of numbers, with `Static` for what is no data."""

    def node(self, data: Any, depth: int) -> Any:
        """One node and all below it."""
        _require(depth <= _DEEPEST, "its tree is too deep")
        if data is None:
            return None
        if not isinstance(data, dict):
            return _whole(data, 0)
        match data:
            case {"static": text, **rest}:
                found: Any = Static(_text(text))
            case {"list": children, **rest}:
                found = [self.node(child, depth + 1) for child in _list(children)]
            case {"tuple": children, **rest}:
                found = tuple(self.node(child, depth + 1) for child in _list(children))
            case {"dict": pairs, **rest}:
                found = self._keyed(dict, pairs, (str, int), depth)
            case {"node": name, "children": pairs, **rest}:
                _text(name)
                found = self._keyed(OrderedDict, pairs, (str,), depth)
            case _:
                raise ValueError(f"a node has the fields {reprlib.repr(list(data))}")
        _require(not rest, f"a node has the fields {reprlib.repr(list(data))}")
        return found

    def _keyed(self, make: Callable[[Any], Any], pairs: Any, kinds: tuple[type, ...], depth: int) -> Any:
        children = []
        for key, child in _list(pairs):
            _require(isinstance(key, kinds), f"{reprlib.repr(key)} can't be a key")
            children.append((key, self.node(child, depth + 1)))
        found = make(children)
        _require(len(found) == len(children), "a key occurs twice")
        return found


def _whole(value: Any, least: int) -> int:
    if type(value) is not int or value < least:
        raise ValueError(f"{reprlib.repr(value)} isn't a whole number from {least} on")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{reprlib.repr(value)} isn't text")
    return value


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError(f"{reprlib.repr(value)} isn't a list")
    return value


def _require(holds: bool, why: str) -> None:
    if not holds:
        raise ValueError(why)
