"""GLM-10B's kind of model: two position tables, blanks to fill, both tokenizers, in the shared engine."""

from __future__ import annotations

import asyncio
import json
import math
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
import torch
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor

from chatglm_folder import BILINGUAL, write_shards
from glmbot.engine.base import Precision, Sampling
from glmbot.engine.local import LocalEngine, LocalEngineSettings
from glmbot.errors import ModelFileError
from glmbot.models.base import ChatFormat, ChatTurn
from glmbot.models.glm.configuration import BlankInfillingConfig
from glmbot.models.glm.model import GLMForBlankInfilling
from glmbot.models.registry import load

ADDED = ["<|startofpiece|>", "<|endofpiece|>", "[CLS]", "[MASK]", "[SEP]", "[UNK]", "[sMASK]", "[gMASK]"]
HEADS, LAYERS, HIDDEN = 4, 3, 64


def write_glm10b_folder(folder: Path, *, chinese: bool = False, seed: int = 3) -> Path:
    """As published: config.json of model_type "glm", GPT-2 or SentencePiece files, added_tokens.json, shards."""
    folder.mkdir(parents=True)
    if chinese:
        made = BytesIO()
        sentencepiece.SentencePieceTrainer.Train(  # pyright: ignore[reportAttributeAccessIssue]
            sentence_iterator=iter(BILINGUAL * 4),
            model_writer=made,
            vocab_size=400,
            hard_vocab_limit=False,
            byte_fallback=True,
            minloglevel=2,
        )
        (folder / "cog-pretrain.model").write_bytes(made.getvalue())
        size = sentencepiece.SentencePieceProcessor(model_proto=made.getvalue()).vocab_size()  # pyright: ignore[reportCallIssue]
        added = ["<|endoftext|>", *ADDED]
    else:
        pairs: Any = Tokenizer(models.BPE())
        pairs.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        pairs.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(
            vocab_size=450, special_tokens=["<|endoftext|>"], initial_alphabet=alphabet
        )
        pairs.train_from_iterator(BILINGUAL, trainer)
        pairs.model.save(str(folder))
        size = pairs.get_vocab_size()
        added = ADDED
    tokens = {piece: size + place for place, piece in enumerate(added)}
    (folder / "added_tokens.json").write_text(json.dumps(tokens), "utf-8")
    fields = {
        "model_type": "glm",
        "architectures": ["GLMModel"],
        "auto_map": {"AutoConfig": "configuration_glm.GLMConfig"},
        "block_position_encoding": True,
        "relative_encoding": False,
        "spell_length": None,
        "attention_scale": 1.0,
        "output_predict": True,
        "hidden_size": HIDDEN,
        "num_layers": LAYERS,
        "num_attention_heads": HEADS,
        "max_sequence_length": 128,
        "vocab_size": -(-(size + len(added)) // 64) * 64,
        "torch_dtype": "float16",
    }
    (folder / "config.json").write_text(json.dumps(fields), "utf-8")
    torch.manual_seed(seed)
    model = GLMForBlankInfilling(BlankInfillingConfig.from_dict(fields))
    for name, parameter in model.named_parameters():
        if "embeddings" in name:
            torch.nn.init.normal_(parameter, std=0.3)
        elif parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=1.2 * parameter.shape[-1] ** -0.5)
    # Answers never end by themselves.
    model.word_embeddings.weight.data[tokens["<|endofpiece|>"]] = 0
    model.word_embeddings.weight.data[0] = 0
    write_shards(folder, {name: tensor.half() for name, tensor in model.state_dict().items()}, 2)
    return folder


def independent(weights: dict[str, Tensor], tokens: list[int], context: int, mask_at: int) -> Tensor:
    """Logits of the last token, computed from the paper's and the repository's words alone: no class of ours."""
    count = len(tokens)
    where = [place if place < context else mask_at for place in range(count)]
    block = [0 if place < context else place - context + 1 for place in range(count)]
    x = weights["word_embeddings.weight"][tokens]
    x = x + weights["transformer.position_embeddings.weight"][where]
    x = x + weights["transformer.block_position_embeddings.weight"][block]
    seen = torch.tensor([[key < context or key <= row for key in range(count)] for row in range(count)])

    def norm(values: Tensor, name: str) -> Tensor:
        mean = values.mean(-1, keepdim=True)
        spread = ((values - mean) ** 2).mean(-1, keepdim=True)
        return (values - mean) / torch.sqrt(spread + 1e-5) * weights[f"{name}.weight"] + weights[
            f"{name}.bias"
        ]

    def linear(values: Tensor, name: str) -> Tensor:
        return values @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    for number in range(LAYERS):
        layer = f"transformer.layers.{number}"
        query, key, value = linear(
            norm(x, f"{layer}.input_layernorm"), f"{layer}.attention.query_key_value"
        ).chunk(3, dim=-1)
        width = HIDDEN // HEADS
        mixed: list[Tensor] = []
        for head in range(HEADS):
            part = slice(head * width, (head + 1) * width)
            scores = query[:, part] @ key[:, part].T / math.sqrt(width)
            mixed.append(torch.softmax(scores.masked_fill(~seen, -65504.0), -1) @ value[:, part])
        x = x + linear(torch.cat(mixed, -1), f"{layer}.attention.dense")
        inner = linear(norm(x, f"{layer}.post_attention_layernorm"), f"{layer}.mlp.dense_h_to_4h")
        inner = 0.5 * inner * (1 + torch.tanh(0.7978845608028654 * inner * (1 + 0.044715 * inner * inner)))
        x = x + linear(inner, f"{layer}.mlp.dense_4h_to_h")
    return norm(x, "transformer.final_layernorm")[-1] @ weights["word_embeddings.weight"].T


