"""One answer's messages in a Telegram chat, and what Telegram's refusals mean."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from datetime import timedelta
from typing import Any, TypeVar

from telegram import Bot, LinkPreviewOptions, ReplyParameters
from telegram.error import BadRequest, ChatMigrated, Forbidden, NetworkError, RetryAfter, TelegramError

from glmbot.delivery.pace import Pace
from glmbot.delivery.split import split_markdown, utf16_length
from glmbot.delivery.stream import Flooded, Gone, Missing, Piece, Unreachable
from glmbot.messages import Attachment, Message
from glmbot_telegram.render import render

__all__ = ["TelegramOutlet"]

_T = TypeVar("_T")

# Below the 4096 that Telegram takes: bullets and list indents may make the text longer than its source.
_SPLIT_AT = 3600
_NOTICE_ROOM = 400
_NO_PREVIEW = LinkPreviewOptions(is_disabled=True)
_MISSING = ("message to edit not found", "message_id_invalid", "message can't be edited", "message to delete")
_GONE = (
    "chat not found",
    "not enough rights",
    "have no rights",
    "topic_closed",
    "user_deactivated",
    "deleted",
)


class TelegramOutlet:
    """See `glmbot.delivery.stream.Outlet`. `overall` paces all chats together (30 requests a second)."""

    def __init__(self, bot: Bot, message: Message, overall: Pace) -> None:
        self._bot = bot
        self._chat = int(message.origin["chat"])
        self._overall = overall
        thread = message.origin.get("thread")
        self._thread = int(thread) if thread else None
        reply_to = message.origin.get("reply_to")
        self._reply = ReplyParameters(int(reply_to), allow_sending_without_reply=True) if reply_to else None
        self._first = True

    def cut(self, text: str, notice: str) -> Sequence[Piece]:
        if not text:
            return [Piece("", notice[:_SPLIT_AT] or "…")]
        pieces = [Piece(piece) for piece in split_markdown(text, _SPLIT_AT, utf16_length)]
        return [*pieces[:-1], Piece(pieces[-1].text, notice[:_NOTICE_ROOM])]

    async def send(self, piece: Piece) -> str:
        text, entities = render(piece.text, piece.notice)
        reply, self._first = self._reply if self._first else None, False
        sent = await self._ask(
            self._bot.send_message(
                self._chat,
                text,
                entities=entities,
                message_thread_id=self._thread,
                reply_parameters=reply,
                link_preview_options=_NO_PREVIEW,
            )
        )
        return str(sent.message_id)

    async def edit(self, message_id: str, piece: Piece) -> None:
        text, entities = render(piece.text, piece.notice)
        self._first = False
        await self._ask(
            self._bot.edit_message_text(
                text,
                chat_id=self._chat,
                message_id=int(message_id),
                entities=entities,
                link_preview_options=_NO_PREVIEW,
            )
        )

    async def remove(self, message_id: str) -> None:
        await self._ask(self._bot.delete_message(self._chat, int(message_id)))

    async def attach(self, attachment: Attachment) -> None:
        await self._ask(
            self._bot.send_document(
                self._chat, attachment.content, filename=attachment.name, message_thread_id=self._thread
            )
        )

    async def _ask(self, request: Awaitable[_T]) -> _T | Any:
        try:
            await self._overall.turn()
            return await request
        except RetryAfter as error:
            raise Flooded(_seconds(error.retry_after)) from error
        except (Forbidden, ChatMigrated) as error:
            raise Gone(str(error)) from error
        except BadRequest as error:
            complaint = str(error).lower()
            if "not modified" in complaint:
                return None
            if any(known in complaint for known in _MISSING):
                raise Missing(str(error)) from error
            if any(known in complaint for known in _GONE):
                raise Gone(str(error)) from error
            raise
        except (NetworkError, TelegramError) as error:
            raise Unreachable(f"Telegram: {error}") from error
        finally:
            # An exception while waiting leaves the request unstarted; closing it keeps Python quiet.
            close = getattr(request, "close", None)
            if close is not None:
                close()


def _seconds(value: int | float | timedelta) -> float:
    return value.total_seconds() if isinstance(value, timedelta) else float(value)
