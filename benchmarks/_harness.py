"""What a benchmark is, how it is measured, and what is written down beside the figures.

A `Case` names some inputs, our program on them and the peers' programs. `measure` checks that all give the same result,
then runs them in turn (ours, peer, peer, ours, peer, peer, …), so that a noisy moment of the machine hits all alike; a
ratio is the median over rounds of the peer's time over ours. Blocks until ready; the first, cold runs aren't counted.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
import importlib.util
import os
import platform
import re
import resource
import statistics
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

ROOT = Path(__file__).parent.parent
PACKAGES = (
    *("jax", "jaxlib", "numpy", "scipy", "equinox", "python-graphblas", "suitesparse-graphblas", "pyarrow"),
    *("crc32c", "safetensors", "orbax-checkpoint"),
)


class BenchmarkError(Exception):
    """A benchmark can't be run, or its results differ."""


@dataclass(frozen=True)
class Program:
    """Something to time: `run()` returns its result, finished. For a compiled one, what that cost.

    `before()` prepares a run and isn't timed.
    """

    run: Callable[[], Any]
    lower_s: float | None = None
    compile_s: float | None = None
    peak_bytes: int | None = None  # arguments, results and temporaries on the device together
    before: Callable[[], None] = lambda: None


class OnDisk:
    """What was written, as an array that is read when it is looked at."""

    def __init__(self, read: Callable[[], np.ndarray]) -> None:
        self._read = read

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self._read()


@dataclass(frozen=True)
class Peer:
    """Another way to the same result. `target`: our speed over its, at least; `needs`: a module it can't do without.

    `instead`: it is enough to reach this target, or that of the peer before.

    `check(ours, theirs)` raises AssertionError if results differ; None only where the peer can't compute this, and the
    nearest that it can is timed.
    """

    name: str
    prepare: Callable[[Any], Program]
    check: Callable[[Any, Any], None] | None
    target: float | None = None
    needs: str | None = None
    instead: bool = False


@dataclass(frozen=True)
class Figure:
    """Something else than time that is measured: how good a result is. `at_most`: what it may be."""

    name: str
    value: float
    at_most: float | None = None

    @property
    def ok(self) -> bool | None:
        return None if self.at_most is None else self.value <= self.at_most


@dataclass(frozen=True)
class Case:
    """One row of the table. `make(quick)` builds the inputs; `items` of them over our time is the rate (≥ `floor`).

    `figures(inputs, result)`: how good the result is. `most_rounds`: of what takes seconds, fewer runs are timed.
    """

    name: str
    make: Callable[[bool], Any]
    ours: Callable[[Any], Program]
    peers: tuple[Peer, ...] = ()
    items: Callable[[Any], int] | None = None
    unit: str = "items"
    floor: float | None = None
    figures: Callable[[Any, Any], list[Figure]] | None = None
    most_rounds: int | None = None


@dataclass(frozen=True)
class Timing:
    """Seconds of every run of one program."""

    name: str
    runs: list[float]
    lower_s: float | None = None
    compile_s: float | None = None
    peak_bytes: int | None = None
    ratio: float | None = None
    target: float | None = None
    same_result: bool = True
    instead: bool = False

    @property
    def median(self) -> float:
        return statistics.median(self.runs)

    @property
    def ok(self) -> bool | None:
        return None if self.target is None or self.ratio is None else self.ratio >= self.target


@dataclass(frozen=True)
class Row:
    """What was measured for one case."""

    case: str
    digest: str
    ours: Timing
    peers: list[Timing] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    rate: float | None = None
    unit: str = "items"
    floor: float | None = None
    figures: list[Figure] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        reached = self.floor is None or (self.rate is not None and self.rate >= self.floor)
        groups: list[list[Timing]] = []
        for peer in self.peers:
            if peer.instead:
                groups[-1].append(peer)
            else:
                groups.append([peer])
        good = all(figure.ok is not False for figure in self.figures)
        return reached and good and all(any(peer.ok is not False for peer in group) for group in groups)


def compiled(function: Callable[..., Any], *args: Any, in_place: bool = False) -> Program:
    """A jitted function on resident arguments, compiled ahead of time.

    `in_place`: it uses up its first argument, and gets a copy for every run, which isn't timed; nor is it timed to give
    back the memory of a result.
    """
    args = jax.block_until_ready(jax.device_put(args))
    start = time.perf_counter()
    lowered = jax.jit(function, donate_argnums=0 if in_place else ()).lower(*args)
    middle = time.perf_counter()
    program = lowered.compile()
    end = time.perf_counter()
    memory = program.memory_analysis()
    peak = None
    if memory is not None:
        peak = (
            memory.argument_size_in_bytes
            + memory.output_size_in_bytes
            + memory.temp_size_in_bytes
            - memory.alias_size_in_bytes
        )
    if not in_place:
        return Program(lambda: jax.block_until_ready(program(*args)), middle - start, end - middle, peak)
    held: list[Any] = []

    def before() -> None:
        held[:] = [jax.block_until_ready(jax.tree.map(jnp.copy, args[0]))]

    def run() -> Any:
        held.append(jax.block_until_ready(program(held.pop(), *args[1:])))
        return held[0]

    return Program(run, middle - start, end - middle, peak, before)


