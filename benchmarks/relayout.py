"""What a layout gains: waves over grids whose pages were numbered at random, and incremental checkpoints of one.

Waves over pages of 64 bytes. *Stencil*: every other page of the grid is the greatest of its four neighbours, one stage.
*Wavefront*: every page is the greatest of those above and to the left, one stage a diagonal.
"""

from __future__ import annotations

import atexit
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import mmsb_jax as mmsb

from ._harness import Case, Figure, Peer, Program, compiled

WORDS, WAVES, TRIES = 16, 1000, 5
FASTER = 1.5


@dataclass(frozen=True, eq=False)
class Waves:
    """A shuffled grid, up to date but for what was just written: laid out by ids, and as was advised."""

    plans: tuple[mmsb.RuleGraph, mmsb.RuleGraph]
    states: tuple[mmsb.State, mmsb.State]
    dirty: jax.Array
    decision: mmsb.layout.Decision
    moving: float
    """Seconds, of laying out the graph and moving the pages."""


def _stencil(ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    y, x = np.indices(ids.shape)
    ends = []
    for dy, dx in ((0, 1), (0, -1), (1, 0), (-1, 0)):
        inside = (y + dy >= 0) & (y + dy < ids.shape[0]) & (x + dx >= 0) & (x + dx < ids.shape[1])
        at = np.nonzero(((y + x) % 2 == 1) & inside)
        ends.append((ids[at[0] + dy, at[1] + dx], ids[at]))
    return np.concatenate([parent for parent, _ in ends]), np.concatenate([child for _, child in ends])


def _wavefront(ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    parent = np.concatenate([ids[:-1].ravel(), ids[:, :-1].ravel()])
    return parent, np.concatenate([ids[1:].ravel(), ids[:, 1:].ravel()])


@cache
def _waves(edges: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]], side: int) -> Waves:
    pages = side * side
    parent, child = edges(np.random.default_rng(0).permutation(pages).reshape(side, side))
    graph = mmsb.ShadowPageGraph.from_edges(parent, child, num_pages=pages)
    ruled = np.unique(child)
    rule = mmsb.Rule.semiring("greatest", pages=ruled, semiring=mmsb.semiring.max_plus, words=slice(None))
    dirty = np.setdiff1d(np.arange(pages), ruled).astype(np.int32)
    words = np.random.default_rng(1).random((len(dirty), WORDS), dtype=np.float32) + 1
    state = mmsb.State.create(pages, page_bytes=4 * WORDS)
    state = mmsb.apply(state, mmsb.DeltaBatch.make(state, dirty, words))
    mmsb.layout.advise(state, graph, [rule], waves=1)  # compiles what measures
    decision = mmsb.layout.advise(state, graph, [rule], waves=WAVES)
    found = decision.layout or mmsb.layout.Layout.identity(pages)
    start = time.perf_counter()
    moved = jax.block_until_ready(mmsb.layout.relayout(state, found))
    plan = mmsb.RuleGraph.of(graph, [rule], slot_of_page=found.slot_of_page)
    moving = time.perf_counter() - start
    return Waves((mmsb.RuleGraph.of(graph, [rule]), plan), (state, moved), jnp.asarray(dirty), decision, moving)


def _wave(inputs: Waves, which: int) -> Program:
    return compiled(_step, inputs.states[which], inputs.plans[which], inputs.dirty, in_place=True)


def _step(state: mmsb.State, plan: mmsb.RuleGraph, dirty: jax.Array) -> mmsb.Propagated:
    return mmsb.propagate(plan, state, dirty, capacity=0)


def _same_wave(ours: mmsb.Propagated, theirs: mmsb.Propagated) -> None:
    np.testing.assert_array_equal(ours.state.view(), theirs.state.view())
    np.testing.assert_array_equal(ours.digest_change, theirs.digest_change)
    assert int(ours.report.changed) == int(theirs.report.changed) > 0


