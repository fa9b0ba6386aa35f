"""The kernels' sources compiled for the CPU, and launched there on tensors of its memory."""

from __future__ import annotations

import ctypes
import re
import subprocess
import tempfile
from functools import lru_cache
from pathlib import Path

import pytest
import torch
from torch import Tensor

from glmbot.cuda.kernels import Grid, Source, source_of, text_of
from glmbot.native.compiling import compiler

__all__ = ["HostKernels"]

_HERE = Path(__file__).parent
_FLAGS = ("-O1", "-std=c++17", "-fPIC", "-shared", "-U_FORTIFY_SOURCE", "-fno-strict-aliasing", "-Wl,-z,now")
_LETTERS = {ctypes.c_void_p: "p", ctypes.c_int: "i", ctypes.c_double: "d"}
_folder = tempfile.TemporaryDirectory(prefix="glmbot-kernels-")


class HostKernels:
    """glmbot.cuda.kernels.Kernels without a card. A source is compiled when it is first needed in a session."""

    def __init__(self, dtype: torch.dtype, *, backwards: bool = False) -> None:
        """dtype: of activations. backwards: the last block and thread of a launch come first, as they may on a
        card."""
        if compiler() is None:
            pytest.skip("no C++ compiler here")
        self._dtype, self._backwards = dtype, backwards

    def launch(self, name: str, grid: Grid, threads: int, *arguments: Tensor | int | float) -> None:
        library = _library(source_of(name), self._dtype)
        parameters = getattr(library, f"parameters_{name}")
        parameters.restype = ctypes.c_char_p
        held = [_held(each) for each in arguments]
        given = "".join(_LETTERS[type(each)] for each in held)
        assert given == parameters().decode(), f"{name} takes other arguments"
        pointers = (ctypes.c_void_p * len(held))(*(ctypes.addressof(each) for each in held))
        begin = getattr(library, f"launch_{name}")
        begin.restype = ctypes.c_char_p
        wrong = begin((ctypes.c_uint * 3)(*grid), threads, pointers, int(self._backwards))
        assert wrong is None, f"{name}: {wrong.decode()}"


def _held(argument: Tensor | float) -> ctypes.c_void_p | ctypes.c_int | ctypes.c_double:
    if isinstance(argument, Tensor):
        return ctypes.c_void_p(argument.data_ptr())
    return ctypes.c_int(argument) if isinstance(argument, int) else ctypes.c_double(argument)


@lru_cache(maxsize=64)
def _library(source: Source, dtype: torch.dtype) -> ctypes.CDLL:
    defined = "#define GLMBOT_HOST\n" + ("#define GLMBOT_BFLOAT16\n" if dtype == torch.bfloat16 else "")
    text = text_of(source, dtype)
    found = compiler()
    assert found is not None
    command = [found, "-E", "-P", "-D__global__=", "-D__launch_bounds__(threads)=", "-xc++", "-"]
    plain = subprocess.run(command, input=defined + text, capture_output=True, text=True, check=True).stdout
    kernels = re.findall(r'extern "C"\s+void\s+(\w+)\(', plain)
    stem = "-".join((*source, str(dtype))).strip("-")
    path = Path(_folder.name) / f"{stem}.cpp"
    launchers = "\n".join(f"KERNEL({name})" for name in kernels)
    path.write_text(f'{defined}#include "host.h"\n{text}\n{launchers}\n', "utf-8")
    made = path.with_suffix(".so")
    command = [found, *_FLAGS, f"-I{_HERE}", str(path), "-o", str(made)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[:4000]
    return ctypes.CDLL(str(made))
