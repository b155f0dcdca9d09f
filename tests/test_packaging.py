"""What a user installs: the wheel in an empty folder, and the editable install."""

import importlib.metadata
import importlib.util
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

WHERE = """
import importlib.util, sys
sys.path.insert(0, sys.argv[1])
import mmsb_jax, mmsb_jax.kernels
print(mmsb_jax.__file__)
print(mmsb_jax.kernels.__file__)
print(importlib.util.find_spec("kernels"))
"""


def _run(*command, cwd):
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, f"{command} ended with {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, built from a copy of what git would carry: setuptools puts stale files of build/ into wheels."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    generated = shutil.ignore_patterns("__pycache__", "*.egg-info")
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for name in ("mmsb_jax", "kernels"):
        shutil.copytree(ROOT / name, source / name, ignore=generated)
    _run(sys.executable, "-m", "build", "--wheel", "--outdir", str(folder / "dist"), str(source), cwd=folder)
    (built,) = (folder / "dist").glob("*.whl")
    return built


def test_the_wheel_holds_every_module_and_nothing_else(wheel):
    shipped = set(zipfile.ZipFile(wheel).namelist())
    modules = {f"mmsb_jax/{path.relative_to(ROOT / 'mmsb_jax')}" for path in (ROOT / "mmsb_jax").rglob("*.py")}
    modules |= {f"mmsb_jax/kernels/{path.relative_to(ROOT / 'kernels')}" for path in (ROOT / "kernels").rglob("*.py")}
    metadata = f"mmsb_jax-{PROJECT['version']}.dist-info/"
    assert {name for name in shipped if not name.startswith(metadata)} == modules | {"mmsb_jax/py.typed"}
    assert f"{metadata}licenses/LICENSE" in shipped
    licence = zipfile.ZipFile(wheel).read(f"{metadata}licenses/LICENSE").decode()
    assert "Apache License" in licence


def test_the_wheel_works_outside_the_checkout(wheel, tmp_path):
    target = tmp_path / "installed"
    install = ("install", "--quiet", "--no-deps", "--no-index", "--target", str(target), str(wheel))
    _run(sys.executable, "-m", "pip", *install, cwd=tmp_path)
    package, kernels, top_level = _run(sys.executable, "-c", WHERE, str(target), cwd=tmp_path).splitlines()
    assert Path(package) == target / "mmsb_jax" / "__init__.py"
    assert Path(kernels) == target / "mmsb_jax" / "kernels" / "__init__.py"
    assert top_level == "None"
    scripts = importlib.metadata.Distribution.at(next(target.glob("*.dist-info"))).entry_points
    assert [(script.name, script.value) for script in scripts] == [("mmsb", "mmsb_jax.cli:main")]


def test_the_editable_install_points_into_the_checkout(tmp_path):
    _, kernels, top_level = _run(sys.executable, "-c", WHERE, str(tmp_path), cwd=tmp_path).splitlines()
    assert Path(kernels) == ROOT / "kernels" / "__init__.py"
    assert top_level == "None"
    assert importlib.metadata.version("mmsb-jax") == PROJECT["version"]


def test_the_version_is_the_same_everywhere(tmp_path):
    import mmsb_jax

    assert mmsb_jax.__version__ == PROJECT["version"]
    script = Path(sys.executable).parent / "mmsb"
    assert PROJECT["version"] in _run(str(script), "--version", cwd=tmp_path)
