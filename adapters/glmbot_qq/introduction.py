"""How an official QQ bot is set up by `glmbot init`."""

from __future__ import annotations

from glmbot.introduction import Introduction, Question

__all__ = ["INTRODUCTION"]

INTRODUCTION = Introduction(
    title={"en": "QQ (official bot)", "zh": "QQ（官方机器人）"},
    questions=(
        Question(
            "app_id",
            {
                "en": "The AppID of the bot from https://q.qq.com, under development settings",
                "zh": "https://q.qq.com 开发设置里机器人的 AppID",
            },
            form=r"[0-9]{5,20}",
            wrong={"en": "An AppID is a number.", "zh": "AppID 是一个数字。"},
        ),
        Question(
            "token",
            {
                "en": "Its AppSecret (nothing is shown while you paste it; empty: later)",
                "zh": "AppSecret（粘贴时不显示；留空则以后再填）",
            },
            form=r"[A-Za-z0-9]{8,128}",
            secret=True,
        ),
    ),
    then={
        "en": "Write to your QQ bot in private: it tells you a code for glmbot pair CODE --admin{option}",
        "zh": "用自己的 QQ 单聊机器人，它会给出配对码；运行 glmbot pair 配对码 --admin{option}。",
    },
    id_form=r"[A-Za-z0-9_-]{1,120}",
    rank=40,
)
