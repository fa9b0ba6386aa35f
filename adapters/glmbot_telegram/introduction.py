"""How Telegram is set up by `glmbot init`."""

from __future__ import annotations

from glmbot.introduction import Introduction, Question

__all__ = ["INTRODUCTION"]

INTRODUCTION = Introduction(
    title={"en": "Telegram", "zh": "Telegram"},
    questions=(
        Question(
            "token",
            {
                "en": "The token from @BotFather (nothing is shown while you paste it; empty: later)",
                "zh": "@BotFather 给的令牌（粘贴时不显示；留空则以后再填）",
            },
            form=r"\d{6,}:[A-Za-z0-9_-]{30,}",
            secret=True,
        ),
    ),
    then={
        "en": "Send your Telegram bot /start: it tells you a code. glmbot pair CODE --admin{option} makes you its"
        " administrator.",
        "zh": "给你的 Telegram 机器人发送 /start，它会给出配对码；运行 glmbot pair 配对码 --admin{option}"
        " 即可成为管理员。",
    },
    id_form=r"-?[0-9]{1,19}",
    rank=10,
    token_shapes=(r"(?<!\d)\d{6,}:[A-Za-z0-9_-]{30,}",),
    loggers=("telegram",),
)
