"""Layer 4: propagation. Rules, waves, and the tick that applies deltas and lets them spread."""

from ._rule import Rule, RuleGraph, Term
from ._tick import Ticked, tick
from ._wave import Propagated, WaveReport, propagate

__all__ = ["Propagated", "Rule", "RuleGraph", "Term", "Ticked", "WaveReport", "propagate", "tick"]
