"""Split-run equality: a run that is done again, or broken off and resumed, ends in the same bits."""

import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from .._errors import InvalidArgumentError, InvalidTypeError
from .._require import require_instance, whole_number
from ..page import Difference, Run, record

__all__ = ["ReplayDifference", "assert_replay_identical", "assert_runs_identical"]


class ReplayDifference(AssertionError):
    """Two runs that should be the same aren't. `epoch` is the first at which they differ, `difference` says where."""

    def __init__(self, message: str, epoch: int, difference: Difference) -> None:
        super().__init__(message)
        self.epoch, self.difference = epoch, difference


def assert_replay_identical(
    step: Callable[..., Any],
    init: Any,
    steps: int | Any,
    *,
    cuts: Sequence[int] | Any | None = None,
    **options: Any,
) -> None:
    """Record a run, record it again, and resume it from cuts; every recorded state must be the same, bit for bit.

    **Arguments:**

    - `step`, `init`, `steps`: as for `record`; at least 2 steps.
    - `cuts`: after how many steps to break off and resume; by default after the first, in the middle, and before the
      last.
    - `options`: whatever else `record` takes, such as `xs` and `every`.

    **Raises:** `ReplayDifference`, an `AssertionError`, which names the first step that differs, with its leaves and
    elements. A step that reads a clock, a global, or NumPy's random numbers is caught by this; so is one whose state
    isn't all in the tree.

    ```python
    >>> import mmsb_jax as mmsb, jax, jax.numpy as jnp
    >>> def step(tree):
    ...     key, sub = jax.random.split(tree["key"])
    ...     return {"x": tree["x"] + jax.random.normal(sub, (3,)), "key": key}
    >>> init = {"x": jnp.zeros(3), "key": jax.random.key(0)}
    >>> mmsb.testing.assert_replay_identical(step, init, 10, cuts=[1, 7])

    ```
    """
    number = whole_number(steps)
    if number is None or number < 2:
        raise InvalidArgumentError(f"got steps={steps!r}; a run that is to be cut has at least 2 steps")
    if cuts is not None and not isinstance(cuts, Iterable):
        raise InvalidTypeError(f"got cuts={cuts!r}; pass several step numbers, such as [{cuts!r}]")
    chosen = {1, number // 2, number - 1} if cuts is None else set(cuts)
    for cut in chosen:
        if whole_number(cut) is None or not 0 < cut < number:
            raise InvalidArgumentError(f"got the cut {cut!r}; cuts lie between 1 and steps - 1 = {number - 1}")
    options = {"progress": False} | options
    with tempfile.TemporaryDirectory(prefix="mmsb-testing-") as folder:
        whole = record(_anew(step), init, number, path=Path(folder, "whole"), **options)
        again = record(_anew(step), init, number, path=Path(folder, "again"), **options)
        assert_runs_identical(whole, again, what="done again, it")
        for cut in sorted(chosen):
            path = Path(folder, f"cut at {cut}")
            record(_anew(step), init, cut, path=path, **options)
            resumed = record(_anew(step), init, number, path=path, resume=True, **options)
            assert_runs_identical(whole, resumed, what=f"resumed at step {cut}, it")


def _anew(step: Callable[..., Any]) -> Callable[..., Any]:
    """The same step as another function, so that JAX traces it once more, as another process would."""

    def again(*arguments: Any) -> Any:
        return step(*arguments)

    return again


def assert_runs_identical(expected: Run | Any, found: Run | Any, *, what: str = "the second") -> None:
    """Compare two runs at all epochs that both have recorded; the last ones must be the same.

    **Raises:** `ReplayDifference`, which names the first epoch, leaf and element that differ; `AssertionError` when
    the runs have other leaves, or end at different epochs.

    ```python
    >>> import mmsb_jax as mmsb, jax.numpy as jnp, tempfile
    >>> folder = tempfile.mkdtemp()
    >>> one, two = (
    ...     mmsb.record(lambda x: x * rate, jnp.float32(1), 5, path=f"{folder}/{rate}", progress=False)
    ...     for rate in (1.5, 2)
    ... )
    >>> mmsb.testing.assert_runs_identical(one, two)
    Traceback (most recent call last):
    mmsb_jax.testing._identical.ReplayDifference: the second differs from the first run at epoch 1 for the first time:
    (the tree): 1 of 1 elements, on 1 page
        value: 1.5 -> 2.0

    ```
    """
    for run in expected, found:
        require_instance(run, Run, "mmsb.record returns one, and mmsb.open_run opens one")
    if expected.last != found.last:
        raise AssertionError(f"{what} ends at epoch {found.last}, but the first run at {expected.last}")
    if expected.about is None or found.about is None or expected.about.paging.leaves != found.about.paging.leaves:
        raise AssertionError(f"{what} has other leaves than the first run, or one of them is the run of a bus")
    difference = expected.first_difference(found)
    if difference is not None:
        parts = "\n".join(map(str, difference.parts))
        epoch = difference.first
        text = f"{what} differs from the first run at epoch {epoch} for the first time:\n{parts}"
        raise ReplayDifference(text, epoch, difference)
