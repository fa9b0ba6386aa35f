"""The vocabulary of glm-4-9b-chat as it was first published: tiktoken's file, and control tokens beside it.

Its own code, which is never run, hands the file to tiktoken; here the tokenizers library cuts words by the same
ranks.
https://huggingface.co/zai-org/glm-4-9b-chat/blob/main/tokenization_chatglm.py
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from glmbot.errors import ModelFileError
from glmbot.models.family import read_json

__all__ = ["is_tiktoken", "read_tiktoken"]

_LINE = re.compile(rb"([A-Za-z0-9+/]+={0,2}) (\d{1,8})\r?\n?")
# Published vocabularies have a fifth of that, and words of at most 128 bytes.
_MOST_WORDS, _LONGEST_WORD, _MOST_BYTES = 1 << 20, 256, 1 << 25
_MOST_CONTROL = 1024
# How the published code cuts a text before it looks at ranks.
_CUT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_AGAIN = "download it again"


def is_tiktoken(file: Path) -> bool:
    """By its first line: a word in base64, and its rank."""
    with file.open("rb") as opened:
        return _LINE.fullmatch(opened.readline(400)) is not None


def read_tiktoken(file: Path) -> PreTrainedTokenizerFast:
    """With the control tokens and the template of tokenizer_config.json beside it. Raises ModelFileError."""
    ranks = _ranks(file)
    spelled = _spelling()
    words = {"".join(spelled[byte] for byte in word): rank for word, rank in ranks.items()}
    backend = Tokenizer(models.BPE(vocab=words, merges=_merges(ranks, spelled), fuse_unk=False))
    cast(Any, backend).pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(_CUT), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ])  # fmt: skip
    cast(Any, backend).decoder = decoders.ByteLevel()
    settings = read_json(file.parent / "tokenizer_config.json")
    control = _control(file.parent / "tokenizer_config.json", settings, len(ranks))
    backend.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in control])
    template = settings.get("chat_template")
    made: Any = PreTrainedTokenizerFast(tokenizer_object=backend, name_or_path=str(file.parent))
    if isinstance(template, str) and template.strip():
        made.chat_template = template
    return made


def _ranks(file: Path) -> dict[bytes, int]:
    if file.stat().st_size > _MOST_BYTES:
        raise ModelFileError(f"{file}: has {file.stat().st_size:,} bytes, at most {_MOST_BYTES:,} are read")
    ranks: dict[bytes, int] = {}
    for number, line in enumerate(file.read_bytes().splitlines(), 1):
        found = _LINE.fullmatch(line)
        try:
            word = base64.b64decode(found[1], validate=True) if found is not None else b""
        except binascii.Error:
            word = b""
        if (
            found is None
            or not 0 < len(word) <= _LONGEST_WORD
            or int(found[2]) != len(ranks)
            or word in ranks
        ):
            raise ModelFileError(f"{file}, line {number}: is no word of its rank; {_AGAIN}")
        ranks[word] = len(ranks)
        if len(ranks) > _MOST_WORDS:
            raise ModelFileError(f"{file}: has more than {_MOST_WORDS:,} words")
    missing = [byte for byte in range(256) if bytes([byte]) not in ranks]
    if missing:
        raise ModelFileError(
            f"{file}: the byte {missing[0]} is no word, so that not every text could be read"
        )
    return ranks


def _merges(ranks: Mapping[bytes, int], spelled: Mapping[int, str]) -> list[tuple[str, str]]:
    """Which two words make each: tiktoken looks only for the rank of what they make, and whichever comes first is
    put together first."""
    merges: list[tuple[str, str]] = []
    for word in ranks:
        cuts = [
            (word[:at], word[at:]) for at in range(1, len(word)) if word[:at] in ranks and word[at:] in ranks
        ]
        cuts.sort(key=lambda pair: (ranks[pair[0]], ranks[pair[1]]))
        merges += [
            ("".join(spelled[byte] for byte in left), "".join(spelled[byte] for byte in right))
            for left, right in cuts
        ]
    return merges


def _spelling() -> dict[int, str]:
    """A letter for each byte, as GPT-2's vocabulary writes them."""
    seen = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in seen]
    return {byte: chr(byte) for byte in seen} | {byte: chr(256 + at) for at, byte in enumerate(others)}


def _control(where: Path, settings: Mapping[str, Any], first: int) -> list[str]:
    """In the order of their ids, which follow the words'."""
    listed: object = settings.get("added_tokens_decoder")
    if not isinstance(listed, dict) or len(cast(dict[str, Any], listed)) > _MOST_CONTROL:
        raise ModelFileError(f"{where}: added_tokens_decoder is missing; {_AGAIN}")
    found: dict[int, str] = {}
    for key, entry in cast(dict[str, Any], listed).items():
        content: object = cast(dict[str, Any], entry).get("content") if isinstance(entry, dict) else None
        if not key.isdecimal() or len(key) > 8 or not isinstance(content, str) or not 0 < len(content) <= 200:
            raise ModelFileError(
                f"{where}: added_tokens_decoder holds {key[:20]!r}, which is no token; {_AGAIN}"
            )
        found[int(key)] = content
    if sorted(found) != list(range(first, first + len(found))) or len(set(found.values())) < len(found):
        raise ModelFileError(
            f"{where}: the ids of added_tokens_decoder do not follow the {first} words; {_AGAIN}"
        )
    return [found[token] for token in sorted(found)]
