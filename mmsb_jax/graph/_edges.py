"""Edge kinds, and what a caller passed turned into the arrays that the graph keeps."""

import enum
import operator

import numpy as np
from jaxtyping import Bool, Float32, Int8, Int32, Integer
from numpy.typing import ArrayLike

from .._errors import InvalidArgumentError, InvalidTypeError, PageNotFoundError

MAX_ID = np.iinfo(np.int32).max


class EdgeKind(enum.IntEnum):
    """What a change of the parent means for the child. A name in any case, or its number, does as well.

    >>> EdgeKind.parse("data") is EdgeKind.DATA
    True
    """

    DATA = 0
    """The child is recomputed."""
    CONTROL = 1
    """The child is marked stale, and recomputed when somebody next asks for it."""
    DEVICE_SYNC = 2
    """A transfer of the child between devices is scheduled."""
    COMPILER = 3
    """What was compiled from the child is invalid."""

    @classmethod
    def parse(cls, kind: object) -> "EdgeKind":
        """The member that `kind` names: a member, a name such as `"data"`, or a number from 0 to 3.

        Raises `InvalidArgumentError` for an unknown name or number, `InvalidTypeError` for anything else.
        """
        if isinstance(kind, str):
            found = cls.__members__.get(kind.upper())
        else:
            number = _whole_number(kind)
            if number is None:
                raise InvalidTypeError(f"an edge kind of type {type(kind).__name__} was passed; {_KINDS_WANTED}")
            found = next((member for member in cls if member == number), None)
        if found is None:
            raise InvalidArgumentError(f"unknown edge kind {kind!r}; {_KINDS_WANTED}")
        return found


_KINDS_WANTED = (
    "pass an EdgeKind, one of the names " + ", ".join(repr(k.name.lower()) for k in EdgeKind) + ", or 0 to 3"
)


def _whole_number(value: object) -> int | None:
    if isinstance(value, bool | np.bool_):
        return None
    try:
        return operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        return None


def _as_array(value: ArrayLike, name: str) -> np.ndarray:
    try:
        return np.asarray(value)
    except ValueError as error:
        raise InvalidArgumentError(f"{name} is no regular array ({error}); pass a one-dimensional list") from error


def page_count(num_pages: object) -> int:
    """`num_pages` as an int that int32 page ids can reach."""
    count = _whole_number(num_pages)
    if count is None:
        raise InvalidTypeError(f"num_pages is a {type(num_pages).__name__}; pass a whole number")
    if not 0 <= count <= MAX_ID:
        raise InvalidArgumentError(f"num_pages is {count}; it must lie between 0 and {MAX_ID}, as page ids are int32")
    return count


def whole_ids(ids: ArrayLike, name: str) -> Integer[np.ndarray, " ids"]:
    """`ids`, one or many, as a vector of whole numbers, whether there are such pages or not."""
    array = np.atleast_1d(_as_array(ids, name))
    if array.ndim != 1:
        raise InvalidArgumentError(
            f"{name} has shape {array.shape}; pass one page id or a one-dimensional list of them"
        )
    if array.size == 0 and not hasattr(ids, "dtype"):
        array = array.astype(np.int32)  # [] has no dtype of its own; NumPy calls it float64
    if array.dtype.kind not in "iu":
        raise InvalidTypeError(f"{name} has dtype {array.dtype}; page ids are whole numbers, for instance numpy.int32")
    return array


def page_ids(ids: ArrayLike, num_pages: int, name: str) -> Int32[np.ndarray, " ids"]:
    """`ids`, one or many, as an int32 vector of existing pages; `name` is the argument's, for the message."""
    array = whole_ids(ids, name)
    strangers = (array < 0) | (array >= num_pages)
    if strangers.any():
        raise PageNotFoundError(_describe_strangers(array, strangers, num_pages, name))
    return array.astype(np.int32, copy=False)


def edge_ends(
    parent: ArrayLike, child: ArrayLike, num_pages: int
) -> tuple[Int32[np.ndarray, " edges"], Int32[np.ndarray, " edges"]]:
    """Both ends of each edge, as int32 vectors of existing pages."""
    from_page, to_page = page_ids(parent, num_pages, "parent"), page_ids(child, num_pages, "child")
    if len(from_page) != len(to_page):
        raise InvalidArgumentError(
            f"parent has {len(from_page)} ids and child {len(to_page)}; an edge is one of each, so pass equally many"
        )
    return from_page, to_page


def _describe_strangers(
    ids: Integer[np.ndarray, " ids"], strangers: Bool[np.ndarray, " ids"], num_pages: int, name: str
) -> str:
    first = int(np.argmax(strangers))
    others = int(strangers.sum()) - 1
    return (
        f"{name}[{first}] is page {int(ids[first])}"
        + (f" (and {others} more are as wrong)" if others else "")
        + ", but "
        f"the graph has {num_pages} pages, with ids from 0 to {num_pages - 1}; correct the id or raise num_pages"
    )


def edge_weights(weight: ArrayLike | None, num_edges: int) -> Float32[np.ndarray, " edges"] | None:
    """`weight` as a float32 vector, one number per edge; a single number is meant for every edge."""
    if weight is None:
        return None
    array = _as_array(weight, "weight")
    # Kind V: NumPy knows bfloat16 and its relatives, which are numbers here, only as a void type of their own.
    if array.size and not (array.dtype.kind in "iuf" or array.dtype.name.startswith(("bfloat", "float"))):
        raise InvalidTypeError(f"weight has dtype {array.dtype}; weights are real numbers, kept as float32")
    if array.shape not in ((), (num_edges,)):
        raise InvalidArgumentError(f"weight has shape {array.shape}; pass one number, or {num_edges}: one per edge")
    with np.errstate(over="ignore"):  # judged below, with a message that names the edge
        result = np.broadcast_to(array, (num_edges,)).astype(np.float32)
    lost = np.isnan(result) | (np.isinf(result) & np.isfinite(array.astype(np.float64)))
    if lost.any():
        edge = int(np.argmax(lost))
        value = np.broadcast_to(array, (num_edges,))[edge]
        raise InvalidArgumentError(
            f"weight of edge {edge} is {value}, which has no meaning as a float32 weight; "
            "pass numbers below 3.4e38 in size (or ±inf, often a semiring's zero), and leave out edges that don't exist"
        )
    return result


def edge_kinds(kind: ArrayLike | None, num_edges: int) -> Int8[np.ndarray, " edges"]:
    """`kind` as an int8 vector, one per edge; a single kind is meant for every edge, None means DATA."""
    array = _as_array(EdgeKind.DATA if kind is None else kind, "kind")
    if array.ndim == 0:
        return np.full(num_edges, EdgeKind.parse(array.item()), np.int8)
    if array.shape != (num_edges,):
        raise InvalidArgumentError(f"kind has shape {array.shape}; pass one kind, or {num_edges}: one per edge")
    # Few values occur and many edges have them, so each is looked up once.
    values, where = np.unique(array, return_inverse=True)
    return np.array([EdgeKind.parse(value) for value in values.tolist()], np.int8)[where]
