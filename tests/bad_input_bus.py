"""Bad input of the bus, and of what opens a run."""

import math
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import mmsb_jax as mmsb
from mmsb_jax import (
    DeltaBatch,
    GraphCycleError,
    InvalidArgumentError,
    InvalidDeltaError,
    InvalidTypeError,
    PageNotFoundError,
    Term,
    semiring,
)
from tests.bad_input import CAPACITY, WORDS, Desk, Row, ones, rule, small


def with_leaf(deltas: DeltaBatch, **leaves: Any) -> DeltaBatch:
    """A batch put together by hand, past `make`."""
    for name, leaf in leaves.items():
        object.__setattr__(deltas, name, leaf)
    return deltas


def batch(desk: Desk, **leaves: Any) -> DeltaBatch:
    return with_leaf(DeltaBatch.make(desk.state, [0], np.zeros(WORDS, np.float32)), **leaves)


def endless() -> dict:
    loop: dict = {}
    loop["self"] = loop
    return loop


def deep() -> dict:
    nested: Any = 0
    for _ in range(100_000):
        nested = [nested]
    return {"nested": nested}


ODD_TEXT = "\ud800"
WHOLE = "pass a whole number"
ODD_PAGES = {
    "None": (None, InvalidTypeError, "pass a Page, its first id, or its name"),
    "float": (0.0, InvalidTypeError, "float"),
    "bool": (True, InvalidTypeError, "bool"),
    "numpy bool": (np.True_, InvalidTypeError, "bool"),
    "bytes": (b"a", InvalidTypeError, "bytes"),
    "two ids": (np.array([0, 1]), InvalidTypeError, "ndarray"),
    "list": ([0], InvalidTypeError, "list"),
    "unknown id": (7, PageNotFoundError, "no page begins at id 7"),
    "inner id": (4, PageNotFoundError, "no page begins at id 4"),
    "negative id": (-1, PageNotFoundError, "no page begins at id -1"),
    "huge id": (2**70, PageNotFoundError, "never created"),
    "unknown name": ("Ab", PageNotFoundError, "no page named 'Ab'; names on this bus: 'a', 'b', 'wide'"),
    "odd name": (ODD_TEXT, PageNotFoundError, "no page named"),
    "empty name": ("", PageNotFoundError, "no page named ''"),
}
PAGE_CALLS = {
    "page": lambda bus, page: bus.page(page),
    "query_page": lambda bus, page: bus.query_page(page),
    "update_page": lambda bus, page: bus.update_page(page, bytes(16), source="never seen", intent="never"),
    "delete_page": lambda bus, page: bus.delete_page(page),
}
ODD_ID_LISTS = {
    "None inside": ([None], InvalidTypeError, "object"),
    "floats": ([0.0, 1.0], InvalidTypeError, "float64"),
    "jax floats": (jnp.array([0.0]), InvalidTypeError, "float32"),
    "bools": ([True], InvalidTypeError, "bool"),
    "a mask": (np.zeros(CAPACITY, np.bool_), InvalidTypeError, "bool"),
    "two dimensions": ([[0, 1]], InvalidTypeError, r"shape (1, 2)"),
    "ragged": ([[0], [0, 1]], InvalidTypeError, "regular array"),
    "generator": ((i for i in [0]), InvalidTypeError, "object"),
    "set": ({0}, InvalidTypeError, "object"),
    "dict": ({"a": 1}, InvalidTypeError, "object"),
    "unknown": ([0, 7], PageNotFoundError, "page 7 doesn't exist"),
    "negative": (-1, PageNotFoundError, "page -1 doesn't exist"),
    "beyond int32": ([2**40], PageNotFoundError, "1099511627776"),
    "beyond int64": (np.array([2**64 - 1], np.uint64), PageNotFoundError, "18446744073709551615"),
    "unknown name": (["a", "nope"], PageNotFoundError, "'nope'"),
    "bytes": (b"a", InvalidTypeError, "dtype"),
}
ID_CALLS = {
    "add_dependency parent": lambda bus, ids: bus.add_dependency(ids, "c"),
    "add_dependency child": lambda bus, ids: bus.add_dependency("a", ids),
    "remove_dependency": lambda bus, ids: bus.remove_dependency(ids, "b"),
    "propagate": lambda bus, ids: bus.propagate(ids),
    "propagate deferred": lambda bus, ids: bus.propagate(ids, "deferred"),
}
ODD_SIZES = {
    "zero": (0, InvalidArgumentError, "size=0; a page has at least one byte"),
    "negative": (-5, InvalidArgumentError, "size=-5"),
    "float": (4.0, InvalidTypeError, WHOLE),
    "NaN": (math.nan, InvalidTypeError, WHOLE),
    "numpy float": (np.float32(4), InvalidTypeError, WHOLE),
    "bool": (True, InvalidTypeError, WHOLE),
    "str": ("16", InvalidTypeError, WHOLE),
    "None": (None, InvalidTypeError, WHOLE),
    "array": (np.array([4]), InvalidTypeError, WHOLE),
    "too large": (10**6, mmsb.CapacityError, "or delete pages first"),
    "beyond int64": (2**70, mmsb.CapacityError, "of 8 are in use"),
}
ODD_METADATA = {
    "list": ([1], InvalidTypeError, "a dict with strings as keys"),
    "str": ("x", InvalidTypeError, "a dict"),
    "int key": ({1: 2}, InvalidTypeError, "the key 1"),
    "array": ({"x": np.arange(3)}, InvalidArgumentError, "ndarray is not JSON serializable"),
    "numpy scalar": ({"x": np.float32(1)}, InvalidArgumentError, "`.item()`"),
    "NaN": ({"x": [math.nan]}, InvalidArgumentError, "JSON"),
    "bytes": ({"x": b"1"}, InvalidArgumentError, "bytes is not JSON"),
    "endless": (endless(), InvalidArgumentError, "Circular"),
    "deep": (deep(), InvalidArgumentError, "recursion"),
}
ODD_DATA = {
    "None": (None, InvalidTypeError, "NoneType"),
    "too short": (bytes(15), InvalidDeltaError, "got 15 bytes for Page('a', id 0, 16 bytes); pass exactly 16"),
    "too long": (np.zeros(5, np.float32), InvalidDeltaError, "got 20 bytes"),
    "wrong dtype": (np.zeros(4), InvalidDeltaError, "dtype float64, shape (4,) was passed"),
    "empty": (b"", InvalidDeltaError, "got 0 bytes"),
    "str": ("abcd", InvalidTypeError, "text.encode()"),
    "numpy str": (np.array("abcd"), InvalidTypeError, "text.encode()"),
    "objects": (np.array([None, 1]), InvalidTypeError, "object"),
    "ragged": ([[1], [1, 2]], InvalidTypeError, "no regular array"),
    "generator": ((i for i in range(4)), InvalidTypeError, "generator"),
    "dict": ({"x": 1}, InvalidTypeError, "dict"),
    "key": (jax.random.key(0), InvalidTypeError, "key_data"),
    "int": (5, InvalidDeltaError, "got 8 bytes"),
    "huge int": (2**100, InvalidTypeError, "object"),
    "open file": (sys.stderr, InvalidTypeError, "object"),
}
ODD_TEXTS = {
    "None": (None, InvalidTypeError, "pass a string"),
    "int": (5, InvalidTypeError, "pass a string"),
    "bytes": (b"x", InvalidTypeError, "pass a string"),
    "list": (["x"], InvalidTypeError, "pass a string"),
    "surrogate": (ODD_TEXT, InvalidArgumentError, "UTF-8"),
}
ODD_DTYPES = {
    "nonsense": ("nonsense", InvalidTypeError, "isn't one"),
    "object": (object, InvalidTypeError, "fixed size"),
    "str": (str, InvalidTypeError, "fixed size"),
    "None": (None, InvalidTypeError, "fixed size"),
    "int": (4, InvalidTypeError, "isn't one"),
    "array": (np.zeros(2), InvalidTypeError, "isn't one"),
    "too wide": (np.dtype("V12"), InvalidArgumentError, "16 bytes aren't a multiple of 12"),
}
ODD_BATCHES = {
    "None": (lambda d: None, InvalidTypeError, "pass a DeltaBatch"),
    "state": (lambda d: d.state, InvalidTypeError, "pass a DeltaBatch"),
    "other pages": (lambda d: DeltaBatch.empty(small()), InvalidDeltaError, "pages of 2 words; the pages of this bus"),
    "dead page": (lambda d: DeltaBatch.make(d.state, [7], ones()), InvalidDeltaError, "names page 7"),
    "deleted": (lambda d: DeltaBatch.make(d.state, d.gone.ids, ones()), InvalidDeltaError, "names page 6, which was"),
    "negative": (lambda d: batch(d, page=jnp.array([-1])), InvalidDeltaError, "names page -1"),
    "beyond": (lambda d: batch(d, page=jnp.array([CAPACITY + 1])), InvalidDeltaError, "names page 9"),
    "source": (lambda d: DeltaBatch.make(d.state, [0], ones(), source=99), InvalidDeltaError, "source 99"),
    "negative source": (lambda d: DeltaBatch.make(d.state, [0], ones(), source=-1), InvalidDeltaError, "source -1"),
    "dropped": (lambda d: batch(d, dropped=jnp.int32(3)), InvalidDeltaError, "incomplete: 3 rows"),
    "mask of bools": (lambda d: batch(d, mask=jnp.ones((1, 4), bool)), InvalidDeltaError, "mask has dtype bool"),
    "mask too long": (lambda d: batch(d, mask=jnp.ones((2, 1), jnp.uint32)), InvalidDeltaError, "shape (2, 1)"),
    "float words": (lambda d: batch(d, words=jnp.ones((1, 4))), InvalidDeltaError, "words has dtype float32"),
    "more words": (lambda d: batch(d, words=jnp.ones((2, 4), jnp.uint32)), InvalidDeltaError, "shape (2, 4)"),
    "float pages": (lambda d: batch(d, page=jnp.zeros(1)), InvalidDeltaError, "page has dtype float32"),
    "one page": (lambda d: batch(d, page=jnp.int32(0)), InvalidDeltaError, "page has dtype int32 and shape ()"),
    "many batches": (
        lambda d: jax.tree.map(lambda x: jnp.stack([x, x]), d.deltas),
        InvalidDeltaError,
        "page has dtype int32 and shape (2, 1)",
    ),
}


