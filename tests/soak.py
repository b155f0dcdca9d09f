"""Thousands of lives of a run on a device that fails, and every single fault in a few of them.

python -m tests.soak                                        5,000 random schedules, and all that follows
python -m tests.soak random --schedules 300 --seed 1000     random schedules alone
python -m tests.soak strikes                                one fault at every step, and devices of every size
python -m tests.soak canaries                               broken logs and storages: each must be caught
"""

import argparse
import sys
import time
import traceback
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import chain

from tests.canaries import CANARIES, hunt
from tests.operations import live, schedules
from tests.strikes import FAULTS, LIVES, fill, full_disks, strike, strikes
from tests.world import Outcome, World, outcome


def judge(what: str, outcomes: Iterable[Outcome]) -> int:
    """Report how lives ended, with a way to see each bad one again; return how many ended badly."""
    begun, counts = time.perf_counter(), Counter[str]()
    for title, world, error in outcomes:
        counts.update(lives=1, commits=world.committed, failures=world.disk.boot - 1, kills=world.disk.kills)
        if error is not None:
            counts.update(bad=1)
            print("".join(traceback.format_exception(error, limit=-3)), end="")
            print(f'Ended badly: {title}. To see it again: python -m tests.soak --again "{title}"\n', flush=True)
    rate = counts["lives"] / (time.perf_counter() - begun)
    print(
        f"{what}: {counts['lives']} lives with {counts['commits']} commits, {counts['kills']} kills and "
        f"{counts['failures']} power failures; {counts['bad']} ended badly ({rate:.0f} lives/s)",
        flush=True,
    )
    return counts["bad"]


def canaries() -> int:
    """Hunt every canary; return how many were judged wrongly."""
    wrong = 0
    for name, canary in CANARIES.items():
        found = hunt(canary)
        right = (found is not None) == canary.caught
        wrong += not right
        print(f"{'right' if right else 'WRONG'}: {name}: {found or 'never caught'}"[:200], flush=True)
    return wrong


def again(title: str) -> Iterator[Outcome]:
    """Do once more what the title of an outcome says."""
    what, seed, *rest = title.split(maxsplit=3)
    world = World(int(seed))
    doing = {
        "random": lambda: live(world),
        "strike": lambda: strike(world, rest[1], int(rest[0])),
        "room": lambda: fill(world, int(rest[0])),
    }[what]
    yield outcome(title, world, doing)
    print("\n".join(world.trace))


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__.split("\n\n")[0])
    parser.add_argument("what", nargs="*", default=["random", "strikes", "canaries"], help="by default all three")
    parser.add_argument("--schedules", type=int, default=5000, help="how many random ones (5000)")
    parser.add_argument("--seed", type=int, default=0, help="of the first of them (0)")
    parser.add_argument("--quick", action="store_true", help="strike every third step of one life")
    parser.add_argument("--again", metavar="TITLE", help="only this, with all that happens in it")
    options = parser.parse_args(arguments)
    if options.again:
        return judge("again", again(options.again))
    bad, lives, stride = 0, LIVES[: 1 if options.quick else None], 3 if options.quick else 1
    for what in options.what:
        if what == "random":
            bad += judge(what, schedules(range(options.seed, options.seed + options.schedules)))
        elif what == "strikes":
            bad += judge(
                what, chain(*(strikes(fault, of=lives, stride=stride) for fault in FAULTS), full_disks(lives, stride))
            )
        elif what == "canaries":
            bad += canaries()
        else:
            parser.error(f"{what!r} is none of random, strikes, canaries")
    return min(bad, 100)


if __name__ == "__main__":
    sys.exit(main())
