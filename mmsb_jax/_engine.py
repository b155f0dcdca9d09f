"""The device's side of a bus: the present state, and the jitted functions that lead to the next one.

Nothing here knows of logs or names. A step is prepared first (`tick`, `wave`, `erase`) and becomes the present by
`adopt`, once its changes are safe.
"""

import functools
import operator
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int32, UInt32

from ._device import on_device
from ._residency import Residency
from .page import DeltaBatch, PageChanges, digest, pack_mask, settle, unpack_mask
from .page._digest import digest_rows
from .physical import State, rearrange
from .propagation import RuleGraph, Ticked, WaveReport, pages_needed, propagate, tick

__all__ = ["Engine", "Step"]

_LEAST_ROWS = 8
_DIGEST_WORDS = 1 << 22


class Step(NamedTuple):
    """A prepared step: the next state and digest, and what changed."""

    state: State
    digest: UInt32[Array, "2"]
    deltas: DeltaBatch
    report: WaveReport


class Engine:
    """The present state of a bus on its device, where all of it lies, or with a residency, what is needed of it."""

    def __init__(
        self, state: State, residency: Residency | None = None, lanes: UInt32[Array, "2"] | None = None
    ) -> None:
        self._state = state
        self._lent = False
        self._room: dict[int, int] = {}
        self.residency = residency
        self.digest: UInt32[Array, "2"] = digest(state) if lanes is None else lanes
        self.num_pages, self.page_words = state.num_pages, state.page_words

    @classmethod
    def limited(
        cls, rows: int, epoch: np.ndarray, page_words: int, *, tick: int = 0, pages: np.ndarray | None = None
    ) -> "Engine":
        """An engine with room for so many rows on the device; contents other than zeros wait in host memory."""
        residency, state = Residency.begin(rows, page_words, epoch, tick)
        lanes = jnp.zeros(2, jnp.uint32)
        if pages is not None:
            lanes = _digest_in_parts(pages)
            written = np.flatnonzero(pages.any(axis=1)).astype(np.int32)
            residency.host.keep(written, pages[written], epoch[written])
        return cls(state, residency, lanes)

    @property
    def lost(self) -> bool:
        """Whether there is no present state: a step used it up and was never adopted."""
        return bool(self._state.pages.is_deleted())

    @property
    def present(self) -> State:
        """The present state, to look at and not to keep: the next step overwrites it."""
        return self._state

    def snapshot(self, *, on_host: bool = False) -> State:
        """The present state, whole, to keep: it won't be overwritten in place.

        `on_host`: what doesn't lie on the device as a whole isn't put together there.
        """
        if self.residency is not None:
            return (self.residency.whole_on_host if on_host else self.residency.whole)(self._state)
        self._lent = True
        return self._state

    def lanes(self, of: UInt32[Array, "2"] | None = None) -> tuple[int, int]:
        """A digest (the present one by default) as two Python integers."""
        low, high = np.asarray(self.digest if of is None else of).tolist()
        return low, high

    def read(self, ids: np.ndarray) -> np.ndarray:
        """uint32[n, page_words]: contents of some pages."""
        if self.residency is not None:
            return self.residency.read(self._state, ids)
        return np.asarray(_read(self._state, self._padded_ids(ids)))[: len(ids)]

    def check(self, graph: RuleGraph) -> None:
        """Trace a wave without running it: a rule that doesn't fit raises here what it would raise there."""
        seed = jax.ShapeDtypeStruct((1,), jnp.int32)
        jax.eval_shape(functools.partial(propagate, capacity=1), graph, self._state, seed)

    def tick(self, graph: RuleGraph | None, deltas: DeltaBatch, source: int) -> Step:
        """Prepare a tick. The present state is used up, for it is changed in place: adopt the result."""
        page = np.asarray(deltas.page)
        out: Ticked = _tick(
            self._state_with(graph, page[page < self.num_pages], written=True),
            graph,
            deltas,
            digest_before=self.digest,
            capacity=self._room_for(len(deltas)),
            source=np.int32(source),
        )
        return self._learn(len(deltas), Step(out.state, out.digest, out.deltas, out.wave))

    def wave(self, graph: RuleGraph, dirty: np.ndarray, source: int) -> Step:
        """Prepare a wave that begins at some pages, one tick from now. The same holds as for `tick`."""
        seeds = self._padded_ids(dirty)
        room = self._room_for(len(seeds))
        state = self._state_with(graph, dirty)
        step = Step(*_wave(state, graph, seeds, self.digest, capacity=room, source=np.int32(source)))
        return self._learn(len(seeds), step)

    def _room_for(self, rows: int) -> int:
        return self._room.get(rows, min(4 * rows, self.num_pages))

    def _learn(self, rows: int, step: Step) -> Step:
        """Make more room the next time, when a wave had too little."""
        if dropped := int(step.deltas.dropped):
            self._room[rows] = min(2 * (self._room_for(rows) + dropped), self.num_pages)
        return step

    def erase(self, ids: np.ndarray) -> Step:
        """Prepare to zero some pages, one tick from now. The present state stays as it is."""
        return Step(*_erase(self._state_with(None, ids, written=True), self._padded_ids(ids), self.digest))

    def _state_with(self, graph: RuleGraph | None, ids: np.ndarray, *, written: bool = False) -> State:
        """The present state, with all pages on the device that a step from these can touch; it may be used up."""
        if self.residency is None:
            return self._own_state()
        reached = ids[:0] if graph is None else pages_needed(graph, ids)
        self._state = self.residency.fetch(self._state, reached, written=ids if written else None)
        return self._state

    def _own_state(self) -> State:
        # A snapshot that somebody may hold is left to them, and the step gets a copy of its own. (A second compiled
        # step, one that doesn't donate, would copy as much.)
        if self._lent:
            self._state, self._lent = jax.tree.map(jnp.copy, self._state), False
        return self._state

    def adopt(self, step: Step) -> None:
        """Make a prepared step the present."""
        self._state, self.digest = step.state, step.digest
        if self.residency is not None:
            self._state = self.residency.send_home(self._state)

    # Placement. Contents and digest stay as they are.

    def place(self, ids: np.ndarray, location: str) -> str:
        """Let pages live somewhere from now on; returns the memory in which that is. Raises `CapacityError`."""
        if self.residency is None:
            if location == "device":
                return "device"
            self.residency, self._state = Residency.of(self._state)
        self._state = self.residency.settle(self._state, ids, location)
        return "device" if location == "device" else self.residency.host.memory

    def prefetch(self, ids: np.ndarray) -> None:
        """Begin to bring pages to the device."""
        if self.residency is not None:
            self._state = self.residency.fetch(self._state, ids)

    def memory(self, alive: np.ndarray) -> dict[str, int]:
        """Where these pages are, and how many moved: what `BusStats` says of it."""
        where = self.residency
        if where is None:
            return {"on_device": len(alive), "in_host_memory": 0, "fetched": 0, "evicted": 0}
        found = {"on_device": int(np.count_nonzero(where.resident(alive))), "in_host_memory": where.away()}
        return found | {"fetched": where.fetched, "evicted": where.evicted}

    def forget(self, ids: np.ndarray) -> None:
        """These pages were erased, and are nobody's now."""
        if self.residency is not None:
            self._state = self.residency.forget(self._state, ids)

    def adopt_unchanged(self, step: Step, now: int) -> None:
        """Adopt a step that changed nothing, and let no time pass."""
        self.adopt(step._replace(state=eqx.tree_at(lambda s: s.tick, step.state, jnp.asarray(now, jnp.uint32))))

    def rearranged(self, slot_of_page: np.ndarray) -> State:
        """The present state with its pages in other slots; it stays as it is until `adopt_layout`."""
        return _rearrange(self._state, slot_of_page)

    def adopt_layout(self, state: State) -> None:
        """Make what `rearranged` returned the present."""
        self._state, self._lent = state, False

    def changes(self, step: Step, source: int, before: Callable[[], np.ndarray]) -> PageChanges:
        """What a step changed, as rows for the log: exactly the words that differ, each under its source.

        Where the wave had more to say than there was room for, its part is found by comparing every page stamped with
        the step's tick with what it held before; `before()` fetches that, uint32[pages, page_words].
        """
        deltas = step.deltas
        page, own = np.asarray(deltas.page), np.asarray(deltas.source)
        kept = page < self.num_pages
        if short := int(deltas.dropped) > 0:
            kept &= own != source
        mask = None if deltas.mask is None else np.asarray(deltas.mask)[kept]
        rows = PageChanges.from_rows(page[kept], np.asarray(deltas.words)[kept], mask, own[kept])
        return _joined(rows, self._by_comparison(step, rows, source, before())) if short else rows

    def _by_comparison(self, step: Step, others: PageChanges, source: int, pages: np.ndarray) -> PageChanges:
        stamped = np.flatnonzero(np.asarray(step.state.epoch) == np.asarray(step.state.tick)).astype(np.int32)
        page, words, mask, _ = others.to_rows(self.page_words)
        set_by_others = np.asarray(unpack_mask(jnp.asarray(mask), self.page_words))
        row, word = np.nonzero(set_by_others)
        pages[page[row], word] = words[row, word]
        after = np.asarray(_read(step.state, self._padded_ids(stamped)))[: len(stamped)]
        differs = after != pages[stamped]
        used = differs.any(axis=1)
        packed = np.asarray(pack_mask(jnp.asarray(differs[used])))
        return PageChanges.from_rows(stamped[used], after[used], packed, np.full(used.sum(), source, np.int32))

    def batch(self, ids: np.ndarray, raw: np.ndarray, source: int) -> DeltaBatch:
        """Bytes for some pages as deltas, zeros behind them, in a power of two rows: so few sizes are ever compiled."""
        rows = _padded_rows(len(ids))
        padded = np.zeros((rows, self.page_words), np.uint32)
        padded.view(np.uint8).reshape(-1)[: len(raw)] = raw
        return DeltaBatch(
            page=on_device(self._padded_ids(ids)),
            words=on_device(padded),
            mask=None,
            source=jnp.full(rows, source, jnp.int32),
            dropped=jnp.zeros((), jnp.int32),
        )

    def make_batch(self, page: Any, words: Any, mask: Any) -> DeltaBatch:
        """`DeltaBatch.make` for the present state, which isn't lent for that."""
        return DeltaBatch.make(self._state, page, words, mask=mask)

    def signed(self, deltas: DeltaBatch, source: int) -> DeltaBatch:
        """The same deltas, from this source."""
        return eqx.tree_at(lambda d: d.source, deltas, jnp.full(len(deltas), source, jnp.int32))

    def _padded_ids(self, ids: np.ndarray) -> np.ndarray:
        padded = np.full(_padded_rows(len(ids)), self.num_pages, np.int32)
        padded[: len(ids)] = ids
        return padded


