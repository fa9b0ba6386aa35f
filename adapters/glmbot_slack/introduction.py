"""How Slack is set up by `glmbot init`."""

from __future__ import annotations

from glmbot.introduction import Introduction, Question

__all__ = ["INTRODUCTION"]

INTRODUCTION = Introduction(
    title={"en": "Slack", "zh": "Slack"},
    questions=(
        Question(
            "token",
            {
                "en": "The bot token of the app from https://api.slack.com/apps, xoxb-… (nothing is shown"
                " while you paste it; empty: later)",
                "zh": "https://api.slack.com/apps 上应用的机器人令牌，以 xoxb- 开头（粘贴时不显示；"
                "留空则以后再填）",
            },
            form=r"xoxb-[A-Za-z0-9-]{10,200}",
            secret=True,
        ),
        Question(
            "app_token",
            {
                "en": "The app-level token with the scope connections:write, xapp-… (under Basic Information)",
                "zh": "带 connections:write 权限的应用级令牌，以 xapp- 开头（在 Basic Information 里）",
            },
            form=r"xapp-[A-Za-z0-9-]{10,200}",
            secret=True,
        ),
    ),
    then={
        "en": "Write to your Slack app directly: it tells you a code for glmbot pair CODE --admin{option}",
        "zh": "在 Slack 里私信你的应用，它会给出配对码；运行 glmbot pair 配对码 --admin{option}。",
    },
    id_form=r"[UW][A-Z0-9]{2,63}",
    token_shapes=(r"\bx(?:ox[a-z]|app)-[A-Za-z0-9-]{10,}",),
)
