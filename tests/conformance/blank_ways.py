"""What a vectors file of GLM-130B holds besides: blanks, filters, rotary tables, and checkpoints in ranks."""

from __future__ import annotations

import tempfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from vectors_file import Answer, Case, Tally, Vectors, weights_of, write_checkpoint, write_config
from ways import TORCH, check_engine, check_ways, serve

from glmbot.engine.base import Precision, Sampling
from glmbot.engine.runner import ModelRunner
from glmbot.engine.sampling import Draw, sample
from glmbot.models.checkpoint import Checkpoint
from glmbot.models.glm130b.blanks import Blanks, fill_blanks
from glmbot.models.glm130b.configuration import GLM130BConfig
from glmbot.models.glm130b.model import GLM130BForCausalLM
from glmbot.models.glm130b.ranks import RANK_FILE, columns_scaled_apart, part_of
from glmbot.quantization.formats import pack_nibbles, quantize_rows

__all__ = ["check_glm130b", "write_ranks"]

_PRECISIONS = {8: Precision.INT8, 4: Precision.INT4}
# So many draws at even distances find every token that a filter keeps of a few.
_DRAWS = 10_000
# Of the file's prompts beside a quantised case.
_COMPANY = 4


def check_glm130b(name: str, fields: dict[str, Any], tally: Tally) -> None:
    weights = weights_of(fields)
    cases = [Case.read(f"case {n}", case) for n, case in enumerate(fields["cases"])]
    tables = [case["rotary_table"] for case in fields["cases"]]
    for table in dict.fromkeys(tables):
        with tempfile.TemporaryDirectory() as folder:
            write_config(fields, Path(folder), rotary_table=table)
            write_checkpoint(weights, Path(folder))
            own = [case for case, needed in zip(cases, tables, strict=True) if needed == table]
            check_ways(Vectors(name, fields, own, Path(folder)), tally)
    config = GLM130BConfig(**fields["config"])
    for case, given in zip(cases, fields["cases"], strict=True):
        tally.attempt(f"{name} {case.name} prompt", lambda given=given: _check_prompt(config, given))
    for number, fill in enumerate(fields.get("fills", [])):
        tally.attempt(f"{name} fill {number}", lambda fill=fill: _check_fill(name, fields, weights, fill))
    for number, one in enumerate(fields.get("filters", [])):
        tally.attempt(f"{name} filter {number}", lambda one=one: _check_filter(one))
    for ranks, parts in fields.get("partitions", {}).items():
        tally.attempt(
            f"{name} {ranks} ranks", lambda ranks=ranks, parts=parts: _check_parts(weights, int(ranks), parts)
        )
        tally.attempt(
            f"{name} {ranks} ranks joined", lambda ranks=ranks: _check_joined(fields, weights, int(ranks))
        )
    for kind, quantised in fields.get("quantized", {}).items():
        _check_quantised(f"{name} {kind}", fields, weights, quantised, tally)
    if "rotary_float16" in fields:
        tally.attempt(f"{name} float16 table", lambda: _check_table(fields["rotary_float16"]))


def _numbers(piece: str) -> list[int]:
    return [int(word) for word in piece.split()]


def _check_prompt(config: GLM130BConfig, given: dict[str, Any]) -> str | None:
    blanks = Blanks.read(given["text"], _numbers, config)
    if blanks.prompt != given["input_ids"]:
        return f"the prompt is {blanks.prompt}, expected {given['input_ids']}"
    context = blanks.positions.context_length(blanks.prompt)
    return (
        None if context == given["context"] else f"the context has {context} ids, expected {given['context']}"
    )


