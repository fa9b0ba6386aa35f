"""The kernels' sources compiled for the card at hand, and launched there."""

from __future__ import annotations

from functools import lru_cache
from importlib.resources import files
from typing import Any, Protocol

import torch
from torch import Tensor

__all__ = ["SOURCES", "CardKernels", "Kernels", "KernelsError", "source"]

SOURCES = ("rows", "products", "attention")
"""Each is compiled by itself, behind what all of them ask of the machine."""

Grid = tuple[int, int, int]


class KernelsError(Exception):
    """The kernels can't be compiled or loaded here; says why in one line."""


class Kernels(Protocol):
    def launch(self, name: str, grid: Grid, threads: int, *arguments: Tensor | int | float) -> None:
        """A tensor is handed on as its address, an int as C's int, a float as C's double."""
        ...


def source(name: str, dtype: torch.dtype) -> str:
    """One of SOURCES as a whole. dtype: of the activations, float16 or bfloat16."""
    folder = files(__package__ or "")
    head = "#define GLMBOT_BFLOAT16\n" if dtype == torch.bfloat16 else ""
    texts = [folder.joinpath(f"{part}.cuh").read_text(encoding="utf-8") for part in ("primitives", name)]
    return head + "\n".join(texts)


class CardKernels:
    """On the stream that is current when they are launched."""

    def __init__(self, device: torch.device, dtype: torch.dtype) -> None:
        """Raises KernelsError."""
        self._device = device
        self._functions: dict[str, Any] = {}
        self._modules = [_module(name, dtype, device.index or 0) for name in SOURCES]

    def launch(self, name: str, grid: Grid, threads: int, *arguments: Tensor | int | float) -> None:
        function = self._functions.get(name)
        if function is None:
            function = self._functions[name] = self._find(name)
        function(grid, (threads, 1, 1), list(arguments))

    def _find(self, name: str) -> Any:
        for module in self._modules:
            try:
                return getattr(module, name)
            except (AttributeError, RuntimeError):
                continue
        raise KernelsError(f"there is no kernel {name}")


@lru_cache(maxsize=32)
def _module(name: str, dtype: torch.dtype, device: int) -> Any:
    """torch compiles by NVRTC, which comes with its CUDA build:
    https://docs.pytorch.org/docs/stable/generated/torch.cuda.compile_kernel.html"""
    try:
        from torch.cuda import _utils as rtc

        with torch.cuda.device(device):
            major, minor = torch.cuda.get_device_capability(device)
            code, _ = rtc._nvrtc_compile(  # pyright: ignore[reportPrivateUsage]
                source(name, dtype), f"glmbot_{name}", f"{major}{minor}", nvcc_options=["-std=c++17"]
            )
            return rtc._cuda_load_module(code)  # pyright: ignore[reportPrivateUsage]
    except Exception as error:
        # Private functions of torch's: whatever another release says of them, the card serves without our kernels.
        reason = next(
            (line.strip() for line in str(error).splitlines() if "error" in line.lower()), str(error)
        )
        raise KernelsError(f"{name}.cuh: {type(error).__name__}: {reason[:300]}") from error
