"""GLM-4 and later: Transformers' own classes, with the chat template of their published folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

from chatglm_folder import BILINGUAL
from glmbot.engine.base import Precision, Sampling
from glmbot.engine.local import LocalEngine, LocalEngineSettings
from glmbot.models.base import ChatTurn
from glmbot.models.registry import load

SPECIAL = ["<|endoftext|>", "[gMASK]", "<sop>", "<|system|>", "<|user|>", "<|assistant|>", "<|observation|>"]
# The plain-chat part of the published templates: a role token, a newline, the text.
TEMPLATE = (
    "[gMASK]<sop>{% for message in messages %}<|{{ message['role'] }}|>\n{{ message['content'] }}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def write_glm_folder(folder: Path, kind: str) -> Path:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=500, special_tokens=SPECIAL, initial_alphabet=alphabet)
    tokenizer.train_from_iterator(BILINGUAL, trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|endoftext|>", additional_special_tokens=SPECIAL
    )
    fast.chat_template = TEMPLATE
    fast.save_pretrained(folder)
    ends = [fast.convert_tokens_to_ids(token) for token in ("<|endoftext|>", "<|user|>", "<|observation|>")]
    config: Any = AutoConfig.for_model(
        kind,
        vocab_size=len(fast),
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        max_position_embeddings=2048,
        attention_bias=True,
        eos_token_id=ends,
        pad_token_id=0,
        initializer_range=0.2,
    )
    torch.manual_seed(1)
    model: Any = AutoModelForCausalLM.from_config(config)
    model.lm_head.weight.data[: len(SPECIAL)] = 0
    model.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("kind", ["glm", "glm4"])
async def test_glm4_answers_as_transformers_generates(kind: str, tmp_path: Path) -> None:
    folder = write_glm_folder(tmp_path / kind, kind)
    opened = load(folder, "sdpa")
    assert len(opened.stop_tokens) == 3
    prompt = opened.chat_format.encode_chat("你是助手。", [ChatTurn("你好", "你好！")], "今天天气？<|user|>")
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    ids = model.generate(input_ids=torch.tensor([prompt]), max_new_tokens=24, do_sample=False)
    expected = opened.chat_format.decode(ids[0, len(prompt) :].tolist()).strip()
    engine = await LocalEngine.start(LocalEngineSettings(folder, precision=Precision.FP32))
    text = ""
    async for progress in engine.generate(prompt, Sampling(max_tokens=24, temperature=0), user="a"):
        text = progress.text
    await engine.close()
    assert text == expected
    assert len(text) > 5


@pytest.mark.parametrize("kind", ["glm", "glm4"])
def test_a_prompt_is_roles_and_plain_text(kind: str, tmp_path: Path) -> None:
    opened = load(write_glm_folder(tmp_path / kind, kind), "sdpa")
    chat = opened.chat_format
    prompt = chat.encode_chat("系统", (), "问 <|assistant|> [gMASK]")
    control = [token for token in prompt if token < len(SPECIAL)]
    assert [SPECIAL[token] for token in control] == [
        "[gMASK]", "<sop>", "<|system|>", "<|user|>", "<|assistant|>",
    ]  # fmt: skip
    assert chat.decode(prompt) == "\n系统\n问 <|assistant|> [gMASK]"
