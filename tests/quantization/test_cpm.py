"""The kernels for older NVIDIA cards, as far as a machine without one can tell: compiled for the host, where each
thread runs in turn, they widen bit for bit as published; and NVIDIA's own compiler takes them."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import sys
from functools import lru_cache
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from glmbot.quantization import choice, cpm
from glmbot.quantization.cpm import SOURCE, CpmLinear, kernels
from glmbot.quantization.formats import dequantize, pack_nibbles, quantize_rows
from glmbot.quantization.linear import WidenedLinear

HOST = r"""
#include <cstring>
#define __global__
struct Index { int x; };
static Index blockIdx, threadIdx, blockDim;
static float widen(unsigned short bits) { _Float16 half; memcpy(&half, &bits, 2); return half; }
static unsigned short narrow(float value) {
  _Float16 half = (_Float16)value; unsigned short bits; memcpy(&bits, &half, 2); return bits;
}
%s
#define LAUNCH(kernel) extern "C" void launch_##kernel( \
    const signed char* weight, const unsigned short* scale, unsigned short* out, int rows, int columns) { \
  blockDim.x = 7; \
  for (blockIdx.x = 0; blockIdx.x < rows; blockIdx.x++) \
    for (threadIdx.x = 0; threadIdx.x < blockDim.x; threadIdx.x++) kernel(weight, scale, out, columns); \
}
LAUNCH(widen_int8)
LAUNCH(widen_int4)
"""


@lru_cache(maxsize=1)
def host_kernels(folder: Path) -> ctypes.CDLL:
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("no C++ compiler here")
    source = folder / "kernels.cpp"
    source.write_text(HOST % SOURCE, "utf-8")
    library = folder / "kernels.so"
    subprocess.run(
        [compiler, "-DGLMBOT_HOST", "-shared", "-fPIC", "-O1", str(source), "-o", str(library)], check=True
    )
    return ctypes.CDLL(str(library))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("kernels")


@pytest.mark.parametrize("bits", [8, 4])
@settings(max_examples=25)
@given(
    rows=st.integers(1, 9), pairs=st.integers(1, 40), seed=st.integers(0, 1000), size=st.floats(1e-4, 1000)
)
def test_kernels_widen_as_published(
    folder: Path, bits: int, rows: int, pairs: int, seed: int, size: float
) -> None:
    generator = torch.Generator().manual_seed(seed)
    quantized, scale = quantize_rows(torch.randn(rows, 2 * pairs, generator=generator) * size, bits)
    stored = pack_nibbles(quantized) if bits == 4 else quantized
    out = torch.zeros(rows, 2 * pairs, dtype=torch.float16)
    launch = getattr(host_kernels(folder), f"launch_widen_int{bits}")
    pointers = [ctypes.c_void_p(tensor.data_ptr()) for tensor in (stored.contiguous(), scale, out)]
    launch(*pointers, rows, 2 * pairs)
    assert torch.equal(out, dequantize(quantized, scale))


def test_nvidias_compiler_takes_them_for_a_2080_ti(tmp_path: Path) -> None:
    compiler = shutil.which("nvcc")
    if compiler is None:
        pytest.skip("no CUDA toolkit here")
    source = tmp_path / "kernels.cu"
    source.write_text(SOURCE, "utf-8")
    done = subprocess.run(
        [compiler, "-cubin", "-arch=sm_75", str(source), "-o", str(tmp_path / "out.cubin")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    code = (tmp_path / "out.cubin").read_bytes()
    assert b"widen_int4" in code
    assert b"widen_int8" in code


def test_older_cards_get_them_and_newer_ones_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    quantized, scale = quantize_rows(torch.randn(32, 32), 4)
    monkeypatch.setattr(choice, "native_rows", lambda *_: None)
    monkeypatch.setattr(choice, "fits_packed", lambda *_: False)
    monkeypatch.setattr(choice, "is_old_card", lambda _: True)
    monkeypatch.setattr(choice, "kernels", lambda: object())
    assert type(choice.quantized_linear(quantized, scale, 4, None, torch.float16)) is CpmLinear
    monkeypatch.setattr(choice, "is_old_card", lambda _: False)
    assert type(choice.quantized_linear(quantized, scale, 4, None, torch.float16)) is WidenedLinear


@pytest.mark.parametrize(
    ("capability", "old"), [((7, 5), True), ((6, 1), True), ((8, 0), False), ((9, 0), False)]
)
def test_older_is_before_ampere(
    capability: tuple[int, int], old: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cpm.torch.cuda, "get_device_capability", lambda _: capability)
    assert cpm.is_old_card(torch.device("cuda", 0)) is old
    assert not cpm.is_old_card(torch.device("cpu"))


def test_without_the_toolkit_a_warning_says_what_to_do(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "cpm_kernels", None)
    kernels.cache_clear()
    assert kernels() is None
    assert ".[cuda]" in caplog.text
    kernels.cache_clear()
