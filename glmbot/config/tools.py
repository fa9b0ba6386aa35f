"""The section of tools: which models are told of them, how much an answer may call, and who may."""

from __future__ import annotations

import re
from typing import Annotated, Literal
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, Field

from glmbot.config.section import Section

__all__ = ["ToolsSection"]

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}\*?|\*")


def _check_name(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise ValueError(f'{name[:80]!r} is no tool; write its name, or its beginning and a star ("files_*")')
    return name


def _check_timezone(name: str) -> str:
    try:
        ZoneInfo(name)
    # The library raises a KeyError for what is a name, and none of a zone.
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(f"{name[:80]!r} is no time zone; write one such as Asia/Shanghai") from error
    return name


_Rights = dict[Annotated[str, AfterValidator(_check_name)], Literal["never", "ask", "allow"]]


class ToolsSection(Section):
    """What models may have done for people: functions of plug-ins. Closed until opened, where they act."""

    told: Literal["taught", "all", "none"] = Field(
        default="taught",
        description="Which models are told of tools: those that were taught to call them, all, or none.",
    )
    rounds: int = Field(
        default=6, ge=1, le=25, description="How often one answer may call, and read what came of it."
    )
    calls: int = Field(default=16, ge=1, le=100, description="Calls of one answer in all.")
    seconds: float = Field(
        default=120.0, gt=0, le=3600, description="Seconds that the calls of one answer may take together."
    )
    share: float = Field(
        default=0.5,
        gt=0,
        le=0.9,
        description="Share of the room for a prompt that what comes of calls may take; the rest is cut.",
    )
    asks_s: float = Field(
        default=300.0, ge=10, le=86400, description="Seconds that somebody has to allow a call when asked."
    )
    timezone: Annotated[str, AfterValidator(_check_timezone)] = Field(
        default="UTC", description="Time zone of people who have chosen none, such as Asia/Shanghai."
    )
    rights: _Rights = Field(
        default={},
        description='Of everybody, by tool: {web_search = "allow", "files_*" = "never"}. What is "never" here,'
        " /tools does not open.",
    )
    admin_rights: _Rights = Field(default={}, description="Of administrators, where theirs are others.")
