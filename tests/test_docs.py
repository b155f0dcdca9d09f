"""What the documents claim: their code runs, their links lead somewhere, their make targets exist."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import mmsb_jax as mmsb

ROOT = Path(__file__).parent.parent
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"^\s*```\s*(\w*)")
LINK = re.compile(r"\]\((?!https?:|mailto:|#)([^)#\s]+)")
TARGET = re.compile(r"^\.PHONY:(.*)$", re.MULTILINE)


def code(text, examples):
    """The document with all but its Python blank, so that a traceback shows the document's own line numbers.

    `examples` picks the blocks written with `>>>`, which are compared with their output, or else the plain ones.
    """
    lines, block, language = text.splitlines(), [], None
    kept = [""] * len(lines)
    for number, line in enumerate(lines):
        fence = FENCE.match(line)
        if fence and language is None:
            language, block = fence[1].lower(), []
        elif fence:
            is_example = any(lines[n].lstrip().startswith(">>>") for n in block)
            if language == "python" and is_example == examples:
                for n in block:
                    kept[n] = lines[n]
            language = None
        else:
            block.append(number)
    return "\n".join(kept) + "\n"


def dead_links(text, folder):
    return [link for link in LINK.findall(text) if not (folder / link).exists()]


def unknown_targets(text, makefile):
    known = set(TARGET.search(makefile)[1].split())
    command = r"(?:\w+=\S+ )*make (\w+)"
    named = re.findall(f"`{command}", text)
    for block in re.findall(r"```(?:sh|bash|console)\n(.*?)```", text, re.DOTALL):
        named += re.findall(rf"^\$? ?{command}", block, re.MULTILINE)
    return sorted(set(named) - known)


def run(text, tmp_path):
    """Exit status and output of the document's code, in a new interpreter as its reader has it; argument 1 is a run."""
    with mmsb.start(tmp_path / "example.mmsb", page_bytes=16, capacity=4) as bus:
        bus.update_page(bus.create_page(16), b"sixteen bytes ok", intent="an example")
    (tmp_path / "plain.py").write_text(code(text, examples=False))
    (tmp_path / "examples.txt").write_text(code(text, examples=True))
    options = ["-o", "ELLIPSIS", "-o", "NORMALIZE_WHITESPACE"]
    outputs = []
    for command in (["plain.py", "example.mmsb"], ["-m", "doctest", *options, "examples.txt"]):
        done = subprocess.run(
            [sys.executable, *command], cwd=tmp_path, capture_output=True, text=True, timeout=180, check=False
        )
        outputs.append((done.returncode, done.stdout + done.stderr))
    return outputs


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_the_code_of_a_document_runs(document, tmp_path):
    for status, output in run(document.read_text(), tmp_path):
        assert status == 0, output


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_and_targets_exist(document):
    text = document.read_text()
    assert dead_links(text, document.parent) == []
    assert unknown_targets(text, (ROOT / "Makefile").read_text()) == []


def test_the_readme_and_the_two_pages_of_design_are_there():
    assert {"README.md", "architecture.md", "format.md"} <= {document.name for document in DOCUMENTS}
    assert code((ROOT / "README.md").read_text(), examples=False).strip()


def test_a_bad_document_is_found(tmp_path):
    plain = "# Title\n\n```python\nx = 1\n```\n\n```python\nassert x == 2, 'no'\n```\n"
    (status, output), _ = run(plain, tmp_path)
    assert status == 1
    assert "line 8" in output
    _, (status, output) = run("```python\n>>> 1 + 1\n3\n```\n", tmp_path)
    assert status == 1
    assert "Got:\n    2" in output
    assert [status for status, _ in run("```sh\nrm x\n```\n```python\n>>> 1 + 1\n2\n```\n", tmp_path)] == [0, 0]
    assert dead_links("[a](gone.md), [b](https://example.org), [c](#here), [d](pyproject.toml)", ROOT) == ["gone.md"]
    claims = "`make demos`, to\nmake sense\n```sh\nPYTHON=x make test\nmake tests ARGS=-x\n```\n"
    assert unknown_targets(claims, ".PHONY: test demo") == ["demos", "tests"]
