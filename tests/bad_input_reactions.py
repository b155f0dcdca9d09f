"""Bad input of transactions, of events, and of what marks pages."""

from collections.abc import Callable
from typing import Any

import mmsb_jax as mmsb
from mmsb_jax import BusClosedError, InvalidArgumentError, InvalidTypeError, PageNotFoundError
from tests.bad_input import Desk, Row
from tests.bad_input_bus import ODD_DATA, ODD_DTYPES, ODD_ID_LISTS, ODD_PAGES, ODD_TEXTS


def nothing(event: Any) -> None:
    """A handler."""


def ended(desk: Desk, how: str) -> mmsb.Transaction:
    tx = desk.bus.transaction()
    getattr(tx, how)()
    return tx


ODD_EVENTS = {
    "None": (None, InvalidTypeError, "pass an EventKind or a name"),
    "int": (3, InvalidTypeError, "int"),
    "bytes": (b"page_changed", InvalidTypeError, "bytes"),
    "set": ({"page_changed"}, InvalidTypeError, "set"),
    "a slip": ("page_chnged", InvalidArgumentError, "no event 'page_chnged'; the bus tells of 'page_created'"),
    "upper case": ("PAGE_CHANGED", InvalidArgumentError, "no event"),
    "empty": ("", InvalidArgumentError, "names of your own have a dot"),
}
ODD_FUNCTIONS = {
    "str": ("print", InvalidTypeError, "pass a function of an event"),
    "list": ([nothing], InvalidTypeError, "list"),
    "what it returned": (nothing(None) or 0, InvalidTypeError, "int"),
}
PAGE_LISTS = {
    what: row for what, row in ODD_PAGES.items() if what not in ("None", "list", "numpy bool") and "id" not in what
} | {
    "empty": ([], InvalidArgumentError, "pages=[]"),
    "unknown inside": (["a", "nope"], PageNotFoundError, "'nope'"),
    "number unknown": (7, PageNotFoundError, "no page begins at id 7"),
}
BOOLS = {
    "str": ("immediate", InvalidTypeError, "pass True or False"),
    "None": (None, InvalidTypeError, "NoneType"),
    "int": (1, InvalidTypeError, "propagate=1"),
}

