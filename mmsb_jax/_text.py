"""Plain text for people: tables with aligned columns, ranges of ids, and names that come from a file."""

import difflib
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import islice

__all__ = ["consecutive", "counted", "nearest", "printable", "ranges", "table"]

_ROWS = 1000  # at once: a long table is shown while it is being made


def table(
    columns: Sequence[str],
    rows: Iterable[Sequence[str]],
    numbers: Collection[str] = (),
    *,
    least: Sequence[int] | None = None,
    at_once: int = _ROWS,
) -> Iterator[str]:
    """Iterate over the lines of a table; columns in `numbers` stand to the right.

    Columns are as wide as the rows so far need, looked at `at_once` at a time, and as `least` says.

    >>> for line in table(["part", "size"], [["u", "9"], ["velocity", "12"]], ["size"]):
    ...     print(line)
    part      size
    u            9
    velocity    12
    """
    widths = list(map(max, map(len, columns), least or [0] * len(columns)))
    right, waiting = [column in numbers for column in columns], iter(rows)
    piece = [list(columns), *map(list, islice(waiting, at_once))]
    while piece:
        widths = [max(width, *map(len, cells)) for width, *cells in zip(widths, *piece, strict=True)]
        yield from (_line(row, widths, right) for row in piece)
        piece = list(map(list, islice(waiting, at_once)))


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
    found = list(islice(consecutive(numbers), most + 1))
    texts = [str(first) if first == last else f"{first}-{last}" for first, last in found[:most]]
    return ", ".join([*texts, "…"] if len(found) > most else texts)


def consecutive(numbers: Iterable[int]) -> Iterator[tuple[int, int]]:
    """Iterate over the first and last of each stretch of numbers that follow each other.

    >>> list(consecutive([0, 1, 2, 7]))
    [(0, 2), (7, 7)]
    """
    first = last = None
    for number in numbers:
        if first is None or last is None:
            first = last = number
        elif number == last + 1:
            last = number
        else:
            yield first, last
            first = last = number
    if first is not None and last is not None:
        yield first, last


def counted(number: int, what: str) -> str:
    """A number of things.

    >>> counted(1, "row"), counted(2000, "row")
    ('1 row', '2,000 rows')
    """
    return f"{number:,} {what}{'s' * (number != 1)}"


def nearest(name: str, known: Iterable[str]) -> str | None:
    """What may have been meant by a name that isn't known; of tree paths, brackets needn't be right.

    >>> nearest("feild", ["['key']", "['field']"])
    "['field']"
    """
    bare = {each.strip("[]'."): each for each in known}
    found = difflib.get_close_matches(name.strip("[]'."), bare, n=1)
    return bare[found[0]] if found else None


def printable(text: str) -> str:
    r"""A name as whoever wrote the file chose it: no line break or escape sequence of it may reach a terminal.

    >>> print(printable("wind\x1b[31m\nnew"))
    wind\x1b[31m\nnew
    """
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
