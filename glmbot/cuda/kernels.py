"""The kernels' sources compiled for the card at hand, and launched there."""

from __future__ import annotations

import ctypes
from functools import lru_cache
from importlib.resources import files
from typing import Any, Protocol

import torch
from torch import Tensor

from glmbot.cuda import compiled

__all__ = ["CardKernels", "Grid", "Kernels", "KernelsError", "Source", "code_of", "source_of", "text_of"]

Grid = tuple[int, int, int]
Source = tuple[str, str]
"""A file, and what is defined while it is compiled: the form of weights that its products read, or nothing."""

_OPTIONS = ("-std=c++17",)
_HOPPER = (9, 0)
# CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION of cuda.h
_BEGINS_EARLY = 6


class KernelsError(Exception):
    """The kernels can't be compiled or loaded here; says why in one line."""


class Kernels(Protocol):
    def launch(self, name: str, grid: Grid, threads: int, *arguments: Tensor | int | float) -> None:
        """A tensor is handed on as its address, an int as C's int, a float as C's double."""
        ...


def source_of(kernel: str) -> Source:
    """Where a kernel is found."""
    first, *rest = kernel.split("_")
    if first in ("product", "widen"):
        return "products", f"GLMBOT_{rest[0].upper()}"
    return ("attention" if first == "attend" else "rows"), ""


def text_of(source: Source, dtype: torch.dtype) -> str:
    """All that is compiled. dtype: of the activations, float16 or bfloat16."""
    name, defined = source
    folder = files(__package__ or "")
    lines = ["#define GLMBOT_BFLOAT16"] if dtype == torch.bfloat16 else []
    lines += [f"#define {defined}"] if defined else []
    return "\n".join(
        [
            *lines,
            *(folder.joinpath(f"{part}.cuh").read_text(encoding="utf-8") for part in ("primitives", name)),
        ]
    )


def code_of(source: Source, dtype: torch.dtype, capability: str, compiling: Any) -> bytes:
    """For cards of this compute capability, "90" for example. compiling: `torch.cuda._utils`. Raises what that
    raises."""
    text, name = text_of(source, dtype), f"glmbot_{source[0]}"

    def compile_now() -> bytes:
        return compiling._nvrtc_compile(text, name, capability, nvcc_options=[*_OPTIONS])[0]

    version = _nvrtc_version(compiling)
    if not version:
        return compile_now()
    # torch adds options and paths of its own.
    return compiled.code((text, name, capability, *_OPTIONS, torch.__version__, version), compile_now)


def _nvrtc_version(compiling: Any) -> str:
    """ "" where it doesn't say."""
    major, minor = ctypes.c_int(), ctypes.c_int()
    try:
        failed = compiling._get_gpu_rtc_library().nvrtcVersion(ctypes.byref(major), ctypes.byref(minor))
    except (AttributeError, OSError):
        return ""
    return "" if failed else f"{major.value}.{minor.value}"


class CardKernels:
    """On the stream that is current when they are launched. A file is compiled when it is first needed."""

    def __init__(self, device: torch.device, dtype: torch.dtype) -> None:
        self._device, self._dtype = device, dtype
        self._launchers: dict[str, _Launcher] = {}

    def launch(self, name: str, grid: Grid, threads: int, *arguments: Tensor | int | float) -> None:
        """Raises KernelsError."""
        launcher = self._launchers.get(name)
        if launcher is None:
            launcher = self._launchers[name] = _launcher(name, self._dtype, self._device.index or 0)
        launcher(grid, threads, arguments)


class _Attribute(ctypes.Structure):
    """CUlaunchAttribute"""

    _fields_ = (("id", ctypes.c_int), ("padding", ctypes.c_char * 4), ("value", ctypes.c_int * 16))


class _Configuration(ctypes.Structure):
    """CUlaunchConfig"""

    _fields_ = (
        ("grid", ctypes.c_uint * 3), ("block", ctypes.c_uint * 3), ("shared_bytes", ctypes.c_uint),
        ("stream", ctypes.c_void_p), ("attributes", ctypes.POINTER(_Attribute)), ("count", ctypes.c_uint),
    )  # fmt: skip


class _Launcher:
    """One kernel."""

    def __init__(self, library: Any, function: Any, *, early: bool) -> None:
        """early: whether it may be begun while the kernel before it ends."""
        self._library, self._function = library, function
        attributes = (_Attribute * 1)(_Attribute(id=_BEGINS_EARLY, value=(1,)))
        self._configuration = _Configuration(attributes=attributes, count=int(early))

    def __call__(self, grid: Grid, threads: int, arguments: tuple[Tensor | int | float, ...]) -> None:
        held = [_held(each) for each in arguments]
        pointers = (ctypes.c_void_p * len(held))(*(ctypes.addressof(each) for each in held))
        configuration = self._configuration
        configuration.grid, configuration.block = grid, (threads, 1, 1)
        configuration.stream = torch.cuda.current_stream().cuda_stream
        result = self._library.cuLaunchKernelEx(ctypes.byref(configuration), self._function, pointers, None)
        if result:
            raise RuntimeError(f"a kernel was not launched: CUDA's error {result}")


def _held(argument: Tensor | float) -> ctypes.c_void_p | ctypes.c_int | ctypes.c_double:
    if isinstance(argument, Tensor):
        return ctypes.c_void_p(argument.data_ptr())
    return ctypes.c_int(argument) if isinstance(argument, int) else ctypes.c_double(argument)


@lru_cache(maxsize=512)
def _launcher(name: str, dtype: torch.dtype, device: int) -> _Launcher:
    library, module = _module(source_of(name), dtype, device)
    function = ctypes.c_void_p()
    if library.cuModuleGetFunction(ctypes.byref(function), module, name.encode()):
        raise KernelsError(f"there is no kernel {name}")
    early = torch.cuda.get_device_capability(device) >= _HOPPER
    return _Launcher(library, function, early=early)


@lru_cache(maxsize=64)
def _module(source: Source, dtype: torch.dtype, device: int) -> tuple[Any, Any]:
    """The driver's library, and the module there. torch compiles by NVRTC, which comes with its CUDA build:
    https://docs.pytorch.org/docs/stable/generated/torch.cuda.compile_kernel.html"""
    try:
        from torch.cuda import _utils as compiling  # pyright: ignore[reportPrivateUsage]

        with torch.cuda.device(device):
            major, minor = torch.cuda.get_device_capability(device)
            code = code_of(source, dtype, f"{major}{minor}", compiling)
            # The driver's calls want a context, which torch's first call to the card gives a thread.
            torch.cuda.synchronize(device)
            library = compiling._get_gpu_runtime_library()  # pyright: ignore[reportPrivateUsage]
            module = ctypes.c_void_p()
            result = library.cuModuleLoadData(ctypes.byref(module), code)
            if result:
                raise RuntimeError(f"error {result} of CUDA's while it was loaded")
            return library, module
    except Exception as error:
        # Private functions of torch's: whatever another release says of them, the card serves without our kernels.
        lines = str(error).splitlines() or [""]
        reason = next((line.strip() for line in lines if "error" in line.lower()), lines[0])
        raise KernelsError(f"{source[0]}.cuh: {type(error).__name__}: {reason[:300]}") from error
