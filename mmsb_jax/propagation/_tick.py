"""The tick: time moves on by one, deltas arrive, changes spread. One pure function, meant to be jitted whole."""

import equinox as eqx
from jaxtyping import Array, ArrayLike, Int32, UInt32

from ..page import DeltaBatch, digest, merge, rejected, settle
from ..physical import State
from ._rule import RuleGraph
from ._wave import WaveReport, propagate

__all__ = ["Ticked", "tick"]


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


def tick(
    state: State,
    graph: RuleGraph | None,
    deltas: DeltaBatch,
    *,
    digest_before: UInt32[Array, "2"] | None = None,
    capacity: int | None = None,
    source: ArrayLike = 0,
) -> Ticked:
    """Advance the state, apply the deltas, and let what changed propagate.

    **Arguments:**

    - `graph`: the pages' rules; None: nothing propagates.
    - `deltas`: in any order of pages; words that don't differ from the state are sifted out.
    - `digest_before`: `mmsb.digest(state)`, which the last tick has returned; None: computed here, from all pages.
    - `capacity`: rows for the wave's deltas (static); by default one for every page.
    - `source`: int32, written into the wave's deltas.

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
    if digest_before is None:
        digest_before = digest(state)
    bad = rejected(state, deltas)
    state, settled, change = settle(state.advance(), deltas)
    moved = digest_before + change
    if graph is None:
        return Ticked(state, moved, settled, bad, WaveReport.nothing())
    wave = propagate(graph, state, settled.page, capacity=capacity, source=source)
    return Ticked(wave.state, moved + wave.digest_change, merge(settled, wave.deltas), bad, wave.report)
