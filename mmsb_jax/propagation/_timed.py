"""A tick phase by phase, with the time that each takes."""

import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
from jaxtyping import Array, ArrayLike, UInt32

from .._errors import InvalidArgumentError
from ..page import DeltaBatch
from ..physical import State
from ._invariant import Invariant, broken
from ._plan import RuleGraph
from ._tick import Ticked, arrive, spread

__all__ = ["TickTimes", "timed_tick"]


class TickTimes(NamedTuple):
    """Milliseconds of the phases of a tick, and what it was allowed to take. See `timed_tick` for an example."""

    apply_ms: float
    propagate_ms: float
    check_ms: float
    budget_ms: float

    @property
    def total_ms(self) -> float:
        """All phases together."""
        return self.apply_ms + self.propagate_ms + self.check_ms

    @property
    def within_budget(self) -> bool:
        """Whether the tick took no longer than it was allowed to."""
        return self.total_ms <= self.budget_ms

    def __str__(self) -> str:
        phases = f"apply {self.apply_ms:.2f} ms, propagate {self.propagate_ms:.2f} ms, check {self.check_ms:.2f} ms"
        verdict = "within" if self.within_budget else "OVER"
        return f"{phases}: {self.total_ms:.2f} ms, {verdict} the budget of {self.budget_ms:g} ms"


def timed_tick(
    state: State,
    graph: RuleGraph | None,
    deltas: DeltaBatch,
    *,
    digest_before: UInt32[Array, "2"] | None = None,
    capacity: int | None = None,
    source: ArrayLike = 0,
    invariants: Sequence[Invariant] | Any = (),
    budget_ms: float | Any = 16.0,
) -> tuple[Ticked, TickTimes]:
    """`tick` on the host, as three jitted phases, each waited for and timed. The same bits as `tick`.

    The first call with arrays of some shape also compiles, and its times say so. Waiting between phases costs
    something: the whole tick in one `jit` takes less. `state` isn't donated, so its pages are copied once, in `apply`.

    **Arguments:** those of `tick`, and `budget_ms`, positive.

    **Returns:** what `tick` returns, and the times.

    **Raises:** as `tick` does; `InvalidArgumentError` for a budget that isn't positive.

    ```python
    >>> import mmsb_jax as mmsb, jax.numpy as jnp
    >>> state = mmsb.State.create(4, page_bytes=4)
    >>> deltas = mmsb.DeltaBatch.make(state, [2], jnp.array([[5]], jnp.int32))
    >>> ticked, times = mmsb.propagation.timed_tick(state, None, deltas, budget_ms=1e6)
    >>> int(ticked.state.tick), times.within_budget
    (1, True)

    ```
    """
    if not budget_ms > 0:
        raise InvalidArgumentError(f"got budget_ms={budget_ms}; pass how many milliseconds a tick may take")
    arrived, apply_ms = _timed(_arrive, state, deltas, digest_before)
    rest = eqx.tree_at(lambda t: t.state, arrived, None)
    ticked, propagate_ms = _timed(_spread, arrived.state, rest, graph, capacity=capacity, source=source)
    found, check_ms = _timed(_broken, ticked.state, tuple(invariants))
    whole = eqx.tree_at(lambda t: t.broken, ticked, found)
    return whole, TickTimes(apply_ms, propagate_ms, check_ms, float(budget_ms))


def _timed(phase: Callable[..., Any], *args: Any, **options: Any) -> tuple[Any, float]:
    start = time.perf_counter()
    done = jax.block_until_ready(phase(*args, **options))
    return done, 1e3 * (time.perf_counter() - start)


def _spread_from(
    state: State, rest: Any, graph: RuleGraph | None, *, capacity: int | None, source: ArrayLike
) -> Ticked:
    """`spread`, of a state that may be used up, and of the rest of what arrived."""
    arrived = eqx.tree_at(lambda t: t.state, rest, state, is_leaf=lambda x: x is None)
    return spread(arrived, graph, capacity=capacity, source=source)


_arrive = jax.jit(arrive)
_spread = jax.jit(_spread_from, static_argnames="capacity", donate_argnames="state")
_broken = jax.jit(broken)
