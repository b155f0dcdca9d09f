"""Hot pages in clusters."""

import numpy as np
import pytest

import mmsb_jax as mmsb

lay = mmsb.layout


def communities(rng, groups=6, size=8, cold=40):
    """Groups of pages that are used together, numbered at random among pages that are hardly used."""
    pages = groups * size + cold
    ids = rng.permutation(pages)
    one, other = np.triu_indices(size, 1)
    ends = [(ids[group * size + one], ids[group * size + other]) for group in range(groups)]
    lone = rng.integers(0, pages, (2, cold))
    one, other = (np.concatenate([*each, lone[i]]) for i, each in enumerate(zip(*ends, strict=True)))
    weight = np.concatenate([np.full(len(one) - cold, 10.0), np.full(cold, 0.1)])
    return lay.Affinity(one, other, weight, num_pages=pages), ids[: groups * size].reshape(groups, size)


def test_planted_groups_are_found(rng):
    affinity, groups = communities(rng)
    found = lay.clusters(affinity, share=0.99, block=8)
    np.testing.assert_array_equal(found.hot, np.sort(groups.ravel()))
    assert all(len(set(found.of_page[group].tolist())) == 1 for group in groups)
    assert len(set(found.of_page[groups[:, 0]].tolist())) == len(groups)
    assert found.inside > 0.99
    assert "in 6 clusters" in str(found)


def test_what_is_promised_of_any_source(rng):
    for _ in range(5):
        pages, block, share = int(rng.integers(2, 60)), int(rng.integers(1, 9)), float(rng.uniform(0.1, 1))
        one, other = rng.integers(0, pages, (2, 80))
        affinity = lay.Affinity(one, other, rng.random(80), num_pages=pages, hits=rng.integers(0, 9, pages) + 1)
        found = lay.clusters(affinity, share=share, block=block, budget=0.01)
        use = affinity.hits / affinity.hits.sum()
        assert use[found.hot].sum() >= share - 1e-9
        coldest = found.hot[np.argmin(use[found.hot])]
        assert use[found.hot].sum() - use[coldest] < share  # one fewer wouldn't do
        sizes = np.bincount(found.of_page[found.hot])
        assert sizes.max() <= block
        assert len(sizes) == len(found.heat) == -(-len(found.hot) // block)
        np.testing.assert_allclose(found.heat, np.bincount(found.of_page[found.hot], use[found.hot]))
        assert (np.diff(found.heat) <= 1e-12).all()
        in_order = found.of_page[found.layout.page_of_slot]
        assert (in_order[len(found.hot) :] == -1).all()
        blocks = [set(in_order[at : at + block].tolist()) - {-1} for at in range(0, len(found.hot), block)]
        assert all(len(each) == 1 for each in blocks)  # a block each
        full = [min(each) for each in blocks if sizes[min(each)] == block]
        assert full == sorted(full)


def test_what_is_hot_of_a_trace_is_what_was_accessed_most():
    trace = lay.Trace([[3, 5]] * 10 + [[0, 1]], num_pages=6)
    found = lay.clusters(trace, share=0.8, block=2)
    assert found.hot.tolist() == [3, 5]
    assert found.layout.slot_of_page[[3, 5]].max() == 1


def test_without_any_use_nothing_is_hot():
    found = lay.clusters(lay.Affinity([], [], num_pages=3))
    assert found.hot.size == 0
    assert found.layout == lay.Layout.identity(3)
    assert str(found).startswith("0 of 3 pages")


@pytest.mark.parametrize("bad", [{"share": 0}, {"share": 1.5}, {"share": "all"}, {"block": 0}, {"block": 2.5}])
def test_bad_figures_are_refused(bad):
    with pytest.raises(mmsb.InvalidArgumentError, match=f"got {next(iter(bad))}="):
        lay.clusters(lay.Affinity([0], [1], num_pages=2), **bad)
