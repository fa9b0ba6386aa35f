"""The settings that adapters of platforms that can't edit have in common."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field

__all__ = ["OnceSettings"]


class OnceSettings(BaseModel):
    """See `glmbot.delivery.once`; `whole` is for `Deliveries.begin`."""

    answers: Literal["paragraphs", "whole"] = Field(
        default="paragraphs",
        description="paragraphs sends an answer in whole paragraphs as they end; whole sends it at its end.",
    )

    @property
    def whole(self) -> bool:
        return self.answers == "whole"
