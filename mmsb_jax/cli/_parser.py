"""The words of the command line: commands, options, and what `--help` says of them."""

import re
from argparse import Action, ArgumentParser, ArgumentTypeError, Namespace, RawDescriptionHelpFormatter
from datetime import UTC, datetime, timedelta
from typing import Any

__all__ = ["parser"]

_ABOUT = """\
Look into the past of a run: a directory that mmsb.record or mmsb.start has made.

A run may be read while it is being written. Nothing is written, except by
compact and export. Epochs are ticks; in a recorded run, steps done. Negative
ones count from the end. A PART is a leaf of the recorded tree ("u", "['u'].x"),
the name of a bus's page, or the number of a page.
"""
_STATUS = """\
exit status:
  0  done; nothing differs
  1  diff: something differs; verify: the run is not what was committed
  2  a wrong command, or something that this run doesn't have
  3  no run there, or it can't be read or written

mmsb COMMAND --help says more. With --json, numbers that JSON lacks are the
strings "NaN", "Infinity" and "-Infinity"; times are in UTC.
"""
_TIME = "2024-05-31T14:00 (local time unless it says otherwise), seconds since 1970, or 90s, 10m, 2h, 3d: so long ago"


def parser() -> ArgumentParser:
    """The parser of all commands."""
    found = ArgumentParser(prog="mmsb", description=_ABOUT, epilog=_STATUS, formatter_class=RawDescriptionHelpFormatter)
    found.add_argument("--version", action=_Version, nargs=0, help="show the version and leave")
    commands = found.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_log(_add(commands, "log", "the commits: when, who, why, how much; newest last"))
    _add_show(_add(commands, "show", "what there was at a moment: all parts, or the values of one"))
    _add_diff(_add(commands, "diff", "what differs between two epochs, or between two recorded runs"))
    _add_blame(_add(commands, "blame", "who last wrote each element of a part"))
    _add(commands, "verify", "check every checksum, digest and checkpoint")
    _add(commands, "stats", "how large it is, and what it is made of")
    _add_compact(_add(commands, "compact", "shorten the log: merge what was committed before an epoch (this writes)"))
    _add_export(_add(commands, "export", "the rows of the log as an Arrow or Parquet file"))
    return found


def _add(commands: Any, name: str, about: str) -> ArgumentParser:
    command: ArgumentParser = commands.add_parser(name, help=about, description=about.capitalize() + ".")
    command.add_argument("path", metavar="RUN", help="directory of the run")
    command.add_argument("--json", action="store_true", help=_JSON[name])
    return command


_JSON = {
    "log": "a JSON object a line: sequence, first_epoch, epoch, time, kind, rows, sources, intent, digest",
    "show": "as JSON: epoch; parts, each with part, dtype, shape, pages (first and last of each stretch), min, mean, "
    "max, nans; of a PART its values",
    "diff": "as JSON: first, second, same; parts, each with part, member, pages, indices, old, new; appeared; vanished",
    "blame": "as JSON: part, member, shape; writes, each with epoch, source, intent, time, elements (how many); never "
    "(how many); elements, the number of each one's write, -1 for none. Of an --element: part, element, write",
    "verify": "as JSON: ok; frames, commits, digests, checkpoints, first, last; or the error",
    "stats": "as JSON; sizes are in bytes",
    "compact": "as JSON: first (epoch that can be read), merged (commits), freed (bytes)",
    "export": "as JSON: file, format, rows, bytes",
}


def _add_log(command: ArgumentParser) -> None:
    _add_filters(command)
    command.add_argument("-n", "--limit", dest="last", type=count, metavar="N", help="the last N commits only")
    command.add_argument(
        "-f", "--follow", action="store_true", help="wait for more, as tail -f does (from the last 10)"
    )


