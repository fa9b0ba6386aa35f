"""Which library is opened: prebuilt for what the processor has, else compiled here, else none."""

from __future__ import annotations

import ctypes
import ctypes.util
import hashlib
import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from glmbot.native import compiling, instruction_sets, library
from glmbot.native.instruction_sets import SETS, InstructionSet, in_cpuinfo, usable

V2 = "fpu sse ssse3 sse4_1 sse4_2 popcnt cx16"
V3 = f"{V2} avx avx2 bmi1 bmi2 f16c fma movbe abm"
V4 = f"{V3} avx512f avx512bw avx512cd avx512dq avx512vl"


@pytest.mark.parametrize(
    ("family", "flags", "best"),
    [
        ("x86-64", "fpu sse sse2", None),
        ("x86-64", V2, "x86-64-v2"),
        ("x86-64", V3, "x86-64-v3"),
        ("x86-64", V3.replace(" fma", ""), "x86-64-v2"),
        ("x86-64", f"{V3} avx_vnni", "x86-64-v3-vnni"),
        ("x86-64", f"{V3} avx512f", "x86-64-v3"),
        ("x86-64", V4, "x86-64-v4"),
        ("x86-64", f"{V4} avx512_vnni avx_vnni", "x86-64-v4-vnni"),
        ("x86-64", f"{V4} avx512_vnni avx512_bf16 amx_tile", "x86-64-v4-bf16"),
        ("aarch64", "fp asimd", "armv8"),
        ("aarch64", "fp asimd asimdhp asimddp", "armv8.2-dotprod"),
    ],
)
def test_the_best_set_that_a_processor_has(family: str, flags: str, best: str | None) -> None:
    line = "Features" if family == "aarch64" else "flags"
    has = in_cpuinfo(f"processor\t: 0\n{line}\t\t: {flags}\nbugs\t\t:\n")
    assert next((one.name for one in usable(has, SETS[family])), None) == best


def test_only_what_every_processor_has_is_counted_on() -> None:
    assert in_cpuinfo("Features : fp asimd asimddp\nFeatures : fp asimd\n") == {"fp", "asimd"}
    assert in_cpuinfo("processor : 0\n") == frozenset()


def test_sets_are_told_apart_by_name_and_a_better_one_never_needs_less() -> None:
    for sets in SETS.values():
        assert len({one.name for one in sets}) == len(sets)
        for at, better in enumerate(sets):
            assert not any(better.needs < worse.needs for worse in sets[at + 1 :])


class Made:
    """Prebuilt libraries that are files of words; what is opened is the file's words."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, has: str) -> None:
        self.folder = folder
        self._monkeypatch = monkeypatch
        monkeypatch.setattr(library, "family", lambda: "x86-64")
        monkeypatch.setattr(instruction_sets, "family", lambda: "x86-64")
        monkeypatch.setattr(library, "features", lambda: frozenset(has.split()))
        monkeypatch.setattr(compiling, "prebuilt", lambda wanted: prebuilt(wanted, folder))
        monkeypatch.setattr(compiling, "compiler", lambda: None)
        self.compiled: list[str] = []

    def file(self, name: str, content: bytes = b"not ELF") -> Path:
        (wanted,) = (one for one in SETS["x86-64"] if one.name == name)
        made_of = compiling._made_of(wanted)
        path = self.folder / f"{name}.{made_of}.{hashlib.sha256(content).hexdigest()[:16]}.so"
        path.write_bytes(content)
        return path

    def works(self) -> None:
        """Whatever is opened has the kernels' functions."""
        self._monkeypatch.setattr(library, "open_kernels", lambda path: Fake())

    def with_compiler(self) -> None:
        self._monkeypatch.setattr(compiling, "compiler", lambda: "g++")

        def built(compiler: str, architecture: str) -> ctypes.CDLL:
            self.compiled.append(architecture)
            return Fake()  # pyright: ignore[reportReturnType]

        self._monkeypatch.setattr(library, "_built", built)

    def choose(self, held: str = "") -> str | None:
        made = library.choose(held)
        return None if made is None else f"{made.architecture}{'' if made.prebuilt else ', compiled'}"


class Fake:
    def glmbot_features(self) -> bytes:
        return b"fake"


prebuilt = compiling.prebuilt
Machine = Callable[[str], Made]


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return lambda has: Made(tmp_path, monkeypatch, has)


