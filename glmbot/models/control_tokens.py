"""Which tokens direct a model, where they stand in a text, and how a text is written so that it holds none."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any, cast

__all__ = ["ControlTokens"]

_SHORTEST = 2
_LIKE_CONTROL = re.compile(r"<[|｜].*[|｜]>|\[/?[a-z]?[A-Z_]+\]", re.DOTALL)


class ControlTokens:
    """Those of one tokenizer and chat template."""

    def __init__(self, tokenizer: Any, template: str) -> None:
        """tokenizer: of Transformers. template: its Jinja source."""
        added = cast(dict[str, int], tokenizer.get_added_vocab())
        described = cast(dict[int, Any], tokenizer.added_tokens_decoder)
        names = {token for token in added if _directs(token, described.get(added[token]), template)}
        names |= {
            token for token in map(str, tokenizer.all_special_tokens) if len(token.strip()) >= _SHORTEST
        }
        self._ids = {name: int(tokenizer.convert_tokens_to_ids(name)) for name in names}
        longest_first = sorted(names, key=lambda token: (-len(token), token))
        self._pattern = re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")
        self.cutting = frozenset(name for name in names if _stands_alone(described.get(self._ids[name])))
        """Those on whose two sides a tokenizer encodes as if the other side were not there."""
        self.ids = frozenset(self._ids.values()) - _unknown(tokenizer)
        """What no text may become. The token for characters that no other has directs nothing."""

    def id_of(self, token: str) -> int:
        return self._ids[token]

    def found(self, text: str) -> Iterator[re.Match[str]]:
        return self._pattern.finditer(text)

    def among(self, ids: Sequence[int]) -> list[int]:
        return [] if self.ids.isdisjoint(ids) else [token for token in ids if token in self.ids]

    def cut(self, text: str) -> list[str]:
        """`text` cut after the first character of each control token in it, so that no piece holds one."""
        pieces: list[str] = []
        start = place = 0
        while (match := self._pattern.search(text, place)) is not None:
            pieces.append(text[start : match.start() + 1])
            start = place = match.start() + 1
        pieces.append(text[start:])
        return [piece for piece in pieces if piece]


def _directs(token: str, described: Any, template: str) -> bool:
    """Words may be added to a vocabulary, too (runs of spaces, tags, names): those people may write. But not every
    token that directs a model is called special by its tokenizer."""
    if len(token.replace("▁", " ").strip()) < _SHORTEST:
        return False
    if described is None or described.special or _LIKE_CONTROL.fullmatch(token):
        return True
    return token in template and not token.isalnum()


def _stands_alone(described: Any) -> bool:
    return described is not None and not (described.lstrip or described.single_word or described.normalized)


def _unknown(tokenizer: Any) -> frozenset[int]:
    unknown = tokenizer.unk_token_id
    others = {tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id}
    return frozenset() if unknown is None or unknown in others else frozenset({int(unknown)})
