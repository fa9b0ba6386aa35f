"""What came of reading the configuration again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from glmbot import i18n

__all__ = ["Reloaded"]


@dataclass(frozen=True, slots=True)
class Reloaded:
    """What came of reading the configuration again: sections in force now, sections that wait for a restart, or
    what is wrong with the file (then everything is as it was)."""

    applied: Sequence[str] = ()
    waiting: Sequence[str] = ()
    error: str = ""

    def describe(self, language: str) -> str:
        if self.error:
            return i18n.text(language, "reload.failed", error=self.error)
        parts = [
            i18n.text(language, key, sections=", ".join(sections))
            for key, sections in (("reload.applied", self.applied), ("reload.waiting", self.waiting))
            if sections
        ]
        return "\n".join(parts) or i18n.text(language, "reload.same")
