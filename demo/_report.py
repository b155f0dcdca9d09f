"""What a person sees: the worst cascades, the board of the blizzard, and a picture."""

from pathlib import Path

import numpy as np

import mmsb_jax as mmsb

from ._board import DROPPED, FLIGHTS, LATE, LEFT, MINUTES, WORST, Layout
from ._cascades import Cascade
from ._flights import Flights

_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_FIRST_DAYS = np.cumsum([0, 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30])
BLIZZARD_DAY = 31 + 7
BLIZZARD_HOUR = 18
BLIZZARD_HOURS = BLIZZARD_DAY * 24 + BLIZZARD_HOUR
"""Hours of the year that had passed on 8 February at 18:00."""
_INK, _GREY, _BLUE, _RED, _SAND = "#1f2430", "#8a8f99", "#3b6ea8", "#c8443c", "#e3e1da"


def clock(minute: int) -> str:
    """Such as `8 Feb 18:05`."""
    day, rest = divmod(int(minute), 1440)
    month = int(np.searchsorted(_FIRST_DAYS, day, side="right")) - 1
    return f"{day - _FIRST_DAYS[month] + 1} {_MONTHS[month]} {rest // 60:02d}:{rest % 60:02d}"


def describe(cascades: list[Cascade], flights: Flights) -> str:
    """The cascades as text, with their chains of flights."""
    late = flights.departed - flights.scheduled
    lines = []
    for rank, cascade in enumerate(cascades, 1):
        root = cascade.root
        aircraft, due = flights.tails[flights.tail[root]], clock(flights.scheduled[root])
        lines.append(
            f"{rank:2}. {aircraft}: {flights.label(root)}, due {due}, "
            f"left {_late(int(late[root])).strip()} and pushed {len(cascade.pushed)} "
            f"{'leg' if len(cascade.pushed) == 1 else 'legs'} by {_hours(cascade.minutes)} in all"
        )
        for leg in cascade.pushed:
            due = clock(flights.scheduled[leg.flight])
            lines.append(
                f"      └ {flights.label(leg.flight):<18} due {due:>12}   pushed {_hours(leg.minutes):>7}"
                f"   left {_late(int(late[leg.flight]))}"
            )
    return "\n".join(lines)


def _hours(minutes: int) -> str:
    return f"{minutes // 60} h {minutes % 60:02d}" if abs(minutes) >= 60 else f"{minutes} min"


def _late(minutes: int) -> str:
    return f"{_hours(abs(minutes)):>7} {'early' if minutes < 0 else 'late'}"


def blizzard(state: mmsb.State, layout: Layout, flights: Flights) -> tuple[str, np.ndarray]:
    """The board of 8 February as a state from that evening has it; also as int32[airports, 24 hours, words]."""
    pages = np.asarray(state.view(np.int32))
    day = slice(BLIZZARD_DAY * 24, BLIZZARD_DAY * 24 + 24)
    board = pages[layout.hours[:, day]]
    totals = board.sum(axis=1)
    lines = ["           flights   left   cancelled   still to go   15 min late   mean delay   worst"]
    for airport, name in enumerate(flights.origins):
        total = totals[airport]
        waiting = total[FLIGHTS] - total[LEFT] - total[DROPPED]
        mean = total[MINUTES] / max(total[FLIGHTS] - total[DROPPED], 1)
        lines.append(
            f"  {name}      {total[FLIGHTS]:7} {total[LEFT]:6} {total[DROPPED]:11} {waiting:13} {total[LATE]:13}"
            f" {mean:8.0f} min {_hours(int(board[airport, :, WORST].max())):>7}"
        )
    lines.append("")
    lines.append("  cancelled, by scheduled hour     " + " ".join(f"{hour:3}" for hour in range(5, 24)))
    for airport, name in enumerate(flights.origins):
        cells = " ".join(f"{n or '·':>3}" for n in board[airport, 5:, DROPPED].tolist())
        lines.append(f"  {name}                              {cells}")
    return "\n".join(lines), board