@pytest.fixture(scope="module", params=[False, True], ids=["english", "chinese"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_glm10b_folder(tmp_path_factory.mktemp("glm") / "glm-10b", chinese=request.param)


async def test_answers_of_a_full_batch_equal_an_independent_computation(folder: Path) -> None:
    opened = load(folder, "sdpa")
    weights = {name: opened.checkpoint.read(name).float() for name in opened.checkpoint.names()}
    questions = [
        "Who are you?",
        "北京是中国的____，有很多名胜古迹。",
        "今天天气",
        "The ___ jumps over the dog.",
    ]
    prompts = [opened.chat_format.encode_chat("", (), question) for question in questions]
    prompts.append(opened.chat_format.encode_chat("", [ChatTurn("你好", "你好！")], "北京？"))
    engine = await LocalEngine.start(
        LocalEngineSettings(folder, precision=Precision.FP32, cache_tokens=1024, context_length=128)
    )

    async def answer(prompt: list[int]) -> str:
        text = ""
        async for progress in engine.generate(prompt, Sampling(max_tokens=8, temperature=0), user="a"):
            text = progress.text
        return text

    texts = await asyncio.gather(*map(answer, prompts))
    await engine.close()
    control = json.loads((folder / "added_tokens.json").read_text("utf-8"))
    for prompt, text in zip(prompts, texts, strict=True):
        tokens = list(prompt)
        context = len(prompt) - 1
        masks = {control["[MASK]"], control["[gMASK]"]}
        mask_at = next(place for place, token in enumerate(prompt) if token in masks)
        for _ in range(8):
            tokens.append(int(independent(weights, tokens, context, mask_at).argmax()))
        assert text == opened.chat_format.decode(tokens[len(prompt) :]).strip()


def test_a_prompt_is_as_published(folder: Path) -> None:
    opened = load(folder, "sdpa")
    control = json.loads((folder / "added_tokens.json").read_text("utf-8"))
    chat = opened.chat_format
    prompt = chat.encode_chat("", [ChatTurn("a", "b")], "[MASK] <|endofpiece|>")
    ends = [control["[gMASK]"], prompt[-2], control["<|startofpiece|>"]]
    assert prompt[0] == control["[CLS]"]
    assert prompt[-3:] == ends
    assert not set(prompt[1:-3]) & set(control.values()), "what people write is never a control token"
    filling = chat.encode_chat("ignored", [ChatTurn("ignored", "too")], "one ____ three _____")
    assert filling.count(control["[MASK]"]) == 1
    assert control["[gMASK]"] not in filling
    assert "ignored" not in chat.decode(filling)
    assert opened.shape.positions == 128


@pytest.fixture(scope="module")
def english(tmp_path_factory: pytest.TempPathFactory) -> ChatFormat:
    return load(write_glm10b_folder(tmp_path_factory.mktemp("glm") / "english"), "sdpa").chat_format


@given(text=st.text())
def test_any_text_is_plain_text_again(english: ChatFormat, text: str) -> None:
    """GPT-2's byte pairs lose nothing."""
    assert english.decode(english.encode_text(text)) == text


def test_a_folder_without_its_control_tokens_is_refused(tmp_path: Path) -> None:
    folder = write_glm10b_folder(tmp_path / "m")
    (folder / "added_tokens.json").unlink()
    with pytest.raises(ModelFileError, match=r"added_tokens\.json: lacks \[CLS\]"):
        load(folder, "sdpa")


def test_a_folder_without_a_vocabulary_is_refused(tmp_path: Path) -> None:
    folder = write_glm10b_folder(tmp_path / "m")
    (folder / "vocab.json").unlink()
    with pytest.raises(ModelFileError, match=r"neither cog-pretrain\.model nor readable vocab\.json"):
        load(folder, "sdpa")


def test_the_papers_ablations_are_refused(tmp_path: Path) -> None:
    folder = write_glm10b_folder(tmp_path / "m")
    fields = json.loads((folder / "config.json").read_text("utf-8")) | {"block_position_encoding": False}
    (folder / "config.json").write_text(json.dumps(fields), "utf-8")
    with pytest.raises(ModelFileError, match=r"config\.json: only GLM with block_position_encoding"):
        load(folder, "sdpa")
