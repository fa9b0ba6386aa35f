"""Published weights of the ChatGLM family: quantised, with a prefix, damaged."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig

from chatglm_folder import GENERATIONS, Generation, quantised, write_chatglm_folder, write_shards
from glmbot.engine.attention import ATTENTION_NAME, register_attention
from glmbot.engine.base import Precision, Sampling
from glmbot.engine.local import LocalEngine, LocalEngineSettings
from glmbot.engine.placement import Placement
from glmbot.engine.precision import fill
from glmbot.engine.runner import ModelRunner
from glmbot.errors import ModelFileError
from glmbot.models.chatglm.family import register_chatglm
from glmbot.models.checkpoint import Checkpoint
from glmbot.models.registry import empty_module, load

FLOAT32 = Placement(torch.device("cpu"), activations=torch.float32)
INDEX = "pytorch_model.bin.index.json"
SHARDS = [f"pytorch_model-0000{number}-of-00002.bin" for number in (1, 2)]
FIRST = "transformer.layers.0.attention.query_key_value.weight"


async def answer(
    folder: Path, precision: Precision | None, prefix: Path | None = None
) -> tuple[str, Precision]:
    engine = await LocalEngine.start(
        LocalEngineSettings(folder, precision=precision, cache_tokens=1024, prefix_folder=prefix)
    )
    prompt = engine.chat_format.encode_chat("", (), "你好，北京")
    text = ""
    async for progress in engine.generate(prompt, Sampling(max_tokens=24, temperature=0), user="a"):
        text = progress.text
    chosen = engine.precision
    await engine.close()
    return text, chosen


# ---- quantised checkpoints ------------------------------------------------------------------------------


@pytest.mark.parametrize("generation", GENERATIONS)
@pytest.mark.parametrize(("bits", "precision"), [(8, Precision.INT8), (4, Precision.INT4)])
async def test_a_published_quantised_checkpoint_is_the_float_one_quantised_on_loading(
    generation: Generation, bits: int, precision: Precision, tmp_path: Path
) -> None:
    stored = write_chatglm_folder(tmp_path / "stored" / generation, generation, bits=bits)
    floating = write_chatglm_folder(tmp_path / "float" / generation, generation)
    theirs, chosen = await answer(stored, None)
    assert chosen is precision, "its own precision is the default"
    assert await answer(floating, precision) == (theirs, precision)


def test_a_quantised_checkpoint_can_be_widened_again(tmp_path: Path) -> None:
    folder = write_chatglm_folder(tmp_path / "m", "chatglm2-6b", bits=4)
    modules: dict[Precision, Any] = {}
    for precision in (Precision.INT4, Precision.FP32):
        modules[precision] = load(folder, "sdpa").module
        fill(modules[precision], Checkpoint(folder), precision, FLOAT32)
    tokens = torch.randint(3, 300, (1, 9))
    with torch.inference_mode():
        four, wide = (module(input_ids=tokens).logits for module in modules.values())
    torch.testing.assert_close(four, wide)


def test_quantised_embeddings_are_read_too(tmp_path: Path) -> None:
    """As in the published chatglm-6b-int4-qe."""
    folder = write_chatglm_folder(tmp_path / "m", "chatglm-6b")
    weights = {name: Checkpoint(folder).read(name).clone() for name in Checkpoint(folder).names()}
    renamed = {
        f".layers.{name}" if "word_embeddings" in name else name: value for name, value in weights.items()
    }
    packed = {name.removeprefix(".layers."): value for name, value in quantised(renamed, 4).items()}
    write_shards(folder, packed, 2)
    module: Any = load(folder, "sdpa").module
    fill(module, Checkpoint(folder), Precision.INT4, FLOAT32)
    original = weights["transformer.word_embeddings.weight"].float()
    likeness = torch.cosine_similarity(module.transformer.word_embeddings.weight, original, dim=1)
    assert float(likeness.min()) > 0.9


# ---- P-Tuning v2 ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("projection", [False, True])
@pytest.mark.parametrize("generation", GENERATIONS)
def test_a_prefix_steers_every_way_of_running_alike(
    generation: Generation, projection: bool, tmp_path: Path
) -> None:
    folder = write_chatglm_folder(
        tmp_path / generation, generation, pre_seq_len=5, prefix_projection=projection
    )
    plain = write_chatglm_folder(tmp_path / "plain" / generation, generation)
    opened = load(folder, "sdpa")
    module: Any = opened.module
    fill(module, opened.checkpoint, Precision.FP32, FLOAT32)
    prompts = [opened.chat_format.encode_chat("", (), text) for text in ("你好", "The quick brown fox 北京")]
    expected = [_greedy(module, prompt, 6) for prompt in prompts]
    # In one left-padded batch, and in the shared engine.
    width = max(map(len, prompts))
    tokens = torch.tensor([[0] * (width - len(prompt)) + prompt for prompt in prompts])
    mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    batch = module.generate(
        input_ids=tokens, attention_mask=mask, max_new_tokens=6, do_sample=False, eos_token_id=-1
    )
    assert batch[:, width:].tolist() == expected
    assert _by_engine(folder, prompts, 6) == expected
    assert _by_engine(plain, prompts, 6) != expected


def test_the_prefix_equals_the_published_arithmetic(tmp_path: Path) -> None:
    """embedding -> [length, 2 · layers, heads, head_dim] -> layers of keys and values."""
    folder = write_chatglm_folder(tmp_path / "m", "chatglm-6b", pre_seq_len=3)
    module: Any = load(folder, "sdpa").module
    fill(module, Checkpoint(folder), Precision.FP32, FLOAT32)
    encoder = module.transformer.prefix_encoder
    table = encoder.embedding.weight
    keys, values = encoder.of_layer(1, 2)
    assert keys.shape == (2, 4, 3, 16)
    # Virtual token 2, layer 1, head 3: keys are part 2 of 4, values part 3.
    for part, got in ((2, keys), (3, values)):
        begin = (part * 4 + 3) * 16
        assert torch.equal(got[0, 3, 2], table[2, begin : begin + 16])


@pytest.mark.parametrize("projection", [False, True])
async def test_a_prefix_from_a_folder_of_its_own(projection: bool, tmp_path: Path) -> None:
    """As the published training script leaves it: a checkpoint with the prefix encoder alone."""
    changes = {"pre_seq_len": 4, "prefix_projection": projection}
    whole = write_chatglm_folder(tmp_path / "whole", "chatglm-6b", **changes)
    base = write_chatglm_folder(tmp_path / "base", "chatglm-6b")
    tuned = tmp_path / "tuned"
    tuned.mkdir()
    tensors = {name: Checkpoint(whole).read(name).clone() for name in Checkpoint(whole).names()}
    shared = {name: value for name, value in tensors.items() if "prefix_encoder" not in name}
    write_shards(base, shared, 2)
    torch.save(
        {name: value for name, value in tensors.items() if "prefix_encoder" in name},
        tuned / "pytorch_model.bin",
    )
    expected, _ = await answer(whole, Precision.FP32)
    assert await answer(base, Precision.FP32, tuned) == (expected, Precision.FP32)
    assert await answer(base, Precision.FP32) != (expected, Precision.FP32)
    with pytest.raises(ModelFileError, match="no P-Tuning checkpoint"):
        load(base, "sdpa", base)


@torch.inference_mode()
def _greedy(module: Any, prompt: Sequence[int], count: int) -> list[int]:
    """By recomputing everything for each token, without a cache."""
    tokens = list(prompt)
    for _ in range(count):
        logits = module(input_ids=torch.tensor([tokens]), use_cache=False).logits
        tokens.append(int(logits[0, -1].argmax()))
    return tokens[len(prompt) :]


def _by_engine(folder: Path, prompts: Sequence[Sequence[int]], count: int) -> list[list[int]]:
    from glmbot.engine.scheduler import Scheduler
    from glmbot.engine.scheduler import Sequence as EngineSequence

    register_attention()
    runner = ModelRunner(
        load(folder, ATTENTION_NAME), placement=FLOAT32, precision=Precision.FP32, cache_tokens=400
    )
    scheduler = Scheduler(runner.allocator, max_batch=8, prefill_tokens=4)
    running = [
        EngineSequence(
            id=number, user=str(number), prompt_length=len(prompt), tokens=list(prompt),
            sampling=Sampling(max_tokens=count, temperature=0), arrival=number,
            whole_prefill=runner.model.positions.context_length(prompt) > 0, prefix=runner.prefix_length,
        )
        for number, prompt in enumerate(prompts)
    ]  # fmt: skip
    for sequence in running:
        scheduler.add(sequence)
    while chunks := scheduler.schedule():
        logits = runner.step(chunks)
        drawing = [chunk.sequence for chunk in chunks if chunk.draws]
        for chunk in chunks:
            chunk.sequence.computed += chunk.length
        for sequence, row in zip(drawing, logits, strict=True):
            sequence.tokens.append(int(row.argmax()))
            if sequence.drawn >= count:
                scheduler.remove(sequence)
    return [sequence.tokens[sequence.prompt_length :] for sequence in running]


# ---- damage ---------------------------------------------------------------------------------------------


def missing_shard(folder: Path) -> None:
    (folder / SHARDS[1]).unlink()


def truncated_shard(folder: Path) -> None:
    content = (folder / SHARDS[0]).read_bytes()
    (folder / SHARDS[0]).write_bytes(content[: len(content) // 2])


def empty_shard(folder: Path) -> None:
    (folder / SHARDS[0]).write_bytes(b"")


def code_in_shard(folder: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return print, ("code ran",)

    torch.save({"x": Evil()}, folder / SHARDS[0], pickle_module=pickle)


def not_tensors(folder: Path) -> None:
    torch.save([1, 2], folder / SHARDS[0])


def change(name: str, make: Callable[[torch.Tensor], torch.Tensor | None]) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        for shard in SHARDS:
            tensors = torch.load(folder / shard, weights_only=True)
            if name in tensors:
                made = make(tensors.pop(name))
                tensors |= {} if made is None else {name: made}
                torch.save(tensors, folder / shard)

    return damage


def unfinished_index(folder: Path) -> None:
    (folder / INDEX).write_text("{")


def index_pointing_outside(folder: Path) -> None:
    (folder / INDEX).write_text(json.dumps({"weight_map": {FIRST: "../secret.bin"}}))


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (missing_shard, f"{SHARDS[1]}: this shard is missing"),
        (truncated_shard, f"{SHARDS[0]}: not a whole weights file"),
        (empty_shard, f"{SHARDS[0]}: not a whole weights file"),
        (code_in_shard, f"{SHARDS[0]}: holds other things than tensors and is refused"),
        (not_tensors, f"{SHARDS[0]}: holds other things than tensors"),
        (change(FIRST, lambda weight: None), rf"bin: the tensor {FIRST} is missing from it"),
        (change(FIRST, lambda weight: weight[:5]), rf"bin: tensor {FIRST} has shape \[5, 64\], the model needs"),
        (change(FIRST, lambda weight: weight.to(torch.int8)), rf"bin: tensor {FIRST} is torch.int8 and has no"),
        (change(FIRST, lambda weight: weight * float("nan")), rf"bin: tensor {FIRST}: weights hold NaN"),
        (unfinished_index, f"{INDEX}: not readable as JSON"),
        (index_pointing_outside, "points outside the folder"),
    ],
)  # fmt: skip
async def test_damage_is_named_with_file_and_tensor(
    damage: Callable[[Path], None],
    words: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    sound: Path,
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(sound, folder)
    damage(folder)
    with pytest.raises(ModelFileError, match=words) as caught:
        await LocalEngine.start(LocalEngineSettings(folder, precision=Precision.INT8))
    assert str(folder) in str(caught.value)
    assert "code ran" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "make", "words"),
    [
        (f"{FIRST}_scale", lambda scale: scale[:3], rf"{FIRST}_scale has shape \[3\]"),
        (f"{FIRST}_scale", lambda scale: scale * float("inf"), "holds NaN or infinity"),
        (FIRST, lambda weight: weight[:, :7], rf"tensor {FIRST} has shape"),
        (FIRST, lambda weight: weight.float(), rf"tensor {FIRST} is torch.float32, torch.int8 is needed"),
    ],
)
async def test_damage_of_quantised_weights_is_named(
    name: str, make: Callable[[torch.Tensor], torch.Tensor], words: str, tmp_path: Path
) -> None:
    folder = write_chatglm_folder(tmp_path / "m", "chatglm-6b", bits=4)
    change(name, make)(folder)
    with pytest.raises(ModelFileError, match=words):
        await LocalEngine.start(LocalEngineSettings(folder))


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_chatglm_folder(tmp_path_factory.mktemp("sound") / "chatglm-6b", "chatglm-6b")


def test_the_layers_of_an_empty_module_are_found(sound: Path) -> None:
    register_chatglm()
    config = AutoConfig.from_pretrained(sound)
    assert len(empty_module(config, "sdpa", sound).transformer.layers) == 2  # pyright: ignore[reportAttributeAccessIssue, reportArgumentType]
