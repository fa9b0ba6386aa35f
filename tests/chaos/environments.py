"""Environments of their own for programs that nothing of ours needs, at the versions that were tried."""

from __future__ import annotations

import subprocess
import sys
import venv
from pathlib import Path

from conftest import REPOSITORY

__all__ = ["HOME", "python_of", "python_with"]

HOME = REPOSITORY / ".glmbot" / "chaos"


def python_of(name: str) -> Path:
    return HOME / name / "bin" / "python"


def python_with(name: str, package: str) -> Path:
    """The interpreter of the environment `name`, in which `package` is installed."""
    python = python_of(name)
    if not python.exists():
        venv.create(HOME / name, with_pip=True)
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", package]
    subprocess.run(pip, check=True, stdout=sys.stderr.fileno())
    return python
