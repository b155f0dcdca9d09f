"""Plain text for people: tables with aligned columns, ranges of ids, and names that come from a file."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import islice

__all__ = ["printable", "ranges", "table"]

_ROWS = 1000  # at once: a long table is shown while it is being made


def table(columns: Sequence[str], rows: Iterable[Sequence[str]], numbers: Collection[str] = ()) -> Iterator[str]:
    """Iterate over the lines of a table; columns in `numbers` stand to the right.

    Widths are those of the rows so far, looked at a thousand at a time.

    >>> print("\\n".join(table(["part", "size"], [["u", "9"], ["velocity", "12"]], ["size"])))
    part      size
    u            9
    velocity    12
    """
    waiting, widths = iter(rows), [len(column) for column in columns]
    piece = [list(columns), *islice(waiting, _ROWS)]
    while piece:
        widths = [max(width, *map(len, cells)) for width, *cells in zip(widths, *piece, strict=True)]
        for row in piece:
            yield _line(row, widths, [column in numbers for column in columns])
        piece = list(map(list, islice(waiting, _ROWS)))


def _line(row: Sequence[str], widths: Sequence[int], right: Sequence[bool]) -> str:
    cells = zip(row, widths, right, strict=True)
    return "  ".join(cell.rjust(width) if r else cell.ljust(width) for cell, width, r in cells).rstrip()


def ranges(numbers: Iterable[int], most: int = 6) -> str:
    """Ascending numbers as a short text, such as `0-3, 7`.

    >>> ranges([0, 1, 2, 3, 7])
    '0-3, 7'
    >>> ranges(range(0, 20, 2))
    '0, 2, 4, 6, 8, 10, …'
    """
    found: list[list[int]] = []
    for number in numbers:
        if found and number == found[-1][1] + 1:
            found[-1][1] = number
        elif len(found) == most:
            return ", ".join([*map(_range, found), "…"])
        else:
            found.append([number, number])
    return ", ".join(map(_range, found))


def _range(bounds: Sequence[int]) -> str:
    first, last = bounds
    return str(first) if first == last else f"{first}-{last}"


def printable(text: str) -> str:
    r"""A name as whoever wrote the file chose it: no line break or escape sequence of it may reach a terminal.

    >>> print(printable("wind\x1b[31m\nnew"))
    wind\x1b[31m\nnew
    """
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
