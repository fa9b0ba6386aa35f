"""How WeCom is set up by `glmbot init`."""

from __future__ import annotations

from glmbot.introduction import Introduction, Question

__all__ = ["INTRODUCTION"]

INTRODUCTION = Introduction(
    title={"en": "WeCom", "zh": "企业微信"},
    questions=(
        Question(
            "bot_id",
            {
                "en": "The Bot ID of a smart bot in API mode with the long connection (an application instead of a"
                " smart bot: leave it empty, and see docs/wecom.md)",
                "zh": "智能机器人的 Bot ID（API 模式，长连接；要用自建应用，请留空，并看 docs/wecom.zh.md）",
            },
            form=r"[A-Za-z0-9_-]{8,128}",
            wrong={
                "en": "A Bot ID is made of letters, digits, - and _.",
                "zh": "Bot ID 由字母、数字、- 和 _ 组成。",
            },
        ),
        Question(
            "token",
            {
                "en": "Its Secret (nothing is shown while you paste it; empty: later)",
                "zh": "它的 Secret（粘贴时不显示；留空则以后再填）",
            },
            form=r"[A-Za-z0-9_-]{16,128}",
            secret=True,
        ),
    ),
    then={
        "en": "Write to your WeCom bot directly: it tells you a code for glmbot pair CODE --admin{option}",
        "zh": "在企业微信里私信你的机器人，它会给出配对码；运行 glmbot pair 配对码 --admin{option}。",
    },
    id_form=r"[A-Za-z0-9][A-Za-z0-9_.@-]{0,63}",
)
