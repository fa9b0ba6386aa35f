"""One answer's messages in a Telegram chat, and what Telegram's refusals mean."""

from __future__ import annotations

import logging
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
from telegram.error import BadRequest, ChatMigrated, Forbidden, InvalidToken, RetryAfter, TelegramError

from glmbot.delivery.abilities import Ability, Profile, Unit
from glmbot.delivery.outlet import (
    Closed,
    Flooded,
    Gone,
    Missing,
    Outlet,
    Piece,
    Reduced,
    Refused,
    Unreachable,
)
from glmbot.delivery.pieces import cut_reply
from glmbot.delivery.split import utf16_length
from glmbot.errors import StoreError
from glmbot.messages import Attachment, ChatKind, Message, Press, Reply
from glmbot_telegram.normalize import THREAD, button_data, number_of
from glmbot_telegram.refusals import Meaning, meaning
from glmbot_telegram.render import LONGEST_TEXT, NOTICE_ROOM, fits, fits_folded, render, render_thought

__all__ = ["PROFILE", "TelegramOutlet"]

_T = TypeVar("_T")
_log = logging.getLogger(__name__)

# Below the 4096 that Telegram takes: bullets and list indents may make the text longer than its source.
_SPLIT_AT = 3600
_NO_PREVIEW = LinkPreviewOptions(is_disabled=True)


# Nothing in sendMessage tells Telegram that it is the same message again, so ONCE is not among them.
PROFILE = Profile(
    frozenset(Ability) - {Ability.ONCE, Ability.APPEND},
    longest=LONGEST_TEXT,
    unit=Unit.UTF16,
)


