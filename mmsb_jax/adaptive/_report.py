"""What an optimisation of the layout came to."""

from __future__ import annotations

import dataclasses
import html
from typing import NamedTuple

from ._layout import Layout

__all__ = ["LayoutReport", "Payback"]


class Payback(NamedTuple):
    """Measured, not modelled: how long it takes to read what a wave over everything reads, or what pairs do.

    >>> Payback(present=0.09, found=0.03, share=0.5, spent=1.5).waves
    50.0
    """

    present: float
    """Seconds, from where pages lie now."""
    found: float
    """Seconds, from where they would lie."""
    share: float
    """The part of this that waves read, on average."""
    spent: float
    """Seconds that the search took, and moving the pages will."""

    @property
    def waves(self) -> float:
        """After how many waves that is earned; infinite where nothing is gained."""
        saved = (self.present - self.found) * self.share
        return self.spent / saved if saved > 0 else float("inf")


@dataclasses.dataclass(frozen=True)
class LayoutReport:
    """The exact cost of every layout that was looked at. Prints as a table.

    >>> report = optimize(Affinity([0, 1], [2, 3], num_pages=4)).report
    >>> report.costs["present"], report.cost, report.gain
    (4.0, 2.0, 0.5)
    """

    objective: str
    pages: int
    pairs: int
    costs: dict[str, float]
    """By name: "present", the baselines, "descent"."""
    best: str
    """Whose layout was returned."""
    seconds: float
    """How long it took, compilation included."""
    payback: Payback | None = None
    """Of reading pages pair by pair, where `page_bytes` was given."""
    layouts: dict[str, Layout] = dataclasses.field(default_factory=dict, repr=False, compare=False)
    """The layout that each cost is of."""
    missing: tuple[str, ...] = ()
    """Baselines that couldn't be had: "metis" needs the package pymetis."""

    @property
    def cost(self) -> float:
        """Of the layout that was returned."""
        return self.costs[self.best]

    @property
    def gain(self) -> float:
        """How much lower that is than the present layout's, as a part of the latter: from 0 to 1."""
        before = self.costs["present"]
        return 1 - self.cost / before if before > 0 else 0.0

    def __str__(self) -> str:
        head = f"{self.objective} cost of {self.pages} pages, {self.pairs} pairs ({self.seconds:.2f} s)"
        width = max(len(name) for name in self.costs)
        lines = [
            f"  {name:<{width}}  {cost:>16,.6g}  {self._of_present(cost):>7}{'  <- taken' if name == self.best else ''}"
            for name, cost in sorted(self.costs.items(), key=lambda item: (item[1], item[0] != self.best))
        ]
        lines += [f"  {name:<{width}}  {'not installed':>16}" for name in self.missing]
        if (paid := self.payback) is not None:
            lines.append(
                f"  to read all pairs: {paid.found * 1e3:.3g} instead of {paid.present * 1e3:.3g} ms; earned after "
                f"{paid.waves:,.0f} times"
            )
        return "\n".join([head, *lines])

    def _of_present(self, cost: float) -> str:
        before = self.costs["present"]
        return f"{cost / before:.3f}" if before > 0 else ""

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(str(self))}</pre>"
