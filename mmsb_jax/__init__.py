"""mmsb_jax, the state bus for JAX programs.

Any state lives on the bus as fixed-size pages; every change is a delta; every delta passes one append-only log; a graph
of pages says what depends on what; and everything can be replayed bit for bit.
"""

from importlib import import_module as _import_module
from typing import TYPE_CHECKING as _TYPE_CHECKING
from typing import Any as _Any

if _TYPE_CHECKING:
    from ._public import *  # noqa: F403
    from ._public import __all__ as __all__
    from ._public import __version__ as __version__
else:

    def __getattr__(name: str) -> _Any:
        """Load all that is public when the first of it is used, so that `mmsb --help` needn't wait for JAX."""
        if name in ("__all__", "__version__") or not name.startswith("_"):
            public = _import_module("._public", __name__)
            names = [*getattr(public, "__all__", ()), "__all__", "__version__"]  # nothing yet while it is being loaded
            if name in names and hasattr(public, name):
                globals().update({each: getattr(public, each) for each in names})
                return globals()[name]
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def __dir__() -> list[str]:
        return sorted({*globals(), *__getattr__("__all__")})