def digest(result: Any) -> str:
    """The first 12 hex digits of the SHA-256 of a result's arrays."""
    sha = hashlib.sha256()
    for leaf in jax.tree.leaves(result):
        sha.update(np.ascontiguousarray(np.asarray(leaf)).tobytes())
    return sha.hexdigest()[:12]


def _prepare_peers(case: Case, inputs: Any, quick: bool) -> tuple[list[tuple[Peer, Program]], list[str]]:
    ready, missing = [], []
    for peer in case.peers:
        if peer.needs is None or importlib.util.find_spec(peer.needs) is not None:
            ready.append((peer, peer.prepare(inputs)))
        elif quick:
            missing.append(peer.name)
        else:
            raise BenchmarkError(
                f"{case.name} is compared with {peer.name}, which needs {peer.needs}, and that isn't installed: "
                "pip install 'mmsb-jax[bench]', or measure without peers by --quick"
            )
    return ready, missing


def _seconds(program: Program) -> float:
    program.before()
    start = time.perf_counter()
    program.run()
    return time.perf_counter() - start


def _timing(name: str, program: Program, runs: list[float], **more: Any) -> Timing:
    return Timing(name, runs, program.lower_s, program.compile_s, program.peak_bytes, **more)


def measure(case: Case, *, quick: bool, rounds: int) -> Row:
    """Check all results, then time all programs in turn."""
    inputs = case.make(quick)
    ours = case.ours(inputs)
    ready, missing = _prepare_peers(case, inputs, quick)
    ours.before()
    result = ours.run()
    for peer, program in ready:
        program.before()
        theirs = program.run()
        if peer.check is not None:
            try:
                peer.check(result, theirs)
            except AssertionError as error:
                raise BenchmarkError(f"{case.name}: {peer.name} gives another result:\n{error}") from error
    found = digest(result)
    figures = [] if case.figures is None else case.figures(inputs, result)
    del result
    own_runs: list[float] = []
    peer_runs: list[list[float]] = [[] for _ in ready]
    for _ in range(min(rounds, case.most_rounds or rounds)):
        own_runs.append(_seconds(ours))
        for runs, (_, program) in zip(peer_runs, ready, strict=True):
            runs.append(_seconds(program))
    peers = [
        _timing(
            peer.name,
            program,
            runs,
            ratio=statistics.median(theirs / own for theirs, own in zip(runs, own_runs, strict=True)),
            target=None if quick else peer.target,  # a toy size says nothing about speed
            same_result=peer.check is not None,
            instead=peer.instead,
        )
        for (peer, program), runs in zip(ready, peer_runs, strict=True)
    ]
    own = _timing("ours", ours, own_runs)
    rate = None if case.items is None else case.items(inputs) / own.median
    figures = [dataclasses.replace(figure, at_most=None) for figure in figures] if quick else figures
    return Row(case.name, found, own, peers, missing, rate, case.unit, None if quick else case.floor, figures)


def _git(*args: str) -> str | None:
    done = subprocess.run(["git", "-C", str(ROOT), *args], capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else None


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def manifest() -> dict[str, Any]:
    """Everything that a figure depends on and that can be read off here."""
    status = _git("status", "--porcelain")
    return {
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "commit": _git("rev-parse", "HEAD"),
        "dirty": None if status is None else bool(status),
        "python": platform.python_version(),
        "versions": {package: _version(package) for package in PACKAGES},
        "device": jax.devices()[0].device_kind,
        "platform": jax.devices()[0].platform,
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "load": os.getloadavg(),
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
        "glibc_tunables": os.environ.get("GLIBC_TUNABLES", ""),
        "x64": bool(jax.config.jax_enable_x64),
        "peak_rss_kib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
    }


def device_slug() -> str:
    """A folder name for this machine's results, e.g. `cpu-amd-epyc-2-cores`."""
    device = jax.devices()[0]
    name = f"{_cpu()} {os.cpu_count()} cores" if device.platform == "cpu" else device.device_kind
    return re.sub(r"[^a-z0-9]+", "-", f"{device.platform} {name}".lower()).strip("-")
