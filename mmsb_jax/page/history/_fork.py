"""A new run that goes on from a moment of another one, and shares its past by reference."""

import os
from typing import Any

import jax.numpy as jnp

from ..._errors import InvalidArgumentError, InvalidTypeError
from ...physical import State
from .._digest import digest
from ..checkpoint._snapshot import Snapshot
from ..log._fingerprint import environment_fingerprint
from ..log._frame import FrameKind
from ..log._identity import MARK, RUN_FILE, Mark, RunIdentity, write_mark
from ..log._records import encode_header, encode_names
from ..log._segments import Base, segment_name, write_base
from ..log._storage import DirectoryStorage, Storage
from ._alive import edges_alive, records_alive
from ._compact import write_frames
from ._founding import Commit, founding_commits
from ._parent import Parent, write_parent
from ._past import Past
from ._replay import Replayed

__all__ = ["fork"]


def fork(past: Past, tick: int, path: str | os.PathLike[str] | Storage | Any, *, time_ns: int) -> None:
    """Make a run at a new place that begins with the state at a tick. `run.json`, written last, makes it one.

    Raises:
        InvalidArgumentError: there is something at the path already.
        InvalidTypeError: it is no path.
        OSError: it can't be written; what is there then is no run, and may be removed.
    """
    storage = _new_place(path)
    found = past.at(tick)
    origin = past.run.run_id[:8]
    run = RunIdentity.new(past.run.page_words, past.run.capacity)
    state = _snapshot(found)
    environment = {**run.texts(), **{f"env.{key}": value for key, value in environment_fingerprint().items()}}
    frames = [
        Commit(FrameKind.HEADER, encode_header(environment), 0),
        Commit(FrameKind.NAMES, encode_names(0, ["", f"fork of {origin}"]), 0),
        *founding_commits(state, source=1),
    ]
    try:
        storage.lock()
        write_parent(storage, Parent.of(past.run.run_id, tick, past.place, _folder(storage)))
        name, last = segment_name(0), len(frames) - 1
        storage.create(name)
        end = write_frames(storage, name, frames, 0, time_ns, run.salt)
        storage.sync(name)
        storage.create(MARK)
        write_mark(storage, Mark(last, 0, end, storage.boot()), run.salt, 0)
        storage.sync(MARK)
        write_base(storage, Base(0, 0, last, tick), run.salt)
        storage.publish(RUN_FILE, run.to_json())
    finally:
        storage.close()


def _new_place(path: Any) -> Storage:
    if not isinstance(path, str | os.PathLike):
        if not hasattr(path, "publish"):
            raise InvalidTypeError(f"got a {type(path).__name__} for the fork; pass the path of a new directory")
        return path
    if os.path.lexists(path) and (not os.path.isdir(path) or os.listdir(path)):
        raise InvalidArgumentError(f"{os.fspath(path)} exists and isn't empty; choose another path for the fork")
    return DirectoryStorage(path)


def _folder(storage: Storage) -> str:
    return str(storage.path) if isinstance(storage, DirectoryStorage) else "."


def _snapshot(found: Replayed) -> Snapshot:
    state = State(
        jnp.asarray(found.pages),
        jnp.arange(len(found.pages), dtype=jnp.int32),
        jnp.asarray(found.epoch),
        jnp.asarray(found.tick, jnp.uint32),
    )
    low, high = digest(state).tolist()
    return Snapshot(
        found.pages,
        found.epoch,
        found.tick,
        found.sequence,
        (low, high),
        found.names,
        records_alive(found.events),
        edges_alive(found.events, len(found.epoch)),
        found.slot_of_page,
    )
