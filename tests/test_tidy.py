"""The rules of the repository as ordinary tests. A rule takes text and returns problems; a bad sample proves each."""

import ast
import doctest
import importlib
import inspect
import pkgutil
import re
import subprocess
import types
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mmsb_jax
import mmsb_jax.kernels

ROOT = Path(__file__).parent.parent
MAX_FILE, MAX_FUNCTION = 400, 60
MAX_README, MAX_FIRST_EXAMPLE = 109, 35
TEXT = {".py", ".md", ".toml", ".sh", ".yml", ".yaml", ".ipynb", ""}

# Put together from pieces, so that this file keeps its own rules.
UNFINISHED = re.compile(r"\b(" + "|".join(["TO" + "DO", "FIX" + "ME", "XX" + "X"]) + r")\b")
MACHINE_PATH = re.compile(r"(?<![\w.~-])/(" + "|".join(["ro" + "ot", "wo" + "rk", "ho" + "me", "Us" + "ers"]) + r")/\w")
UNSAFE = {"pickle", "cloudpickle", "dill", "shelve", "marshal", "joblib"}
UPDATES = {"set", "add", "subtract", "multiply", "mul", "divide", "power", "min", "max", "apply"}


def imports(tree):
    """`(line, name)` of every module or member that the source imports; relative ones begin with dots."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            origin = "." * node.level + (f"{node.module}." if node.module else "")
            yield from ((node.lineno, origin + alias.name) for alias in node.names)


def long_file(text):
    lines = len(text.splitlines())
    return [f"{lines} lines, {MAX_FILE} are allowed: split it by concept"] if lines > MAX_FILE else []


def long_function(text):
    """Docstrings aren't counted: a good one is no reason to split a function."""
    if re.search(r"# tidy: long because \w+", text):
        return []
    problems = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            has_docstring = ast.get_docstring(node) is not None
            documentation = node.body[0].end_lineno - node.body[0].lineno + 1 if has_docstring else 0
            lines = node.end_lineno - node.lineno + 1 - documentation
            if lines > MAX_FUNCTION:
                problems.append(f"line {node.lineno}: {node.name} has {lines} lines, {MAX_FUNCTION} are allowed")
    return problems


def private_jax(text):
    found = [(line, name) for line, name in imports(ast.parse(text)) if name.startswith("jax._src")]
    found += [
        (node.lineno, ast.unparse(node))
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Attribute) and ast.unparse(node) == "jax._src"
    ]
    return [f"line {line}: {name} is private to JAX and changes without notice" for line, name in found]


def unsafe_serialisation(text):
    found = [(line, name) for line, name in imports(ast.parse(text)) if name.split(".")[0] in UNSAFE]
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.keyword) and node.arg == "allow_pickle" and not _is_false(node.value):
            found.append((node.value.lineno, "allow_pickle"))
    return [f"line {line}: {name} runs code from the data that it reads" for line, name in found]


def _is_false(node):
    return isinstance(node, ast.Constant) and node.value is False


def silent_except(text):
    problems = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ExceptHandler):
            silent = all(isinstance(s, ast.Pass) or _is_ellipsis(s) for s in node.body)
            if node.type is None or silent:
                problems.append(f"line {node.lineno}: name the error, and do something about it")
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("suppress"):
            broad = {ast.unparse(a).split(".")[-1] for a in node.args} & {"Exception", "BaseException", "MMSBError"}
            problems += [f"line {node.lineno}: suppresses every {name}, known or not" for name in broad]
    return problems


def _is_ellipsis(statement):
    return isinstance(statement, ast.Expr) and getattr(statement.value, "value", None) is Ellipsis


def lost_update(text):
    problems = []
    for node in ast.walk(ast.parse(text)):
        call = node.value if isinstance(node, ast.Expr) else None
        match call:
            case ast.Call(func=ast.Attribute(attr=attr, value=ast.Subscript(value=ast.Attribute(attr="at")))):
                if attr in UPDATES:
                    problems.append(f"line {node.lineno}: .at[...].{attr}() returns a new array, which is thrown away")
    return problems


def unfinished(text):
    return [f"line {i}: {line.strip()}" for i, line in enumerate(text.splitlines(), 1) if UNFINISHED.search(line)]


def machine_path(text):
    return [f"line {i}: {line.strip()}" for i, line in enumerate(text.splitlines(), 1) if MACHINE_PATH.search(line)]


def kernel_import(text):
    """Kernels stand alone: JAX, NumPy, each other, and the errors."""
    own = ("mmsb_jax._errors.", "mmsb_jax.kernels.", ".._errors.")
    return [
        f"line {line}: a kernel imports {name}; pass what it needs as arguments"
        for line, name in imports(ast.parse(text))
        if name.startswith(("..", "mmsb_jax")) and not f"{name}.".startswith(own)
    ]


