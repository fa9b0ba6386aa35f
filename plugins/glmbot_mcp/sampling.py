"""What a server has the bot's model say in the middle of a call (sampling), where the operator lets it:
https://modelcontextprotocol.io/specification/2025-11-25/client/sampling."""

from __future__ import annotations

from mcp_types import (
    INVALID_REQUEST,
    CreateMessageRequestParams,
    CreateMessageResult,
    ErrorData,
    SamplingMessage,
    TextContent,
)

from glmbot.host import ToolFailed, ToolUse
from glmbot_mcp.settings import ServerSettings
from glmbot_mcp.slots import Hold

__all__ = ["refusal", "sampled"]

_MOST_STOPS, _LONGEST_STOP = 4, 64


async def sampled(
    use: ToolUse, hold: Hold, settings: ServerSettings, params: CreateMessageRequestParams
) -> CreateMessageResult | ErrorData:
    hold.sampled += 1
    if hold.sampled > settings.sampling_calls:
        return refusal(f"the model may be asked {settings.sampling_calls} times in a call")
    if params.tools:
        return refusal("the model is asked without tools")
    turns = [(str(each.role), _text(each)) for each in params.messages]
    if any(text is None for _, text in turns):
        return refusal("the model reads text only")
    stops = [each for each in params.stop_sequences or [] if 0 < len(each) <= _LONGEST_STOP]
    try:
        # One that asks for ten at once waits for each.
        async with hold.one_at_a_time:
            text = await use.sample(
                [(role, text or "") for role, text in turns],
                system=params.system_prompt or "",
                max_tokens=max(1, min(params.max_tokens, settings.sampling_tokens)),
                temperature=None if params.temperature is None else min(max(params.temperature, 0.0), 2.0),
                stop=stops[:_MOST_STOPS],
            )
    except ToolFailed as error:
        return refusal(str(error))
    return CreateMessageResult(role="assistant", content=TextContent(type="text", text=text), model="glmbot")


def refusal(why: str) -> ErrorData:
    return ErrorData(code=INVALID_REQUEST, message=why)


def _text(message: SamplingMessage) -> str | None:
    """None for what is more than text."""
    blocks = message.content if isinstance(message.content, list) else [message.content]
    if not all(isinstance(each, TextContent) for each in blocks):
        return None
    return "\n\n".join(each.text for each in blocks if isinstance(each, TextContent))
