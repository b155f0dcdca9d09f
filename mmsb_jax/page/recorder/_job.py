"""What is asked of `record`, looked at from all sides before anything is written: step, state, inputs, layout."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import UInt32

from ..._errors import InvalidArgumentError
from ...physical import Paging
from ..history._replay import Replayed
from ..history._restore import verified_state
from ..log._about import About
from ._engine import pages_of
from ._plan import Program, planned
from ._step import struct_of, traced_select, traced_step
from ._xs import Inputs

__all__ = ["Job", "Start"]


class Start(NamedTuple):
    """Where a loop begins."""

    values: list[Any]
    """The leaves of the state."""
    outs: list[Any]
    """The leaves of what the last recorded step returned beside it."""
    tick: int
    pages: UInt32[np.ndarray, "pages W"]
    """The recorded tree, on the host."""


class Job:
    """A step that is to be recorded, traced, and the layout of what is recorded. Raises as `record`."""

    def __init__(
        self,
        step: Callable[..., Any] | Any,
        init: Any,
        steps: int,
        every: int,
        xs: Any,
        select: Callable[[Any], Any] | Any | None,
        page_bytes: int | Any,
    ) -> None:
        self.inputs = None if xs is None else Inputs(xs, steps, every)
        self._traced, self._values = traced_step(step, init, None if self.inputs is None else self.inputs.step)
        state, out = self._traced.state, self._traced.out
        self._select: Any = None
        part = state
        if select is not None:
            self._select, part = traced_select(select, state)
        if select is not None and not part.leaves:
            raise InvalidArgumentError("got select=…, which selects nothing that is data; return arrays of the state")
        tree = part.unflatten(list(map(struct_of, part.leaves)))
        if out is not None:
            tree = (tree, out.unflatten(list(map(struct_of, out.leaves))))
        self.paging = Paging.like(tree, page_bytes=page_bytes)
        self.about = About(self.paging, every, whole=select is None)

    def planner(self, max_changed: int | None) -> Callable[[frozenset[int], int | None], Program]:
        """`plan(whole, room)`: how to record it, when some leaves are known to change as a whole."""
        plan = partial(planned, self._traced, self._select, self.paging, single=self.about.every == 1)

        def made(whole: frozenset[int], room: int | None) -> Program:
            rooms = [number for number in (max_changed, room) if number is not None]
            return plan(max_changed=max(rooms, default=None), whole=whole)

        return made

    def beginning(self) -> Start:
        """The initial state, with zeros for outputs."""
        leaves = [] if self._traced.out is None else self._traced.out.leaves
        outs = [leaf.from_words(jnp.zeros(leaf.words, jnp.uint32)) for leaf in leaves]
        return Start(self._values, outs, 0, np.asarray(pages_of(self.paging, self._leaves(self._values, outs))))

    def continuation(self, before: Replayed) -> Start:
        """The state at a run's last commit. Raises `ReplayDivergenceError` when that isn't what its digest says."""
        verified_state(before)
        leaves = list(map(jnp.asarray, self.paging.form.values(self.paging.from_pages(before.pages))))
        records = [event.records for event in before.events if isinstance(event.records, tuple)]
        gone = any(record.op != "create" for several in records for record in several)
        if gone or not np.array_equal(np.asarray(pages_of(self.paging, leaves)), before.pages):
            raise InvalidArgumentError(
                "a bus has written to this run where no leaf lies, or has deleted or resized what leaves lie on: its "
                "state is no longer that of the step. Fork it at an earlier epoch, or go on with the bus"
            )
        states = len(self._traced.state.leaves)
        return Start(leaves[:states], leaves[states:], before.tick, before.pages)

    def recorded(self, start: Start) -> Any:
        """The tree that is recorded at the start."""
        return self.paging.form.unflatten(self._leaves(start.values, start.outs))

    def _leaves(self, values: Sequence[Any], outs: Sequence[Any]) -> list[Any]:
        if self._select is None:
            return [*values, *outs]
        return [*jax.core.eval_jaxpr(self._select.jaxpr, self._select.consts, *values), *outs]