def bus_rows() -> dict[str, Row]:
    rows = {}
    for call, run in PAGE_CALLS.items():
        for what, (page, error, text) in ODD_PAGES.items():
            rows[f"{call}: {what}"] = Row(lambda d, run=run, page=page: run(d.bus, page), error, text)
        rows[f"{call}: deleted"] = Row(lambda d, run=run: run(d.bus, d.gone), PageNotFoundError, "it was deleted")
        rows[f"{call}: stranger"] = Row(lambda d, run=run: run(d.bus, d.stranger), PageNotFoundError, "another bus")
    for call, run in ID_CALLS.items():
        for what, (ids, error, text) in ODD_ID_LISTS.items():
            rows[f"{call}: {what}"] = Row(lambda d, run=run, ids=ids: run(d.bus, ids), error, text)
        rows[f"{call}: deleted"] = Row(lambda d, run=run: run(d.bus, [d.a, d.gone]), PageNotFoundError, "deleted")
    tables: dict[str, tuple[dict, Callable[[mmsb.Bus, Any], Any]]] = {
        "create_page size": (ODD_SIZES, lambda bus, size: bus.create_page(size)),
        "create_page metadata": (ODD_METADATA, lambda bus, metadata: bus.create_page(4, metadata=metadata)),
        "update_page data": (ODD_DATA, lambda bus, data: bus.update_page("a", data, source="never seen")),
        "update_page source": (ODD_TEXTS, lambda bus, text: bus.update_page("a", bytes(16), source=text)),
        "source_id": (ODD_TEXTS, lambda bus, text: bus.source_id(text)),
        "query_page dtype": (ODD_DTYPES, lambda bus, dtype: bus.query_page("a", dtype=dtype)),
    }
    for call, (table, run) in tables.items():
        for what, (value, error, text) in table.items():
            rows[f"{call}: {what}"] = Row(lambda d, run=run, value=value: run(d.bus, value), error, text)
    for what, (make, error, text) in ODD_BATCHES.items():
        rows[f"apply: {what}"] = Row(lambda d, make=make: d.bus.apply(make(d)), error, text)
    for what, (value, error, text) in list(ODD_TEXTS.items())[1:]:
        intent = {"intent": value}
        rows[f"update_page intent: {what}"] = Row(
            lambda d, i=intent: d.bus.update_page("a", bytes(16), source="never seen", **i), error, text
        )
        rows[f"apply intent: {what}"] = Row(lambda d, i=intent: d.bus.apply(d.deltas, **i), error, text)
        rows[f"propagate intent: {what}"] = Row(lambda d, i=intent: d.bus.propagate("c", **i), error, text)
        rows[f"create_page name: {what}"] = Row(lambda d, v=value: d.bus.create_page(4, name=v), error, text)
    return rows


