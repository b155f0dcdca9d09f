"""From the log to a `State`, with its digest checked."""

import os

import jax.numpy as jnp
import numpy as np

from ..._errors import InvalidArgumentError, ReplayDivergenceError
from ...physical import State
from .._digest import digest
from ..log._storage import Storage
from ._replay import Replayed
from ._replay import replay as replay_log

__all__ = ["check_digest", "replay", "verified_state"]


def replay(place: str | os.PathLike[str] | Storage, *, tick: int | None = None) -> State:
    """The state that a run's log describes, as of now or of an earlier moment. Reads only; a writer isn't disturbed.

    **Arguments:**

    - `place`: the run's directory (or a storage).
    - `tick`: the last tick to replay; None: all.

    **Returns:** a `State` with the same contents, epochs and page table as the run had, bit for bit.

    **Raises:** `LogNotFoundError`, `CorruptLogError`, `InvalidArgumentError` for a tick that the log hasn't reached,
    and `ReplayDivergenceError` when the contents don't have the
    digest that was logged with the last commit.

    ```python
    >>> import mmsb_jax as mmsb, numpy as np, tempfile, pathlib
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "run.mmsb"
    >>> with mmsb.start(path, page_bytes=4, capacity=2) as bus:
    ...     page = bus.create_page(4)
    ...     for value in (1, 2, 3):
    ...         _ = bus.update_page(page, np.int32(value))
    >>> mmsb.replay(path, tick=2).view()[0, 0], mmsb.replay(path).view()[0, 0]
    (Array(2, dtype=uint32), Array(3, dtype=uint32))

    ```
    """
    replayed = replay_log(place, until_tick=tick)
    if tick is not None and tick > replayed.tick:
        raise InvalidArgumentError(f"got tick={tick}, but the log ends at tick {replayed.tick}; pass at most that")
    return verified_state(replayed)


def verified_state(replayed: Replayed) -> State:
    """What was replayed, on the device. Raises `ReplayDivergenceError` when its digest isn't the one logged.

    ```python
    >>> import mmsb_jax as mmsb
    >>> log = mmsb.page.MemoryStorage()
    >>> with mmsb.page.TransactionLog.create(log, page_words=1, capacity=2):
    ...     pass
    >>> mmsb.page.verified_state(mmsb.page.replay_log(log)).num_pages
    2

    ```
    """
    slots, pages = replayed.slot_of_page, replayed.pages
    if slots is None:
        slots = np.arange(len(pages), dtype=np.int32)
    else:
        pages = np.empty_like(pages)
        pages[slots] = replayed.pages
    state = State(
        pages=jnp.asarray(pages),
        slot_of_page=jnp.asarray(slots),
        epoch=jnp.asarray(replayed.epoch),
        tick=jnp.asarray(replayed.tick, jnp.uint32),
    )
    check_digest(replayed, tuple(digest(state).tolist()))
    return state


def check_digest(replayed: Replayed, found: tuple[int, ...]) -> None:
    """Raise `ReplayDivergenceError` when a digest of what was replayed isn't the one logged.

    ```python
    >>> import mmsb_jax as mmsb
    >>> log = mmsb.page.MemoryStorage()
    >>> with mmsb.page.TransactionLog.create(log, page_words=1, capacity=2):
    ...     pass
    >>> check_digest(mmsb.page.replay_log(log), (1, 2))  # nothing was logged, so there is nothing to compare with

    ```
    """
    if replayed.digest is not None and found != replayed.digest:
        raise ReplayDivergenceError(
            f"replaying up to tick {replayed.tick} gives the digest {_hex(found)}, but the run logged "
            f"{_hex(replayed.digest)} there; the log was written by another version of mmsb_jax, or there is a bug: "
            "replay(…, tick=…) of earlier ticks shows where the two part"
        )


def _hex(lanes: tuple[int, ...]) -> str:
    return "".join(f"{lane:08x}" for lane in lanes)
