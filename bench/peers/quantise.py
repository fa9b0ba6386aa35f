"""llama.cpp's own quantiser (cyllama), from one GGUF to another: quantise.py GGUF TYPE TARGET"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from cyllama.llama import llama_cpp  # pyright: ignore[reportMissingImports]

# enum llama_ftype of llama.h
_TYPES = {"F16": 1, "Q4_0": 2, "Q8_0": 7, "Q4_K_M": 15, "Q5_K_M": 17, "Q6_K": 18}


def main() -> None:
    source, kind, target = sys.argv[1:]
    parameters: Any = llama_cpp.LlamaModelQuantizeParams()
    parameters.ftype = _TYPES[kind]
    # The source is Q4_1: it is widened first.
    parameters.allow_requantize = True
    made = Path(target).with_suffix(".part")
    llama_cpp.model_quantize(source, str(made), parameters)
    made.replace(target)


if __name__ == "__main__":
    main()
