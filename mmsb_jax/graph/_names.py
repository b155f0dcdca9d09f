"""Names of pages: a mapping from name to page id, as `GraphBuilder` and the readers of other formats give it."""

from collections.abc import Hashable, Mapping
from typing import Any

from .._errors import InvalidArgumentError, InvalidTypeError, PageNotFoundError
from .._require import whole_number


def name_of_page(names: Mapping[Hashable, int] | Any, num_pages: int) -> dict[int, Hashable]:
    """Names by page id; None is for no names.

    Raises `InvalidTypeError` for what is no mapping to whole numbers, `PageNotFoundError` for ids that the graph hasn't
    got, `InvalidArgumentError` for two names of one page, and for a number that names another page than its own.
    """
    if names is None:
        return {}
    if not isinstance(names, Mapping):
        raise InvalidTypeError(f"got names of type {type(names).__name__}; pass a mapping from name to page id")
    found: dict[int, Hashable] = {}
    for name, number in names.items():
        page = whole_number(number)
        if page is None:
            raise InvalidTypeError(f"got {number!r} for the page named {name!r}; pass its id, a whole number")
        if not 0 <= page < num_pages:
            raise PageNotFoundError(
                f"name {name!r} is for page {page}, but the graph has {num_pages} pages, with ids from 0 to "
                f"{num_pages - 1}"
            )
        if page in found:
            raise InvalidArgumentError(f"page {page} has two names, {found[page]!r} and {name!r}; leave one of them")
        found[page] = name
    for page, name in found.items():
        other = whole_number(name)
        if other is not None and 0 <= other < num_pages and other not in found:
            raise InvalidArgumentError(
                f"page {page} is named {name!r}, which is the id of a page without a name; name that page as well"
            )
    return found


def label_of_page(names: Mapping[Hashable, int] | Any, num_pages: int) -> dict[int, str]:
    """The same as text. Errors as for `name_of_page`."""
    return {page: str(name) for page, name in name_of_page(names, num_pages).items()}
