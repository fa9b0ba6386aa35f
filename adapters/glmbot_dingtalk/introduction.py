"""How DingTalk is set up by `glmbot init`."""

from __future__ import annotations

from glmbot.introduction import Introduction, Question

__all__ = ["INTRODUCTION"]

INTRODUCTION = Introduction(
    title={"en": "DingTalk", "zh": "钉钉"},
    questions=(
        Question(
            "client_id",
            {
                "en": "The Client ID (AppKey) of the app from https://open-dev.dingtalk.com",
                "zh": "https://open-dev.dingtalk.com 上应用的 Client ID（AppKey）",
            },
            form=r"[A-Za-z0-9]{8,64}",
            wrong={"en": "A Client ID is made of letters and digits.", "zh": "Client ID 由字母和数字组成。"},
        ),
        Question(
            "token",
            {
                "en": "The Client Secret (nothing is shown while you paste it; empty: later)",
                "zh": "Client Secret（粘贴时不显示；留空则以后再填）",
            },
            form=r"[A-Za-z0-9_-]{16,128}",
            secret=True,
        ),
    ),
    then={
        "en": "Write to your DingTalk robot directly: it tells you a code for glmbot pair CODE --admin{option}",
        "zh": "在钉钉里私信你的机器人，它会给出配对码；运行 glmbot pair 配对码 --admin{option}。",
    },
)
