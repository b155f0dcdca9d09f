"""Small runs, and short ways to look into them, for the tests of the bus."""

import jax
import jax.numpy as jnp
import numpy as np

import mmsb_jax as mmsb
from mmsb_jax import Rule, Term, semiring
from mmsb_jax.page import FrameKind, read_frames

# One shape for nearly all tests, since each compiles.
PAGE_BYTES, CAPACITY = 32, 16
WORDS = PAGE_BYTES // 4


def start(path=None, **options):
    return mmsb.start(path, **({} if path else {"page_bytes": PAGE_BYTES, "capacity": CAPACITY}) | options)


def frames(path, kind=FrameKind.CHANGES):
    return [frame for frame in read_frames(path) if frame.kind == kind]


def names(path):
    table = {0: ""}
    for frame in frames(path, FrameKind.NAMES):
        table |= dict(frame.new_names())
    return table


def floats(*values):
    return np.array([*values, *[0] * (WORDS - len(values))], np.float32)


# Of the module, so that all rules are one to a compiled wave.
def _first_float(page):
    return jax.lax.bitcast_convert_type(page[0], jnp.float32)


def _with_total(own, total):
    return own.at[0].set(jax.lax.bitcast_convert_type(total, jnp.uint32))


def total_rule(pages, name="total", **options):
    """Word 0 of a page becomes the float sum of its parents' word 0, times the edge's weight."""
    return Rule(
        name,
        pages=pages,
        terms=[Term(semiring.plus_times, _first_float, **options)],
        update=_with_total,
    )


def value(bus, page):
    return float(bus.query_page(page, dtype=np.float32)[0])


def run_log(path):
    return {file.name: file.read_bytes() for file in sorted((path / "log").glob("*.seg"))}