def bad_readme(text):
    lines = text.splitlines()
    first = next((i for i, line in enumerate(lines, 1) if line.strip() == "```python"), None)
    problems = [f"{len(lines)} lines, {MAX_README} are allowed"] if len(lines) > MAX_README else []
    if first is None or first > MAX_FIRST_EXAMPLE:
        problems.append(f"its first example stands at line {first}, not by line {MAX_FIRST_EXAMPLE}")
    return problems


def dead_modules(sources):
    """`sources`: text by module name, a package's ending in `.__init__`. A private module never imported is dead."""
    used = set()
    for importer, text in sources.items():
        for _, name in imports(ast.parse(text)):
            member = name.lstrip(".")
            level = len(name) - len(member)
            absolute = ".".join([*importer.split(".")[:-level], member]) if level else name
            used |= {absolute, absolute.rpartition(".")[0]} - {importer}
    private = [name for name in sources if re.match("_[^_]", name.rpartition(".")[2])]
    return [f"nothing imports {name}" for name in private if name not in used]


def undocumented(module):
    """A package's public names: listed, there, documented, with an example; methods documented."""
    listed = getattr(module, "__all__", None)
    if listed is None:
        return [f"{module.__name__} has no __all__"]
    problems = []
    for name in listed:
        value = getattr(module, name, None)
        if value is None:
            problems.append(f"{module.__name__}.{name} is listed and isn't there")
        elif inspect.isroutine(value) or inspect.isclass(value):
            problems += _undocumented_value(f"{module.__name__}.{name}", value)
        elif isinstance(value, types.ModuleType) and not value.__doc__:
            problems.append(f"{module.__name__}.{name} has no docstring")
    return problems


def _undocumented_value(name, value):
    own = value.__doc__ or ""
    if not own.strip() or own.startswith(f"{value.__name__}("):  # what dataclasses write by themselves
        return [f"{name} has no docstring"]
    members = {}
    if inspect.isclass(value):
        members = {
            member: getattr(item, "__func__", item)
            for member, item in vars(value).items()
            if not member.startswith("_")
            and (inspect.isroutine(item) or isinstance(item, property | classmethod | staticmethod))
        }
    documents = [own, *(item.__doc__ or "" for item in members.values())]
    problems = [f"{name}.{member} has no docstring" for member, item in members.items() if not item.__doc__]
    is_error = inspect.isclass(value) and issubclass(value, BaseException)
    # What a function returns is shown where the function is.
    shown = any(">>>" in document or re.search(r"See `[\w.]+` for an example", document) for document in documents)
    if not is_error and not shown:
        problems.append(f"{name} has no example (>>>)")
    return problems


def failing_examples(text, namespace, name):
    """Examples are found in the source: the tests' type checker wraps functions, which hides them from doctest."""
    report = []
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE, verbose=False)
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            document = ast.get_docstring(node) or ""
            line = getattr(node, "lineno", 1)
            label = f"{name}.{getattr(node, 'name', '')}"
            test = doctest.DocTestParser().get_doctest(document, dict(namespace), label, name, line)
            runner.run(test, out=report.append)
    return ["".join(report)] if report else []


BAD = {
    long_file: "x = 1\n" * (MAX_FILE + 1),
    long_function: "def f():\n" + "    x = 1\n" * MAX_FUNCTION,
    private_jax: "from jax._src.core import Trace",
    unsafe_serialisation: "import pickle",
    silent_except: "try:\n    f()\nexcept OSError:\n    pass",
    lost_update: "x.at[0, 1].set(3)",
    unfinished: "x = 1  # TO" + "DO",
    machine_path: "path = '/ro" + "ot/x'",
    kernel_import: "from mmsb_jax.page import apply",
    bad_readme: "# Title\n" * 36 + "```python\n",
}
MORE_BAD = [
    (long_function, "class A:\n    async def f():\n" + "        x = 1\n" * MAX_FUNCTION),
    (private_jax, "import jax\ny = jax._src.core"),
    (unsafe_serialisation, "np.load(f, allow_pickle=True)"),
    (silent_except, "try:\n    f()\nexcept:\n    raise"),
    (silent_except, "try:\n    f()\nexcept ValueError:\n    ..."),
    (silent_except, "with contextlib.suppress(Exception):\n    f()"),
    (kernel_import, "import mmsb_jax"),
    (kernel_import, "from ..page import apply"),
    (kernel_import, "from .. import page"),
    (kernel_import, "import mmsb_jax._errors_and_more"),
    (bad_readme, "```python\n" + "\n" * MAX_README),
]
GOOD = [
    (long_function, 'def f():\n    """Much.' + "\n" * MAX_FUNCTION + '    """\n    return 1'),
    (long_function, "# tidy: long because one table\ndef f():\n" + "    x = 1\n" * MAX_FUNCTION),
    (unsafe_serialisation, "np.load(f, allow_pickle=False)"),
    (silent_except, "try:\n    f()\nexcept OSError as error:\n    raise ValueError from error"),
    (silent_except, "with contextlib.suppress(FileNotFoundError):\n    f()"),
    (lost_update, "x = x.at[0].set(3)\ny.at(0).set(3)\ns.add(1)"),
    (machine_path, "https://example.org/home/x and docs/home/x"),
    (kernel_import, "import jax\nfrom mmsb_jax._errors import A\nfrom mmsb_jax.kernels import b"),
    (kernel_import, "from .._errors import A\nfrom .. import _errors\nfrom . import _b"),
]


