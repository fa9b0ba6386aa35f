"""The tokenizer and the chat template in a GGUF file's metadata.

Transformers builds the vocabulary. How a text is cut before is llama.cpp's name for it, and a name that nobody
here knows is refused, since another cut gives other tokens without a word.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from tokenizers import Regex, Tokenizer, pre_tokenizers
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast
from transformers.integrations.gguf.gguf_tokenizer_mapping import (
    GGUF_PRE_TOKENIZER_SPLITS,
    convert_gguf_tokenizer,
)

from glmbot.errors import ModelFileError
from glmbot.models.gguf.header import GgufFile

__all__ = ["read_tokenizer", "stop_tokens"]

_PREFIX = "tokenizer.ggml."
_LONGEST_TEMPLATE = 1 << 20
_CONTROL = 3
_AGAIN = "download the file again"
_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)"
_LLAMA3 = GGUF_PRE_TOKENIZER_SPLITS["llama3"]
# Those that Transformers' table lacks, as llama.cpp cuts: one expression after the other.
_CUTS: Mapping[str, tuple[str, ...]] = {
    "default": (_GPT2,), "gpt-2": (_GPT2,), "phi-2": (_GPT2,), "olmo": (_GPT2,), "mpt": (_GPT2,),
    "smollm": (r"\p{N}", _GPT2), "starcoder": (r"\p{N}", _GPT2), "refact": (r"\p{N}", _GPT2),
    "command-r": (r"\p{N}", _GPT2), "codeshell": (r"\p{N}", _GPT2),
    "chatglm-bpe": (_LLAMA3,), "glm4": (_LLAMA3,),
} | {name: (split,) for name, split in GGUF_PRE_TOKENIZER_SPLITS.items()}  # fmt: skip
# Whose whole words need no merges.
_WHOLE_WORDS = ("llama3", "llama-v3", "llama-bpe", "falcon3", "pixtral", "tekken")
# Ends of a turn by the names that models give them, where the metadata name one end alone.
_ENDS = ("<|eot_id|>", "<|eom_id|>", "<|im_end|>", "<|end|>", "<end_of_turn>", "<|endoftext|>", "<|end_of_text|>",
         "<|user|>", "<|observation|>", "<EOT>", "<|eot|>")  # fmt: skip
_IDS = {"bos_token": "bos", "eos_token": "eos", "unk_token": "unknown", "pad_token": "padding"}


def read_tokenizer(file: GgufFile, vocabulary: int) -> PreTrainedTokenizerBase:
    """vocabulary: rows of the model's table of embeddings. Raises ModelFileError."""
    said = {
        key.removeprefix(_PREFIX): value for key, value in file.metadata.items() if key.startswith(_PREFIX)
    }
    tokens = _words(file, "tokens")
    if len(tokens) > vocabulary:
        raise ModelFileError(
            f"{file.path}: the tokenizer has {len(tokens)} tokens and the model {vocabulary}; they do not belong"
            " together"
        )
    if len(set(tokens)) < len(tokens):
        tokens = _distinct(tokens)
    kind, cut = said.get("model"), said.get("pre", "default")
    if kind not in ("gpt2", "llama"):
        raise ModelFileError(
            f"{file.path}: {_PREFIX}model is {str(kind)[:50]!r}, and gpt2 and llama are read; take the same"
            " model as a folder of safetensors files"
        )
    if kind == "gpt2" and cut not in _CUTS:
        raise ModelFileError(
            f"{file.path}: {_PREFIX}pre is {str(cut)[:50]!r}, a way to cut texts that is not known here; take"
            " the same model as a folder of safetensors files"
        )
    parts: dict[str, Any] = {
        "tokenizer_type": kind,
        "pre_tokenizer_type": cut,
        "tokens": tokens,
        "add_prefix_space": said.get("add_space_prefix", True),
    }
    if "merges" in said:
        parts["merges"] = [merge for merge in _words(file, "merges") if merge.count(" ") == 1]
    for name in ("scores", "token_type"):
        if name in said:
            parts[name] = _numbers(file, name, len(tokens))
    if kind == "llama" and "scores" not in parts:
        raise ModelFileError(f"{file.path}: {_PREFIX}scores is missing; the vocabulary can't be used without")
    try:
        backend, _ = convert_gguf_tokenizer(file.architecture, parts)
    except Exception as error:  # the tokenizers' library raises no other
        words = str(error)[:200]
        raise ModelFileError(
            f"{file.path}: no tokenizer can be made of the metadata ({words}); {_AGAIN}"
        ) from error
    if len(backend.get_vocab()) > vocabulary:
        raise ModelFileError(f"{file.path}: {_PREFIX}tokens holds words that are no tokens; {_AGAIN}")
    if kind == "gpt2":
        _cut_as_llama_cpp(backend, str(cut))
    return _wrapped(file, backend, tokens, said)