ROWS: dict[str, Row] = (
    bus_rows()
    | {
        "create_page name: empty": Row(lambda d: d.bus.create_page(4, name=""), InvalidArgumentError, "name=''"),
        "create_page name: taken": Row(
            lambda d: d.bus.create_page(4, name="a"), InvalidArgumentError, "named 'a' already"
        ),
        "create_page location": Row(lambda d: d.bus.create_page(4, location="disk"), InvalidArgumentError, "'unified'"),
        "create_page location: None": Row(lambda d: d.bus.create_page(4, location=None), InvalidArgumentError, "None"),
        "update_page: inside jit": Row(
            lambda d: jax.jit(lambda x: d.bus.update_page("a", x))(jnp.zeros(4)),
            InvalidTypeError,
            "inside use mmsb.tick",
        ),
        "apply: inside jit": Row(lambda d: jax.jit(d.bus.apply)(d.deltas), InvalidTypeError, "inside use mmsb.tick"),
        "delete_page: has edges": Row(lambda d: d.bus.delete_page("a"), InvalidArgumentError, "0 -> 1; remove them"),
        "add_dependency: cycle": Row(
            lambda d: d.bus.add_dependency("b", "a", weight=1), GraphCycleError, "0 -> 1 -> 0"
        ),
        "add_dependency: again": Row(
            lambda d: d.bus.add_dependency("a", "b", weight=5),
            InvalidArgumentError,
            "0 -> 1 is a data dependency already",
        ),
        "add_dependency: twice in a call": Row(
            lambda d: d.bus.add_dependency([1, 1], [2, 2], weight=5), InvalidArgumentError, "or is passed twice"
        ),
        "replay: tick in the future": Row(lambda d: d.bus.replay(10**9), InvalidArgumentError, "the log ends at tick"),
        "batch: unknown page": Row(
            lambda d: d.bus.batch([7], np.zeros((1, 4), np.uint32)), PageNotFoundError, "page 7"
        ),
        "add_dependency: itself": Row(lambda d: d.bus.add_dependency("c", "c"), PageNotFoundError, "no page named 'c'"),
        "add_dependency: loop": Row(lambda d: d.bus.add_dependency(d.c, d.c), GraphCycleError, "depends on itself"),
        "add_dependency: lengths": Row(
            lambda d: d.bus.add_dependency([0, 2], d.wide), InvalidArgumentError, "2 parents and 3 children"
        ),
        "add_dependency: one side empty": Row(
            lambda d: d.bus.add_dependency([], "a"), InvalidArgumentError, "0 parents and 1 children"
        ),
        "add_dependency: kind": Row(lambda d: d.bus.add_dependency("a", d.c, "date"), InvalidArgumentError, "'data'"),
        "add_dependency: kind 9": Row(lambda d: d.bus.add_dependency("a", d.c, 9), InvalidArgumentError, "0 to 3"),
        "add_dependency: kind None": Row(lambda d: d.bus.add_dependency("a", d.c, None), InvalidTypeError, "NoneType"),
        "add_dependency: kinds": Row(lambda d: d.bus.add_dependency("a", d.c, ["data"]), InvalidTypeError, "list"),
        "add_dependency: needs a weight": Row(
            lambda d: d.bus.add_dependency(d.c, "b"), InvalidArgumentError, "2 -> 1 has no weight; pass weight"
        ),
        "remove_dependency: none there": Row(
            lambda d: d.bus.remove_dependency("a", d.c), InvalidArgumentError, "there is no edge 0 -> 2 to remove"
        ),
        "remove_dependency: several": Row(
            lambda d: d.bus.remove_dependency("a", "wide"), InvalidArgumentError, "remove one edge at a time"
        ),
        "propagate: mode": Row(
            lambda d: d.bus.propagate("a", "now"), InvalidArgumentError, "'immediate', 'deferred' or"
        ),
        "propagate: mode None": Row(lambda d: d.bus.propagate("a", None), InvalidArgumentError, "mode=None"),
        "add_rule: None": Row(lambda d: d.bus.add_rule(None), InvalidTypeError, "pass a Rule"),
        "add_rule: twice": Row(lambda d: d.bus.add_rule(rule([1])), InvalidArgumentError, "page 1 has two rules"),
        "add_rule: dead page": Row(lambda d: d.bus.add_rule(rule([7])), PageNotFoundError, "page 7 doesn't exist"),
        "add_rule: returns": Row(
            lambda d: d.bus.add_rule(rule([2], update=lambda own, x: own[:1])), InvalidTypeError, "the page's new words"
        ),
        "add_rule: reads": Row(
            lambda d: d.bus.add_rule(rule([2], terms=[Term(semiring.or_and, lambda p: (p, p))])),
            InvalidTypeError,
            "one array",
        ),
    }
    | {
        f"closed bus: {what}": Row(lambda d, run=run: run(d.closed), mmsb.BusClosedError, "start(path)")
        for what, run in {
            "create_page": lambda bus: bus.create_page(4),
            "update_page": lambda bus: bus.update_page("a", bytes(16)),
            "query_page": lambda bus: bus.query_page("a"),
            "delete_page": lambda bus: bus.delete_page("a"),
            "add_dependency": lambda bus: bus.add_dependency("a", "a"),
            "remove_dependency": lambda bus: bus.remove_dependency("a", "a"),
            "add_rule": lambda bus: bus.add_rule(rule([0])),
            "propagate": lambda bus: bus.propagate(),
            "apply": lambda bus: bus.apply(DeltaBatch.empty(small(WORDS))),
            "source_id": lambda bus: bus.source_id("new"),
            "state": lambda bus: bus.state,
        }.items()
    }
)
for _what, (_weight, _error, _text) in {
    "str": ("heavy", InvalidTypeError, "weight has dtype"),
    "NaN": (math.nan, InvalidArgumentError, "weight of edge 0 is nan"),
    "beyond float32": (1e300, InvalidArgumentError, "below 3.4e38"),
    "too many": ([1, 2], InvalidArgumentError, "weight has shape (2,)"),
    "ragged": ([[1], [1, 2]], InvalidArgumentError, "no regular array"),
    "complex": (1j, InvalidTypeError, "complex128"),
}.items():
    ROWS[f"add_dependency weight: {_what}"] = Row(
        lambda d, w=_weight: d.bus.add_dependency("a", d.c, weight=w), _error, _text
    )

