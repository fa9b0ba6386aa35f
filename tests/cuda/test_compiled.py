"""Kernels are compiled once for all starts from the same; whatever lies where they are kept, what is loaded is whole."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch

from glmbot.cuda import compiled
from glmbot.cuda.compiled import code
from glmbot.cuda.kernels import code_of

MADE = b"\x7fELF made"


@dataclass
class Compiler:
    """In place of NVRTC, and of torch's private functions around it."""

    version: tuple[int, int] = (12, 8)
    asked: list[tuple[Any, ...]] = field(default_factory=list[tuple[Any, ...]])

    def __call__(self) -> bytes:
        self.asked.append(())
        return MADE

    def nvrtcVersion(self, major: Any, minor: Any) -> int:
        for number, given in zip(self.version, (major, minor), strict=True):
            given._obj.value = number
        return 0

    def _get_gpu_rtc_library(self) -> Compiler:
        return self

    def _nvrtc_compile(
        self, text: str, name: str, capability: str, *, nvcc_options: list[str]
    ) -> tuple[bytes, str]:
        self.asked.append((text, name, capability, *nvcc_options))
        return MADE, name


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    return tmp_path / "xdg" / "glmbot"


def test_what_a_card_needs_is_compiled_for_the_first_start_alone(cache: Path) -> None:
    compiler, wanted = Compiler(), (("products", "GLMBOT_ROWS4"), torch.float16, "90")
    for _ in range(3):
        assert code_of(*wanted, compiler) == MADE
    ((text, name, *rest),) = compiler.asked
    assert text.startswith("#define GLMBOT_ROWS4\n")
    assert (name, *rest) == ("glmbot_products", "90", "-std=c++17")
    (kept,) = cache.iterdir()
    assert kept.read_bytes() == MADE
    assert kept.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("what", ["source", "form", "dtype", "card", "NVRTC", "torch"])
def test_of_anything_else_it_is_compiled_anew(
    cache: Path, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiler = Compiler()
    code_of(("products", "GLMBOT_ROWS4"), torch.float16, "90", compiler)
    source, dtype, card = ("products", "GLMBOT_ROWS4"), torch.float16, "90"
    match what:
        case "source":
            source = ("rows", "")
        case "form":
            source = ("products", "GLMBOT_ROWS8")
        case "dtype":
            dtype = torch.bfloat16
        case "card":
            card = "80"
        case "NVRTC":
            compiler.version = (12, 9)
        case _:
            monkeypatch.setattr(torch, "__version__", "99.0")
    for _ in range(2):
        code_of(source, dtype, card, compiler)
    assert len(compiler.asked) == 2


class Unasked(Compiler):
    """Of a release of torch that has another way to its library."""

    def _get_gpu_rtc_library(self) -> Compiler:
        raise AttributeError("_get_gpu_rtc_library")


class Failing(Compiler):
    def nvrtcVersion(self, major: Any, minor: Any) -> int:
        return 1


@pytest.mark.parametrize("kind", [Unasked, Failing])
def test_where_nvrtc_does_not_say_its_version_nothing_is_kept(cache: Path, kind: type[Compiler]) -> None:
    compiler = kind()
    for number in (1, 2):
        assert code_of(("rows", ""), torch.float16, "90", compiler) == MADE
        assert len(compiler.asked) == number
    assert not cache.exists()


@pytest.mark.parametrize("content", [b"", MADE[:-1], b"another"])
def test_a_damaged_file_is_compiled_again(tmp_path: Path, content: bytes) -> None:
    compiler = Compiler()
    assert code(("text",), compiler, lambda: tmp_path) == MADE
    (kept,) = tmp_path.iterdir()
    kept.write_bytes(content)
    for _ in range(2):
        assert code(("text",), compiler, lambda: tmp_path) == MADE
    assert len(compiler.asked) == 2
    assert [each.read_bytes() for each in tmp_path.iterdir()] == [MADE]


@pytest.mark.parametrize("how", ["written by others", "a link"])
def test_a_planted_file_is_compiled_again(tmp_path: Path, how: str) -> None:
    compiler, folder = Compiler(), tmp_path / "cache"
    folder.mkdir()
    code(("text",), compiler, lambda: folder)
    (kept,) = folder.iterdir()
    if how == "a link":
        kept.rename(tmp_path / "elsewhere")
        kept.symlink_to(tmp_path / "elsewhere")
    else:
        kept.chmod(0o666)
    assert code(("text",), compiler, lambda: folder) == MADE
    assert len(compiler.asked) == 2
    assert not kept.is_symlink()
    assert kept.stat().st_mode & 0o022 == 0


def _refused() -> Path:
    raise PermissionError("others can write there")


def _homeless() -> Path:
    raise RuntimeError("could not determine home directory")


@pytest.mark.parametrize("folder", [_refused, _homeless, lambda: Path("/nowhere/at/all")])
def test_without_a_folder_it_is_compiled_at_each_start(folder: Callable[[], Path]) -> None:
    compiler = Compiler()
    for number in (1, 2):
        assert code(("text",), compiler, folder) == MADE
        assert len(compiler.asked) == number


def test_on_a_full_disk_it_is_compiled_at_each_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    assert code(("text",), Compiler(), lambda: tmp_path) == MADE
    assert list(tmp_path.iterdir()) == []


def test_what_is_kept_where_nothing_may_be_written_is_of_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise OSError(30, "Read-only file system")

    compiler = Compiler()
    code(("text",), compiler, lambda: tmp_path)
    monkeypatch.setattr(os, "utime", refused)
    assert code(("text",), compiler, lambda: tmp_path) == MADE
    assert len(compiler.asked) == 1


def test_what_does_not_compile_leaves_nothing(tmp_path: Path) -> None:
    def fails() -> bytes:
        raise RuntimeError("Kernel compilation failed:\nerror: no")

    with pytest.raises(RuntimeError, match="no"):
        code(("text",), fails, lambda: tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_what_was_of_no_use_for_longest_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "_MOST_KEPT", 2)
    compiler = Compiler()
    files: dict[str, Path] = {}
    for at, text in enumerate(("a", "b", "a", "c", "a"), 1):
        code((text,), compiler, lambda: tmp_path)
        if text not in files:
            (files[text],) = set(tmp_path.iterdir()) - set(files.values())
        os.utime(files[text], (at, at))
    assert len(compiler.asked) == 3
    assert set(tmp_path.iterdir()) == {files["a"], files["c"]}
