"""Where compiled code may lie that is loaded into the process: a folder and files of this user's alone."""

from __future__ import annotations

import ctypes
import logging
import os
import stat
from pathlib import Path

import pytest

from glmbot.native import kept, library

FAKE = """#!/bin/sh
case "$1" in --version) echo fake; exit 0;; esac
while [ "$1" != -o ]; do shift; done
echo compiled > "$2"
"""


@pytest.fixture
def compiler(tmp_path: Path) -> str:
    """It writes a file at once; what compilers do is tested with a real one."""
    file = tmp_path / "compiler"
    file.write_text(FAKE)
    file.chmod(0o700)
    return str(file)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    return tmp_path / "xdg" / "glmbot"


def test_a_new_cache_is_for_this_user_alone(cache: Path) -> None:
    assert kept.folder() == cache
    assert stat.S_IMODE(cache.stat().st_mode) == 0o700


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o720, 0o702])
def test_a_cache_that_others_can_write_is_not_used(cache: Path, mode: int) -> None:
    cache.mkdir(parents=True)
    cache.chmod(mode)
    with pytest.raises(PermissionError, match="can be written by others"):
        kept.folder()


def test_a_cache_below_a_folder_that_others_can_write_is_not_used(cache: Path) -> None:
    cache.mkdir(parents=True, mode=0o700)
    cache.parent.chmod(0o777)
    with pytest.raises(PermissionError, match="can be written by others"):
        kept.folder()
    cache.parent.chmod(0o1777)
    assert kept.folder() == cache, "where only an owner may rename, it is safe"


def test_somebody_elses_cache_is_not_used(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache.mkdir(parents=True, mode=0o700)
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    with pytest.raises(PermissionError):
        kept.folder()


def test_a_file_in_its_place_is_said(cache: Path) -> None:
    cache.parent.mkdir()
    cache.write_text("")
    with pytest.raises(PermissionError, match="can't be made"):
        kept.folder()


def test_a_relative_cache_is_ignored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert kept.folder() == tmp_path / ".cache" / "glmbot"


def test_what_is_kept_is_found_again(compiler: str, tmp_path: Path) -> None:
    made = library.compile_kernels(compiler, tmp_path, "native")
    written = made.stat().st_mtime_ns
    assert library.compile_kernels(compiler, tmp_path, "native") == made
    assert made.stat().st_mtime_ns == written
    assert stat.S_IMODE(made.stat().st_mode) == 0o700
    assert sorted(path.name for path in tmp_path.iterdir()) == ["compiler", made.name], "nothing half is left"


@pytest.mark.parametrize("content", ["", "comp", "another"])
def test_a_kept_file_that_is_damaged_is_made_anew(compiler: str, tmp_path: Path, content: str) -> None:
    # A power cut may leave a name without its content, and the process that opens half a library may die of it.
    made = library.compile_kernels(compiler, tmp_path, "native")
    made.write_text(content)
    assert library.compile_kernels(compiler, tmp_path, "native").read_text() == "compiled\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["compiler", made.name], "nothing half is left"


@pytest.mark.parametrize("how", ["written by others", "a link"])
def test_a_planted_file_is_not_loaded_but_made_anew(
    compiler: str, tmp_path: Path, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    made = library.compile_kernels(compiler, tmp_path, "native")
    made.unlink()
    if how == "a link":
        (tmp_path / "evil.so").write_text("evil")
        made.symlink_to(tmp_path / "evil.so")
    else:
        made.write_text("evil")
        made.chmod(0o666)
    with caplog.at_level(logging.WARNING):
        assert library.compile_kernels(compiler, tmp_path, "native").read_text() == "compiled\n"
    assert "not loaded" in caplog.text
    assert not made.is_symlink()


@pytest.mark.parametrize(
    "error", [RuntimeError("could not determine home directory"), PermissionError("not ours")]
)
def test_without_a_folder_of_ones_own_the_kernels_are_made_for_this_process(
    compiler: str, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cache() -> Path:
        raise error

    seen: list[Path] = []

    def opened(path: Path) -> ctypes.CDLL:
        assert path.read_text() == "compiled\n"
        seen.append(path)
        return ctypes.CDLL(None)

    monkeypatch.setattr(kept, "folder", cache)
    monkeypatch.setattr(library, "open_kernels", opened)
    library._built(compiler, "native")
    assert not seen[0].exists(), "and nothing of it stays"
