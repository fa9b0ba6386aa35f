"""The kernels on processors that this machine is not, by an emulator: check_kernels.cpp. Emulators know neither
AVX-512 nor AVX-VNNI."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

SOURCE = Path(__file__).with_name("check_kernels.cpp")
FLAGS = ("-O1", "-std=c++17", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=off", "-Wno-psabi", "-pthread",
         "-static")  # fmt: skip


@pytest.mark.parametrize("architecture", ["armv8-a", "armv8.2-a+dotprod"])
def test_arm(architecture: str, tmp_path: Path) -> None:
    compiler, emulator = shutil.which("aarch64-linux-gnu-g++"), shutil.which("qemu-aarch64")
    if compiler is None or emulator is None:
        pytest.skip("needs g++-aarch64-linux-gnu and qemu-user")
    made = tmp_path / "check"
    command = [compiler, *FLAGS, f"-march={architecture}", str(SOURCE), "-o", str(made)]
    subprocess.run(command, check=True, timeout=300)
    found = subprocess.run([emulator, str(made)], capture_output=True, text=True, timeout=300, check=False)
    assert found.returncode == 0, found.stdout
    assert "neon" in found.stdout