@pytest.mark.parametrize(("rule", "text"), [*BAD.items(), *MORE_BAD], ids=lambda v: getattr(v, "__name__", ""))
def test_a_bad_sample_is_found(rule, text):
    assert rule(text)


@pytest.mark.parametrize(("rule", "text"), GOOD, ids=lambda v: getattr(v, "__name__", ""))
def test_a_good_sample_passes(rule, text):
    assert rule(text) == []


def test_the_rules_about_modules_find_bad_samples():
    assert dead_modules({"a": "from b import c", "p._lost": "", "b": ""}) == ["nothing imports p._lost"]
    assert dead_modules({"p._lost": "from p._lost import itself"}) == ["nothing imports p._lost"]
    relative = {"p.__init__": "from ._a import x", "p._a": "from . import _b\nfrom .. import c", "p._b": ""}
    assert dead_modules(relative | {"a": "from p._kept import c", "p._kept": ""}) == []
    broken = failing_examples('def f():\n    """Add.\n\n    >>> 1 + 1\n    3\n    """', {}, "sample")
    assert "Expected:\n    3\nGot:\n    2" in broken[0]

    def bare():
        return 1

    def without_example():
        """Do something."""

    class Half:
        """Known. >>> Half()"""

        def method(self):
            return 1

    sample = types.ModuleType("sample")
    assert undocumented(sample) == ["sample has no __all__"]
    sample.__all__ = ["without_example", "bare", "Half", "gone"]
    vars(sample).update(bare=bare, without_example=without_example, Half=Half)
    assert undocumented(sample) == [
        "sample.without_example has no example (>>>)",
        "sample.bare has no docstring",
        "sample.Half.method has no docstring",
        "sample.gone is listed and isn't there",
    ]


def _is_text(name):
    of_a_log = "/frozen/" in name and Path(name).name in ("mark", "base")
    return Path(name).suffix in TEXT and (ROOT / name).is_file() and not of_a_log


def carried_files():
    """What git carries, or would after `git add`; ids are relative paths."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    return sorted(name for name in listed if _is_text(name))


def _sources(*folders):
    return [name for name in carried_files() if name.endswith(".py") and name.split("/")[0] in folders]


def _assert_none(problems):
    assert not problems, "\n" + "\n".join(problems)


def _assert_kept(rule, names):
    _assert_none(
        [f"{name}: {problem}" for name in names for problem in rule((ROOT / name).read_text(encoding="utf-8"))]
    )


@pytest.mark.parametrize("rule", [long_function, private_jax, unsafe_serialisation, silent_except, lost_update])
def test_python_files_keep_the_rule(rule):
    names = [name for name in carried_files() if name.endswith(".py")]
    assert len(names) > 10
    _assert_kept(rule, names)


@pytest.mark.parametrize("rule", [unfinished, machine_path])
def test_all_files_keep_the_rule(rule):
    _assert_kept(rule, carried_files())


def test_no_file_is_too_long():
    _assert_kept(long_file, [name for name in carried_files() if not name.endswith(".ipynb")])


def test_kernels_stand_alone():
    _assert_kept(kernel_import, _sources("kernels"))


def test_the_readme_is_short_and_begins_with_an_example():
    _assert_kept(bad_readme, ["README.md"])


def _module_name(path):
    dotted = path.removesuffix(".py").replace("/", ".")
    return f"mmsb_jax.{dotted}" if dotted.split(".")[0] == "kernels" else dotted


def _modules(*folders):
    return {_module_name(path): (ROOT / path).read_text() for path in _sources(*folders)}


def test_no_module_is_dead():
    _assert_none(dead_modules(_modules("mmsb_jax", "kernels", "demo", "benchmarks")))


def _packages():
    found = [mmsb_jax, mmsb_jax.kernels]
    for info in pkgutil.walk_packages(mmsb_jax.__path__, "mmsb_jax."):
        if info.ispkg and info.name != "mmsb_jax.kernels":
            found.append(importlib.import_module(info.name))
    return found


def test_what_is_public_is_documented():
    _assert_none([problem for package in _packages() for problem in undocumented(package)])


@pytest.mark.parametrize("name", _modules("mmsb_jax", "kernels"))
def test_examples_in_docstrings_run(name, tmp_path, monkeypatch):
    """An example may use what is public in its package, what its module has, and mmsb, jax, jnp and np."""
    monkeypatch.chdir(tmp_path)
    module = importlib.import_module(name.removesuffix(".__init__"))
    package = importlib.import_module(module.__package__)
    namespace = {"mmsb": mmsb_jax, "jax": jax, "jnp": jnp, "np": np} | vars(package) | vars(module)
    _assert_none(failing_examples(Path(module.__file__).read_text(encoding="utf-8"), namespace, name))
