"""`mmsb`: the past of a run from a terminal. A thin shell over `mmsb_jax.open_run` and `mmsb_jax.page`.

Nothing here is imported but argparse until a command runs, so that `mmsb --help` answers at once.
"""

from ._main import main

__all__ = ["main"]
