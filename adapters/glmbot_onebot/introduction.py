"""How QQ is set up by `glmbot init`."""

from __future__ import annotations

from glmbot.introduction import Introduction, Question

__all__ = ["INTRODUCTION"]

INTRODUCTION = Introduction(
    title={"en": "QQ (OneBot)", "zh": "QQ（OneBot）"},
    questions=(
        Question(
            "url",
            {
                "en": "The address of NapCat's or Lagrange's WebSocket server, such as ws://127.0.0.1:3001 (empty:"
                " it connects to this bot, at ws://127.0.0.1:6199/onebot)",
                "zh": "NapCat 或 Lagrange 的 WebSocket 服务器地址，例如 ws://127.0.0.1:3001（留空：由它连到本程序的"
                " ws://127.0.0.1:6199/onebot）",
            },
            form=r"wss?://[^\s/@]+(/\S*)?",
            wrong={
                "en": "That is no address such as ws://127.0.0.1:3001.",
                "zh": "这不是 ws://127.0.0.1:3001 这样的地址。",
            },
        ),
        Question(
            "token",
            {
                "en": "The access token that you set there: think of one now (nothing is shown while you type;"
                " empty: later)",
                "zh": "在那边设置的访问令牌，可以现在想一个（输入时不显示；留空则以后再填）",
            },
            form=r"[!-~]{6,200}",
            wrong={
                "en": "A token has at least 6 letters, digits or signs, and no spaces.",
                "zh": "令牌至少 6 个字母、数字或符号，不含空格。",
            },
            secret=True,
        ),
    ),
    then={
        "en": "Write to the bot's QQ account: it tells you a code for glmbot pair CODE --admin{option}",
        "zh": "用自己的 QQ 私聊机器人，它会给出配对码；运行 glmbot pair 配对码 --admin{option}。",
    },
    id_form=r"[1-9][0-9]{4,11}",
    rank=30,
)
