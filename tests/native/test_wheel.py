"""The package's build puts the kernels into the wheel, and what is installed from it needs no compiler."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from conftest import REPOSITORY
from glmbot.native import compiling
from glmbot.native.instruction_sets import SETS, InstructionSet, family
from glmbot.native.library import loaded

_SHOW = "from glmbot.native import library; print(library.__file__); print(library.loaded())"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of what a wheel is built from, without what was prebuilt here."""
    folder = tmp_path / "tree"
    folder.mkdir()
    for name in ("pyproject.toml", "hatch_build.py", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, folder)
    ignored = shutil.ignore_patterns("prebuilt", "__pycache__")
    for name in ("glmbot", "adapters", "plugins"):
        shutil.copytree(REPOSITORY / name, folder / name, ignore=ignored)
    return folder


def build(tree: Path, **environment: str) -> tuple[Path, str]:
    """The wheel, and what the build said."""
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel"]
    done = subprocess.run(
        command, cwd=tree, env=os.environ | environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    (wheel,) = (tree / "dist").glob("*.whl")
    return wheel, done.stdout + done.stderr


@pytest.mark.skipif(loaded() is None or not sys.platform.startswith("linux"), reason="no kernels here")
def test_what_is_installed_from_a_wheel_runs_without_a_compiler(tree: Path, tmp_path: Path) -> None:
    here = loaded()
    assert here is not None
    # Compiling takes ten seconds for each set: this compiler hands out what is compiled already.
    compiler = tmp_path / "compiler"
    compiler.write_text(f'#!/bin/sh\nwhile [ "$1" != -o ]; do shift; done\ncp {here.library._name} "$2"\n')
    compiler.chmod(0o700)
    wheel, _ = build(tree, CXX=str(compiler), GLMBOT_NATIVE="")
    python, abi, platform = wheel.stem.split("-")[-3:]
    assert (python, abi) == ("py3", "none")
    assert platform.startswith("linux_")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        archive.extractall(tmp_path / "installed")
        metadata = next(name for name in names if name.endswith(".dist-info/WHEEL"))
        assert b"Root-Is-Purelib: false" in archive.read(metadata)
    assert sum(name.startswith("glmbot/native/prebuilt/") for name in names) > 1
    assert "glmbot/native/kernels.cpp" in names, "for machines that have none of the sets"
    environment = os.environ | {
        "PYTHONPATH": str(tmp_path / "installed"),
        "PATH": "/nowhere",
        "GLMBOT_NATIVE": "",
    }
    environment.pop("CXX", None)
    environment["XDG_CACHE_HOME"] = str(tmp_path / "cache")
    shown = subprocess.run(
        [sys.executable, "-c", _SHOW],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    assert Path(shown[0]).is_relative_to(tmp_path / "installed")
    assert ", prebuilt (" in shown[1]
    assert not (tmp_path / "cache").exists(), "nothing was compiled"


COMPILERS = {
    "x86-64": "g++" if family() == "x86-64" else "x86_64-linux-gnu-g++",
    "aarch64": "g++" if family() == "aarch64" else "aarch64-linux-gnu-g++",
}


@pytest.mark.parametrize(
    ("of", "wanted"),
    [(of, one) for of, sets in SETS.items() for one in sets],
    ids=lambda one: getattr(one, "name", one),
)
def test_the_kernels_compile_for_every_set(of: str, wanted: InstructionSet) -> None:
    """A build says so of a set that it can't make, and goes on."""
    if of == family() and compiling.prebuilt(wanted) is not None:
        return
    compiler = shutil.which(COMPILERS[of])
    if compiler is None:
        pytest.skip(f"no compiler for {of} here")
    files = [str(path) for path in compiling.sources() if path.suffix == ".cpp"]
    command = [compiler, *compiling.flags(wanted.flags), "-fsyntax-only", *files]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_build_without_a_compiler_goes_on_and_says_so(tree: Path) -> None:
    wheel, said = build(tree, CXX="/nowhere/g++", GLMBOT_NATIVE="")
    assert "no g++ here" in said
    assert wheel.name.endswith("-py3-none-any.whl")
