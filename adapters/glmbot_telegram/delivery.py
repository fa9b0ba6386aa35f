"""One answer's messages in a Telegram chat, and what Telegram's refusals mean."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import Any, TypeVar

from telegram import (
    Bot,
    InlineKeyboardButton,
    InlineKeyboardMarkup,
    InputMediaDocument,
    LinkPreviewOptions,
    MessageEntity,
    ReplyParameters,
)
from telegram.constants import ChatAction
from telegram.error import BadRequest, ChatMigrated, Forbidden, NetworkError, RetryAfter, TelegramError

from glmbot.delivery.pace import Pace
from glmbot.delivery.pieces import cut_reply
from glmbot.delivery.split import utf16_length
from glmbot.delivery.stream import Flooded, Gone, Missing, Piece, Refused, Unreachable
from glmbot.messages import Attachment, ChatKind, Message, Reply
from glmbot_telegram.normalize import button_data
from glmbot_telegram.render import NOTICE_ROOM, fits, render

__all__ = ["TelegramOutlet"]

_T = TypeVar("_T")

# Below the 4096 that Telegram takes: bullets and list indents may make the text longer than its source.
_SPLIT_AT = 3600
_NO_PREVIEW = LinkPreviewOptions(is_disabled=True)
_MISSING = ("message to edit not found", "message_id_invalid", "message can't be edited", "message to delete")
_GONE = (
    "chat not found",
    "not enough rights",
    "have no rights",
    "topic_closed",
    "topic_deleted",
    "message thread not found",
    "user_deactivated",
    "deleted",
)


class TelegramOutlet:
    """See `glmbot.delivery.stream.Outlet`. `overall` paces all chats together (30 requests a second)."""

    # Nothing in sendMessage tells Telegram that it is the same message again.
    sends_once = False

    def __init__(self, bot: Bot, message: Message, overall: Pace, *, drafts: bool = False) -> None:
        """drafts: show the growing answer by sendMessageDraft, which private chats alone have."""
        private = message.chat_kind is ChatKind.PRIVATE
        self.drafts = drafts and private and not message.in_place and not message.edits
        self._bot = bot
        self._chat = message.conversation.chat
        self._asker = message.conversation.user or message.user.id
        self._overall = overall
        self._thread = message.conversation.thread or None
        quoted = int(message.ref) if message.ref and not private else None
        self._reply = ReplyParameters(quoted, allow_sending_without_reply=True) if quoted else None
        self._draft_id = int(message.ref or 1)
        self._first = True

    def cut(self, reply: Reply) -> Sequence[Piece]:
        return cut_reply(reply, _SPLIT_AT, notice_room=NOTICE_ROOM, measure=utf16_length, accepts=fits)

    async def send(self, item: Piece | Attachment, place: str) -> str:
        if isinstance(item, Attachment):
            raise TypeError("a file replaces a message that was sent before")
        reply = self._reply if self._first else None
        sent = await self._write(
            item,
            lambda text, entities, buttons: self._bot.send_message(
                self._chat,
                text,
                entities=entities,
                message_thread_id=self._thread,
                reply_parameters=reply,
                link_preview_options=_NO_PREVIEW,
                reply_markup=buttons,
            ),
        )
        # Only now: a first message that is refused is sent once more, and quotes the question then.
        self._first = False
        return str(sent.message_id)

    async def edit(self, message_id: str, item: Piece | Attachment) -> None:
        self._first = False
        if isinstance(item, Attachment):
            # "... or to add media to text messages": https://core.telegram.org/bots/api#editmessagemedia
            document = InputMediaDocument(item.content, filename=item.name)
            await self._ask(self._bot.edit_message_media(document, self._chat, int(message_id)))
            return
        await self._write(
            item,
            lambda text, entities, buttons: self._bot.edit_message_text(
                text,
                chat_id=self._chat,
                message_id=int(message_id),
                entities=entities,
                link_preview_options=_NO_PREVIEW,
                reply_markup=buttons,
            ),
        )

    async def draft(self, piece: Piece) -> None:
        text, entities = render(piece.text, piece.notice)
        await self._ask(
            self._bot.send_message_draft(
                self._chat, self._draft_id, text, message_thread_id=self._thread, entities=entities
            )
        )

    async def remove(self, message_id: str) -> None:
        await self._ask(self._bot.delete_message(self._chat, int(message_id)))

    async def typing(self) -> None:
        await self._ask(
            self._bot.send_chat_action(self._chat, ChatAction.TYPING, message_thread_id=self._thread)
        )

    async def _write(
        self,
        piece: Piece,
        request: Callable[[str, Sequence[MessageEntity], InlineKeyboardMarkup | None], Awaitable[_T]],
    ) -> _T | Any:
        text, entities = render(piece.text, piece.notice)
        buttons = [
            InlineKeyboardButton(action.label, callback_data=button_data(action.command, self._asker))
            for action in piece.actions
        ]
        keyboard = InlineKeyboardMarkup([buttons]) if buttons else None
        try:
            return await self._ask(request(text, entities, keyboard))
        except Refused:
            if not entities:
                raise
            # Whatever Telegram has against the entities, the words must arrive.
            return await self._ask(request(text, (), keyboard))

    async def _ask(self, request: Awaitable[_T]) -> _T | Any:
        try:
            await self._overall.turn()
            return await request
        except RetryAfter as error:
            raise Flooded(_seconds(error.retry_after)) from error
        except ChatMigrated as error:
            # The old messages can't be edited there: the next try finds them missing and says all anew.
            self._chat = error.new_chat_id
            raise Unreachable("Telegram: the group became a supergroup") from error
        except Forbidden as error:
            raise Gone(str(error)) from error
        except BadRequest as error:
            complaint = str(error).lower()
            if "not modified" in complaint:
                return None
            if any(known in complaint for known in _MISSING):
                raise Missing(str(error)) from error
            if any(known in complaint for known in _GONE):
                raise Gone(str(error)) from error
            raise Refused(str(error)) from error
        except (NetworkError, TelegramError) as error:
            raise Unreachable(f"Telegram: {error}") from error
        finally:
            # An exception while waiting leaves the request unstarted; closing it keeps Python quiet.
            close = getattr(request, "close", None)
            if close is not None:
                close()


def _seconds(value: int | float | timedelta) -> float:
    return value.total_seconds() if isinstance(value, timedelta) else float(value)