def _check_fill(
    name: str, fields: dict[str, Any], weights: dict[str, Tensor], fill: dict[str, Any]
) -> str | None:
    config = GLM130BConfig(**fields["config"])
    ends = frozenset(fill["end_token_ids"])
    rounds = iter([Case.read(f"round {n}", each) for n, each in enumerate(fill["rounds"])])
    complaints: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        write_config(fields, Path(folder), rotary_table=fill["rotary_table"])
        write_checkpoint(weights, Path(folder))

        def answer(blanks: Blanks, room: int) -> Sequence[int]:
            case = next(rounds, None)
            if case is None:
                raise ValueError("there is a round more than expected")
            if blanks.prompt != case.prompt:
                complaints.append(f"{case.name}: the prompt is {blanks.prompt}, expected {case.prompt}")
            vectors = Vectors(name, fields, [case], Path(folder))
            made = _answer(vectors, blanks, room, ends)
            if len(made.greedy) != len(case.greedy):
                complaints.append(f"{case.name}: {made.greedy}, expected {case.greedy}")
            elif complaint := vectors.judge(case, made):
                complaints.append(f"{case.name}: {complaint}")
            if case.position_ids is not None:
                places = blanks.positions.positions(blanks.prompt, 0, len(case.position_ids[0]))
                if places != case.position_ids:
                    complaints.append(f"{case.name}: position ids differ")
            return made.greedy

        done = fill_blanks(
            Blanks.read(fill["text"], _numbers, config), answer, ends, out_seq_length=fill["out_seq_length"]
        )
    if next(rounds, None) is not None:
        complaints.append("a round is missing")
    if done.result != fill["result_ids"]:
        complaints.append(f"the result is {done.result}, expected {fill['result_ids']}")
    return "; ".join(complaints) or None


def _answer(vectors: Vectors, blanks: Blanks, room: int, ends: frozenset[int]) -> Answer:
    """Through the engine, up to an end token or to as many tokens as there is room for."""
    model = replace(vectors.model(), positions=blanks.positions)
    runner = ModelRunner(
        model, placement=TORCH, precision=Precision.FP32, cache_tokens=2 * (len(blanks.prompt) + room)
    )
    case = Case("", blanks.prompt, [0] * room, [], [], None)
    made = next(serve(vectors, runner, [case], every=1))
    length = next((n for n, token in enumerate(made.greedy, 1) if token in ends), room)
    return Answer(made.greedy[:length], made.logits[:length])


def _check_filter(one: dict[str, Any]) -> str | None:
    # 0 turns the published script's filter by probability off.
    sampling = Sampling(
        max_tokens=1, temperature=one["temperature"], top_k=one["top_k"], top_p=one["top_p"] or 1.0
    )
    logits = torch.tensor([one["logits"]]).expand(_DRAWS, -1)
    draws = [Draw(sampling, (), (number + 0.5) / _DRAWS) for number in range(_DRAWS)]
    kept = sorted(set(sample(logits, draws).tolist()))
    return None if kept == one["kept"] else f"kept {kept}, expected {one['kept']}"


def _crc(tensor: Tensor) -> str:
    return f"{zlib.crc32(tensor.contiguous().numpy().tobytes()):08x}"


def _check_parts(weights: dict[str, Tensor], ranks: int, expected: Sequence[dict[str, Any]]) -> str | None:
    if len(expected) != ranks:
        return f"{len(expected)} ranks are listed"
    for rank, tensors in enumerate(expected):
        for name, one in tensors.items():
            part = part_of(name, weights[name].half(), rank, ranks)
            ours = {
                "shape": list(part.shape),
                "crc32": _crc(part),
                "first": float(part.flatten()[0]),
                "last": float(part.flatten()[-1]),
            }
            if ours != one:
                return f"rank {rank}, {name}: {ours}, expected {one}"
    return None


def _check_joined(fields: dict[str, Any], weights: dict[str, Tensor], ranks: int) -> str | None:
    with tempfile.TemporaryDirectory() as folder:
        write_ranks(weights, Path(folder), ranks)
        checkpoint = Checkpoint(Path(folder))
        for name, weight in weights.items():
            if not torch.equal(checkpoint.read(name), weight):
                return f"{name} differs when it is read from {ranks} ranks"
    return None


def _check_quantised(
    name: str, fields: dict[str, Any], weights: dict[str, Tensor], quantised: dict[str, Any], tally: Tally
) -> None:
    """Quantised while a float checkpoint of these ranks is loaded, and read from one that was quantised before."""
    bits, ranks = quantised["bits"], quantised["model_parallel_size"]
    table = quantised["case"]["rotary_table"]
    tally.attempt(f"{name} crc", lambda: _check_crc(weights, bits, ranks, quantised["crc32"]))
    tally.attempt(f"{name} example", lambda: _check_example(weights, bits, ranks, quantised["example"]))
    case = Case.read("case", quantised["case"])
    others = [
        Case.read(f"case {n}", each)
        for n, each in enumerate(fields["cases"])
        if each["rotary_table"] == table
    ][:_COMPANY]
    for way, before in (("while loading", None), ("before", bits)):
        with tempfile.TemporaryDirectory() as folder:
            write_config(fields, Path(folder), rotary_table=table)
            write_ranks(weights, Path(folder), ranks, before)
            vectors = Vectors(name, fields, others, Path(folder))
            check_engine(vectors, [case], _PRECISIONS[bits], f"quantised {way} ", tally)


