"""Packed weights on NVIDIA cards older than Ampere, through OpenBMB's cpm_kernels, as the published code has it.

cpm_kernels compiles and launches; the kernels are ours: they widen packed weights to float16, the scale applied
in the same pass, and the ordinary float16 product follows.
"""

from __future__ import annotations

import ctypes
import logging
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from glmbot.quantization.formats import pack_nibbles
from glmbot.quantization.linear import QuantizedLinear

__all__ = ["SOURCE", "CpmLinear", "compile_kernels", "is_old_card", "kernels"]

_log = logging.getLogger(__name__)

_AMPERE = (8, 0)
_THREADS = 256

# The conversions are PTX, so that no header has to be found where the kernels are compiled.
SOURCE = r"""
#ifndef GLMBOT_HOST
static __device__ float widen(unsigned short half_bits) {
  float value;
  asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(half_bits));
  return value;
}
static __device__ unsigned short narrow(float value) {
  unsigned short half_bits;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(half_bits) : "f"(value));
  return half_bits;
}
#endif

/* One block a row. weight: [rows, columns]; scale: float16 [rows]; out: float16 [rows, columns]. */
extern "C" __global__ void widen_int8(
    const signed char* weight, const unsigned short* scale, unsigned short* out, int columns) {
  const long long row = blockIdx.x;
  const float factor = widen(scale[row]);
  for (int column = threadIdx.x; column < columns; column += blockDim.x)
    out[row * columns + column] = narrow(weight[row * columns + column] * factor);
}

/* weight: [rows, columns / 2], the even column in the high nibble. */
extern "C" __global__ void widen_int4(
    const signed char* weight, const unsigned short* scale, unsigned short* out, int columns) {
  const long long row = blockIdx.x;
  const int half = columns / 2;
  const float factor = widen(scale[row]);
  for (int pair = threadIdx.x; pair < half; pair += blockDim.x) {
    const signed char both = weight[row * half + pair];
    out[row * columns + 2 * pair] = narrow((both >> 4) * factor);
    out[row * columns + 2 * pair + 1] = narrow(((signed char)(both << 4) >> 4) * factor);
  }
}
"""


def is_old_card(device: torch.device) -> bool:
    """Whether `device` is an NVIDIA card older than Ampere, such as a 2080 Ti."""
    return device.type == "cuda" and torch.cuda.get_device_capability(device) < _AMPERE


@lru_cache(maxsize=1)
def kernels() -> Any | None:
    """cpm_kernels with its compiler at hand, or None with a warning that says what is missing."""
    try:
        import cpm_kernels  # pyright: ignore[reportMissingTypeStubs]
        from cpm_kernels.library import nvrtc  # pyright: ignore[reportMissingTypeStubs]
    except Exception as error:
        # It looks for CUDA's libraries while it is imported, and raises whatever they say.
        _log.warning(
            "int8 and int4 are widened by torch on this card, and faster with `pip install '.[cuda]'` and"
            " the CUDA toolkit (%s)",
            error,
        )
        return None
    if nvrtc.version < (11, 0):
        _log.warning(
            "int8 and int4 are widened by torch on this card: cpm_kernels finds no libnvrtc; set CUDA_PATH to the"
            " CUDA toolkit"
        )
        return None
    return cpm_kernels


def compile_kernels(library: Any, capability: tuple[int, int]) -> bytes:
    """The kernels as code for a card of this compute capability. Raises RuntimeError with the compiler's log."""
    nvrtc = library.library.nvrtc
    program = nvrtc.nvrtcProgram()
    nvrtc.nvrtcCreateProgram(program, SOURCE, "glmbot.cu", 0, [], [])
    try:
        nvrtc.nvrtcCompileProgram(program, 1, [f"--gpu-architecture=sm_{capability[0]}{capability[1]}"])
        code = ctypes.create_string_buffer(nvrtc.nvrtcGetCUBINSize(program))
        nvrtc.nvrtcGetCUBIN(program, code)
        return code.raw
    finally:
        nvrtc.nvrtcDestroyProgram(program)


@lru_cache(maxsize=8)
def _function(name: str, device: int) -> Any:
    library = kernels()
    if library is None:
        raise RuntimeError("cpm_kernels is not usable here")
    code = compile_kernels(library, torch.cuda.get_device_capability(device))
    base = library.kernels.base
    return base.KernelFunction(base.LazyKernelCModule(code), name)


class CpmLinear(QuantizedLinear):
    """Weights as published; each product widens them in one pass of a kernel.

    Buffers: weight int8 [out, in] or, for 4 bits, [out, in / 2]; weight_scale float16 [out].
    """

    def __init__(self, quantized: Tensor, scale: Tensor, bits: int, bias: Tensor | None) -> None:
        """quantized: int8 [out, in] and scale: float16 [out], on a CUDA device."""
        super().__init__(quantized.shape[0], quantized.shape[1], bits, bias)
        self.register_buffer("weight", (pack_nibbles(quantized) if bits == 4 else quantized).contiguous())
        self.register_buffer("weight_scale", scale.contiguous())

    def product(self, rows: Tensor) -> Tensor:
        weight, scale = self.get_buffer("weight"), self.get_buffer("weight_scale")
        widened = torch.empty(self.out_features, self.in_features, dtype=torch.float16, device=weight.device)
        with torch.cuda.device(weight.device):
            _function(f"widen_int{self.bits}", weight.device.index or 0)(
                (self.out_features, 1, 1),
                (_THREADS, 1, 1),
                0,
                torch.cuda.current_stream().cuda_stream,
                [
                    ctypes.c_void_p(weight.data_ptr()),
                    ctypes.c_void_p(scale.data_ptr()),
                    ctypes.c_void_p(widened.data_ptr()),
                    ctypes.c_int32(self.in_features),
                ],
            )
        return torch.nn.functional.linear(rows, widened.to(rows.dtype))
