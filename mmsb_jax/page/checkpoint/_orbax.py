"""A bridge to Orbax, for people whose pipelines read and write its checkpoints. Needs the extra `orbax`.

Orbax keeps the arrays of a tree by their paths and returns plain dicts and lists. It missed most of the flipped bits
that we put into its files, so a run's own checkpoints stay the ones to keep.
"""

import importlib
import os
from types import ModuleType
from typing import Any

import jax
import numpy as np

from ..._errors import InvalidArgumentError, InvalidTypeError, MissingPackageError
from ._checkpoint import Checkpoint
from ._snapshot import Snapshot

__all__ = ["from_orbax", "to_orbax"]


def to_orbax(tree: Any, path: str | os.PathLike[str]) -> None:
    """Save a pytree as an Orbax checkpoint, bit for bit.

    **Arguments:**

    - `tree`: arrays of any dtype, typed PRNG keys and Python numbers; or a `Checkpoint` or `Snapshot`, of which
        `pages`, `epoch` and `tick` are saved.
    - `path`: where nothing is yet.

    **Raises:** `InvalidTypeError` for a leaf that Orbax can't keep (it is named by its path), `InvalidArgumentError`
    when there is something at the path, `MissingPackageError` when Orbax isn't installed.

    ```python
    >>> import mmsb_jax as mmsb, jax.numpy as jnp, tempfile
    >>> path = tempfile.mkdtemp() + "/weights"
    >>> mmsb.page.to_orbax({"layer": [jnp.float32(1.5), -0.0]}, path)
    >>> mmsb.page.from_orbax(path)
    {'layer': [Array(1.5, dtype=float32), -0.0]}

    ```
    """
    if isinstance(tree, Checkpoint):
        tree = tree.load()
    if isinstance(tree, Snapshot):
        tree = {"pages": tree.pages, "epoch": tree.epoch, "tick": np.uint32(tree.tick)}
    orbax, path = _orbax(), _absolute(path)
    if os.path.lexists(path):
        raise InvalidArgumentError(f"there is something at {path} already; Orbax needs a path where nothing is yet")
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    for where, leaf in leaves:
        _check_leaf(jax.tree_util.keystr(where), leaf)
    if not leaves:
        raise InvalidArgumentError("got a tree without leaves; Orbax keeps at least one array")
    with orbax.StandardCheckpointer() as checkpointer:  # leaving it waits until all is written
        checkpointer.save(path, tree)


def from_orbax(path: str | os.PathLike[str], like: Any = None) -> Any:
    """Load the pytree of an Orbax checkpoint, bit for bit.

    **Arguments:**

    - `path`: where the checkpoint is.
    - `like`: a tree of the structure to return, such as an equinox module or an optax state; None: as Orbax keeps it,
        in dicts and lists. Shapes and dtypes have to be the same; nothing is converted.

    **Raises:** `FileNotFoundError` when there is no checkpoint, `InvalidTypeError` when it doesn't hold just the leaves
    of `like` (the first difference is named), `MissingPackageError` when Orbax isn't installed.

    See `to_orbax` for an example.
    """
    with _orbax().StandardCheckpointer() as checkpointer:
        tree = checkpointer.restore(_absolute(path))
    if like is None:
        return tree
    found = {_name(where): leaf for where, leaf in jax.tree_util.tree_leaves_with_path(tree)}
    wanted, structure = jax.tree_util.tree_flatten_with_path(like)
    names = [_name(where) for where, _ in wanted]
    if different := sorted(found.keys() ^ set(names)):
        missing = "`like`" if different[0] in found else "the checkpoint"
        raise InvalidTypeError(
            f"{path}: leaf {'/'.join(different[0])} isn't in {missing}; pass a tree like the one that was saved"
        )
    pairs = zip(names, wanted, strict=True)
    return jax.tree.unflatten(structure, [_fitting(name, found[name], leaf) for name, (_, leaf) in pairs])


def _orbax() -> ModuleType:
    try:
        return importlib.import_module("orbax.checkpoint")
    except ModuleNotFoundError as why:
        raise MissingPackageError(
            f"Orbax isn't installed ({why}); install it by: pip install 'mmsb-jax[orbax]'"
        ) from why


def _absolute(path: str | os.PathLike[str]) -> str:
    """Orbax wants it so; a bucket's address is left as it is."""
    text = os.fspath(path)
    return text if "://" in text else os.path.abspath(text)


def _check_leaf(where: str, leaf: Any) -> None:
    if not isinstance(leaf, jax.Array | np.ndarray | np.generic | int | float):
        raise InvalidTypeError(
            f"leaf {where} is a {type(leaf).__name__}, which Orbax can't keep; pass arrays and numbers alone, "
            "for instance equinox.filter(tree, equinox.is_array)"
        )
    if np.size(leaf) == 0:
        raise InvalidTypeError(f"leaf {where} has shape {np.shape(leaf)}; Orbax keeps no array without elements")


def _name(where: tuple[Any, ...]) -> tuple[str, ...]:
    """What Orbax makes of a path: attributes, keys and positions are all the same to it."""
    return tuple(jax.tree_util.keystr((step,), simple=True) for step in where)


def _fitting(name: tuple[str, ...], found: Any, wanted: Any) -> Any:
    if _kind(found) != _kind(wanted):
        kinds = f"{_kind(found)} in the checkpoint and {_kind(wanted)} in `like`"
        raise InvalidTypeError(f"leaf {'/'.join(name)} is {kinds}; nothing is converted")
    if isinstance(wanted, jax.Array):
        return jax.numpy.asarray(found)
    return np.asarray(found) if isinstance(wanted, np.ndarray) else found


def _kind(leaf: Any) -> str:
    if hasattr(leaf, "dtype"):
        return f"{leaf.dtype}{list(leaf.shape)}"
    return f"a Python {type(leaf).__name__}"
