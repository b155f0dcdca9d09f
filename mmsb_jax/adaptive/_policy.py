"""When a layout is worth its price: the terms that a user sets, and what was decided on them."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from .._errors import InvalidArgumentError
from .._require import whole_number
from ._layout import Layout
from ._report import LayoutReport, Payback

__all__ = ["Decision", "Policy", "as_policy"]

_MODES = ("off", "advise", "auto")
_MOST_WAVES = 10**15


@dataclasses.dataclass(frozen=True)
class Policy:
    """Whether, and on what terms, a bus lays its pages out by itself so that waves get faster.

    It looks when waves have taken `patience` times as long as a look takes: at first that is an estimate from the
    number of pages and edges, and after each look that was in vain, twice the time of that one. So looking can never
    cost more than a part of what it looks at. A look ends early where reading takes less than `margin` times as long as
    it would in perfect order.

    >>> Policy("auto", horizon=1000)
    Policy(mode='auto', horizon=1000, patience=1.0, margin=1.25)
    """

    mode: str = "advise"
    """"off": never look; "advise": say what would be done, and why; "auto": do it."""
    horizon: int | None = None
    """How many more waves are expected; what doesn't pay back within them isn't done. None: as many as there were."""
    patience: float = 1.0
    margin: float = 1.25

    def __post_init__(self) -> None:
        if self.mode not in _MODES:
            raise InvalidArgumentError(f"got mode={self.mode!r}; it is one of {', '.join(map(repr, _MODES))}")
        if self.horizon is not None:
            waves = whole_number(self.horizon)
            if waves is None or not 1 <= waves <= _MOST_WAVES:
                raise InvalidArgumentError(
                    f"got horizon={self.horizon!r}; pass a number of waves from 1 to {_MOST_WAVES:,}, or None"
                )
            object.__setattr__(self, "horizon", waves)
        for name, least in (("patience", 0), ("margin", 1)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value < np.inf:
                raise InvalidArgumentError(f"got {name}={value!r}; pass a number from {least} on")


def as_policy(value: Any) -> Policy:
    """A policy, or the one of a mode. Raises `InvalidArgumentError`."""
    if isinstance(value, Policy):
        return value
    if isinstance(value, str):
        return Policy(value)
    raise InvalidArgumentError(f"got layout={value!r}; pass 'off', 'advise', 'auto', or an mmsb.layout.Policy(…)")


@dataclasses.dataclass(frozen=True)
class Decision:
    """What was decided about a layout, and why. See `advise` for an example."""

    worth: bool
    """Whether a layout was found that pays back."""
    reason: str
    """In a sentence, with the figures."""
    layout: Layout | None = None
    """The one that is worth it."""
    payback: Payback | None = None
    """None where the search ended before anything was found."""
    report: LayoutReport | None = None
    """Of `bus.optimize_layout`: what the optimiser found."""
    seconds: float = 0.0
    """How long it took to decide."""
    tick: int = 0
    """When it was made."""
    applied: bool = False
    """Whether the pages were moved."""
