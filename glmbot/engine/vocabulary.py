"""The model's vocabulary as llguidance has to know it, read once when the model is loaded."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Sequence
from typing import Any

from llguidance import LLTokenizer, TokenizerWrapper

from glmbot.engine.base import ChatFormat
from glmbot.models.base import Spells, Vocabulary

__all__ = ["read_vocabulary"]

_log = logging.getLogger(__name__)


def read_vocabulary(chat_format: ChatFormat, size: int, stop_tokens: Collection[int]) -> LLTokenizer | None:
    """size: of the model's own vocabulary, which may be larger than its tokenizer's. None, and the log says why,
    where answers can't be held to a form: a tokenizer of a kind that nobody knows, a model that ends no answer."""
    ends = sorted(token for token in stop_tokens if 0 <= token < size)
    known = chat_format.vocabulary() if isinstance(chat_format, Spells) else None
    if known is None or not ends:
        _log.info("answers can't be held to a form: %s", "the tokenizer is unknown" if ends else "none ends")
        return None
    try:
        if isinstance(known, str):
            return LLTokenizer(known, n_vocab=size, eos_token=ends)
        table = TokenizerWrapper(_Table(known, size, ends, chat_format.encode_text))
        return LLTokenizer(table, n_vocab=size, eos_token=ends)
    except Exception as error:
        # Whatever a tokenizer of another kind trips over, its model still answers.
        _log.warning("answers can't be held to a form: %s", (str(error).splitlines() or [""])[0][:300])
        return None


class _Table:
    """What llguidance's wrapper asks of a tokenizer."""

    def __init__(
        self, known: Vocabulary, size: int, ends: Sequence[int], encode: Callable[[str], list[int]]
    ) -> None:
        # One without a text has a name as Lark spells it, so that no text is taken for it.
        self.tokens = [known.texts.get(token) or _name(token, known) for token in range(size)]
        self.special_token_ids = [token for token in range(size) if not known.texts.get(token)]
        self.eos_token_id = ends[0]
        self.bos_token_id = None
        self._encode = encode

    def __call__(self, text: Any) -> list[int]:
        # The wrapper tries bytes first.
        if not isinstance(text, str):
            raise TypeError("text, not bytes")
        return self._encode(text)


def _name(token: int, known: Vocabulary) -> bytes:
    name = known.control.get(token, "")
    return (name if name.startswith("<") and name.endswith(">") else f"<[{token}]>").encode()
