"""For the tests of those who record: is a run the same when it is done again, or broken off and resumed?

`pytest_plugins = ["mmsb_jax.testing.fixtures"]` in a `conftest.py` brings the fixtures `mmsb_bus` and `mmsb_path`.
"""

from ._identical import ReplayDifference, assert_replay_identical, assert_runs_identical

__all__ = ["ReplayDifference", "assert_replay_identical", "assert_runs_identical"]
