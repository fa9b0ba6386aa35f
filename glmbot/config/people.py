"""The sections of whom the bot serves: what a conversation is like, who may talk, how much, and what not."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from glmbot.config.section import Section
from glmbot.keys import UserKey

__all__ = ["LISTS_OF_IDS", "AccessSection", "DialogueSection", "LimitsSection", "ModerationSection"]

_MOST_QUESTIONS = 10_000_000
LISTS_OF_IDS = ("admins", "users", "chats")


class DialogueSection(Section):
    """What a conversation is like."""

    system_prompt: str = Field(default="", description="Told to the model before every conversation.")
    turn_limit: int = Field(
        default=20, ge=0, le=10_000, description="Past turns that the model is shown, at most."
    )
    language: Literal["auto", "en", "zh"] = Field(
        default="auto", description="Language of the bot's own words; auto follows each user's app."
    )
    pending_per_user: int = Field(
        default=5, ge=1, le=1000, description="Questions one person may have in progress."
    )
    pending_per_source: int = Field(
        default=16,
        ge=1,
        le=1000,
        description="Questions that one network address or token may have in progress, of programs and of visitors"
        " of the page; at most half of [model] queue_limit.",
    )
    deadline_s: float = Field(
        default=300.0, gt=0, le=86400, description="Seconds after which an answer is ended."
    )
    tries: int = Field(
        default=5,
        ge=1,
        le=100,
        description="Attempts at a message that fails, before it is set aside (see /dead).",
    )


def _check_user(value: str) -> str:
    UserKey.by_hand(value)
    return value


_UserId = Annotated[str, AfterValidator(_check_user)]


class AccessSection(Section):
    """Who may talk to the bot. On chat platforms nobody may, until somebody is named here or paired."""

    admins: list[_UserId] = Field(default=[], description='Like ["telegram:123456789", "discord:987654321"].')
    users: list[_UserId] = Field(default=[], description="People who may talk to the bot.")
    chats: list[_UserId] = Field(
        default=[],
        description='Groups or channels whose members may all talk to the bot: ["telegram:-1001234567890"].',
    )
    open_platforms: list[str] = Field(
        default=[], description='Platforms that are open to everybody: ["discord"].'
    )


class LimitsSection(Section):
    """How much may be asked. Administrators have no limit, and set others with /limit."""

    user_per_hour: int = Field(
        default=0,
        ge=0,
        le=_MOST_QUESTIONS,
        description="Questions of one person or program in an hour; 0: no limit.",
    )
    chat_per_hour: int = Field(
        default=0, ge=0, le=_MOST_QUESTIONS, description="Questions in one group in an hour; 0: no limit."
    )
    total_per_hour: int = Field(
        default=0,
        ge=0,
        le=_MOST_QUESTIONS,
        description="Questions of all together in an hour, programs included; 0: no limit. Administrators may"
        " always ask.",
    )
    source_per_hour: int = Field(
        default=0,
        ge=0,
        le=_MOST_QUESTIONS,
        description="Questions from one network address or token in an hour, of programs and of visitors of the"
        " page; 0: half of total_per_hour.",
    )
    strangers_per_hour: int = Field(
        default=60,
        ge=0,
        le=_MOST_QUESTIONS,
        description="New visitors of the page from one network address in an hour; 0: no limit.",
    )


class ModerationSection(Section):
    """What may not be asked or said. Local models can say harmful things."""

    words_file: Path | None = Field(
        default=None,
        description="A text file with a word or phrase on each line; they are refused in questions and answers.",
    )
    command: list[str] = Field(
        default=[],
        description='A program and its arguments, such as ["/usr/local/bin/check"]. It gets JSON on its input and'
        " allows a text by ending with status 0. Answers are then shown when complete.",
    )
    timeout_s: float = Field(default=5.0, gt=0, le=3600, description="Seconds that the program may take.")
    refuse_on_failure: bool = Field(
        default=True, description="Whether a text is refused when the program fails."
    )