def _add_filters(command: ArgumentParser) -> None:
    rows = command.add_argument_group("which rows (options of one kind may be repeated: any of them will do)")
    rows.add_argument(
        "--leaf", dest="leaves", action="append", metavar="PART", help="a leaf, those below it, or a name"
    )
    rows.add_argument("--page", dest="pages", action="append", type=count, metavar="ID", help="the number of a page")
    rows.add_argument("--source", dest="sources", action="append", metavar="NAME", help="who wrote it")
    rows.add_argument("--intent", dest="intents", action="append", metavar="TEXT", help="why; '' for no reason given")
    rows.add_argument("--from", dest="first", type=int, metavar="EPOCH", help="from this epoch on")
    rows.add_argument("--to", dest="to", type=int, metavar="EPOCH", help="up to this epoch, included")
    rows.add_argument("--since", type=time, metavar="TIME", help=f"committed at this time or later: {_TIME}")
    rows.add_argument("--until", type=time, metavar="TIME", help="committed at this time or earlier")


def _add_moment(command: ArgumentParser) -> None:
    moment = command.add_mutually_exclusive_group()
    moment.add_argument(
        "--at", "--step", dest="epoch", type=int, metavar="EPOCH", help="at this epoch (default: the last)"
    )
    moment.add_argument("--time", type=time, metavar="TIME", help=f"at the last commit until then: {_TIME}")


def _add_show(command: ArgumentParser) -> None:
    command.add_argument("part", nargs="?", metavar="PART", help="show its values ('' if the tree is a single array)")
    _add_moment(command)
    command.add_argument("--member", type=int, metavar="M", help="one member of an ensemble")
    command.add_argument("--dtype", metavar="TYPE", help="see the bytes of a bus's pages as this type")


def _add_diff(command: ArgumentParser) -> None:
    command.usage = "mmsb diff [--json] RUN EPOCH EPOCH\n       mmsb diff [--json] RUN RUN"
    command.add_argument("first", metavar="EPOCH|RUN", help="the earlier epoch, or another run")
    command.add_argument("second", metavar="EPOCH", nargs="?", type=int, help="the later epoch")


def _add_blame(command: ArgumentParser) -> None:
    command.add_argument("part", nargs="?", default="", metavar="PART", help="not needed if the tree is a single array")
    command.add_argument(
        "--at", "--step", dest="epoch", type=int, metavar="EPOCH", help="as of then (default: the last)"
    )
    command.add_argument("--member", type=int, metavar="M", help="which member of an ensemble")
    command.add_argument("--element", type=element, metavar="I,J,…", help="of one element only")


def _add_compact(command: ArgumentParser) -> None:
    command.description = (
        "Shorten the log: what was committed before an epoch becomes one commit. That epoch and all later ones stay as "
        "they are; earlier ones can't be read any more, neither here nor by forks of this run."
    )
    command.add_argument(
        "--before", type=int, required=True, metavar="EPOCH", help="the first epoch that stays as it is"
    )


def _add_export(command: ArgumentParser) -> None:
    command.description = (
        "The rows of the log, one for every page that changed at an epoch: sequence, tick, time, page, leaf, member, "
        "source, intent, mask (which words changed; none: all), words (the new contents)."
    )
    command.add_argument("-o", "--output", required=True, metavar="FILE", help="to be written; -: the standard output")
    command.add_argument("--format", choices=("arrow", "parquet"), help="needed when the name of FILE doesn't tell")
    _add_filters(command)


class _Version(Action):
    """Asks for the version only when it is wanted: looking it up takes longer than all the rest."""

    def __call__(self, parser: ArgumentParser, namespace: Namespace, values: Any, option: str | None = None) -> None:
        from importlib.metadata import version

        print(f"mmsb-jax {version('mmsb-jax')}")
        parser.exit()


def count(text: str) -> int:
    number = int(text)
    if number < 0:
        raise ArgumentTypeError(f"{number} is negative")
    return number


def element(text: str) -> tuple[int, ...]:
    return tuple(int(number) for number in text.split(",") if number.strip())


def time(text: str) -> datetime:
    if ago := re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", text):
        unit = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}[ago[2]]
        return datetime.now(UTC) - timedelta(**{unit: float(ago[1])})
    if re.fullmatch(r"\d+(\.\d*)?", text):
        return datetime.fromtimestamp(float(text), UTC)
    try:
        return datetime.fromisoformat(text).astimezone()
    except ValueError as why:
        raise ArgumentTypeError(
            f"{text!r} is no time; write for instance 2024-05-31T14:00, 1717164000, or 10m"
        ) from why
