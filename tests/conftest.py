"""Strict settings for every test: eight CPU devices, no silent promotion, a seed that is printed and can be pinned.

Environment variables that change a run:

- `MMSB_SEED=123` pins every random choice (hypothesis, the `rng` fixture); without it a new seed is drawn and shown.
- `MMSB_PROFILE=deep` runs far more hypothesis examples than the default, `ci`.
- `JAX_ENABLE_X64=1` is JAX's own switch; the suite must pass with it too.
"""

import gc
import os
import random
import signal
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import jax
import jaxtyping
import numpy as np
import pytest

ROOT = Path(__file__).parent.parent
DEVICES = 8
_MAPPINGS = 20_000

# Eight virtual devices cost nothing measurable (compile, run and dispatch within noise of one), so the whole suite
# sees them. Unlike XLA_FLAGS, the option isn't inherited by the child processes of a test. JAX refuses both at once.
if "xla_force_host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
    jax.config.update("jax_num_cpu_devices", DEVICES)
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")
# A cached executable would hide a compile from the zero-recompile tests and carry one run's state into the next.
jax.config.update("jax_enable_compilation_cache", False)

# A script's background jobs ignore Ctrl-C, and so would their children; there are tests of what it does.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Compiling makes the first example slow and the rest fast, so a deadline or a check of speed means nothing here.
_COMMON = {
    "deadline": None,
    "print_blob": True,
    "suppress_health_check": [hypothesis.HealthCheck.too_slow],
}
hypothesis.settings.register_profile("ci", max_examples=100, **_COMMON)
hypothesis.settings.register_profile("deep", max_examples=3000, **_COMMON)
hypothesis.settings.load_profile(os.environ.get("MMSB_PROFILE", "ci"))


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Choose the seed once, before hypothesis reads its option; workers of xdist inherit it."""
    pinned = config.option.hypothesis_seed
    seed = os.environ.setdefault("MMSB_SEED", pinned or str(random.SystemRandom().randrange(2**32)))
    if not seed.isdecimal():
        raise pytest.UsageError(f"MMSB_SEED={seed!r} isn't a whole number; write for instance MMSB_SEED=123")
    config.option.hypothesis_seed = pinned or seed


def pytest_report_header() -> str:
    """State what a reader of a failure needs to run it again."""
    return f"MMSB_SEED={_seed()}; jax {jax.__version__}; x64 {jax.config.jax_enable_x64}; {DEVICES} CPU devices"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Repeat the seed below the failures, where it is looked for."""
    if terminalreporter.stats.get("failed") or terminalreporter.stats.get("error"):
        terminalreporter.write_line(f"To run the same examples again: MMSB_SEED={_seed()} python -m pytest")


def _seed() -> int:
    return int(os.environ["MMSB_SEED"])


@pytest.fixture(scope="module", autouse=True)
def compiled_programs_are_given_back() -> Iterator[None]:
    """Every compiled program keeps mappings of memory, of which Linux grants a process 65,530; then XLA crashes."""
    yield
    maps = Path("/proc/self/maps")
    if maps.exists() and maps.read_bytes().count(b"\n") > _MAPPINGS:
        jax.clear_caches()
        gc.collect()


@pytest.fixture(autouse=True)
def types_are_checked(request: pytest.FixtureRequest) -> Iterator[None]:
    """Everywhere but in simulations that make the same few calls a hundred thousand times; others make them too."""
    if request.node.get_closest_marker("unchecked") is None:
        yield
        return
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> np.random.Generator:
    """A generator of the run's seed and the test's name: other tests don't shift its numbers."""
    return np.random.default_rng([_seed(), zlib.crc32(request.node.name.encode())])


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """A path for a run; nothing exists there yet."""
    return tmp_path / "run.mmsb"


@pytest.fixture
def run_python(tmp_path: Path) -> Callable[..., str]:
    """`run_python(code, *args, devices=8, timeout=120)`: stdout of a new interpreter, which must end well."""

    def run(code: str, *args: str, devices: int = DEVICES, timeout: float = 120) -> str:
        environment = os.environ | {"JAX_NUM_CPU_DEVICES": str(devices), "JAX_PLATFORMS": "cpu"}
        done = subprocess.run(
            [sys.executable, "-c", code, *args],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        assert done.returncode == 0, f"exit status {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    return run
