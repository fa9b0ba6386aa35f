"""The section [console] of the configuration."""

from __future__ import annotations

from typing import ClassVar

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["ConsoleSettings"]


class ConsoleSettings(BaseModel):
    """A chat in the terminal that glmbot was started in."""

    alone: ClassVar[bool] = True
    """There is one terminal."""
    model_config = ConfigDict(extra="forbid", frozen=True)

    once: str = Field(default="", description="Ask this one question, print the answer, end.")
    show_thoughts: bool = Field(
        default=False, description="Print what a model thinks before it answers, dimmed, above the answer."
    )
