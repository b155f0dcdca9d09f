"""Fixtures for pytest. They come with `pytest_plugins = ["mmsb_jax.testing.fixtures"]` in a `conftest.py`."""

from pathlib import Path

import pytest

from ..bus import Bus, start

__all__ = ["mmsb_bus", "mmsb_path"]


@pytest.fixture
def mmsb_path(tmp_path: Path) -> Path:
    """A path for a run, where nothing is yet; it goes with the test's temporary directory."""
    return tmp_path / "run.mmsb"


@pytest.fixture
def mmsb_bus(mmsb_path: Path, request: pytest.FixtureRequest) -> Bus:
    """A bus on disk, stopped when the test ends; pages of 64 bytes, room for 1,024 of them."""
    bus = start(mmsb_path, page_bytes=64, capacity=1024)
    request.addfinalizer(bus.stop)  # noqa: PT021 (a type-checking import hook may wrap it, and hide a generator)
    return bus