def _quantised_parts(name: str, weight: Tensor, bits: int, ranks: int, rank: int) -> dict[str, Tensor]:
    quantized, scale = quantize_rows(part_of(name, weight, rank, ranks), bits)
    return {name: pack_nibbles(quantized) if bits == 4 else quantized, f"{name}_scale": scale}


def _is_quantised(name: str, weight: Tensor) -> bool:
    return ".layers." in name and name.endswith(".weight") and weight.dim() == 2


def _check_crc(
    weights: dict[str, Tensor], bits: int, ranks: int, expected: Sequence[dict[str, str]]
) -> str | None:
    for rank in range(ranks):
        for name, weight in weights.items():
            if not _is_quantised(name, weight):
                continue
            for part, tensor in _quantised_parts(name, weight, bits, ranks, rank).items():
                if _crc(tensor) != expected[rank][part]:
                    return f"rank {rank}, {part}: {_crc(tensor)}, expected {expected[rank][part]}"
    return None


def _check_example(weights: dict[str, Tensor], bits: int, ranks: int, example: dict[str, Any]) -> str | None:
    """From the whole weight, as it is quantised while a checkpoint of these ranks is loaded."""
    name = example["parameter"]
    runs = columns_scaled_apart(name, ranks)
    quantized, scale = quantize_rows(weights[name], bits, runs)
    first = part_of(name, quantized, example["rank"], ranks)
    factor = part_of(f"{name}_scale", scale, example["rank"], ranks)
    row = (pack_nibbles(first) if bits == 4 else first)[0].tolist()
    if row != example["first_row"]:
        return f"the first quantised row is {row}"
    if float(factor[0]) != example["first_row_scale"]:
        return f"its scale is {float(factor[0])}, expected {example['first_row_scale']}"
    return None


def write_ranks(weights: dict[str, Tensor], folder: Path, ranks: int, bits: int | None = None) -> None:
    """A checkpoint as published, of so many model-parallel ranks; quantised where `bits` are given."""
    step = folder / "49300"
    step.mkdir()
    (folder / "latest").write_text("49300\n", "ascii")
    for rank in range(ranks):
        module: dict[str, Tensor] = {}
        for name, weight in weights.items():
            if bits is not None and _is_quantised(name, weight):
                module |= _quantised_parts(name, weight, bits, ranks, rank)
            else:
                module[name] = part_of(name, weight, rank, ranks).clone()
        module["transformer.layers.0.attention.rotary_emb.inv_freq"] = torch.ones(8).half()
        torch.save(
            {"module": module, "global_steps": 49300, "mp_world_size": ranks}, step / RANK_FILE.format(rank)
        )


def _check_table(expected: dict[str, Any]) -> str | None:
    config = GLM130BConfig(
        vocab_size=8, hidden_size=128, num_layers=1, num_attention_heads=1, inner_hidden_size=8,
        mask_token_id=0, gmask_token_id=1, smask_token_id=2, sop_token_id=4, eop_token_id=5, eos_token_id=6,
    )  # fmt: skip
    body: Any = GLM130BForCausalLM(config).transformer
    frequencies: Tensor = body.get_buffer("inv_freq")
    if frequencies.tolist() != expected["inv_freq"]:
        return "inv_freq differs"
    rotation: Callable[[Tensor], tuple[Tensor, Tensor]] = body.rotation
    for position, one in expected["positions"].items():
        for name, table in zip(("cos", "sin"), rotation(torch.tensor([int(position)])), strict=True):
            ours = table[0, expected["dimensions"]].tolist()
            if ours != one[name]:
                return f"{name} at {position} is {ours}, expected {one[name]}"
    return None