def _paid(inputs: Waves, _: Any) -> list[Figure]:
    """With all that it costs but compiling: of a thousand waves."""
    programs = [_wave(inputs, which) for which in (0, 1)]
    runs: list[list[float]] = [[], []]
    for _ in range(TRIES + 1):
        for program, seconds in zip(programs, runs, strict=True):
            program.before()
            start = time.perf_counter()
            program.run()
            seconds.append(time.perf_counter() - start)
    before, after = (WAVES * statistics.median(seconds[1:]) for seconds in runs)
    spent = inputs.decision.seconds + inputs.moving
    return [
        Figure(
            f"{WAVES:,} waves, decision and move included, over as many by id", (spent + after) / before, 1 / FASTER
        ),
        Figure("seconds to decide and move", spent),
    ]


def _wave_case(name: str, edges: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]], side: int) -> Case:
    return Case(
        f"relayout/{name}, {side} x {side}",
        lambda quick: _waves(edges, 8 if quick else side),
        partial(_wave, which=1),
        (Peer("the same, by id", partial(_wave, which=0), _same_wave, FASTER),),
        figures=_paid,
    )


# Incremental checkpoints.

PAGE_BYTES, STEPS, WIDTH = 1024, 6, 8


@dataclass(frozen=True, eq=False)
class Front:
    """A shuffled grid, on which a front of some columns is written, step by step; the steps before were observed."""

    ids: np.ndarray
    width: int

    def pages(self, step: int) -> np.ndarray:
        columns = (step * self.width + np.arange(self.width)) % self.ids.shape[1]
        return self.ids[:, columns].ravel().astype(np.int32)

    @property
    def trace(self) -> mmsb.layout.Trace:
        steps = self.ids.shape[1] // self.width
        return mmsb.layout.Trace([self.pages(step) for step in range(steps)], num_pages=self.ids.size)


def _front(quick: bool) -> Front:
    side = 16 if quick else 256
    return Front(np.random.default_rng(2).permutation(side * side).reshape(side, side), 4 if quick else WIDTH)


@cache
def _checkpoints(front: Front, optimised: bool) -> tuple[np.ndarray, int]:
    """The contents at the end, and the bytes of all checkpoints but the first."""
    folder = Path(tempfile.mkdtemp(prefix="mmsb-bench-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    with mmsb.start(folder / "run.mmsb", page_bytes=PAGE_BYTES, capacity=front.ids.size) as bus:
        whole = bus.create_page(front.ids.size * PAGE_BYTES)
        bus.update_page(whole, np.arange(front.ids.size * PAGE_BYTES // 4, dtype=np.int32))
        if optimised:
            pages_a_part = max(1, min(max(front.ids.size // 64, (1 << 20) // PAGE_BYTES), (16 << 20) // PAGE_BYTES))
            bus.optimize_layout(front.trace, objective="dirty", block=pages_a_part)
        bus.checkpoint()
        written = 0
        for step in range(STEPS):
            before = _files(folder)
            pages = front.pages(step)
            words = np.full((len(pages), PAGE_BYTES // 4), step + 1, np.int32)
            bus.apply(bus.batch(pages, words))
            bus.checkpoint()
            written += sum(size for name, size in _files(folder).items() if name not in before)
        return np.asarray(bus.state.view()), written


def _files(folder: Path) -> dict[str, int]:
    return {file.name: file.stat().st_size for file in (folder / "run.mmsb" / "checkpoints").iterdir()}


def _fewer_bytes(front: Front, _: Any) -> list[Figure]:
    by_id, laid_out = (_checkpoints(front, optimised)[1] for optimised in (False, True))
    return [Figure(f"bytes on disk over those by id ({by_id:,})", laid_out / by_id, 1 / 3)]


def _same_contents(ours: np.ndarray, theirs: np.ndarray) -> None:
    np.testing.assert_array_equal(ours, theirs)


CASES = (
    _wave_case("stencil", _stencil, 608),
    _wave_case("stencil", _stencil, 1024),
    _wave_case("wavefront", _wavefront, 608),
    _wave_case("wavefront", _wavefront, 1024),
    Case(
        "relayout/checkpoints of a moving front",
        _front,
        lambda front: Program(lambda: _checkpoints(front, True)[0]),
        (Peer("by id", lambda front: Program(lambda: _checkpoints(front, False)[0]), _same_contents),),
        figures=_fewer_bytes,
        most_rounds=1,
    ),
)
