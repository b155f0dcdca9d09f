"""What an optimisation of the layout came to."""

from __future__ import annotations

import dataclasses
import html

from ._layout import Layout

__all__ = ["LayoutReport"]


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
        return "\n".join([head, *lines, *(f"  {name:<{width}}  {'not installed':>16}" for name in self.missing)])

    def _of_present(self, cost: float) -> str:
        before = self.costs["present"]
        return f"{cost / before:.3f}" if before > 0 else ""

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(str(self))}</pre>"
