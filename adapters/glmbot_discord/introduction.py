"""How Discord is set up by `glmbot init`."""

from __future__ import annotations

from glmbot.introduction import Introduction, Question

__all__ = ["INTRODUCTION"]

INTRODUCTION = Introduction(
    title={"en": "Discord", "zh": "Discord"},
    questions=(
        Question(
            "token",
            {
                "en": "The token from https://discord.com/developers/applications (nothing is shown while you"
                " paste it; empty: later)",
                "zh": "https://discord.com/developers/applications 上的令牌（粘贴时不显示；留空则以后再填）",
            },
            form=r"[A-Za-z0-9_-]{20,}\.[A-Za-z0-9_-]{5,}\.[A-Za-z0-9_-]{20,}",
            secret=True,
        ),
    ),
    then={
        "en": "Write to your Discord bot directly: it tells you a code for glmbot pair CODE --admin{option}",
        "zh": "私信你的 Discord 机器人，它会给出配对码；运行 glmbot pair 配对码 --admin{option}。",
    },
    id_form=r"[0-9]{1,19}",
    rank=20,
    token_shapes=(r"(?<![A-Za-z0-9_-])[A-Za-z0-9_-]{23,28}\.[A-Za-z0-9_-]{6}\.[A-Za-z0-9_-]{27,}",),
    loggers=("discord",),
)
