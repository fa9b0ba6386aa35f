"""Pages of a proxy or a firewall, in place of an answer of the platform's: what they mean is the same everywhere."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import pytest
from nio import ErrorResponse
from slack_sdk.errors import SlackApiError

from glmbot.delivery.outlet import Flooded, NotWritten, Refused, Unreachable, refused_by_page
from glmbot_dingtalk.refusals import refused as by_dingtalk
from glmbot_feishu.refusals import refused as by_feishu
from glmbot_matrix.refusals import ask as ask_matrix
from glmbot_qq.refusals import refused as by_qq
from glmbot_slack.refusals import ask as ask_slack
from glmbot_wecom.refusals import refused as by_wecom


async def by_slack(status: int) -> NotWritten:
    response: Any = SimpleNamespace(status_code=status, data="<html>", headers={})

    async def request() -> None:
        raise SlackApiError("a page", response)

    return await raised(ask_slack(request()))


async def by_matrix(status: int, *, file: bool = False) -> NotWritten:
    answer: Any = ErrorResponse("a page")
    answer.transport_response = SimpleNamespace(status=status, headers={})

    async def request() -> Any:
        return answer

    return await raised(ask_matrix(request(), file=file))


async def raised(asked: Awaitable[Any]) -> NotWritten:
    with pytest.raises(NotWritten) as caught:
        await asked
    return caught.value


OF_MESSAGES: dict[str, Callable[[int], Any]] = {
    "dingtalk": lambda status: by_dingtalk(status, "", ""),
    "feishu": lambda status: by_feishu(status, 0, ""),
    "matrix": by_matrix,
    "qq": lambda status: by_qq(status, {}, ""),
    "slack": by_slack,
    "wecom": lambda status: by_wecom(0, "", status=status),
}
OF_FILES: dict[str, Callable[[int], Any]] = {
    "feishu": lambda status: by_feishu(status, 0, "", file=True),
    "matrix": lambda status: by_matrix(status, file=True),
    "qq and slack": lambda status: refused_by_page(status, "", file=True),
    "wecom": lambda status: by_wecom(0, "", status=status, file=True),
}


async def meant(refused: Callable[[int], Any], status: int) -> type[NotWritten]:
    error = refused(status)
    return type(error if isinstance(error, NotWritten) else await error)


@pytest.mark.parametrize("platform", OF_MESSAGES)
async def test_a_message_waits_for_what_passes_and_not_where_it_is_too_large(platform: str) -> None:
    refused = OF_MESSAGES[platform]
    for status in (400, 401, 403, 404, 407, 408, 425, 500, 502, 503):
        assert await meant(refused, status) is Unreachable, status
    for status in (413, 414, 431):
        assert await meant(refused, status) is Refused, status
    assert await meant(refused, 429) is Flooded


@pytest.mark.parametrize("platform", OF_FILES)
async def test_a_file_is_given_up_wherever_waiting_may_not_help(platform: str) -> None:
    refused = OF_FILES[platform]
    for status in (302, 400, 403, 404, 405, 407, 413, 415):
        assert await meant(refused, status) is Refused, status
    for status in (408, 425, 500, 502, 503):
        assert await meant(refused, status) is Unreachable, status