def _wrapped(
    file: GgufFile, backend: Tokenizer, tokens: list[str], said: Mapping[str, Any]
) -> PreTrainedTokenizerBase:
    special: dict[str, Any] = {}
    for name, key in _IDS.items():
        number = said.get(f"{key}_token_id")
        if isinstance(number, int) and not isinstance(number, bool):
            if not 0 <= number < len(tokens):
                raise ModelFileError(
                    f"{file.path}: {_PREFIX}{key}_token_id is {number}, and there are {len(tokens)} tokens"
                )
            special[name] = tokens[number]
    begins = said.get("add_bos_token", said.get("model") == "llama")
    made: Any = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        add_bos_token=bool(begins) and "bos_token" in special,
        add_eos_token=bool(said.get("add_eos_token", False)),
        name_or_path=str(file.path),
        **special,
    )
    template = file.metadata.get("tokenizer.chat_template")
    if isinstance(template, str) and template.strip():
        if len(template) > _LONGEST_TEMPLATE:
            raise ModelFileError(f"{file.path}: the chat template has {len(template)} characters")
        made.chat_template = template
    return cast(PreTrainedTokenizerBase, made)


def stop_tokens(file: GgufFile) -> frozenset[int]:
    """All tokens that end an answer: those that the metadata name, and control tokens known to end a turn."""
    tokens, kinds = file.metadata.get(f"{_PREFIX}tokens"), file.metadata.get(f"{_PREFIX}token_type")
    named = (file.metadata.get(f"{_PREFIX}{key}_token_id") for key in ("eos", "eot", "eom"))
    found = {number for number in named if isinstance(number, int)}
    if isinstance(tokens, list) and isinstance(kinds, list):
        found |= {
            number
            for number, (token, kind) in enumerate(zip(tokens, kinds, strict=False))
            if kind == _CONTROL and token in _ENDS
        }
    return frozenset(found)


def _cut_as_llama_cpp(backend: Tokenizer, cut: str) -> None:
    steps = [pre_tokenizers.Split(Regex(each), behavior="isolated") for each in _CUTS[cut]]
    last = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.pre_tokenizer = pre_tokenizers.Sequence([*steps, last])
    if cut in _WHOLE_WORDS:
        model: Any = backend.model
        model.ignore_merges = True


def _words(file: GgufFile, key: str) -> list[str]:
    found = file.metadata.get(f"{_PREFIX}{key}")
    if not isinstance(found, list) or not found or not all(isinstance(each, str) for each in found):
        raise ModelFileError(f"{file.path}: {_PREFIX}{key} is missing or no list of texts")
    return cast(list[str], found)


def _numbers(file: GgufFile, key: str, count: int) -> list[float]:
    found = file.metadata.get(f"{_PREFIX}{key}")
    if (
        not isinstance(found, list)
        or len(found) != count
        or not all(isinstance(each, int | float) for each in found)
    ):
        raise ModelFileError(f"{file.path}: {_PREFIX}{key} is no list of {count} numbers, one for each token")
    return cast(list[float], found)


def _distinct(tokens: list[str]) -> list[str]:
    """Bytes that are no characters all look alike; a vocabulary has each word once."""
    seen: set[str] = set()
    made: list[str] = []
    for number, token in enumerate(tokens):
        made.append(token if token not in seen else f"{token}\u0000{number}")
        seen.add(made[-1])
    return made
