"""The model's vocabulary as llguidance has to know it, read once when the model is loaded."""

from __future__ import annotations

import logging
from collections.abc import Collection

from llguidance import LLTokenizer, TokenizerWrapper

from glmbot.engine.base import ChatFormat
from glmbot.errors import first_words
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
        table = TokenizerWrapper(_Table(known, size, ends[0]))
        return LLTokenizer(table, n_vocab=size, eos_token=ends)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:
        # Whatever a tokenizer of another kind trips over, its model answers; a panic of Rust is no Exception.
        _log.warning("answers can't be held to a form: %s", first_words(error))
        return None


class _Table:
    """What llguidance's wrapper asks of a tokenizer."""

    def __init__(self, known: Vocabulary, size: int, end: int) -> None:
        # One without a text has a name as Lark spells it, so that no text is taken for it.
        self.tokens = [known.texts.get(token) or _name(token, known) for token in range(size)]
        self.special_token_ids = [token for token in range(size) if not known.texts.get(token)]
        self.eos_token_id = end
        self.bos_token_id = None
        self._ids = {text: token for token, text in known.texts.items() if text and token < size}
        self._longest = max(map(len, self._ids), default=1)

    def __call__(self, text: bytes) -> list[int]:
        """The longest token at each place. It is asked where a form leaves no choice, in the middle of a text,
        where a tokenizer would put a space before it."""
        ids: list[int] = []
        at = 0
        while at < len(text):
            lengths = range(min(self._longest, len(text) - at), 0, -1)
            length = next((each for each in lengths if text[at : at + each] in self._ids), 0)
            if not length:
                break
            ids.append(self._ids[text[at : at + length]])
            at += length
        return ids


def _name(token: int, known: Vocabulary) -> bytes:
    name = known.control.get(token, "")
    return (name if name.startswith("<") and name.endswith(">") else f"<[{token}]>").encode()
