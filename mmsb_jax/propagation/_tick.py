"""The tick: time moves on by one, deltas arrive, changes spread, invariants are looked at. One pure function."""

from collections.abc import Sequence
from typing import Any

import equinox as eqx
from jaxtyping import Array, ArrayLike, Bool, Int32, UInt32

from ..page import DeltaBatch, digest, merge, rejected, settle
from ..physical import State
from ._invariant import Invariant, broken
from ._plan import RuleGraph
from ._wave import WaveReport, propagate

__all__ = ["Ticked", "arrive", "spread", "tick"]


class Ticked(eqx.Module):
    """What a tick leaves behind. See `tick` for an example."""

    state: State
    digest: UInt32[Array, "2"]
    """`mmsb.digest(state)`, computed from the changed words alone."""
    deltas: DeltaBatch
    """Everything that changed: the arrived rows that made a difference, then the wave's. `dropped` counts changed pages
    that found no row; they are in the state, stamped with its tick."""
    rejected: Int32[Array, ""]
    """Arrived rows that named an impossible page. They changed nothing."""
    wave: WaveReport
    broken: Bool[Array, " invariants"]
    """Which of the invariants don't hold of the new state, in the order in which they were passed. The state is what it
    is all the same: whoever passed them decides."""


def tick(
    state: State,
    graph: RuleGraph | None,
    deltas: DeltaBatch,
    *,
    digest_before: UInt32[Array, "2"] | None = None,
    capacity: int | None = None,
    source: ArrayLike = 0,
    invariants: Sequence[Invariant] | Any = (),
) -> Ticked:
    """Advance the state, apply the deltas, and let what changed propagate.

    **Arguments:**

    - `graph`: the pages' rules; None: nothing propagates.
    - `deltas`: in any order of pages; words that don't differ from the state are sifted out.
    - `digest_before`: `mmsb.digest(state)`, which the last tick has returned; None: computed here, from all pages.
    - `capacity`: rows for the wave's deltas (static); by default one for every page.
    - `source`: int32, written into the wave's deltas.
    - `invariants`: what should hold of the new state; see `Invariant`.

    **Returns:** `Ticked`.

    Jit it with the state donated, and pages are changed in place:

    ```python
    >>> import mmsb_jax as mmsb, jax, jax.numpy as jnp
    >>> step = jax.jit(mmsb.tick, static_argnames="capacity", donate_argnames="state")
    >>> state = mmsb.State.create(4, page_bytes=4)
    >>> deltas = mmsb.DeltaBatch.make(state, [2, 3], jnp.array([[5], [0]], jnp.int32))
    >>> ticked = step(state, None, deltas, digest_before=mmsb.digest(state), capacity=0)
    >>> int(ticked.state.tick), ticked.deltas.page.tolist()
    (1, [2, 4])

    ```
    """
    arrived = arrive(state, deltas, digest_before)
    ticked = spread(arrived, graph, capacity=capacity, source=source)
    return eqx.tree_at(lambda t: t.broken, ticked, broken(ticked.state, invariants))


def arrive(state: State, deltas: DeltaBatch, digest_before: UInt32[Array, "2"] | None) -> Ticked:
    """The first phase of a tick: deltas applied, nothing propagated, nothing looked at."""
    if digest_before is None:
        digest_before = digest(state)
    bad = rejected(state, deltas)
    state, settled, change = settle(state.advance(), deltas)
    return Ticked(state, digest_before + change, settled, bad, WaveReport.nothing(), broken(state, ()))


def spread(arrived: Ticked, graph: RuleGraph | None, *, capacity: int | None, source: ArrayLike) -> Ticked:
    """The second phase: what arrived is propagated."""
    if graph is None:
        return arrived
    wave = propagate(graph, arrived.state, arrived.deltas.page, capacity=capacity, source=source)
    return Ticked(
        wave.state,
        arrived.digest + wave.digest_change,
        merge(arrived.deltas, wave.deltas),
        arrived.rejected,
        wave.report,
        arrived.broken,
    )
