"""Recording a run on disk, against the same loop without a record, and against the usual way to get one.

Each program begins with a state in memory and ends when all that it writes is on the device. Results are compared as
final states: the one in the log, the one of the bare loop, the one that follows from the plain file.
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import io_callback

import mmsb_jax as mmsb

from ._harness import Case, OnDisk, Peer, Program

_ODD = 40503  # times an odd number modulo a power of 2 hits each page once


@dataclass(frozen=True)
class Loop:
    """A step, its first state, and how many steps, of which every so many are recorded."""

    step: Callable[[Any], Any]
    init: Callable[[], Any]
    steps: int
    every: int
    page_bytes: int
    ids: Callable[[Any], jax.Array] | None = None
    """The rows that a step changes, from the state before it; None: all."""

    @cached_property
    def folder(self) -> Path:
        folder = Path(tempfile.mkdtemp(prefix="mmsb-bench-"))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        return folder

    def record(self, path: Path) -> mmsb.Run:
        return mmsb.record(
            self.step, self.init(), self.steps, path=path, every=self.every, page_bytes=self.page_bytes, progress=False
        )

    @cached_property
    def segments(self) -> list[Path]:
        """What a recorded run writes."""
        return sorted((self.record(self.folder / "once.mmsb").path / "log").glob("*.seg"))


# Pages of which few change.


def sparse(steps: int, pages: int, changed: int, width: int = 64) -> Loop:
    """A state of which every step changes some rows, all over."""

    def ids(state: dict[str, Any]) -> jax.Array:
        return ((state["t"] * changed + jnp.arange(changed)) * _ODD) & (pages - 1)

    def step(state: dict[str, Any]) -> dict[str, Any]:
        t, u, rows = state["t"], state["u"], ids(state)
        return {"t": t + 1, "u": u.at[rows].set(0.9 * u[rows] + t.astype(jnp.float32))}

    def init() -> dict[str, Any]:
        return {"t": jnp.int32(0), "u": jnp.ones((pages, width), jnp.float32)}

    return Loop(step, init, steps, 1, 4 * width, ids)


# A grid of which all changes.


def _noise(side: int) -> jax.Array:
    return 0.1 * jax.random.normal(jax.random.key(3), (side, side), jnp.float32)


def stencil(steps: int, side: int) -> Loop:
    """Phases that part (Allen and Cahn 1979), on a torus, by explicit Euler steps: hardly dearer than reading the grid.

    The step alone keeps all cores busy, so that whatever is written is paid for.
    """

    def step(u: jax.Array) -> jax.Array:
        laplacian = sum(jnp.roll(u, shift, axis) for axis in (0, 1) for shift in (1, -1)) - 4 * u
        return u + 0.1 * (laplacian + u - u**3)

    return Loop(step, lambda: _noise(side), steps, 10, 4096)


def oscillators(steps: int, side: int) -> Loop:
    """Phases that pull on their neighbours (Kuramoto 1984) on a torus, by Heun's method."""

    def pull(u: jax.Array) -> jax.Array:
        return sum(jnp.sin(jnp.roll(u, shift, axis) - u) for axis in (0, 1) for shift in (1, -1))

    def step(u: jax.Array) -> jax.Array:
        first = pull(u)
        return u + 0.05 * (first + pull(u + 0.1 * first))

    return Loop(step, lambda: 20 * _noise(side), steps, 10, 4096)


# The programs.


def _recorded(loop: Loop) -> Program:
    path = loop.folder / "run.mmsb"

    def run() -> OnDisk:
        made = loop.record(path)
        return OnDisk(lambda: _field(made.final))

    return Program(run, before=lambda: shutil.rmtree(path, ignore_errors=True))


def _field(state: Any) -> np.ndarray:
    return np.asarray(state["u"] if isinstance(state, dict) else state)


def _bare(loop: Loop) -> Program:
    @jax.jit
    def scan(state: Any) -> Any:
        return jax.lax.scan(lambda s, _: (loop.step(s), None), state, None, loop.steps)[0]

    return Program(lambda: _field(jax.block_until_ready(scan(loop.init()))))


def _plain(loop: Loop) -> Program:
    """The bytes of the log, in as many megabytes, and one sync at their end."""
    data = [path.read_bytes() for path in loop.segments]
    path = loop.folder / "plain"

    def run() -> None:
        handle = os.open(path, os.O_CREAT | os.O_WRONLY, 0o644)
        for segment in data:
            for start in range(0, len(segment), 1 << 20):
                os.write(handle, memoryview(segment)[start : start + (1 << 20)])
        os.fdatasync(handle)
        os.close(handle)

    return Program(run, before=lambda: path.unlink(missing_ok=True))


def _callback(loop: Loop) -> Program:
    """What one does without us: a callback in each step, that writes ids and contents of what it changed to a file."""
    path, handle = loop.folder / "called", -1
    changed = loop.ids
    assert changed is not None

    def write(ids: Any, rows: Any) -> None:
        os.writev(handle, [np.asarray(ids), np.ascontiguousarray(rows)])

    @jax.jit
    def scan(state: Any) -> Any:
        def body(s: Any, _: None) -> tuple[Any, None]:
            ids, after = changed(s), loop.step(s)
            io_callback(write, None, ids, after["u"][ids], ordered=True)
            return after, None

        return jax.lax.scan(body, state, None, loop.steps)[0]

    def run() -> OnDisk:
        nonlocal handle
        handle = os.open(path, os.O_CREAT | os.O_WRONLY, 0o644)
        jax.block_until_ready(scan(loop.init()))
        jax.effects_barrier()
        os.fdatasync(handle)
        os.close(handle)
        return OnDisk(lambda: _replayed(path, _field(loop.init()), len(changed(loop.init()))))

    return Program(run, before=lambda: path.unlink(missing_ok=True))


def _replayed(path: Path, field: np.ndarray, changed: int) -> np.ndarray:
    field, words = field.copy(), changed * field.shape[1]
    for row in np.fromfile(path, np.int32).reshape(-1, changed + words):
        field[row[:changed]] = row[changed:].view(np.float32).reshape(changed, -1)
    return field


def _equal(ours: Any, theirs: Any) -> None:
    np.testing.assert_array_equal(np.asarray(ours).view(np.uint32), np.asarray(theirs).view(np.uint32))


CASES: tuple[Case, ...] = (
    Case(
        "record/65,536 pages of 256 bytes, 256 change a step, 2,000 steps",
        lambda quick: sparse(20, 1024, 16) if quick else sparse(2000, 65_536, 256),
        _recorded,
        (
            Peer("bare scan", _bare, _equal, target=1 / 2.0),
            Peer("plain write and sync of its bytes", _plain, None, target=1 / 1.2, instead=True),
            Peer("io_callback and a plain file", _callback, _equal, target=3.0),
        ),
        lambda loop: loop.steps,
        "steps",
    ),
    Case(
        "record/1024 x 1024 floats, all change, oscillators, every 10th of 50 steps",
        lambda quick: oscillators(20, 32) if quick else oscillators(50, 1024),
        _recorded,
        (Peer("bare scan", _bare, _equal, target=1 / 1.1), Peer("plain write and sync of its bytes", _plain, None)),
        lambda loop: loop.steps,
        "steps",
    ),
    Case(
        "record/1024 x 1024 floats, all change, stencil, every 10th of 1,000 steps",
        lambda quick: stencil(20, 32) if quick else stencil(1000, 1024),
        _recorded,
        (Peer("bare scan", _bare, _equal, target=1 / 1.1), Peer("plain write and sync of its bytes", _plain, None)),
        lambda loop: loop.steps,
        "steps",
    ),
)
