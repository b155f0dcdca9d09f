"""`SparseMatrix`: a sparse operator, laid out once on the host for products in any semiring."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse
from jax.typing import ArrayLike
from jaxtyping import Array, Int, Int32

from .._device import on_device
from .._errors import InvalidArgumentError, InvalidTypeError
from ..graph._traverse import group
from ._blocks import plan
from ._entries import as_values, check_indices, checked_shape, checked_values, held, weights_of, whole_numbers
from ._links import Block, Fold, Links, collect, spread
from ._transpose import block_of, links_of, rows_of_pieces, slots_of


class SparseMatrix(eqx.Module):
    """A sparse matrix for `matmul` and `closure`, in any semiring. Immutable; a pytree; pass it to jitted functions.

    Built on the host by `from_coo`, `from_csr`, `from_scipy`, `from_bcoo`, `from_networkx`. What isn't stored is the
    `zero` of whatever semiring uses it, and an entry that is stored counts, be it 0. Parallel entries, of one row and
    column, are kept apart, and a product combines them by its ⊕; `coalesce` merges them. Within a row, entries are
    taken in the order in which they were given, in pieces of 64 (see `_blocks`), so that the same entries give the same
    bits always. The values are differentiable leaves (`values`, `with_values`); the structure isn't.

    >>> import jax.numpy as jnp, numpy as np
    >>> roads = SparseMatrix.from_coo([0, 0, 1], [1, 2, 2], np.float32([5, 9, 3]), (3, 3))
    >>> roads
    SparseMatrix(shape=(3, 3), entries=3, dtype=float32)
    >>> roads.T.row, roads.T.values
    (array([1, 2, 2], dtype=int32), Array([5., 9., 3.], dtype=float32))
    """

    levels: tuple[tuple[Block, ...], ...]
    home: Int32[Array, " rows"] | None  # where each row's value lies among all pieces; None: rows in order, none empty
    row_of_piece: tuple[Int32[Array, "_"], ...]  # of level 0, block by block
    slot: Int32[Array, " entries"]  # where each entry lies in level 0, in the order in which they were given
    links: Links | None
    shape: tuple[int, int] = eqx.field(static=True)

    # Making one.

    @classmethod
    def from_coo(
        cls,
        row: ArrayLike | Any,
        col: ArrayLike | Any,
        value: ArrayLike | Any | None,
        shape: tuple[int, int] | Any,
    ) -> SparseMatrix:
        """Entry k is `value[k]` in row `row[k]`, column `col[k]`.

        With `value=None` it is a pattern: every weight is `one`, and ⊗ is left out.

        **Arguments:** `row`, `col`: integers [entries]; `value`: [entries], finite or infinite, of any dtype that JAX
        holds, or a tree of such arrays for a semiring of trees.

        Raises `InvalidArgumentError` for lengths, shapes, indices and values (NaN) that can't be; `InvalidTypeError`
        for wrong dtypes and for traced arrays.

        >>> SparseMatrix.from_coo([0, 1], [1, 0], None, (2, 2)).dtype is None
        True
        """
        rows, columns = whole_numbers("row", row), whole_numbers("col", col)
        size = checked_shape(shape)
        check_indices(rows, columns, size)
        values = jax.tree.map(lambda leaf: checked_values(leaf, rows, columns), as_values(value))
        order = None
        if np.any(rows[1:] < rows[:-1]):
            order = group(rows.astype(np.int32), size[0])[1]
            columns = columns[order]
        layout = plan(np.bincount(rows, minlength=size[0]))
        slot, done = np.zeros(len(rows), np.int32), 0
        with jax.ensure_compile_time_eval():  # also inside jit the structure is there
            levels = [
                [block_of(block, columns if depth == 0 else None) for block in blocks]
                for depth, blocks in enumerate(layout.levels)
            ]
            for nth, block in enumerate(layout.levels[0]):
                given = block.entry if order is None else order[block.entry]
                laid = jax.tree.map(lambda leaf, at=given: on_device(leaf[at]), values)
                levels[0][nth] = eqx.tree_at(lambda b: b.values, levels[0][nth], laid, is_leaf=lambda x: x is None)
                used = np.arange(given.shape[1])[:, None] < block.lengths
                slot[given.T[used]] = done + np.flatnonzero(used.reshape(-1))
                done += given.size
            in_order = np.array_equal(layout.home, np.arange(layout.pieces))
            home = None if in_order else on_device(layout.home, np.int32)
            made = tuple(map(tuple, levels))
            pieces = tuple(map(on_device, rows_of_pieces(made, home, size[0])))
            return cls(made, home, pieces, on_device(slot), None, size)

    @classmethod
    def from_csr(
        cls, indptr: ArrayLike | Any, indices: ArrayLike | Any, value: ArrayLike | Any | None, shape: tuple[int, int]
    ) -> SparseMatrix:
        """Compressed rows: the entries of row i are those from `indptr[i]` to `indptr[i + 1]`, in columns `indices`.

        Arguments and errors as for `from_coo`; `indptr` is int[rows + 1], ascending from 0 to the number of entries.

        >>> SparseMatrix.from_csr([0, 2, 3], [0, 1, 1], None, (2, 2)).row
        array([0, 0, 1], dtype=int32)
        """
        starts, columns, size = whole_numbers("indptr", indptr), whole_numbers("indices", indices), checked_shape(shape)
        ends = (0, len(columns))
        if len(starts) != size[0] + 1 or np.any(np.diff(starts) < 0) or (starts[0], starts[-1]) != ends:
            raise InvalidArgumentError(
                f"indptr must be int[{size[0] + 1}], ascending from 0 to {len(columns)}; got {len(starts)} numbers"
                + (f" from {starts[0]} to {starts[-1]}" if len(starts) else "")
            )
        return cls.from_coo(np.repeat(np.arange(size[0]), np.diff(starts)), columns, value, size)

    @classmethod
    def from_scipy(cls, matrix: Any) -> SparseMatrix:
        """From any `scipy.sparse` matrix or array, entry by entry: stored zeros stay, duplicates aren't summed.

        Raises `InvalidTypeError` for anything else, and what `from_coo` raises.

        >>> import scipy.sparse
        >>> SparseMatrix.from_scipy(scipy.sparse.eye_array(3, dtype="float32"))
        SparseMatrix(shape=(3, 3), entries=3, dtype=float32)
        """
        if not scipy.sparse.issparse(matrix) or matrix.ndim != 2:
            raise InvalidTypeError(
                f"from_scipy takes a two-dimensional scipy.sparse matrix or array; got {type(matrix).__name__}. "
                "For arrays of indices use from_coo; for a dense array, scipy.sparse.csr_array(array)"
            )
        entries = matrix.tocoo()
        return cls.from_coo(entries.row, entries.col, entries.data, entries.shape)

    @classmethod
    def from_bcoo(cls, matrix: Any) -> SparseMatrix:
        """From a `jax.experimental.sparse.BCOO` of two sparse dimensions; its padding, out of range, is left out.

        Raises `InvalidTypeError` for anything else, and what `from_coo` raises.

        >>> from jax.experimental import sparse
        >>> SparseMatrix.from_bcoo(sparse.BCOO.fromdense(jnp.eye(3)))
        SparseMatrix(shape=(3, 3), entries=3, dtype=float32)
        """
        if not (hasattr(matrix, "indices") and hasattr(matrix, "data")) or np.ndim(matrix.indices) != 2:
            raise InvalidTypeError(f"from_bcoo takes a BCOO matrix of two dimensions; got {type(matrix).__name__}")
        if np.ndim(matrix.data) != 1 or matrix.indices.shape[1] != 2:
            raise InvalidTypeError(
                f"got a BCOO with indices {matrix.indices.shape} and data {matrix.data.shape}; both of its dimensions "
                "must be sparse, and none a batch: BCOO.fromdense(array)"
            )
        index = np.asarray(matrix.indices)
        inside = (index < np.array(matrix.shape)).all(axis=1)
        return cls.from_coo(index[inside, 0], index[inside, 1], np.asarray(matrix.data)[inside], matrix.shape)

    @classmethod
    def from_networkx(cls, graph: Any, *, weight: str | None = "weight", dtype: Any = np.float32) -> SparseMatrix:
        """From a networkx graph: an edge from node number j to node number i is the entry [i, j].

        Nodes are numbered in the order of `graph.nodes`; an edge of an undirected graph leads both ways.

        **Arguments:** `weight`, the name of the edges' attribute, 1 where it is missing; None: a pattern; `dtype`.
        Raises `InvalidTypeError` for anything else and for weights that are no numbers, and what `from_coo` raises.

        >>> import networkx as nx
        >>> graph = nx.DiGraph([("a", "b", {"weight": 5}), ("b", "c", {"weight": 3})])
        >>> SparseMatrix.from_networkx(graph).row
        array([1, 2], dtype=int32)
        """
        if not (hasattr(graph, "edges") and hasattr(graph, "nodes") and hasattr(graph, "is_directed")):
            raise InvalidTypeError(f"from_networkx takes a networkx graph; got {type(graph).__name__}")
        number = {node: nth for nth, node in enumerate(graph.nodes)}
        edges = [
            (number[a], number[b], 1 if weight is None else data.get(weight, 1)) for a, b, data in graph.edges.data()
        ]
        if not graph.is_directed():
            edges += [(b, a, value) for a, b, value in edges if a != b]
        parent, child, values = zip(*edges, strict=True) if edges else ((), (), ())
        value = None if weight is None else weights_of(values, dtype)
        return cls.from_coo(np.array(child, int), np.array(parent, int), value, (len(number), len(number)))

    # Looking at it. On the host: none of these works on a traced matrix.

    @property
    def entries(self) -> int:
        """How many entries are stored."""
        return self.slot.shape[-1]

    @property
    def dtype(self) -> np.dtype | None:
        """The dtype of the values; None for a pattern, and for values that are trees."""
        found: Any = self.block_values[0]
        return np.dtype(found.dtype) if hasattr(found, "dtype") else None

    @property
    def padding(self) -> float:
        """Slots laid out per entry: 1.0 is none to spare. On RMAT graphs of 2¹⁴ rows and more it is at most 1.3."""
        slots = sum(block.columns.size for block in self.first)
        return slots / self.entries if self.entries else 1.0

    @property
    def row(self) -> Int[np.ndarray, " entries"]:
        """The row of each entry, in the order in which they were given."""
        return self._coordinates()[0]

    @property
    def col(self) -> Int[np.ndarray, " entries"]:
        """The column of each entry, in the order in which they were given."""
        return self._coordinates()[1]

    @property
    def values(self) -> Any:
        """The value of each entry, in the order in which they were given, [entries]; None for a pattern. Also traced.

        >>> SparseMatrix.from_coo([1, 0], [0, 0], np.float32([5, 9]), (2, 2)).values
        Array([5., 9.], dtype=float32)
        """
        if self.first[0].values is None:
            return None
        if _is_traced((self.block_values, self.slot)):
            return _by_entry(self.block_values, *self._known("entries", _entry_of_slot))
        slot = np.asarray(self.slot)
        return jax.tree.map(
            lambda *blocks: on_device(np.concatenate([np.asarray(block).T.reshape(-1) for block in blocks])[slot]),
            *self.block_values,
        )

    def __repr__(self) -> str:
        kind = "pattern" if self.dtype is None else f"dtype={self.dtype.name}"
        if self.dtype is None and self.first[0].values is not None:
            kind = "values are trees"
        return f"SparseMatrix(shape={self.shape}, entries={self.entries}, {kind})"

    # Another one.

    def with_values(self, value: ArrayLike | Any) -> SparseMatrix:
        """The same structure with other values, [entries] in the order in which they were given. Also traced.

        Raises `InvalidArgumentError` when there are more or fewer, or one is too large; `InvalidTypeError` for what is
        no number. NaN isn't looked for.

        >>> roads = SparseMatrix.from_coo([1, 0], [0, 0], None, (2, 2))
        >>> roads.with_values(jnp.float32([5, 9])).values
        Array([5., 9.], dtype=float32)
        """
        arrays = jax.tree.map(lambda leaf: jnp.asarray(held(leaf)), as_values(value))
        for leaf in jax.tree.leaves(arrays):
            if leaf.shape != (self.entries,):
                raise InvalidArgumentError(f"got values of shape {leaf.shape}; the matrix has [{self.entries}] entries")
        columns, back = self._known("entries", _entry_of_slot)
        if _is_traced((arrays, self.slot)):
            return self.with_block_values(_laid_out(arrays, columns, back))
        on_host = jax.tree.map(np.asarray, arrays)
        laid = [jax.tree.map(lambda leaf, at=at: on_device(leaf[at]), on_host) for at in map(np.asarray, columns)]
        return self.with_block_values(tuple(laid))

    def with_transpose(self) -> SparseMatrix:
        """This matrix, and with it what derivatives in reverse mode need, so that they don't have to lay it out.

        A matrix that is an argument of a jitted function, and differentiated there, needs this.

        Raises `InvalidTypeError` for a traced matrix.
        """
        self._require_concrete()
        return self.linked()

    def transpose(self) -> SparseMatrix:
        """The transposed matrix, its entries in the same order. Also `T`.

        >>> SparseMatrix.from_coo([1, 0], [0, 0], np.float32([5, 9]), (2, 3)).T.shape
        (3, 2)
        """
        row, col = self._coordinates()
        return SparseMatrix.from_coo(col, row, None, self.shape[::-1]).with_values(self.values)

    @property
    def T(self) -> SparseMatrix:
        """`transpose()`."""
        return self.transpose()

    def __matmul__(self, other: Any) -> Any:
        raise InvalidTypeError("A @ x names no semiring: mmsb.matmul(A, x, mmsb.semiring.plus_times), or another one")

    __rmatmul__, __array_ufunc__ = __matmul__, None  # so that NumPy leaves it to us

    # For the other modules of this layer.

    @property
    def first(self) -> tuple[Block, ...]:
        """The blocks of level 0. There is at least one, if only of no pieces."""
        return self.levels[0]

    @property
    def block_values(self) -> tuple[Any, ...]:
        """The values by block, as they are laid out."""
        return tuple(block.values for block in self.first)

    def with_block_values(self, values: tuple[Any, ...]) -> SparseMatrix:
        """The same structure with other values by block."""
        first = tuple(
            Block(block.columns, laid, block.lengths, block.shortest)
            for block, laid in zip(self.first, values, strict=True)
        )
        made = SparseMatrix((first, *self.levels[1:]), self.home, self.row_of_piece, self.slot, self.links, self.shape)
        object.__setattr__(made, "_structure", self._structure_known())
        return made

    def linked(self) -> SparseMatrix:
        """With links, unless it is traced; they are laid out once and kept beside the matrix, not in its tree."""
        if self.links is not None or isinstance(self.slot, jax.core.Tracer):
            return self
        known: Links = self._known("links", lambda matrix: links_of(matrix.levels, matrix.home, matrix.shape))
        made = SparseMatrix(self.levels, self.home, self.row_of_piece, self.slot, known, self.shape)
        object.__setattr__(made, "_structure", self._structure_known())
        return made

    def _known(self, name: str, find: Callable[[SparseMatrix], Any]) -> Any:
        """What follows from the structure alone, found once; unless that is traced."""
        if isinstance(self.slot, jax.core.Tracer):
            return find(self)
        known = self._structure_known()
        if name not in known:
            with jax.ensure_compile_time_eval():
                known[name] = find(self)
        return known[name]

    def _structure_known(self) -> dict[str, Any]:
        """Beside the matrix, not in its tree; one for all matrices that were made from it by other values."""
        if "_structure" not in self.__dict__:
            object.__setattr__(self, "_structure", {})
        found: dict[str, Any] = self.__dict__["_structure"]
        return found

    def _coordinates(self) -> tuple[Int[np.ndarray, " entries"], Int[np.ndarray, " entries"]]:
        self._require_concrete()
        row, col = self._known("coordinates", _row_and_column)
        return row, col

    def _require_concrete(self) -> None:
        if isinstance(self.slot, jax.core.Tracer):
            raise InvalidTypeError(
                "this matrix is traced, and its structure is on the device; ask outside jit and vmap"
            )


def _row_and_column(matrix: SparseMatrix) -> np.ndarray:
    slots = slots_of(matrix.levels, matrix.home, matrix.shape[0])
    found = np.empty((2, int(slots.slot.max(initial=-1)) + 1), np.int32)
    found[:, slots.slot] = slots.row, slots.column
    found = found[:, np.asarray(matrix.slot)]
    found.setflags(write=False)
    return found


def _is_traced(tree: Any) -> bool:
    return any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(tree))


@jax.jit
def _laid_out(values: Any, columns: list[Array], back: Fold) -> tuple[Any, ...]:
    """Values by entry, laid out."""
    leaves, structure = jax.tree.flatten(values)
    laid = [spread(leaf, columns, back) for leaf in leaves]
    return tuple(
        jax.tree.unflatten(structure, [jnp.stack(leaf[b], axis=1) for leaf in laid]) for b in range(len(columns))
    )


@jax.jit
def _by_entry(values: tuple[Any, ...], columns: list[Array], back: Fold) -> Any:
    def of(*blocks: Array) -> Array:
        return collect([list(block.T) for block in blocks], columns, back, back.size)

    return jax.tree.map(of, *values)


def _entry_of_slot(matrix: SparseMatrix) -> tuple[list[Array], Fold]:
    """By block, the entry of each slot, and the way back. A padded slot has entry 0, and nothing reads it."""
    slots = sum(block.columns.size for block in matrix.first)
    entry: Any
    if isinstance(matrix.slot, jax.core.Tracer):
        entry = jnp.zeros(slots, jnp.int32).at[matrix.slot].set(jnp.arange(matrix.entries, dtype=jnp.int32))
    else:  # where the structure is known it is a constant of compiled code, not a scatter in it
        entry = np.zeros(slots, np.int32)
        entry[np.asarray(matrix.slot)] = np.arange(matrix.entries, dtype=np.int32)
    columns, done = [], 0
    for block in matrix.first:
        rows, width = block.columns.shape
        columns.append(entry[done : done + rows * width].reshape(width, rows).T)
        done += rows * width
    slot = jnp.expand_dims(matrix.slot, 1)
    return list(map(on_device, columns)), Fold(((Block(slot, None, None, 1),),), None, matrix.entries)
