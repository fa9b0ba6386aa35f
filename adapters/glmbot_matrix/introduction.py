"""How Matrix is set up by `glmbot init`."""

from __future__ import annotations

from glmbot.introduction import Introduction, Question

__all__ = ["INTRODUCTION"]

INTRODUCTION = Introduction(
    title={"en": "Matrix", "zh": "Matrix"},
    questions=(
        Question(
            "homeserver",
            {
                "en": "The address of the homeserver, such as https://matrix.example.org",
                "zh": "服务器（homeserver）的地址，例如 https://matrix.example.org",
            },
            form=r"https?://[^\s/?#@]{1,253}(/[^\s?#]{0,200})?",
            wrong={
                "en": "That is no address of a homeserver: it begins with https://",
                "zh": "这不是服务器地址，应以 https:// 开头",
            },
        ),
        Question(
            "account",
            {
                "en": "The account of the bot, such as @bot:example.org",
                "zh": "机器人的账号，例如 @bot:example.org",
            },
            form=r"@[^\s:]{1,200}:[^\s]{1,253}",
            wrong={"en": "An account is written @name:example.org", "zh": "账号写作 @名字:example.org"},
        ),
        Question(
            "token",
            {
                "en": "An access token of that account, of a session of its own: docs/matrix.md says how"
                " to get one (nothing is shown while you paste it; empty: later)",
                "zh": "这个账号的访问令牌，要用单独的会话：怎样得到见"
                " docs/matrix.zh.md（粘贴时不显示；留空则以后再填）",
            },
            form=r"[!-~]{8,1000}",
            secret=True,
        ),
    ),
    then={
        "en": "Invite the bot to a chat and write to it: it tells you a code for glmbot pair CODE --admin{option}",
        "zh": "在 Matrix 里与机器人开始私聊，它会给出配对码；运行 glmbot pair 配对码 --admin{option}。",
    },
    id_form=r"@[^\s:]{0,126}:[^\s]{1,126}",
    # Of Synapse, and of its authentication service.
    token_shapes=(r"\b(?:syt|mat|mct)_[A-Za-z0-9_]{16,}",),
)
