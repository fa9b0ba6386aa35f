"""Chat templates of the kinds that published models have, and small tokenizers of the kinds that they come with."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import sentencepiece
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import AddedToken, AutoTokenizer, PreTrainedTokenizerFast

from tiny_model import TEXT

__all__ = ["TEMPLATES", "TOKENIZERS"]

# Each says what its name's authors' template says in a chat without tools, in words of ours.
TEMPLATES = {
    "llama-2": (
        "{% if messages[0]['role'] == 'system' %}{% set rest = messages[1:] %}{% set told = messages[0]['content'] %}"
        "{% else %}{% set rest = messages %}{% set told = false %}{% endif %}{% for m in rest %}"
        "{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles must alternate') }}{% endif %}"
        "{% if loop.first and told != false %}{% set said = '<<SYS>>\\n' + told + '\\n<</SYS>>\\n\\n' + m['content'] %}"
        "{% else %}{% set said = m['content'] %}{% endif %}{% if m['role'] == 'user' %}"
        "{{ bos_token + '[INST] ' + said.strip() + ' [/INST]' }}{% else %}{{ ' ' + said.strip() + ' ' + eos_token }}"
        "{% endif %}{% endfor %}"
    ),
    "mistral": (
        "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}{{ '[INST] ' + m['content'] + ' [/INST]' }}"
        "{% elif m['role'] == 'assistant' %}{{ m['content'] + eos_token }}{% else %}"
        "{{ raise_exception('no system role') }}{% endif %}{% endfor %}"
    ),
    "zephyr": (
        "{% for m in messages %}{{ '<|' + m['role'] + '|>\\n' + m['content'] + eos_token + '\\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}"
    ),
    "vicuna": (
        "{% for m in messages %}{% if m['role'] == 'system' %}{{ m['content'] + ' ' }}{% elif m['role'] == 'user' %}"
        "{{ 'USER: ' + m['content'] + ' ' }}{% else %}{{ 'ASSISTANT: ' + m['content'] + eos_token }}{% endif %}"
        "{% endfor %}{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
    ),
    "deepseek": (
        "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}{{ 'User: ' + m['content'] + '\\n\\n' }}"
        "{% elif m['role'] == 'assistant' %}{{ 'Assistant: ' + m['content'] + eos_token }}{% else %}"
        "{{ m['content'] + '\\n\\n' }}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"
    ),
    "phi-3": (
        "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}"
        "{{ '<|user|>\\n' + m['content'] + '<|end|>\\n<|assistant|>\\n' }}{% elif m['role'] == 'assistant' %}"
        "{{ m['content'] + '<|end|>\\n' }}{% endif %}{% endfor %}"
    ),
    "gemma": (
        "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
        "{% for m in messages %}{% set role = 'model' if m['role'] == 'assistant' else m['role'] %}"
        "{{ '<start_of_turn>' + role + '\\n' + m['content'] | trim + '<end_of_turn>\\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}"
    ),
    "qwen2": (
        "{% for m in messages %}{% if loop.first and m['role'] != 'system' %}"
        "{{ '<|im_start|>system\\nYou are a helpful assistant<|im_end|>\\n' }}{% endif %}"
        "{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>\\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
    ),
    "qwen3": (
        "{%- for m in messages %}{%- set said = m.content %}{%- if m.role == 'assistant' and '</think>' in said %}"
        "{%- set said = said.split('</think>')[-1].lstrip('\\n') %}{%- endif %}"
        "{{- '<|im_start|>' + m.role + '\\n' + said + '<|im_end|>\\n' }}{%- endfor %}"
        "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"
    ),
    "chatml": (
        "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    ),
    "llama-3": (
        "{% for m in messages %}{% set said = '<|start_header_id|>' + m['role'] + '<|end_header_id|>\\n\\n'"
        " + m['content'] | trim + '<|eot_id|>' %}{% if loop.first %}{% set said = bos_token + said %}{% endif %}"
        "{{ said }}{% endfor %}{% if add_generation_prompt %}"
        "{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}"
    ),
    "glm-4": (
        "[gMASK]<sop>{% for m in messages %}<|{{ m['role'] }}|>\n{{ m['content'] }}{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>{% endif %}"
    ),
    "parts": (
        "{{ bos_token }}{% for m in messages %}<|im_start|>{{ m.role }}\n{% for part in m.content %}"
        "{% if part.type == 'text' %}{{ part.text | trim }}{% endif %}{% endfor %}<|im_end|>\n{% endfor %}"
        "<|im_start|>assistant\n"
    ),
    "no control tokens": "{% for m in messages %}{{ m.role }}> {{ m.content }}\n\n{% endfor %}assistant>",
    "looks at texts": (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.content %}{{ m.content | replace('\\t', '    ') }}"
        "{% else %}(nothing){% endif %}<|im_end|>\n{% endfor %}<|im_start|>assistant\n"
    ),
    "quotes": (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content | tojson }}<|im_end|>{% endfor %}"
        "<|im_start|>assistant\n"
    ),
}  # fmt: skip

_CONTROL = [
    "<|im_start|>", "<|im_end|>", "<start_of_turn>", "<end_of_turn>", "<|start_header_id|>", "<|end_header_id|>",
    "<|eot_id|>", "[gMASK]", "<sop>", "<|user|>", "<|assistant|>", "<|system|>", "<|end|>",
]  # fmt: skip
_WORDS = (
    "You are a helpful assistant. Hello! How are you today? User: Assistant: USER: ASSISTANT: [INST] [/INST] hi there"
    " system user assistant model <|user|> <|assistant|> <|system|> <<SYS>> <</SYS>> It's 5 o'clock.\t\t    \n\n\n"
)
_TEXT = [*TEXT, _WORDS]


def _sentencepiece(folder: Path, kind: str, tokenizer_class: str, **more: Any) -> Any:
    made = io.BytesIO()
    sentencepiece.SentencePieceTrainer.Train(
        sentence_iterator=iter(_TEXT * 8),
        model_writer=made,
        model_type=kind,
        vocab_size=620,
        byte_fallback=True,
        character_coverage=1.0,
        hard_vocab_limit=False,
        minloglevel=2,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        **more,
    )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer.model").write_bytes(made.getvalue())
    described = {
        "tokenizer_class": tokenizer_class,
        "bos_token": "<s>",
        "eos_token": "</s>",
        "unk_token": "<unk>",
        "add_bos_token": True,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(described), "utf-8")
    return AutoTokenizer.from_pretrained(folder)


def _llama(folder: Path) -> Any:
    return _sentencepiece(folder, "bpe", "LlamaTokenizer")


def _llama_with_control(folder: Path) -> Any:
    """Whose tokens eat the white space behind them, as those of Phi-3 do."""
    tokenizer = _sentencepiece(folder, "bpe", "LlamaTokenizer")
    tokenizer.add_tokens(
        [AddedToken(each, rstrip=True, normalized=False) for each in _CONTROL], special_tokens=True
    )
    return tokenizer


def _llama_of_before(folder: Path) -> Any:
    """With the space before a sentence put there by a normalizer, before each stretch between two control tokens."""
    tokenizer = _llama_with_control(folder)
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    state["normalizer"] = {
        "type": "Sequence",
        "normalizers": [
            {"type": "Prepend", "prepend": "▁"},
            {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
        ],
    }
    state["pre_tokenizer"] = None
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(state)),
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
    )


def _gemma(folder: Path) -> Any:
    """With runs of white space as words of the vocabulary."""
    words = ["▁" * count for count in range(2, 6)] + ["\n" * count for count in range(1, 4)]
    tokenizer = _llama(folder)
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    state["normalizer"] = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
    state["pre_tokenizer"] = None
    fast: Any = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(state)),
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
    )
    fast.add_tokens([AddedToken(each, normalized=False) for each in [*words, "<table>"]])
    fast.add_tokens([AddedToken(each, normalized=False) for each in _CONTROL], special_tokens=True)
    return fast


def _bytes(folder: Path) -> Any:
    """Some of its control tokens are not called special; others eat white space, or are normalised."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=560, special_tokens=["<s>", "</s>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    made.train_from_iterator(_TEXT, trainer)
    made.normalizer = normalizers.NFKC()
    fast: Any = PreTrainedTokenizerFast(tokenizer_object=made, bos_token="<s>", eos_token="</s>")
    fast.add_tokens([AddedToken(each, normalized=False) for each in _CONTROL[:-3]], special_tokens=False)
    fast.add_tokens([AddedToken(_CONTROL[-3], normalized=True)], special_tokens=True)
    fast.add_tokens(
        [AddedToken(each, lstrip=True, normalized=False) for each in _CONTROL[-2:]], special_tokens=True
    )
    return fast


