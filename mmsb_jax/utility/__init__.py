"""Layer 6: the bus watching itself. Lower layers return what they did as data; here it is added up."""

from ._counters import BusStats, Counters

__all__ = ["BusStats", "Counters"]