# Where a run may be, and of what size.
PLACES: dict[str, tuple[Callable[[Path], Any], type[Exception], str]] = {
    "int": (lambda f: 1, InvalidTypeError, "int"),
    "bytes": (lambda f: os.fsencode(f / "x"), InvalidTypeError, "bytes"),
    "list": (lambda f: [f], InvalidTypeError, "list"),
    "empty": (lambda f: "", InvalidArgumentError, "''"),
    "NUL": (lambda f: "a\0b", InvalidArgumentError, r"a\x00b"),
    "file": (lambda f: f / "file", mmsb.LogNotFoundError, "is a file"),
    "foreign": (lambda f: f / "foreign", mmsb.LogNotFoundError, "run.json does not exist"),
}
for _what, (_place, _error, _text) in PLACES.items():
    ROWS[f"start: {_what}"] = Row(lambda d, p=_place: mmsb.start(p(d.folder)), _error, _text)
    if _what not in ("empty", "NUL"):  # where nothing can be, nothing is found
        ROWS[f"replay: {_what}"] = Row(lambda d, p=_place: mmsb.replay(p(d.folder)), _error, _text)
for _what, (_options, _error, _text) in {
    "page_bytes zero": ({"page_bytes": 0}, InvalidArgumentError, "multiple of 4"),
    "page_bytes negative": ({"page_bytes": -4}, InvalidArgumentError, "multiple of 4"),
    "page_bytes odd": ({"page_bytes": 6}, InvalidArgumentError, "multiple of 4"),
    "page_bytes float": ({"page_bytes": 4.0}, InvalidTypeError, WHOLE),
    "page_bytes str": ({"page_bytes": "1024"}, InvalidTypeError, WHOLE),
    "page_bytes bool": ({"page_bytes": True}, InvalidTypeError, WHOLE),
    "capacity zero": ({"capacity": 0}, InvalidArgumentError, "room for at least one page"),
    "capacity negative": ({"capacity": -3}, InvalidArgumentError, "got capacity=-3"),
    "capacity beyond int32": ({"capacity": 2**31}, InvalidArgumentError, "between 1 and"),
    "capacity NaN": ({"capacity": math.nan}, InvalidTypeError, WHOLE),
    "capacity array": ({"capacity": np.array([1, 2])}, InvalidTypeError, WHOLE),
    "sync": ({"sync": "always"}, InvalidArgumentError, "'commit', 'group' or 'none'"),
    "sync list": ({"sync": ["commit"]}, InvalidArgumentError, "'commit', 'group' or 'none'"),
}.items():
    for _where in (None, "new.mmsb"):
        ROWS[f"start {_where}: {_what}"] = Row(
            lambda d, o=_options, w=_where: mmsb.start(w and d.folder / w, **o), _error, _text
        )
