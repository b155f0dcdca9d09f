"""`clusters`: the pages that take most accesses, in blocks of those that are used together."""

from __future__ import annotations

import dataclasses
import html
from typing import Any

import numpy as np
from jaxtyping import Float64, Int32

from .._errors import InvalidArgumentError
from .._require import whole_number
from ._affinity import Affinity
from ._baselines import use_of
from ._layout import Layout
from ._objective import Log
from ._optimize import optimize

__all__ = ["Clusters", "clusters"]


@dataclasses.dataclass(frozen=True)
class Clusters:
    """Hot pages by cluster, the hottest cluster first. Prints as a table. See `clusters` for an example."""

    of_page: Int32[np.ndarray, " pages"]
    """The cluster of each page; −1 for pages that aren't hot."""
    heat: Float64[np.ndarray, " clusters"]
    """The part of all accesses that goes to each."""
    inside: float
    """The part of the joint use of hot pages that stays within a cluster."""
    layout: Layout
    """A block for each cluster, from slot 0 on, one that isn't full last; then all other pages, by id."""

    @property
    def hot(self) -> Int32[np.ndarray, " hot"]:
        """The hot pages, by id."""
        return np.flatnonzero(self.of_page >= 0).astype(np.int32)

    def __str__(self) -> str:
        sizes = np.bincount(self.of_page[self.hot], minlength=len(self.heat))
        head = (
            f"{len(self.hot):,} of {len(self.of_page):,} pages take {self.heat.sum():.1%} of accesses, in "
            f"{len(self.heat):,} clusters; {self.inside:.1%} of joint use within one"
        )
        rows = zip(range(10), sizes.tolist(), self.heat.tolist(), strict=False)
        lines = [f"  {number:>7,}  {size:>7,} pages  {heat:>7.2%}" for number, size, heat in rows]
        return "\n".join([head, *lines, *(["        …"] if len(self.heat) > 10 else [])])

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(str(self))}</pre>"


def clusters(
    source: Any, *, share: float | Any = 0.9, block: int | Any = 64, budget: float | Any = 1.0, key: int | Any = 0
) -> Clusters:
    """Find the fewest pages that take so much of all accesses, and put those that are used together into blocks.

    What then has to be kept near (a cache, a device, a checkpoint written often) is as small as can be, and what is
    used together is fetched together.

    **Arguments**

    - `source`: as for `optimize`. How often a page is used is what the source has counted (`hits`), or else the weight
      of its pairs.
    - `share`: of all accesses, greater than 0, at most 1.
    - `block`: pages in a cluster, at most.
    - `budget`, `key`: as for `optimize`, which is asked for blocks.

    **Returns:** `Clusters`.

    Raises `InvalidTypeError`, `InvalidArgumentError`.

    >>> found = clusters(Affinity([0, 2, 5], [4, 6, 7], [9, 9, 1], num_pages=8), share=0.9, block=2)
    >>> found.hot, found.of_page[[0, 4]], found.of_page[[2, 6]], found.inside
    (array([0, 2, 4, 6], dtype=int32), array([0, 0], dtype=int32), array([1, 1], dtype=int32), 1.0)
    """
    affinity = Affinity.of(source)
    size = whole_number(block)
    if size is None or size < 1:
        raise InvalidArgumentError(f"got block={block!r}; pass how many pages a cluster may have, from 1 on")
    if isinstance(share, bool) or not isinstance(share, int | float) or not 0 < share <= 1:
        raise InvalidArgumentError(f"got share={share!r}; pass a number greater than 0, at most 1")
    use = np.asarray(use_of(affinity), np.float64)
    hot = _hot(use, float(share))
    inner = _among(affinity, hot)
    order = hot[optimize(inner, objective=Log(size), budget=budget, key=key).layout.page_of_slot]
    number = np.arange(len(hot)) // size
    total = max(use.sum(), np.finfo(np.float64).tiny)
    heat = np.bincount(number, use[order] / total, -(-len(hot) // size)).astype(np.float64)  # of none: integers
    by_heat = np.argsort(-heat, kind="stable")
    rank = np.empty_like(by_heat)
    rank[by_heat] = np.arange(len(by_heat))
    of_page = np.full(affinity.num_pages, -1, np.int32)
    of_page[order] = rank[number]
    whole = np.bincount(number, minlength=len(heat))[number] == size  # one that isn't goes last, or none had a block
    place = np.lexsort([number, rank[number], ~whole]) if len(hot) else np.zeros(0, np.intp)
    layout = Layout.in_order(np.concatenate([order[place], np.flatnonzero(of_page < 0)]).astype(np.int32))
    return Clusters(of_page, heat[by_heat], _inside(affinity, of_page), layout)


def _hot(use: np.ndarray, share: float) -> Int32[np.ndarray, " hot"]:
    """The fewest pages with that share of all use, by id; none that isn't used."""
    by_use = np.argsort(-use, kind="stable")
    reached = np.cumsum(use[by_use])
    enough = int(np.searchsorted(reached, share * reached[-1] * (1 - 1e-12))) + 1 if len(use) else 0
    return np.sort(by_use[:enough][use[by_use[:enough]] > 0]).astype(np.int32)


def _among(affinity: Affinity, pages: Int32[np.ndarray, " hot"]) -> Affinity:
    place = np.full(affinity.num_pages, -1, np.int32)
    place[pages] = np.arange(len(pages), dtype=np.int32)
    both = (place[affinity.one] >= 0) & (place[affinity.other] >= 0)
    ends = place[affinity.one[both]], place[affinity.other[both]]
    return Affinity(*ends, affinity.weight[both], num_pages=len(pages))


def _inside(affinity: Affinity, of_page: Int32[np.ndarray, " pages"]) -> float:
    one, other = of_page[affinity.one], of_page[affinity.other]
    hot = (one >= 0) & (other >= 0)
    joint = affinity.weight[hot].sum(dtype=np.float64)
    return float(affinity.weight[hot & (one == other)].sum(dtype=np.float64) / joint) if joint else 1.0
