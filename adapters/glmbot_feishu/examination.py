"""What `glmbot doctor` says of a Feishu app: its secret, its permissions, its version, this machine's clock."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from glmbot.delivery.outlet import NotWritten
from glmbot.errors import AdapterError
from glmbot.http.fields import objects_in
from glmbot.http.replays import CLOCK_OFF_S, clock_ahead
from glmbot_feishu.client import Client
from glmbot_feishu.settings import FeishuSettings

__all__ = ["examine"]

# https://open.feishu.cn/document/server-docs/application-scope/scope-list: what each is needed for, and which of
# them do.
_SCOPES: Mapping[str, Sequence[str]] = {
    "to answer": ("im:message:send_as_bot", "im:message"),
    "to hear direct messages": ("im:message.p2p_msg:readonly", "im:message.p2p_msg", "im:message"),
    "to hear mentions in groups": (
        "im:message.group_at_msg:readonly", "im:message.group_at_msg", "im:message.group_msg", "im:message",
    ),
    "for answers that grow": ("cardkit:card:write",),
    "to send files (/export, long code)": ("im:resource", "im:resource:upload"),
}  # fmt: skip
_GRANTED, _ENABLED = 1, 2


async def examine(settings: FeishuSettings) -> Sequence[tuple[bool, str]]:
    """Raises AdapterError."""
    client = Client(settings)
    try:
        bot = await client.log_in()
        found = [(True, f"App ID and App Secret are those of {bot.get('app_name') or settings.app_id}")]
        # https://open.feishu.cn/document/server-docs/bot-v3/bot-info
        if bot.get("activate_status") not in (None, _ENABLED):
            words = "the app is not enabled in this tenant: publish a version, and let it be approved"
            found.append((False, words))
        found += _missing(await _granted(client))
        if settings.posted and (off := abs(clock_ahead(client.api.date, time.time()))) > CLOCK_OFF_S:
            found.append(
                (False, f"this machine's clock is {off:.0f} s off: Feishu's signatures would be refused")
            )
        if not settings.posted:
            found.append(await _long_connection(client))
        return found
    finally:
        await client.close()


async def _granted(client: Client) -> set[str]:
    """Names of permissions, none where Feishu does not say:
    https://open.feishu.cn/document/server-docs/application-v6/scope/list"""
    try:
        scopes: Any = (await client.call("GET", "/open-apis/application/v6/scopes")).get("scopes")
    except NotWritten:
        return set()
    return {
        str(each.get("scope_name")) for each in objects_in(scopes) if each.get("grant_status") == _GRANTED
    }


def _missing(granted: set[str]) -> list[tuple[bool, str]]:
    return [
        (
            False,
            f"the permission {names[0]} is missing ({why}): add it at https://open.feishu.cn/app, and publish a"
            " version",
        )
        for why, names in _SCOPES.items()
        if granted and not granted & {*names}
    ]


async def _long_connection(client: Client) -> tuple[bool, str]:
    try:
        await client.endpoint()
    except AdapterError as error:
        return False, str(error)
    return True, "a long connection may be opened"
