"""What is counted inside jitted code, against plain dictionaries."""

from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mmsb_jax as mmsb
from mmsb_jax import layout as lay


def counted(batches: list[np.ndarray], pages: int) -> tuple[np.ndarray, Counter]:
    hits, pairs = np.zeros(pages), Counter()
    for batch in batches:
        inside = [int(page) if 0 <= page < pages else None for page in batch]
        for i, page in enumerate(inside):
            if page is None:
                continue
            hits[page] += 1
            for other in inside[i + 1 : i + 5]:
                if other is not None and other != page:
                    pairs[min(page, other), max(page, other)] += 1
    return hits, pairs


def test_all_is_counted_in_jit_scan_and_vmap(rng: np.random.Generator):
    batches = rng.integers(-1, 13, (20, 9)).astype(np.int32)  # −1 and 12 stand for no page
    hits, pairs = counted(list(batches), 12)

    def over(batches: jax.Array) -> lay.Observed:
        step = lambda seen, batch: (seen.batch(batch), None)  # noqa: E731
        return jax.lax.scan(step, lay.Observed.create(12, pairs=1 << 16), batches)[0]

    seen = jax.jit(over)(batches)
    assert float(seen.lost) == 0
    np.testing.assert_array_equal(seen.hits, hits)
    found = seen.affinity()
    assert (
        Counter(
            dict(zip(zip(found.one.tolist(), found.other.tolist(), strict=True), found.weight.tolist(), strict=True))
        )
        == pairs
    )
    np.testing.assert_array_equal(found.hits, hits)
    many = jax.vmap(over)(jnp.stack([batches, batches[::-1]]))
    np.testing.assert_array_equal(many.hits[1], hits)
    np.testing.assert_array_equal(many.count[0], seen.count)


@pytest.mark.parametrize("places", [1, 7, 64])
def test_what_has_no_place_is_lost_by_name(places: int, rng: np.random.Generator):
    seen, total = lay.Observed.create(50, pairs=places), 0
    for _ in range(10):
        batch = rng.integers(0, 50, 16).astype(np.int32)
        seen = seen.batch(batch)
        total += sum(counted([batch], 50)[1].values())
    assert float(seen.count.sum() + seen.lost) == total
    assert float(seen.lost) > 0


def test_counts_fall_and_make_room():
    seen = lay.Observed.create(4, pairs=1, half_life=2)
    for _ in range(3):
        seen = seen.batch(jnp.int32([0, 1]))
    assert seen.count.tolist() == pytest.approx([1 + 0.5**0.5 + 0.5])
    for _ in range(4):
        seen = seen.batch(jnp.int32([3, -1]))
    assert (seen.one.tolist(), seen.other.tolist()) == ([0], [1])
    seen = seen.batch(jnp.int32([2, 3]))
    assert (seen.one.tolist(), seen.other.tolist(), seen.count.tolist()) == ([2], [3], [1])
    assert float(seen.lost) == pytest.approx((1 + 0.5**0.5 + 0.5) * 0.5**2.5)


def test_deltas_and_edges_are_seen():
    state = mmsb.State.create(6, page_bytes=8)
    seen = lay.Observed.create(6).deltas(mmsb.DeltaBatch.make(state, [1, 4], [[0, 1], [2, 3]]))
    seen = seen.edges([1, 1, 6], [4, 5, 2])
    found = lay.Affinity.of(seen)
    assert (found.one.tolist(), found.other.tolist(), found.weight.tolist()) == ([1, 1], [4, 5], [2, 1])
    assert lay.optimize(seen, budget=0.05).report.pages == 6


@pytest.mark.parametrize(
    ("arguments", "text"),
    [({"pages": 0}, "pages=0"), ({"pages": 3, "pairs": 0}, "pairs=0"), ({"pages": 3, "half_life": 0}, "half_life=0")],
)
def test_bad_sizes_are_named(arguments: dict, text: str):
    with pytest.raises(mmsb.InvalidArgumentError, match=text):
        lay.Observed.create(**arguments)
