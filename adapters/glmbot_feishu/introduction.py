"""How Feishu is set up by `glmbot init`."""

from __future__ import annotations

from glmbot.introduction import Introduction, Question

__all__ = ["INTRODUCTION"]

INTRODUCTION = Introduction(
    title={"en": "Feishu", "zh": "飞书"},
    questions=(
        Question(
            "app_id",
            {
                "en": "The App ID from https://open.feishu.cn/app (Lark: https://open.larksuite.com/app), cli_…",
                "zh": "https://open.feishu.cn/app 上的 App ID，以 cli_ 开头（Lark：https://open.larksuite.com/app）",
            },
            form=r"cli_[A-Za-z0-9]{8,64}",
            wrong={"en": "An App ID begins with cli_.", "zh": "App ID 以 cli_ 开头。"},
        ),
        Question(
            "token",
            {
                "en": "The App Secret (nothing is shown while you paste it; empty: later)",
                "zh": "App Secret（粘贴时不显示；留空则以后再填）",
            },
            form=r"[A-Za-z0-9]{16,128}",
            secret=True,
        ),
    ),
    then={
        "en": "Write to your Feishu bot directly: it tells you a code for glmbot pair CODE --admin{option}",
        "zh": "在飞书里私信你的机器人，它会给出配对码；运行 glmbot pair 配对码 --admin{option}。",
    },
    id_form=r"ou_[A-Za-z0-9]{8,64}",
)
