"""What the table of bad input is made of: a desk with a bus in use, and rows of calls that have to fail."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import mmsb_jax as mmsb
from mmsb_jax import (
    DeltaBatch,
    Rule,
    RuleGraph,
    State,
    Term,
    semiring,
)

PAGE_BYTES, WORDS, CAPACITY = 16, 4, 8


class Desk:
    """A bus in use, and things that don't belong to it. Bad calls leave no trace, so one desk serves all rows."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.path = folder, folder / "run.mmsb"
        self.bus = mmsb.start(self.path, page_bytes=PAGE_BYTES, capacity=CAPACITY)
        self.a = self.bus.create_page(16, name="a")
        self.b, self.c = self.bus.create_page(16, name="b"), self.bus.create_page(16)
        self.wide = self.bus.create_page(40, name="wide")
        self.gone = self.bus.create_page(16)
        self.bus.delete_page(self.gone)
        self.bus.add_dependency(self.a, self.b, weight=2)
        self.bus.add_rule(rule([self.b.id]))
        self.bus.update_page(self.a, np.arange(4, dtype=np.float32))
        self.bus.propagate()
        self.bus.update_page(self.c, np.arange(4, dtype=np.float32))  # and this one waits
        self.state = self.bus.state
        self.deltas = DeltaBatch.make(self.state, [0], np.zeros(WORDS, np.float32))
        self.graph, self.plan = self.bus.graph, RuleGraph.of(self.bus.graph, [rule([1])])
        self.closed = mmsb.start(page_bytes=PAGE_BYTES, capacity=CAPACITY)
        self.closed.create_page(16, name="a")
        self.closed.stop()
        with mmsb.start(page_bytes=PAGE_BYTES, capacity=CAPACITY) as other:
            self.stranger = other.create_page(16)
        with mmsb.start(folder / "other.mmsb", page_bytes=PAGE_BYTES, capacity=CAPACITY) as other:
            other.create_page(16)
        (folder / "file").write_text("hello")
        (folder / "foreign").mkdir()
        (folder / "foreign" / "notes.txt").write_text("hello")
        self.writes = 0

    def everything(self) -> dict[str, Any]:
        """All that a bad call might have touched."""
        bus = self.bus
        return {
            "digest": (bus.digest(), tuple(mmsb.digest(bus.state).tolist())),
            "stats": dataclasses.asdict(bus.stats()),
            "pages": [repr(page) for page in bus.pages],
            "edges": [bus.graph.parent.tolist(), bus.graph.child.tolist(), bus.graph.weight.tolist()],
            "epochs": bus.state.epoch.tolist(),
            # Not the mark: whoever opens a run vouches in it for what was found.
            "files": {str(f): f.read_bytes() for f in self.folder.rglob("*") if f.is_file() and f.name != "mark"},
            "bus": repr(bus),
        }

    def work(self) -> None:
        """The bus still does what it should."""
        self.writes += 1
        self.bus.update_page(self.a, np.full(WORDS, self.writes, np.float32))
        assert self.bus.query_page("a", dtype=np.float32).tolist() == [self.writes] * WORDS
        self.bus.propagate("a")
        assert self.bus.query_page("b", dtype=np.float32)[0] == 2 * self.writes


def rule(pages: Any, **options: Any) -> Rule:
    return Rule("double", **{"pages": pages, "terms": [TERM], "update": put_first} | options)


def put_first(own: Any, total: Any) -> Any:
    return own.at[0].set(jax.lax.bitcast_convert_type(total, jnp.uint32))


TERM = Term(semiring.plus_times, lambda p: jax.lax.bitcast_convert_type(p[0], jnp.float32), weighted=True)


class Row(NamedTuple):
    """A call that has to fail, with which error, and a piece of its text."""

    call: Callable[[Desk], Any]
    error: type[Exception]
    text: str


def small(words: int = 2, pages: int = CAPACITY) -> State:
    return State.create(pages, page_bytes=4 * words)


def ones() -> jax.Array:
    return jnp.ones((1, WORDS), jnp.uint32)
