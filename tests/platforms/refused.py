"""What a platform for tests refuses, as its answer says it."""

from __future__ import annotations

from typing import Any

__all__ = ["Refused"]


class Refused(Exception):
    def __init__(self, code: Any, words: str = "refused", status: int = 400) -> None:
        super().__init__(words)
        self.code, self.words, self.status = code, words, status
