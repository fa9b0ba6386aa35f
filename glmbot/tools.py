"""What a model is told of tools, and whether it is to call one: values, which engines, programs and the dialogue
share. What was called, and what came of it, are parts of an answer: see `glmbot.content`."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

__all__ = [
    "LONGEST_DESCRIPTION",
    "LONGEST_PARAMETERS",
    "MOST_TOOLS",
    "NO_TOOLS",
    "Choice",
    "Offer",
    "ToolDescription",
]

MOST_TOOLS = 128
"""Of one offer, as OpenAI's interface has it."""
LONGEST_DESCRIPTION = 16_384
LONGEST_PARAMETERS = 65_536
"""Characters of the schema as JSON."""

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


class Choice(StrEnum):
    """Whether an answer has to call. The names are those of OpenAI's `tool_choice`."""

    AUTO = "auto"
    NONE = "none"
    REQUIRED = "required"


@dataclass(frozen=True, slots=True)
class ToolDescription:
    """`parameters` is a JSON schema of type "object". `strict`: whoever has it called wants no call that does not
    hold to them. Raises ValueError that names what is wrong."""

    name: str
    description: str
    parameters: Mapping[str, Any]
    strict: bool = False

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ValueError("the name of a tool is 1 to 64 letters, digits, _ and -")
        if len(self.description) > LONGEST_DESCRIPTION:
            raise ValueError(
                f"{self.name}: the description has {len(self.description):,} characters, and at most"
                f" {LONGEST_DESCRIPTION:,} are read"
            )
        try:
            written = json.dumps(self.parameters, ensure_ascii=False, allow_nan=False)
        except (TypeError, ValueError, RecursionError) as error:
            raise ValueError(f"{self.name}: the parameters are no JSON schema") from error
        if len(written) > LONGEST_PARAMETERS:
            raise ValueError(
                f"{self.name}: the parameters have {len(written):,} characters, and at most"
                f" {LONGEST_PARAMETERS:,} are read"
            )
        if self.parameters.get("type", "object") != "object":
            raise ValueError(f'{self.name}: the parameters are a JSON schema of type "object"')


@dataclass(frozen=True, slots=True)
class Offer:
    """The tools that an answer may call. `name`: the one that it has to call; `choice` is REQUIRED then.

    `parallel`: it may call several at once.
    """

    tools: Sequence[ToolDescription] = ()
    choice: Choice = Choice.AUTO
    name: str = ""
    parallel: bool = True

    def __post_init__(self) -> None:
        if len(self.tools) > MOST_TOOLS:
            raise ValueError(f"there are {len(self.tools)} tools, and at most {MOST_TOOLS} are offered")
        names = [tool.name for tool in self.tools]
        if len(set(names)) < len(names):
            raise ValueError("two tools have the same name")
        if self.name and (self.name not in names or self.choice is not Choice.REQUIRED):
            raise ValueError(f"the tool {self.name!r} is to be called, and is none of those that are offered")
        if self.choice is Choice.REQUIRED and not self.tools:
            raise ValueError("a tool is to be called, and none is offered")

    @property
    def callable(self) -> Sequence[ToolDescription]:
        """Those that an answer may call now."""
        if self.choice is Choice.NONE:
            return ()
        return [tool for tool in self.tools if not self.name or tool.name == self.name]


NO_TOOLS = Offer()
