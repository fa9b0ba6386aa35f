"""One answer's messages on Discord, and what Discord's refusals mean.

discord.py waits out ordinary rate limits by itself, bucket by bucket; longer ones come back as Flooded.
"""

from __future__ import annotations

import io
from collections.abc import Awaitable, Sequence
from typing import Any, TypeVar

import aiohttp
import discord

from glmbot.delivery.split import split_markdown
from glmbot.delivery.stream import Flooded, Gone, Missing, Piece, Unreachable
from glmbot.messages import Attachment, Message
from glmbot_discord.render import render

__all__ = ["ChannelOutlet", "InteractionOutlet"]

_T = TypeVar("_T")

# Below the 2000 that Discord takes: small print and a table's code fence need room.
_SPLIT_AT = 1700
_NOTICE_ROOM = 250
_NOBODY = discord.AllowedMentions.none()
_UNKNOWN_MESSAGE = 10008


class _Outlet:
    def cut(self, text: str, notice: str) -> Sequence[Piece]:
        if not text:
            return [Piece("", notice[:_SPLIT_AT] or "…")]
        pieces = [Piece(piece) for piece in split_markdown(text, _SPLIT_AT)]
        return [*pieces[:-1], Piece(pieces[-1].text, notice[:_NOTICE_ROOM])]


class ChannelOutlet(_Outlet):
    """See `glmbot.delivery.stream.Outlet`."""

    def __init__(self, client: discord.Client, message: Message) -> None:
        self._channel = client.get_partial_messageable(int(message.origin["channel"]))
        reply_to = message.origin.get("reply_to")
        self._reference = (
            discord.MessageReference(
                message_id=int(reply_to), channel_id=self._channel.id, fail_if_not_exists=False
            )
            if reply_to
            else None
        )
        # With a nonce Discord itself drops a send that is repeated after a lost answer.
        self._nonce = f"{abs(hash((message.update_id, message.conversation))) % 10**15}"
        self._sent = 0

    async def send(self, piece: Piece) -> str:
        extra: dict[str, Any] = {"reference": self._reference} if self._sent == 0 and self._reference else {}
        sent = await _ask(
            self._channel.send(
                render(piece.text, piece.notice),
                **extra,
                mention_author=False,
                allowed_mentions=_NOBODY,
                nonce=f"{self._nonce}-{self._sent}",
                suppress_embeds=True,
            )
        )
        self._sent += 1
        return str(sent.id)

    async def edit(self, message_id: str, piece: Piece) -> None:
        self._sent = max(self._sent, 1)
        partial = self._channel.get_partial_message(int(message_id))
        await _ask(partial.edit(content=render(piece.text, piece.notice), allowed_mentions=_NOBODY))

    async def remove(self, message_id: str) -> None:
        await _ask(self._channel.get_partial_message(int(message_id)).delete())

    async def attach(self, attachment: Attachment) -> None:
        file = discord.File(io.BytesIO(attachment.content), attachment.name)
        await _ask(self._channel.send(file=file, allowed_mentions=_NOBODY))


class InteractionOutlet(_Outlet):
    """The answer to a slash command that was acknowledged already: its first message replaces that."""

    def __init__(self, interaction: discord.Interaction, *, ephemeral: bool) -> None:
        self._interaction = interaction
        self._ephemeral = ephemeral
        self._messages: dict[str, Any] = {}

    async def send(self, piece: Piece) -> str:
        content = render(piece.text, piece.notice)
        if not self._messages:
            sent: Any = await _ask(
                self._interaction.edit_original_response(content=content, allowed_mentions=_NOBODY)
            )
        else:
            sent = await _ask(
                self._interaction.followup.send(
                    content, ephemeral=self._ephemeral, allowed_mentions=_NOBODY, wait=True
                )
            )
        self._messages[str(sent.id)] = sent
        return str(sent.id)

    async def edit(self, message_id: str, piece: Piece) -> None:
        message = self._messages[message_id]
        await _ask(message.edit(content=render(piece.text, piece.notice), allowed_mentions=_NOBODY))

    async def remove(self, message_id: str) -> None:
        await _ask(self._messages[message_id].delete())

    async def attach(self, attachment: Attachment) -> None:
        file = discord.File(io.BytesIO(attachment.content), attachment.name)
        await _ask(self._interaction.followup.send(file=file, ephemeral=self._ephemeral, wait=True))


async def _ask(request: Awaitable[_T]) -> _T:
    try:
        return await request
    except discord.RateLimited as error:
        raise Flooded(error.retry_after) from error
    except discord.NotFound as error:
        if error.code == _UNKNOWN_MESSAGE:
            raise Missing(str(error)) from error
        raise Gone(str(error)) from error
    except discord.Forbidden as error:
        raise Gone(str(error)) from error
    except discord.HTTPException as error:
        if error.status == 429:
            raise Flooded(float(getattr(error, "retry_after", 5.0))) from error
        if error.status >= 500:
            raise Unreachable(f"Discord: {error}") from error
        raise
    except (OSError, TimeoutError, aiohttp.ClientError) as error:
        raise Unreachable(f"Discord: {error}") from error
