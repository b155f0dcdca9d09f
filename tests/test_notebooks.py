"""Every notebook runs from top to bottom in an empty folder, and was stored from a run without errors."""

import math
import time
from pathlib import Path

import nbclient
import nbformat
import pytest

NOTEBOOKS = sorted((Path(__file__).parent.parent / "notebooks").glob("*.ipynb"))
SECONDS = 180


def stored_errors(notebook):
    """Error outputs, and code that was never run, in the notebook as stored."""
    problems = []
    for number, cell in enumerate(notebook.cells):
        if cell.cell_type == "code" and cell.source.strip():
            problems += [f"cell {number}: {o.ename}" for o in cell.outputs if o.output_type == "error"]
            if cell.execution_count is None:
                problems.append(f"cell {number} was never run")
    return problems


def execute(notebook, folder, seconds=SECONDS):
    """Run all cells; `seconds` is the limit for all of them together."""
    end = time.monotonic() + seconds
    nbclient.NotebookClient(
        notebook,
        timeout_func=lambda _cell: max(1, math.ceil(end - time.monotonic())),
        kernel_name="python3",
        resources={"metadata": {"path": str(folder)}},
    ).execute()


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_the_notebook_runs(path, tmp_path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert stored_errors(notebook) == []
    execute(notebook, tmp_path)


def test_there_is_a_notebook():
    assert NOTEBOOKS


def _notebook(source):
    return nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)])


def test_a_bad_notebook_is_found(tmp_path):
    broken = _notebook("1 / 0")
    assert stored_errors(broken) == ["cell 0 was never run"]
    with pytest.raises(nbclient.exceptions.CellExecutionError, match="ZeroDivisionError"):
        execute(broken, tmp_path)
    assert stored_errors(broken) == ["cell 0: ZeroDivisionError"]
    with pytest.raises(nbclient.exceptions.CellTimeoutError):
        execute(_notebook("while True: pass"), tmp_path, seconds=1)