def _unigram(folder: Path) -> Any:
    """That reads its control tokens in a text as pieces, too, and takes a space away before one."""
    made = Tokenizer(models.Unigram())
    made.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    made.decoder = decoders.Metaspace(prepend_scheme="first")
    made.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Strip()])
    trainer = trainers.UnigramTrainer(
        vocab_size=400, special_tokens=["<unk>", "<s>", "</s>"], unk_token="<unk>"
    )
    made.train_from_iterator(_TEXT, trainer)
    fast: Any = PreTrainedTokenizerFast(
        tokenizer_object=made, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )
    fast.add_tokens([AddedToken(each, normalized=False) for each in _CONTROL], special_tokens=True)
    return fast


def _words(_: Path) -> Any:
    """That lowers what it reads, and knows few words."""
    made = Tokenizer(models.WordPiece(unk_token="<unk>"))
    made.normalizer = normalizers.BertNormalizer()
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.decoder = decoders.WordPiece()
    made.train_from_iterator(
        _TEXT, trainers.WordPieceTrainer(vocab_size=300, special_tokens=["<unk>", "<s>", "</s>"])
    )
    fast: Any = PreTrainedTokenizerFast(
        tokenizer_object=made, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )
    fast.add_tokens([AddedToken(each, normalized=True) for each in _CONTROL], special_tokens=True)
    return fast


TOKENIZERS: dict[str, Callable[[Path], Any]] = {
    "llama": _llama,
    "llama with control tokens": _llama_with_control,
    "llama of before": _llama_of_before,
    "gemma": _gemma,
    "bytes": _bytes,
    "unigram": _unigram,
    "words": _words,
}