def draw(file: Path, state: mmsb.State, layout: Layout, flights: Flights, worst: Cascade, board: np.ndarray) -> None:
    """The year at a glance, the blizzard, and the worst cascade, as a PNG."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    pages = np.asarray(state.view(np.int32))
    with plt.rc_context({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "text.color": _INK}):
        figure = plt.figure(figsize=(13, 8.2), dpi=130, layout="constrained")
        grid = figure.add_gridspec(2, 2, height_ratios=[1.15, 1])
        _draw_year(figure, figure.add_subplot(grid[0, :]), pages[layout.hours])
        _draw_blizzard(figure.add_subplot(grid[1, 0]), board)
        _draw_cascade(figure.add_subplot(grid[1, 1]), worst, flights)
        figure.suptitle(
            "Departures from New York City, 2013: 336,776 flights as pages on a bus",
            fontsize=14,
            weight="bold",
            x=0.01,
            ha="left",
        )
        file.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(file)
        plt.close(figure)


def _draw_year(figure, axes, hours: np.ndarray) -> None:
    total = hours.sum(axis=0).reshape(365, 24, -1)
    flying = np.maximum(total[..., FLIGHTS] - total[..., DROPPED], 1)
    mean = np.where(total[..., FLIGHTS] > 0, total[..., MINUTES] / flying, np.nan)
    image = axes.imshow(
        mean.T,
        aspect="auto",
        origin="lower",
        cmap="magma_r",
        vmin=0,
        vmax=90,
        interpolation="nearest",
        extent=(0, 365, 0, 24),
    )
    axes.set_title("Mean delay of the flights scheduled in each hour, minutes", loc="left", color=_INK)
    axes.set_xticks(_FIRST_DAYS, _MONTHS, ha="left")
    axes.set_yticks(range(0, 25, 6), [f"{hour:02d}:00" for hour in range(0, 25, 6)])
    axes.set_ylim(4, 24)
    figure.colorbar(image, ax=axes, pad=0.01, extend="max")


def _draw_blizzard(axes, board: np.ndarray) -> None:
    total = board.sum(axis=0)
    hours = np.arange(24)
    waiting = total[:, FLIGHTS] - total[:, LEFT] - total[:, DROPPED]
    bottom = np.zeros(24)
    for values, colour, label in (
        (total[:, LEFT], _BLUE, "left"),
        (total[:, DROPPED], _RED, "cancelled"),
        (waiting, _SAND, "still to go, for all the board knew"),
    ):
        axes.bar(hours + 0.5, values, 0.86, bottom=bottom, color=colour, label=label)
        bottom += values
    axes.vlines(BLIZZARD_HOUR, 0, 1.05 * bottom.max(), color=_INK, lw=1)
    axes.set_title("8 February, the blizzard: the board as it stood at 18:00, replayed", loc="left", color=_INK)
    axes.set_xlim(4, 24)
    axes.set_ylim(0, 1.25 * bottom.max())
    axes.set_xticks(range(6, 25, 6), [f"{hour:02d}:00" for hour in range(6, 25, 6)])
    axes.set_xlabel("scheduled hour")
    axes.set_ylabel("flights")
    axes.legend(frameon=False, loc="upper left", ncols=3)


def _draw_cascade(axes, cascade: Cascade, flights: Flights) -> None:
    legs = [cascade.root, *(leg.flight for leg in cascade.pushed)]
    pushed = np.array([0, *(leg.minutes for leg in cascade.pushed)]) / 60
    due, left = flights.scheduled[legs] / 60, flights.departed[legs] / 60
    origin, rows = due[0], np.arange(len(legs))[::-1]
    due, left = due - origin, left - origin
    axes.hlines(rows, due, np.maximum(due + pushed, left), color=_SAND, lw=5, zorder=1)
    axes.hlines(rows, due, due + pushed, color=_RED, lw=5, zorder=2)
    axes.plot(due, rows, "o", color=_GREY, label="scheduled", zorder=3)
    axes.plot((due + pushed)[1:], rows[1:], "o", color=_RED, label="expected, because the aircraft is late", zorder=3)
    axes.plot(left, rows, "|", color=_INK, ms=13, mew=2, label="left", zorder=3)
    for row, flight, start in zip(rows, legs, due, strict=True):
        axes.annotate(flights.label(flight), (start, row), xytext=(-9, -3), textcoords="offset points", ha="right")
    tail = flights.tails[flights.tail[cascade.root]]
    axes.set_title(
        f"The worst cascade: aircraft {tail}, from {clock(flights.scheduled[cascade.root])}", loc="left", color=_INK
    )
    axes.set_xlabel("hours after the first leg was due")
    span = max(left.max(), (due + pushed).max())
    axes.set_xlim(-0.34 * span, 1.04 * span)
    axes.set_xticks([tick for tick in axes.get_xticks() if 0 <= tick <= span])
    axes.set_ylim(-0.6, len(legs) + 0.5)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.legend(frameon=False, loc="upper right", ncols=3, fontsize=8)
