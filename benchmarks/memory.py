"""What a state costs in memory: a million pages of 1 KiB, all written in one tick.

The memory of a row is the larger of two figures: what the compiled program asks for (`memory_analysis`), and by how
much a process of its own grew, at its peak, from just before the state was made until the step was done. A row above
its limit is an error, and so is a state above the limit for itself, with page table, epochs and allocator.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import mmsb_jax as mmsb
from mmsb_jax import DeltaBatch, State
from mmsb_jax.physical import Allocator

from ._harness import ROOT, BenchmarkError, Case, Program

PAGE_BYTES = 1024
GIB = 2**30


class Size(NamedTuple):
    """How much is written, and in how large a batch."""

    pages: int
    rows: int


SIZES = {True: Size(2_048, 256), False: Size(1_000_000, 4_000)}
# In bytes: the state itself; the peak of steps that are donated the state, and of one that leaves it as it is.
LIMITS = {"state": 1.0 * GIB, "donated": 1.1 * GIB, "kept": 2.1 * GIB}


def write(state: State, first: jax.Array, words: jax.Array) -> State:
    """New contents for the pages from `first` on, by the words and the first page."""
    pages = first + jnp.arange(len(words), dtype=jnp.int32)
    source, none = jnp.zeros(len(words), jnp.int32), jnp.zeros((), jnp.int32)
    return mmsb.apply(state, DeltaBatch(pages, words ^ first.astype(jnp.uint32), None, source, none))


def _blank(size: Size) -> State:
    return State.create(size.pages, page_bytes=PAGE_BYTES)


def _compiled(size: Size, **options: Any) -> Callable[..., State]:
    state = jax.eval_shape(lambda: _blank(size))
    words = jax.ShapeDtypeStruct((size.rows, PAGE_BYTES // 4), jnp.uint32)
    return jax.jit(write, **options).lower(state, jax.ShapeDtypeStruct((), jnp.int32), words).compile()


def _program_bytes(program: Any) -> int:
    memory = program.memory_analysis()
    asked = memory.argument_size_in_bytes + memory.output_size_in_bytes + memory.temp_size_in_bytes
    return int(asked - memory.alias_size_in_bytes)


def _words(size: Size) -> jax.Array:
    return jnp.asarray(np.random.default_rng(3).integers(1, 2**32, (size.rows, PAGE_BYTES // 4), np.uint32))


def _fill(size: Size, program: Callable[..., State], state: State, words: jax.Array) -> State:
    """One tick in which every page is written, in place."""
    state = state.advance()
    for first in range(0, size.pages, size.rows):
        state = program(state, np.int32(min(first, size.pages - size.rows)), words)
    return jax.block_until_ready(state)


def _resident() -> int:
    """Bytes of this process in memory now; where the system doesn't tell, at most so far."""
    if not sys.platform.startswith("linux"):
        return _peak()
    with contextlib.suppress(AttributeError):  # a C library other than GNU's
        ctypes.CDLL(None).malloc_trim(0)  # what was freed doesn't count
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def child(kind: str, size: Size) -> dict[str, int]:
    """Bytes that this process grew by: the state itself, and at the peak of the step."""
    fill, step = _compiled(size, donate_argnums=0), _compiled(size)
    words = _words(size)
    before = _resident()
    allocator, _ = Allocator.create(size.pages).allocate(size.pages)
    state = _fill(size, fill, _blank(size), words)
    grown = _resident() - before
    if kind == "kept":
        after = jax.block_until_ready(step(state, np.int32(0), words))
        assert after.num_pages == state.num_pages == allocator.live
    return {"state": grown, "peak": _peak() - before}


def _measured(kind: str, size: Size) -> dict[str, int]:
    command = [sys.executable, "-m", "benchmarks.memory", kind, *map(str, size)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BenchmarkError(f"memory/{kind}: the process of its own ended with {done.returncode}:\n{done.stderr}")
    return json.loads(done.stdout)


def _check(kind: str, size: Size, program_bytes: int, found: dict[str, int]) -> None:
    figures = {"state": found["state"], kind: max(program_bytes, found["peak"])}
    if size != SIZES[False]:
        return
    for what, figure in figures.items():
        if figure > LIMITS[what]:
            raise BenchmarkError(
                f"memory/{what}: {figure / GIB:.3f} GiB, and at most {LIMITS[what] / GIB:g} are allowed"
            )


def _inputs(quick: bool) -> tuple[Size, State, jax.Array]:
    size = SIZES[quick]
    words = _words(size)
    return size, _fill(size, _compiled(size, donate_argnums=0), _blank(size), words), words


def _ours(kind: str, inputs: tuple[Size, State, jax.Array]) -> Program:
    size, present, words = inputs
    program = _compiled(size, **({"donate_argnums": 0} if kind == "donated" else {}))
    found = _measured(kind, size)
    _check(kind, size, _program_bytes(program), found)

    def run() -> tuple[np.ndarray, np.ndarray]:
        nonlocal present
        if kind == "donated":
            after = present = _fill(size, program, present, words)
        else:
            after = jax.block_until_ready(program(present.advance(), np.int32(0), words))
        return np.asarray(after.epoch == after.tick), np.asarray(after.rows(jnp.array([0, size.pages - 1])))

    return Program(run, peak_bytes=max(_program_bytes(program), found["peak"]))


CASES: tuple[Case, ...] = (
    Case(
        name="memory/a tick that writes 1,000,000 pages of 1 KiB, donated",
        make=_inputs,
        ours=lambda inputs: _ours("donated", inputs),
        items=lambda inputs: inputs[0].pages,
        unit="pages",
    ),
    Case(
        name="memory/apply to 1,000,000 pages of 1 KiB, not donated",
        make=_inputs,
        ours=lambda inputs: _ours("kept", inputs),
        items=lambda inputs: inputs[0].rows,
        unit="pages",
    ),
)


if __name__ == "__main__":
    print(json.dumps(child(sys.argv[1], Size(*map(int, sys.argv[2:])))))