Tables = dict[str, tuple[dict, Callable[[mmsb.Bus, Any], Any]]]
NOT_NONE = dict(list(ODD_TEXTS.items())[1:])
TABLES: Tables = {
    "subscribe event": (
        ODD_EVENTS | {"none of them": ([], InvalidArgumentError, "no event to subscribe to")},
        lambda bus, event: bus.subscribe(event, nothing),
    ),
    "subscribe event inside": (ODD_EVENTS, lambda bus, event: bus.subscribe(["page_changed", event], nothing)),
    "subscribe handler": (
        ODD_FUNCTIONS | {"None": (None, InvalidTypeError, "handler=None")},
        lambda bus, handler: bus.subscribe("page_changed", handler),
    ),
    "subscribe where": (ODD_FUNCTIONS, lambda bus, where: bus.subscribe("page_changed", nothing, where)),
    "subscribe pages": (PAGE_LISTS, lambda bus, pages: bus.subscribe("page_changed", nothing, pages=pages)),
    "subscribe source": (NOT_NONE, lambda bus, source: bus.subscribe("page_changed", nothing, source=source)),
    "emit": (
        ODD_EVENTS
        | {
            "the bus's own": ("page_changed", InvalidArgumentError, "the bus itself tells"),
            "a kind of the bus's": (mmsb.EventKind.SYNC_DONE, InvalidArgumentError, "emit 'optimisation_started' or"),
        },
        lambda bus, event: bus.emit(event),
    ),
    "emit source": (NOT_NONE, lambda bus, source: bus.emit("my.event", source=source)),
    "emit intent": (NOT_NONE, lambda bus, intent: bus.emit("my.event", intent=intent)),
    "transaction source": (ODD_TEXTS, lambda bus, source: bus.transaction(source=source)),
    "transaction intent": (NOT_NONE, lambda bus, intent: bus.transaction(intent=intent)),
    "transaction propagate": (BOOLS, lambda bus, value: bus.transaction(propagate=value)),
    "transaction query_page": (ODD_PAGES, lambda bus, page: bus.transaction().query_page(page)),
    "transaction query_page dtype": (ODD_DTYPES, lambda bus, dtype: bus.transaction().query_page("a", dtype=dtype)),
    "transaction update_page": (ODD_PAGES, lambda bus, page: bus.transaction().update_page(page, bytes(16))),
    "transaction update_page data": (ODD_DATA, lambda bus, data: bus.transaction().update_page("a", data)),
    "revalidate": (ODD_PAGES, lambda bus, page: bus.revalidate(page)),
    "sync_pages": (ODD_ID_LISTS, lambda bus, ids: bus.sync_pages(ids)),
    "unsubscribe": (
        {
            "None": (None, InvalidTypeError, "pass what bus.subscribe returned"),
            "the handler": (nothing, InvalidTypeError, "function"),
        },
        lambda bus, subscription: bus.unsubscribe(subscription),
    ),
}
ROWS: dict[str, Row] = {
    f"{call}: {what}": Row(lambda d, run=run, value=value: run(d.bus, value), error, text)
    for call, (table, run) in TABLES.items()
    for what, (value, error, text) in table.items()
}
for _call, _run in {
    "subscribe pages": lambda bus, page: bus.subscribe("page_changed", nothing, pages=page),
    "emit pages": lambda bus, page: bus.emit("my.event", pages=page),
    "transaction query_page": lambda bus, page: bus.transaction().query_page(page),
    "revalidate": lambda bus, page: bus.revalidate(page),
}.items():
    ROWS[f"{_call}: deleted"] = Row(lambda d, run=_run: run(d.bus, d.gone), PageNotFoundError, "it was deleted")
    ROWS[f"{_call}: stranger"] = Row(lambda d, run=_run: run(d.bus, d.stranger), PageNotFoundError, "another bus")
ROWS |= {
    f"transaction after {how}: {call}": Row(
        lambda d, how=how, run=run: run(ended(d, how)), mmsb.TransactionOverError, "Begin another"
    )
    for how in ("commit", "rollback")
    for call, run in {
        "query_page": lambda tx: tx.query_page("a"),
        "update_page": lambda tx: tx.update_page("a", bytes(16)),
        "commit": lambda tx: tx.commit(),
        "with": lambda tx: tx.__enter__(),
    }.items()
}
ROWS |= {
    f"transaction: {name}": Row(
        lambda d, name=name: getattr(d.bus.transaction(), name), mmsb.NotInTransactionError, f"Call bus.{name} before"
    )
    for name in ("create_page", "delete_page", "add_dependency", "apply", "propagate", "stats")
}
ROWS |= {
    f"closed bus: {what}": Row(lambda d, run=run: run(d.closed), BusClosedError, "start(path)")
    for what, run in {
        "transaction": lambda bus: bus.transaction(),
        "subscribe": lambda bus: bus.subscribe("page_changed", nothing),
        "emit": lambda bus: bus.emit("my.event"),
        "stale": lambda bus: bus.stale(),
        "invalidated": lambda bus: bus.invalidated(),
        "unsynced": lambda bus: bus.unsynced(),
        "revalidate": lambda bus: bus.revalidate("a"),
        "sync_pages": lambda bus: bus.sync_pages(),
    }.items()
}


def another_bus(desk: Desk) -> None:
    with mmsb.start(page_bytes=16, capacity=2) as bus:
        desk.bus.unsubscribe(bus.subscribe("page_changed", nothing))


ROWS["unsubscribe: another bus's"] = Row(another_bus, InvalidArgumentError, "isn't one of this bus")
