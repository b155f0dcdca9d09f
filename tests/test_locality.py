"""What is said of a trace's locality, against caches that are simulated access by access."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmsb_jax import layout as lay
from mmsb_jax.adaptive._reuse import stack_distances

TRACES = st.lists(st.lists(st.integers(0, 9), max_size=12), max_size=8)


def lru(pages: list[int], capacity: int) -> int:
    """Hits of a cache that gives up the least recently used page."""
    held: list[int] = []
    hits = 0
    for page in pages:
        hits += page in held
        held = [*(other for other in held if other != page), page][-capacity:]
    return hits


@given(batches=TRACES)
def test_reuse_distances_and_hit_ratios_are_those_of_a_simulated_cache(batches: list[list[int]]):
    trace = lay.Trace(batches, num_pages=10)
    pages = [page for batch in batches for page in batch]
    stack: list[int] = []
    expected = []
    for page in pages:
        expected.append(stack[::-1].index(page) if page in stack else -1)
        stack = [*(other for other in stack if other != page), page]
    found = lay.locality(trace)
    assert found.distances.tolist() == expected
    for capacity in (1, 2, 3, 5, 10):
        assert found.hit_ratio(capacity) * max(len(pages), 1) == pytest.approx(lru(pages, capacity))
    assert found.blocks_per_batch * max(len(batches), 1) == pytest.approx(sum(len(set(batch)) for batch in batches))


@given(batches=TRACES, window=st.integers(1, 9))
def test_working_sets_are_counted_over_all_windows(batches: list[list[int]], window: int):
    pages = [page for batch in batches for page in batch]
    ends = range(len(pages) + window - 1) if pages else []
    sizes = [len(set(pages[max(0, end - window + 1) : end + 1])) for end in ends]
    found = lay.locality(lay.Trace(batches, num_pages=10)).working_set(window)
    assert found == pytest.approx(np.mean(sizes) if sizes else 0)


def test_blocks_follow_the_layout(rng: np.random.Generator):
    batches = [rng.integers(0, 40, 15) for _ in range(20)]
    layout = lay.Layout(rng.permutation(40))
    found = lay.locality(lay.Trace(batches, num_pages=40), layout=layout, block=8)
    blocks = [layout.slot_of_page[batch] // 8 for batch in batches]
    assert found.distances.tolist() == stack_distances(np.concatenate(blocks)).tolist()
    assert found.blocks_per_batch == pytest.approx(np.mean([len(np.unique(block)) for block in blocks]))
    assert "blocks of 8 slots" in str(found)


def test_a_million_accesses(rng: np.random.Generator):
    """A cyclic sweep over c pages: each comes back after c − 1 others."""
    distances = stack_distances(np.tile(rng.permutation(1000), 1000))
    assert (distances[:1000] == -1).all()
    assert (distances[1000:] == 999).all()


def test_entropy_and_its_gradient(rng: np.random.Generator):
    counts = rng.integers(0, 5, 40)
    part = counts[counts > 0] / counts.sum()
    assert lay.entropy(counts) == pytest.approx(-(part * np.log2(part)).sum(), rel=1e-5)
    assert lay.entropy(np.ones(64)) == pytest.approx(6)
    assert lay.entropy(np.zeros(3)) == 0
    weights = jnp.asarray(rng.random(20) + 0.1, jnp.float32)
    slope = jax.jit(jax.grad(lay.entropy))(weights)
    part = np.asarray(weights) / np.asarray(weights).sum()
    expected = -(np.log2(part) + lay.entropy(weights)) / np.asarray(weights).sum()
    np.testing.assert_allclose(slope, expected, rtol=1e-4, atol=1e-6)
    assert np.isfinite(jax.grad(lay.entropy)(jnp.float32([0, 1, 3]))).all()