def test_the_best_prebuilt_set_is_opened_and_nothing_compiled(
    machine: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    made = machine(V3)
    made.works()
    made.with_compiler()
    for name in ("x86-64-v2", "x86-64-v3", "x86-64-v4"):
        made.file(name)
    with caplog.at_level(logging.INFO):
        assert made.choose() == "x86-64-v3"
    assert made.compiled == []
    assert "kernels: x86-64-v3, prebuilt (fake)" in caplog.text


def test_what_is_not_prebuilt_is_compiled_for_this_processor(machine: Machine) -> None:
    made = machine(V4)
    made.works()
    made.file("x86-64-v3")
    assert made.choose() == "x86-64-v3", "without a compiler the next best one serves"
    made.with_compiler()
    assert made.choose() == "native, compiled"


@pytest.mark.parametrize("how", ["cut", "changed", "of another machine", "of other sources"])
def test_a_damaged_or_foreign_library_is_passed_over(
    machine: Machine, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    made = machine(V3)
    path = made.file("x86-64-v3", b"" if how == "cut" else b"\x7fELF, of another machine")
    if how == "cut":
        path.write_bytes(b"\x7fE")
    elif how == "changed":
        path.write_bytes(b"\x7fELF, of another maker.")
    elif how == "of other sources":
        path.rename(path.with_name(f"x86-64-v3.{16 * '0'}.{path.name.split('.')[-2]}.so"))
    with caplog.at_level(logging.WARNING):
        assert made.choose() is None
        made.with_compiler()
        assert made.choose() == "native, compiled"
    assert (str(path) in caplog.text) == (how != "of other sources")
    assert "torch computes alone" in caplog.text


def test_a_library_without_the_kernels_functions_is_none(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="holds no kernels"):
        library.open_kernels(Path(ctypes.util.find_library("m") or "libm.so.6"))


@pytest.mark.parametrize(
    ("held", "chosen", "warned"),
    [
        ("0", None, False),
        ("x86-64-v2", "x86-64-v2", False),
        ("x86-64-v3", "x86-64-v3", False),
        ("native", "native, compiled", False),
        ("", "x86-64-v3", False),
        ("x86-64-v4", "x86-64-v3", True),
        ("avx2", "x86-64-v3", True),
    ],
)
def test_the_environment_holds_the_kernels_to_a_set(
    machine: Machine, held: str, chosen: str | None, warned: bool, caplog: pytest.LogCaptureFixture
) -> None:
    made = machine(V3)
    made.works()
    made.with_compiler()
    made.file("x86-64-v2")
    made.file("x86-64-v3")
    with caplog.at_level(logging.WARNING):
        assert made.choose(held) == chosen
    assert ("it can be 0, native, x86-64-v3, x86-64-v2" in caplog.text) == warned


def test_a_set_that_is_held_to_and_not_prebuilt_is_compiled(machine: Machine) -> None:
    made = machine(V3)
    assert made.choose("x86-64-v2") is None
    made.with_compiler()
    assert made.choose("x86-64-v2") == "x86-64-v2, compiled"


def test_a_set_that_the_compiler_does_not_know_stops_no_other(tmp_path: Path) -> None:
    compiler = tmp_path / "compiler"
    compiler.write_text(
        "#!/bin/sh\ncase \"$*\" in *avx512vnni*) echo 'unknown -mavx512vnni' >&2; exit 1; esac\n"
        'while [ "$1" != -o ]; do shift; done\necho "$*" > "$2"\n'
    )
    compiler.chmod(0o700)
    sets: tuple[InstructionSet, ...] = SETS["x86-64"][1:3]
    failed = compiling.prebuild(sets, str(compiler), tmp_path / "made")
    assert list(failed) == ["x86-64-v4-vnni"]
    assert "unknown -mavx512vnni" in failed["x86-64-v4-vnni"]
    (path,) = (tmp_path / "made").iterdir()
    assert prebuilt(sets[1], tmp_path / "made") == path
    assert compiling.is_whole(path)


def test_sets_whose_names_begin_alike_stay_beside_each_other(tmp_path: Path) -> None:
    compiler = tmp_path / "compiler"
    compiler.write_text('#!/bin/sh\nwhile [ "$1" != -o ]; do shift; done\necho made > "$2"\n')
    compiler.chmod(0o700)
    for sets in SETS.values():
        folder = tmp_path / sets[0].name
        for wanted in sets:
            compiling.prebuild([wanted], str(compiler), folder)
        assert [one.name for one in sets if prebuilt(one, folder) is None] == []


def test_what_is_prebuilt_is_built_again_only_when_it_is_not_whole(tmp_path: Path) -> None:
    compiler = tmp_path / "compiler"
    compiler.write_text('#!/bin/sh\nwhile [ "$1" != -o ]; do shift; done\necho made > "$2"\n')
    compiler.chmod(0o700)
    folder = tmp_path / "made"
    wanted = SETS["x86-64"][0]
    old = folder / f"{wanted.name}.{16 * '0'}.{16 * '0'}.so"
    folder.mkdir()
    old.write_text("of older sources")
    compiling.prebuild([wanted], str(compiler), folder)
    (path,) = folder.iterdir()
    written = path.stat().st_mtime_ns
    compiling.prebuild([wanted], str(compiler), folder)
    assert path.stat().st_mtime_ns == written
    path.write_text("damaged")
    compiling.prebuild([wanted], str(compiler), folder)
    assert path.read_text() == "made\n"
