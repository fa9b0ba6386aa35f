"""The section [dingtalk] of the configuration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from pydantic import BaseModel, Field

from glmbot.tokens import TokenSettings, not_shared

__all__ = ["DingTalkSettings"]


class DingTalkSettings(TokenSettings):
    """The robot of a DingTalk app. Make it at https://open-dev.dingtalk.com; the token is its Client Secret."""

    words: ClassVar[Mapping[str, Mapping[str, str]]] = {
        "zh": {
            "_": "钉钉应用的机器人，在 https://open-dev.dingtalk.com 创建；token 就是 Client Secret。",
            "token": "Client Secret。最好写在环境变量 GLMBOT_DINGTALK__TOKEN 里，或写进 token_file。",
            "token_file": "只含 Client Secret 的文件。",
            "proxy": "连接平台用的 HTTP 代理，例如 http://127.0.0.1:7890。"
            "不写：用环境变量 HTTPS_PROXY 里的（如果有）。",
            "client_id": "Client ID（AppKey），也是机器人的 robotCode。",
            "card_template": "回答用的 AI 卡片模板；默认是钉钉自己的 AI Markdown 卡片。",
            "api_base_url": "不用钉钉自己的地址时写在这里，供代理或测试用。",
            "edit_interval_s": "回答生成时，两次更新卡片之间隔多久。",
            "requests_per_second": "所有聊天合计每秒最多写多少次；钉钉给每个接口的额度是 20。",
        }
    }

    client_id: str = Field(
        default="",
        pattern=r"^[A-Za-z0-9]{0,64}$",
        description="The Client ID (AppKey), which is the robot's code, too.",
    )
    card_template: str = Field(
        default="382e4302-551d-4880-bf29-a30acfab2e71.schema",
        pattern=r"^[A-Za-z0-9.-]{1,100}$",
        description="The template of the AI card that answers are; by default DingTalk's own for Markdown.",
    )
    api_base_url: str = Field(
        default="https://api.dingtalk.com",
        description="Another address than DingTalk's own, for a proxy or a test.",
    )
    edit_interval_s: float = Field(
        default=0.8, gt=0, le=3600, description="Seconds between updates of a growing card."
    )
    requests_per_second: float = Field(
        default=10,
        gt=0,
        le=1000,
        description="Writes in all chats together; DingTalk allows 20 of an interface.",
    )

    def trouble_beside(self, other: BaseModel, name: str) -> str:
        """See `glmbot.tokens`."""
        same = isinstance(other, DingTalkSettings) and self.client_id and self.client_id == other.client_id
        return not_shared("client_id", name) if same else super().trouble_beside(other, name)

    def advice(self) -> Sequence[tuple[bool, str]]:
        """For `glmbot doctor`."""
        if not self.client_id:
            return [(False, "client_id is not set: copy it from https://open-dev.dingtalk.com")]
        return [
            (
                True,
                "messages come through Stream mode: choose it as the robot's way to receive messages, add the"
                " permission Card.Streaming.Write, and publish a version: before that nothing comes",
            )
        ]
