"""What an answer has to look like, whatever the model would say: values."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

__all__ = ["LONGEST_FORM", "Form", "FormKind"]

LONGEST_FORM = 262_144
"""Characters."""


class FormKind(StrEnum):
    JSON = "json"
    """Any JSON object; no source."""
    SCHEMA = "schema"
    """A JSON schema."""
    REGEX = "regex"
    GRAMMAR = "grammar"
    """llguidance's Lark: https://github.com/guidance-ai/llguidance/blob/main/docs/syntax.md. Control tokens stand
    in it by their name, <|tool_call|>, or by their id, <[123]>."""


@dataclass(frozen=True, slots=True)
class Form:
    """Raises ValueError.

    opening: where an answer is any text until this stands in it, or until a control token that `source` names, and
    held from there on. `source` says so too; told here, it costs nothing until then. None: held from the start.
    """

    kind: FormKind
    source: str = ""
    opening: str | None = None

    def __post_init__(self) -> None:
        if (self.kind is FormKind.JSON) != (not self.source):
            raise ValueError("a form has a source, and that of any JSON object has none")
        try:
            self.source.encode()
        except UnicodeEncodeError:
            raise ValueError("the form is no valid Unicode: it holds half a surrogate pair") from None
        if len(self.source) > LONGEST_FORM:
            raise ValueError(
                f"the form has {len(self.source):,} characters, and at most {LONGEST_FORM:,} are read"
            )
