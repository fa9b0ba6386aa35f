"""What the documentation calls it; `glmbot init` has nothing to ask."""

from __future__ import annotations

from glmbot.introduction import Introduction

__all__ = ["INTRODUCTION"]

INTRODUCTION = Introduction(title={"en": "page", "zh": "网页"})
