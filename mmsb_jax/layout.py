"""The public name of `adaptive`, layer 5."""

from .adaptive import *  # noqa: F403
from .adaptive import __all__ as __all__