def _padded_rows(rows: int) -> int:
    return max(_LEAST_ROWS, 1 << (rows - 1).bit_length()) if rows else _LEAST_ROWS


def _joined(first: PageChanges, then: PageChanges) -> PageChanges:
    """Both, in this order; both have masks."""
    assert first.mask is not None
    assert then.mask is not None
    return PageChanges(
        np.concatenate([first.page, then.page]),
        np.concatenate([first.source, then.source]),
        np.concatenate([first.mask, then.mask]),
        np.concatenate([first.words, then.words]),
    )


def _wave_step(
    state: State,
    graph: RuleGraph,
    dirty: Int32[Array, " n"],
    digest_before: UInt32[Array, "2"],
    *,
    capacity: int,
    source: Int32[Array, ""],
) -> tuple[State, UInt32[Array, "2"], DeltaBatch, WaveReport]:
    out = propagate(graph, state.advance(), dirty, capacity=capacity, source=source)
    return out.state, digest_before + out.digest_change, out.deltas, out.report


@jax.jit
def _erase(
    state: State, ids: Int32[Array, " n"], digest_before: UInt32[Array, "2"]
) -> tuple[State, UInt32[Array, "2"], DeltaBatch, WaveReport]:
    zeros = jnp.zeros((len(ids), state.page_words), jnp.uint32)
    deltas = DeltaBatch(ids, zeros, None, jnp.zeros(len(ids), jnp.int32), jnp.zeros((), jnp.int32))
    after, _, moved = settle(state.advance(), deltas)
    # Replaying a deletion stamps its pages, those that were zero already too.
    epoch = after.epoch.at[ids].set(after.tick, mode="drop")
    return eqx.tree_at(lambda s: s.epoch, after, epoch), digest_before + moved, deltas, WaveReport.nothing()


def _digest_in_parts(pages: np.ndarray) -> UInt32[Array, "2"]:
    """The digest of pages that lie on the host, a few MiB at a time."""
    step = max(1, _DIGEST_WORDS // pages.shape[1])
    parts = (
        digest_rows(jnp.arange(at, min(at + step, len(pages)), dtype=jnp.int32), jnp.asarray(pages[at : at + step]))
        for at in range(0, len(pages), step)
    )
    return functools.reduce(operator.add, parts)


_rearrange = jax.jit(rearrange)
_read = jax.jit(lambda state, ids: state.rows(ids))
_tick = jax.jit(tick, static_argnames="capacity", donate_argnames="state")
_wave = jax.jit(_wave_step, static_argnames="capacity", donate_argnames="state")
