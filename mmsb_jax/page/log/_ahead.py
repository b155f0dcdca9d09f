"""Reading ahead: while one batch of items is worked on, a thread reads the next.

Reading and checksums of large frames, and writing large arrays, let go of Python's lock, so that both really go on at
once. What is short, or comes in small pieces, is read as it is asked for: a thread would cost more.
"""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

__all__ = ["ahead"]

_T = TypeVar("_T")

_WORTHWHILE = 8 << 20
_LARGE = 256 << 10  # on average
_BATCH = 1 << 20


def ahead(items: Iterator[_T], size: Callable[[_T], int]) -> Iterator[_T]:
    """Iterate over items that take long to come; once there were some megabytes of large ones, read ahead.

    An error comes when all items before it have been given out, so that whoever has had enough by then never sees it.

    >>> list(ahead(iter(["a", "b"]), len))
    ['a', 'b']
    """
    begun = count = 0
    for item in items:
        yield item
        begun, count = begun + size(item), count + 1
        if begun >= _WORTHWHILE and begun >= count * _LARGE:
            break
    else:
        return
    with ThreadPoolExecutor(1, "mmsb-read") as reader:
        coming = deque(reader.submit(_batch, items, size) for _ in range(2))
        while True:
            batch, error = coming.popleft().result()
            coming.append(reader.submit(_batch, items, size))
            yield from batch
            if error is not None:
                raise error
            if not batch:
                return


def _batch(items: Iterator[_T], size: Callable[[_T], int]) -> tuple[list[_T], Exception | None]:
    """The next items and the error that came behind them; no items when there are none."""
    batch, taken = list[_T](), 0
    try:
        for item in items:
            batch.append(item)
            taken += size(item)
            if taken >= _BATCH:
                break
    except Exception as why:
        return batch, why
    return batch, None
