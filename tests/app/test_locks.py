"""What is installed is known by its hash, and the locks are those of pyproject.toml."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from conftest import REPOSITORY

PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]


def locked(name: str) -> dict[str, list[tuple[Version, str]]]:
    """By package: releases (one for each platform or Python) and what stands below them."""
    text = (REPOSITORY / "locks" / f"{name}.txt").read_text()
    found: dict[str, list[tuple[Version, str]]] = {}
    for package, release, rest in re.findall(r"^([a-z0-9.-]+)==(\S+)(.*?)(?=^[a-z]|\Z)", text, re.M | re.S):
        found.setdefault(package, []).append((Version(release), rest))
    return found


def wanted(*extras: str) -> Iterator[Requirement]:
    for line in [
        *PROJECT["dependencies"],
        *(line for each in extras for line in PROJECT["optional-dependencies"][each]),
    ]:
        requirement = Requirement(line)
        if requirement.name == "glmbot":
            yield from wanted(*requirement.extras)
        else:
            yield requirement


@pytest.mark.parametrize(("name", "extras"), [("run", ["all"]), ("dev", ["all", "dev"])])
def test_every_requirement_is_locked_within_its_bounds_and_by_hashes(name: str, extras: list[str]) -> None:
    lock = locked(name)
    for requirement in wanted(*extras):
        if requirement.name == "torch":
            continue
        package = re.sub(r"[._]+", "-", requirement.name).lower()
        for release, _ in lock[package]:
            assert requirement.specifier.contains(release), (
                f"{package} {release}; `make lock` renews the locks"
            )
    assert all("--hash=sha256:" in rest for releases in lock.values() for _, rest in releases)


def test_torch_is_left_to_the_operator_and_the_locks_name_no_place() -> None:
    for name in ("run", "dev", "tools"):
        assert not {
            package for package in locked(name) if package == "torch" or package.startswith("nvidia-")
        }
        text = (REPOSITORY / "locks" / f"{name}.txt").read_text()
        assert "://" not in text
        assert "index-url" not in text
