"""How Satori is set up by `glmbot init`."""

from __future__ import annotations

from glmbot.introduction import Introduction, Question

__all__ = ["INTRODUCTION"]

INTRODUCTION = Introduction(
    title={"en": "Satori", "zh": "Satori"},
    questions=(
        Question(
            "url",
            {
                "en": "The address of the Satori server (empty: http://127.0.0.1:5140/satori, koishi's)",
                "zh": "Satori 服务器的地址（留空：koishi 的 http://127.0.0.1:5140/satori）",
            },
            form=r"https?://[^\s/@]+(/\S*)?",
            wrong={
                "en": "That is no address such as http://127.0.0.1:5140/satori.",
                "zh": "这不是 http://127.0.0.1:5140/satori 这样的地址。",
            },
        ),
        Question(
            "token",
            {
                "en": "The token of its settings (nothing is shown while you type; empty: later)",
                "zh": "服务器设置里的令牌（输入时不显示；留空则以后再填）",
            },
            form=r"[!-~]{1,200}",
            secret=True,
        ),
    ),
    then={
        "en": "Write to the bot on one of its platforms: it tells you a code for glmbot pair CODE --admin{option}",
        "zh": "在任意一个平台上私信机器人，它会给出配对码；运行 glmbot pair 配对码 --admin{option}。",
    },
)