ROWS |= {
    "start: second writer": Row(lambda d: mmsb.start(d.path), mmsb.LogLockedError, "a run has one writer"),
    "start: other page size": Row(
        lambda d: mmsb.start(d.folder / "other.mmsb", page_bytes=32), InvalidArgumentError, "page_bytes=32, but the run"
    ),
    "start: other capacity": Row(
        lambda d: mmsb.start(d.folder / "other.mmsb", capacity=9), InvalidArgumentError, "capacity=9, but the run"
    ),
    "start: below a file": Row(lambda d: mmsb.start(d.folder / "file" / "x"), mmsb.LogFailedError, "can't be opened"),
    "replay: missing": Row(lambda d: mmsb.replay(d.folder / "nothing"), mmsb.LogNotFoundError, "does not exist"),
    "replay: None": Row(lambda d: mmsb.replay(None), InvalidTypeError, "NoneType"),
    "replay: negative tick": Row(lambda d: mmsb.replay(d.path, tick=-1), InvalidArgumentError, "=-1"),
    "replay: float tick": Row(lambda d: mmsb.replay(d.path, tick=1.5), InvalidTypeError, "float"),
    "replay: str tick": Row(lambda d: mmsb.replay(d.path, tick="1"), InvalidTypeError, "str"),
}
