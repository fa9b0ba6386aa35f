"""Holds glmbot's ChatGLM and GLM-130B classes and engine against vectors files: python tests/conformance/check.py FILE…

Each file holds what the published code computed on a small model whose weights are a formula. The weights are
written as a checkpoint in the published layout (two shards), and every case is run in these ways:

  transformers   the model alone, one token at a time, with Transformers' own cache
  left, right    the file's prompts padded into one batch, at either side, by Transformers' cache and masks
  alone          through the shared engine's scheduler, runner and cache, one by one
  batched        all cases at once in the engine, joining in different steps, beside those in mid-decode
  native         both again in the engine's native programs (float32), where there is a C++ compiler
  int8, int4     the quantised cases, alone and beside the file's other prompts; weights as published
  and for GLM-130B: texts with blanks to prompts, several blanks, filters, both rotary tables, and checkpoints cut
                 for model-parallel ranks, float, quantised while loading and quantised before

Prints one line for each failure, and `N passed, N failed` last; ends with 1 when anything failed.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from blank_ways import check_glm130b
from torch import Tensor
from vectors_file import Case, Runs, Tally, Vectors, weights_of, write_checkpoint, write_config
from ways import check_engine, check_ways

from glmbot.engine.base import Precision
from glmbot.quantization.formats import pack_nibbles, quantize_rows


def check(file: Path, tally: Tally, runs: Runs | None = None) -> None:
    """runs: of a file about the same ChatGLM model."""
    fields = json.loads(file.read_text("utf-8"))
    if "formula" in fields:
        check_glm130b(file.name, fields, tally)
        return
    cases = [Case.read(f"case {n}", case) for n, case in enumerate(fields["cases"])]
    weights = weights_of(fields)
    with tempfile.TemporaryDirectory() as folder:
        write_config(fields, Path(folder))
        write_checkpoint(weights, Path(folder))
        vectors = Vectors(file.name, fields, cases, Path(folder), runs)
        check_ways(vectors, tally)
        for bits, quantised in fields.get("quantized", {}).items():
            precision = {"8": Precision.INT8, "4": Precision.INT4}[bits]
            case = Case.read(f"int{bits}", quantised["case"])
            tally.attempt(
                f"{vectors.name} int{bits} example",
                lambda bits=bits, quantised=quantised: _check_example(
                    weights, int(bits), quantised["example"]
                ),
            )
            check_engine(vectors, [case], precision, f"int{bits} ", tally)


def _check_example(weights: dict[str, Tensor], bits: int, example: dict[str, Any]) -> str | None:
    """The first quantised row of the first linear."""
    name = next(name for name in weights if name.endswith("query_key_value.weight"))
    quantized, scale = quantize_rows(weights[name], bits)
    if quantized[0].tolist() != example["first_row"]:
        return "the first quantised row differs"
    if float(scale[0]) != example["first_row_scale"]:
        return f"its scale is {float(scale[0])}, expected {example['first_row_scale']}"
    packed = example.get("packed_first_row")
    if packed is not None and pack_nibbles(quantized)[0].view(torch.uint8).tolist() != packed:
        return "its packed bytes differ"
    return None


def main(files: Sequence[str]) -> int:
    if not files:
        print(__doc__)
        return 2
    tally = Tally()
    for file in files:
        try:
            check(Path(file), tally)
        except Exception as error:
            tally.count(file, f"{type(error).__name__}: {error}")
    print(f"{tally.passed} passed, {tally.failed} failed")
    return 1 if tally.failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
