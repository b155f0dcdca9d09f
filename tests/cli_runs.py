"""Runs to look at from the command line, and how to ask."""

import json

import jax
import numpy as np

import mmsb_jax as mmsb
from mmsb_jax.cli import main
from tests.recordings import write_pages, write_recording

HOSTILE = "wind\x1b[31m\nforged line\x9b"
STEPS = 11


def trees(steps=STEPS):
    """A field of which one element changes each step, a counter, a key, halves; at step 6 a NaN."""
    field, found = np.arange(35, dtype=np.float32).reshape(5, 7), []
    for step in range(steps):
        field = field.copy()
        if step:
            field.reshape(-1)[step] = np.nan if step == 6 else 100 + step
        halves = np.float16([0.5, step, np.inf])
        found.append({"field": field, "halves": halves, "key": jax.random.key(step), "n": np.int32(step)})
    return found


def recorded(path, steps=STEPS, **options):
    write_recording(path, trees(steps), **options)
    return path


def ensemble(path):
    members = [{"x": np.float32([m, m + 1, m + 2])} for m in range(3)]
    paging = mmsb.Paging.like(members[0], page_bytes=64)
    first = np.concatenate([np.asarray(paging.to_pages(each)) for each in members])
    second = first.copy()
    second[1, 1] = 0
    write_pages(path, paging, [first, second], members=3)
    return path


def bus(path):
    """Pages of hostile names, two updates, an edge, a tick of two sources, a deletion; ends at epoch 4."""
    with mmsb.start(path, page_bytes=8, capacity=8) as found:
        page, other, gone = (
            found.create_page(size, name=name) for size, name in ((8, HOSTILE), (12, "b"), (4, "gone"))
        )
        found.update_page(page, np.array([1, 2], np.int32), source=HOSTILE, intent=HOSTILE)
        found.update_page(other, np.float32([1, 2, 4]), intent="set up")
        found.add_dependency(page, "gone")
        ids = [found.source_id(name) for name in ("left", "rechts")]
        words = np.array([[8, 0], [8, 9]], np.int32)
        found.apply(mmsb.DeltaBatch.make(found.state, [0, 0], words, mask=[[True, False], [False, True]], source=ids))
        found.remove_dependency(page, "gone")
        found.delete_page(gone)
    return path


class Asked:
    """Runs commands: `ask("log", path)` is `(status, standard output, standard error)`."""

    def __init__(self, capsys):
        self._capsys = capsys

    def __call__(self, *arguments):
        status = main([str(each) for each in arguments])
        printed = self._capsys.readouterr()
        return status, printed.out, printed.err

    def text(self, *arguments, status=0):
        """The lines of a command that must end with a status."""
        found, out, err = self(*arguments)
        assert (found, err) == (status, ""), err
        return out.splitlines()

    def json(self, *arguments, status=0):
        """Its document, as strict JSON."""
        (line,) = self.text(*arguments, "--json", status=status)
        return strict(line)


def strict(text):
    def refuse(name):
        raise ValueError(f"{name} is no JSON")

    return json.loads(text, parse_constant=refuse)