class TelegramOutlet(Outlet):
    """See `glmbot.delivery.outlet.Outlet`."""

    def __init__(
        self,
        bot: Bot,
        message: Message,
        *,
        drafts: bool = False,
        thoughts: str = "…",
        on_moved: Callable[[str, str], Awaitable[None]] | None = None,
    ) -> None:
        """drafts: show the growing answer by sendMessageDraft, which private chats alone have. thoughts: what
        stands above those of the model.

        on_moved is told the old and the new id of a group that became a supergroup; may raise StoreError. Raises
        ValueError where the conversation is none of Telegram's.
        """
        private = message.chat_kind is ChatKind.PRIVATE
        drafts = drafts and private and not message.replaces
        self._abilities = PROFILE.abilities - (set() if drafts else {Ability.DRAFT})
        self._private = private
        self._thoughts = thoughts
        self._bot = bot
        self._chat = number_of(message.conversation.chat)
        self._asker = message.conversation.user or message.user.id
        self._topic = message.conversation.thread
        self._thread = number_of(self._topic) if self._topic else None
        # In a thread of comments or replies nothing but what it quotes puts a message there.
        self._root = int(message.origin.get(THREAD, "0"))
        pressed = isinstance(message.intent, Press)
        self._quotes_always = not private and (bool(self._root) or pressed)
        about = message.ref or (message.about if pressed else "")
        quoted = int(about) if about and not private else None
        self._reply = ReplyParameters(quoted, allow_sending_without_reply=not self._root) if quoted else None
        self._on_moved = on_moved
        # What was sent since the chat moved; None: it has not. Ids of before are other messages' there.
        self._sent_here: set[str] | None = None
        self._draft_id = int(message.ref or 1)
        self._first = True
        # What Telegram refused entities or buttons for.
        self._plain: set[Piece] = set()
        self._bare = False

    @property
    def abilities(self) -> frozenset[Ability]:
        return self._abilities

    def cut(self, reply: Reply) -> Sequence[Piece]:
        return cut_reply(
            reply,
            _SPLIT_AT,
            notice_room=NOTICE_ROOM,
            measure=utf16_length,
            accepts=fits,
            fits_folded=lambda thought: fits_folded(thought, self._thoughts),
        )

    async def send(self, item: Piece | Attachment, place: str) -> str:
        if isinstance(item, Attachment):
            raise TypeError("a file replaces a message that was sent before")
        reply = self._reply if self._first or self._quotes_always else None
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
        if self._sent_here is not None:
            self._sent_here.add(str(sent.message_id))
        return str(sent.message_id)

    async def edit(self, message_id: str, item: Piece | Attachment) -> None:
        self._check_here(message_id)
        self._first = False
        if isinstance(item, Attachment):
            # "... or to add media to text messages": https://core.telegram.org/bots/api#editmessagemedia
            document = InputMediaDocument(item.content, filename=item.name)
            try:
                await self._ask(self._bot.edit_message_media(document, self._chat, int(message_id)))
            except (Closed, Reduced) as error:
                # Files have rights of their own.
                raise Refused(str(error)) from error
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
        self._check_here(message_id)
        try:
            await self._ask(self._bot.delete_message(self._chat, int(message_id)))
        except (Closed, Gone, Reduced) as error:
            # Who may not delete may well write.
            raise Refused(str(error)) from error

    async def typing(self) -> None:
        await self._ask(
            self._bot.send_chat_action(self._chat, ChatAction.TYPING, message_thread_id=self._thread)
        )

    async def _write(
        self,
        piece: Piece,
        request: Callable[[str, Sequence[MessageEntity], InlineKeyboardMarkup | None], Awaitable[_T]],
    ) -> _T | Any:
        if piece.thought:
            text, entities = render_thought(piece.thought, self._thoughts)
        else:
            text, entities = render(piece.text, piece.notice)
        if piece in self._plain:
            entities = ()
        buttons = [
            InlineKeyboardButton(
                action.label, callback_data=button_data(action.command, self._asker, self._topic)
            )
            for action in piece.actions
        ]
        keyboard = InlineKeyboardMarkup([buttons]) if buttons and not self._bare else None
        try:
            return await self._ask(request(text, entities, keyboard))
        except Refused as error:
            if not entities:
                raise
            # Whatever Telegram has against the entities, the words must arrive.
            self._plain.add(piece)
            raise Reduced(str(error)) from error

    async def _ask(self, request: Awaitable[_T]) -> _T | Any:
        try:
            return await request
        except RetryAfter as error:
            raise Flooded(_seconds(error.retry_after)) from error
        except ChatMigrated as error:
            await self._move(error.new_chat_id)
            raise Unreachable("Telegram: the group became a supergroup") from error
        except (BadRequest, Forbidden) as error:
            refused = self._refused(str(error))
            if refused is None:
                return None
            raise refused from error
        except InvalidToken as error:
            # Also what the library makes of 404: https://core.telegram.org/bots/api#making-requests
            if "method not found" in str(error).lower():
                raise Refused(str(error)) from error
            raise Unreachable(f"Telegram: {error}") from error
        except TelegramError as error:
            raise Unreachable(f"Telegram: {error}") from error

    async def _move(self, chat: int) -> None:
        """The old messages can't be edited there: the next try finds them missing and says all anew."""
        old, self._chat, self._sent_here = self._chat, chat, set()
        # Nor can what was said there be quoted.
        self._reply = None
        if self._on_moved is None:
            return
        try:
            await self._on_moved(str(old), str(chat))
        except StoreError as error:
            # Telegram tells it in updates too, which are not confirmed before they are stored.
            _log.warning("Telegram: that group %d became %d could not be recorded: %s", old, chat, error)

    def _check_here(self, message_id: str) -> None:
        if self._sent_here is not None and message_id not in self._sent_here:
            raise Missing(f"{message_id} stands in the chat of before")

    def _refused(self, words: str) -> Exception | None:
        """What to raise. Where a part was refused, the next request has none of it."""
        match meaning(words):
            case Meaning.SAME:
                return None
            case Meaning.GONE:
                return Gone(words)
            case Meaning.CLOSED:
                return Closed(f"Telegram: {words}")
            case Meaning.MISSING:
                return Missing(words)
            case Meaning.QUOTE if self._reply is not None and self._reply.allow_sending_without_reply:
                self._reply = None
                return Reduced(words)
            case Meaning.QUOTE if self._reply is not None and self._root:
                # The question is gone, and its thread is not; where that is gone too, the words still arrive.
                at_root = self._reply.message_id == self._root
                self._reply = ReplyParameters(self._root, allow_sending_without_reply=at_root)
                return Reduced(words)
            case Meaning.QUOTE if self._reply is not None:
                return Gone(f"{words}, nor its topic")
            case Meaning.TOPIC if self._thread is not None and self._private:
                self._thread = None
                return Reduced(words)
            case Meaning.TOPIC if self._thread is not None and self._reply is not None:
                # Telegram finds the topic by what is quoted; where that is gone too, nothing is left to answer.
                self._thread, self._reply = None, ReplyParameters(self._reply.message_id)
                return Reduced(words)
            case Meaning.TOPIC if self._thread is not None:
                return Gone(words)
            case Meaning.BUTTONS if not self._bare:
                self._bare = True
                return Reduced(words)
            case _:
                return Refused(words)


def _seconds(value: int | float | timedelta) -> float:
    return value.total_seconds() if isinstance(value, timedelta) else float(value)
