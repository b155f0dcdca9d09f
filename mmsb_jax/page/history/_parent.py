"""A run forked from another one: `parent.json` says from which, and when. Its own log begins at that moment."""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from crc32c import crc32c

from ..._errors import CorruptLogError, LogNotFoundError
from ..log._identity import read_identity
from ..log._storage import DirectoryStorage, Place, Storage, opened

__all__ = ["PARENT_FILE", "Parent", "find_parent", "read_parent", "write_parent"]

PARENT_FILE = "parent.json"
_LONGEST = 1 << 16


@dataclass(frozen=True)
class Parent:
    """From which run, and from which of its moments."""

    run_id: str
    tick: int
    path: str | None
    """Where it was, absolute; None when it had no directory."""
    relative: str | None
    """The same as seen from the fork's directory: the two may be moved together."""

    @classmethod
    def of(cls, run_id: str, tick: int, place: Place, child: str | os.PathLike[str]) -> "Parent":
        """The parent at a place, for a fork whose directory is `child`."""
        if isinstance(place, DirectoryStorage):
            place = place.path
        if not isinstance(place, str | os.PathLike):
            return cls(run_id, tick, None, None)
        return cls(run_id, tick, os.path.abspath(place), os.path.relpath(place, child))


def write_parent(storage: Storage, parent: Parent) -> None:
    """Say which run this one was forked from."""
    text = json.dumps(asdict(parent), sort_keys=True)
    storage.publish(PARENT_FILE, (json.dumps({"parent": text, "crc32c": crc32c(text.encode())}) + "\n").encode())


def read_parent(storage: Storage) -> Parent | None:
    """Return which run this one was forked from, if it was. Raises `CorruptLogError` when the file is damaged."""
    if not storage.exists(PARENT_FILE):
        return None
    try:
        sealed = json.loads(bytes(storage.read(PARENT_FILE, 0, _LONGEST)))
        return _parsed(sealed)
    except (ValueError, RecursionError) as why:
        reason = f"it says from which run this one was forked, and can't be read ({why})"
        raise CorruptLogError(storage.describe(PARENT_FILE), 0, reason) from why


def _parsed(sealed: Any) -> Parent:
    text = sealed.get("parent") if isinstance(sealed, dict) else None
    if not isinstance(text, str) or crc32c(text.encode()) != sealed.get("crc32c"):
        raise ValueError("its checksum is wrong")
    found = json.loads(text)
    kinds = {"run_id": str, "tick": int, "path": str | None, "relative": str | None}
    if not isinstance(found, dict) or found.keys() != kinds.keys():
        raise ValueError("it has other fields than a parent has")
    for name, kind in kinds.items():
        if not isinstance(found[name], kind):
            raise ValueError(f"{name} is {found[name]!r}")
    return Parent(**found)


def find_parent(storage: Storage, parent: Parent) -> Place:
    """Return where the parent is now.

    Raises:
        LogNotFoundError: it isn't where it was, neither seen from here nor absolutely.
    """
    here = storage.path if isinstance(storage, DirectoryStorage) else None
    places = [] if parent.relative is None or here is None else [here / parent.relative]
    places += [] if parent.path is None else [Path(parent.path)]
    for place in places:
        if place.is_dir() and _is_run(place, parent.run_id):
            return place
    where = f"it is not at {' nor at '.join(map(str, places))}" if places else "it was in memory"
    raise LogNotFoundError(
        f"{storage.describe(PARENT_FILE)}: this run was forked at epoch {parent.tick} from the run {parent.run_id}, "
        f"and only that knows what was before; {where}. Move it back, or read the fork from that epoch on"
    )


def _is_run(place: Path, run_id: str) -> bool:
    try:
        with opened(place) as storage:
            return read_identity(storage).run_id == run_id
    except (LogNotFoundError, CorruptLogError):
        return False
