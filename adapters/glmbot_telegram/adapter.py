"""Telegram through python-telegram-bot's client, by long polling or by webhook.

The receiving is our own: an update is confirmed (by the next offset, or by a 200) only once it is stored, which
the library's updater, made for handlers in memory, does not promise.
https://core.telegram.org/bots/api#getupdates
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, ClassVar, Protocol

from pydantic import BaseModel
from telegram import (
    Bot,
    BotCommand,
    BotCommandScope,
    BotCommandScopeAllGroupChats,
    BotCommandScopeAllPrivateChats,
    BotCommandScopeChat,
    Update,
)
from telegram.constants import ChatMemberStatus
from telegram.error import BadRequest, InvalidToken, RetryAfter, TelegramError

from glmbot.background import Background, Running
from glmbot.delivery.abilities import Profile
from glmbot.delivery.deliveries import Deliveries, Earlier
from glmbot.delivery.pace import Pace
from glmbot.delivery.thoughts import without_thoughts
from glmbot.errors import AdapterError, StoreError
from glmbot.http.routes import Route, RouteWish
from glmbot.keys import ChatKey
from glmbot.listening import listening_error
from glmbot.messages import ChatKind, CommandInfo, Message, PressedButton, Reply, Role, asks_of_tools
from glmbot.ports import Chats, Deliver, Lead, Menus
from glmbot_telegram.client import bot_for, examine, identify, refusal
from glmbot_telegram.delivery import PROFILE, TelegramOutlet
from glmbot_telegram.normalize import (
    PLATFORM,
    QUERY,
    ForeignPress,
    Moved,
    ShutOut,
    in_the_name_of,
    is_group,
    normalize,
    number_of,
)
from glmbot_telegram.settings import TelegramSettings
from glmbot_telegram.webhook import path_of, webhook_route

__all__ = ["TelegramAdapter", "TelegramSettings"]

_log = logging.getLogger(__name__)

_REQUESTS_PER_SECOND = 30
_DRAIN_S = 8.0
_PAUSE_S = 3.0
_MOST_MOVED = 1000
_FEW_PACES = 1000
_PACE_IDLE_S = 900.0
_ADMINISTRATORS = frozenset({ChatMemberStatus.OWNER, ChatMemberStatus.ADMINISTRATOR})
_UPDATES = [Update.MESSAGE, Update.EDITED_MESSAGE, Update.CALLBACK_QUERY, Update.MY_CHAT_MEMBER]


class _Wanted(Deliver, Lead, Chats, Menus, Protocol): ...


class TelegramAdapter:
    Settings: ClassVar[type[BaseModel]] = TelegramSettings
    profile: ClassVar[Profile] = PROFILE

    def __init__(self, settings: TelegramSettings, dialogue: _Wanted) -> None:
        self._settings = settings
        self._dialogue = dialogue = dialogue if settings.show_thoughts else without_thoughts(dialogue)
        self._deliveries = Deliveries(dialogue)
        self._presses = Background()
        self._overall = Pace(1 / _REQUESTS_PER_SECOND)
        self._paces: dict[str, Pace] = {}
        self._most_paces = _FEW_PACES
        # Groups that became supergroups of late.
        self._moved: dict[str, str] = {}
        self._running = Running()
        given = settings.webhook_secret
        self._secret = given.get_secret_value() if given else secrets.token_hex(32)
        self._connected = False
        self._bot: Bot

    @staticmethod
    def check(settings: TelegramSettings, running: TelegramSettings | None) -> None:
        """See `glmbot.ports.Adapter`. Raises AdapterError."""
        door = settings.door
        if door is None or (running is not None and running.door == door):
            return
        if (error := listening_error(door.host, door.port)) is not None:
            raise AdapterError(
                f"[telegram] webhook: {door} can't be listened on: {error.strerror or error}; set webhook_port to"
                " another number, or to 0, where [web] answers the webhook"
            ) from error

    @staticmethod
    def route_wishes(settings: TelegramSettings) -> Sequence[RouteWish]:
        """See `glmbot.ports.Adapter`."""
        if not settings.webhook_url:
            return ()
        words = "set [telegram] webhook_port to the port that your proxy goes to"
        return [RouteWish("[telegram] webhook_url", path_of(settings.webhook_url), settings.door, words)]

    def routes(self) -> Sequence[Route]:
        """See `glmbot.ports.Adapter`."""
        url = self._settings.webhook_url
        return [webhook_route(url, self._secret, self._settings.door, self._take_posted)] if url else ()

    @staticmethod
    async def identify(settings: TelegramSettings) -> str:
        """See `glmbot.ports.Adapter`. Raises AdapterError."""
        return await identify(settings)

    @staticmethod
    async def examine(settings: TelegramSettings) -> Sequence[tuple[bool, str]]:
        """See `glmbot.ports.Adapter`. Raises AdapterError."""
        return await examine(settings)

    async def start(self) -> None:
        settings = self._settings
        self._bot = bot_for(settings)
        try:
            await self._bot.initialize()
            self._connected = True
            if settings.webhook_url:
                await self._bot.set_webhook(
                    settings.webhook_url,
                    secret_token=self._secret,
                    allowed_updates=_UPDATES,
                    drop_pending_updates=False,
                )
            else:
                await self._bot.delete_webhook(drop_pending_updates=False)
            await self._publish_commands()
        except TelegramError as error:
            raise refusal(settings, error) from error
        _log.info("Telegram: @%s is listening", self._bot.username)

    async def run(self) -> None:
        receive = asyncio.sleep(float("inf")) if self._settings.webhook_url else self._poll_updates()
        serve = self._deliveries.serve(PLATFORM, self._begin, self._stopped)
        await self._running.run(_endless("receiving", receive), serve)

    def interrupt(self) -> bool:
        return False

    async def stop(self) -> None:
        self._running.end()
        await asyncio.gather(self._deliveries.drain(_DRAIN_S), self._presses.drain(_DRAIN_S))
        with suppress(TelegramError):
            await self._bot.shutdown()

    # ---- receiving -------------------------------------------------------------------------------------------

    async def _take_posted(self, fields: dict[str, Any]) -> bool:
        """False before it is known who we are: Telegram sends it again. Raises StoreError."""
        if self._connected:
            await self._take(fields)
        return self._connected

    async def _poll_updates(self) -> None:
        offset: int | None = None
        while True:
            try:
                if not await self._dialogue.leads(f"poll telegram {self._bot.id}"):
                    offset = None
                    await asyncio.sleep(_PAUSE_S)
                    continue
                for fields in await self._updates(offset):
                    await self._take(fields)
                    offset = int(fields["update_id"]) + 1
            except InvalidToken as error:
                raise AdapterError("[telegram] token was revoked") from error
            except RetryAfter:
                await asyncio.sleep(_PAUSE_S)
            except (TelegramError, StoreError) as error:
                # Not confirmed, so Telegram sends it again.
                _log.warning("Telegram: %s; polling again in %.0f s", error, _PAUSE_S)
                await asyncio.sleep(_PAUSE_S)

    async def _updates(self, offset: int | None) -> Sequence[dict[str, Any]]:
        """As they came: the library's own method gives none when it can't read one, which would come for ever."""
        wait_s = self._settings.poll_timeout_s
        wishes = {"offset": offset, "timeout": wait_s, "allowed_updates": _UPDATES}
        received: Any = await self._bot._post("getUpdates", wishes, read_timeout=wait_s + _PAUSE_S)
        return received

    async def _take(self, fields: dict[str, Any]) -> None:
        """Raises StoreError when the update could not be stored."""
        try:
            taken = normalize(Update.de_json(fields, self._bot), self._bot.bot)
        except Exception as error:  # whatever a malformed update trips over in the library
            # Neither what was said nor by whom: an error's words may hold it.
            _log.warning("Telegram: an update that could not be read is left out (%s)", type(error).__name__)
            return
        try:
            await self._accept(taken)
        except StoreError:
            raise
        except Exception as error:
            # It would come again for ever, and nothing behind it.
            _log.error("Telegram: an update that can't be taken is left out (%s)", type(error).__name__)

    async def _accept(self, taken: Message | PressedButton | ForeignPress | ShutOut | Moved | None) -> None:
        """Raises StoreError."""
        match taken:
            case None:
                return
            case Message():
                await self._dialogue.accept(self._where_it_is_now(taken))
            case Moved():
                await self._move(taken.old, taken.new)
            case ShutOut():
                _log.info("Telegram: chat %s has shut the bot out", taken.chat)
            case ForeignPress():
                self._presses.begin(self._answer_press(taken.query_id))
            case PressedButton() if taken.by_asker:
                await self._obey_press(taken)
            case PressedButton() if is_group(taken.asker):
                self._presses.begin(self._press_in_the_name_of_a_chat(taken))
            case PressedButton() if asks_of_tools(taken.message):
                # The dialogue knows who may answer: perhaps an administrator.
                await self._obey_press(taken)
            case PressedButton():
                self._presses.begin(self._refuse_press(taken, "button.not_yours"))

    async def _obey_press(self, press: PressedButton) -> None:
        """Raises StoreError."""
        await self._dialogue.accept(self._where_it_is_now(press.message))
        if press.message.text != "/stop" and not asks_of_tools(press.message):
            self._presses.begin(self._answer_press(press.message.origin[QUERY]))

    async def _press_in_the_name_of_a_chat(self, press: PressedButton) -> None:
        """The answer was to a group's anonymous administrators, or to a channel: any of its administrators may
        press. Telegram says who presses by name."""
        try:
            member = await self._bot.get_chat_member(number_of(press.asker), number_of(press.message.user.id))
            if member.status in _ADMINISTRATORS:
                await self._obey_press(in_the_name_of(press))
                return
        except TelegramError as error:
            _log.info("Telegram: whether a button's presser is an administrator is not known: %s", error)
        except StoreError as error:
            _log.error("Telegram: a pressed button could not be stored: %s", error)
            await self._refuse_press(press, "answer.store_failed")
            return
        await self._refuse_press(press, "button.not_yours")

    async def _refuse_press(self, press: PressedButton, key: str) -> None:
        words = self._dialogue.text(press.message.language, key)
        await self._answer_press(press.message.origin[QUERY], words)

    async def _move(self, old: str, new: str) -> None:
        """Raises StoreError."""
        await self._dialogue.moved(ChatKey(PLATFORM, old), ChatKey(PLATFORM, new))
        if old not in self._moved:
            _log.info("Telegram: group %s became the supergroup %s, with all that belongs to it", old, new)
        self._moved[old] = new
        if len(self._moved) > _MOST_MOVED:
            del self._moved[next(iter(self._moved))]

    def _where_it_is_now(self, message: Message) -> Message:
        """Updates may come in another order than things happened: what was said before a group moved is answered
        where it is now."""
        chat = self._moved.get(message.conversation.chat)
        return (
            message
            if chat is None
            else replace(message, conversation=replace(message.conversation, chat=chat))
        )

    # ---- answering -------------------------------------------------------------------------------------------

    def _begin(self, message: Message, earlier: Earlier) -> None:
        chat, settings = message.conversation.chat, self._settings
        outlet = TelegramOutlet(
            self._bot,
            message,
            drafts=settings.drafts,
            thoughts=self._dialogue.text(message.language, "answer.thought"),
            on_moved=self._move,
        )
        if chat not in self._paces:
            self._drop_idle_paces()
            base = settings.group_edit_interval_s if is_group(chat) else settings.edit_interval_s
            self._paces[chat] = Pace(base, within=self._overall)
        self._deliveries.begin(message, outlet, self._paces[chat], earlier)

    def _drop_idle_paces(self) -> None:
        """Looks at all only when they have doubled since."""
        if len(self._paces) < self._most_paces:
            return
        since = asyncio.get_running_loop().time() - _PACE_IDLE_S
        self._paces = {chat: pace for chat, pace in self._paces.items() if pace.ready_at > since}
        self._most_paces = max(_FEW_PACES, 2 * len(self._paces))

    async def _stopped(self, message: Message, reply: Reply | None) -> None:
        """A stop's words stand over its button for a moment."""
        await self._answer_press(message.origin[QUERY], reply.notice if reply is not None else "")

    async def _answer_press(self, query_id: str, words: str = "") -> None:
        # Too late to be answered, or no network: the button works all the same.
        with suppress(TelegramError):
            await self._bot.answer_callback_query(query_id, words or None)

    async def _publish_commands(self) -> None:
        """The menu of each kind of chat in each language, and administrators' own one in theirs."""
        everybody: list[tuple[BotCommandScope | None, Role, ChatKind]] = [
            (None, Role.USER, ChatKind.PRIVATE),
            (BotCommandScopeAllPrivateChats(), Role.USER, ChatKind.PRIVATE),
            (BotCommandScopeAllGroupChats(), Role.USER, ChatKind.GROUP),
        ]
        admins: list[tuple[BotCommandScope | None, Role, ChatKind]] = [
            (BotCommandScopeChat(number_of(admin.id)), Role.ADMIN, ChatKind.PRIVATE)
            for admin in self._dialogue.administrators(PLATFORM)
            if not is_group(admin.id)
        ]
        for scope, role, kind in [*everybody, *admins]:
            for language in ("", "zh"):
                menu = [_menu_entry(info) for info in self._dialogue.commands(language or "en", role, kind)]
                try:
                    await self._bot.set_my_commands(menu, scope=scope, language_code=language or None)
                except (BadRequest, InvalidToken) as error:
                    # An administrator who has not spoken to the bot yet has no chat with it; and not every Bot
                    # API server has menus (the library takes its 404 for a wrong token).
                    _log.debug("Telegram: no menu for %s: %s", scope, error)
                except TelegramError as error:
                    # Those that were published before still stand, and people can type.
                    _log.warning("Telegram: the menus of commands could not be published: %s", error)
                    return


async def _endless(name: str, work: Coroutine[None, None, None]) -> None:
    """Raises AdapterError when it ends all the same, so that the platform is visibly begun again."""
    await work
    raise AdapterError(f"Telegram: {name} ended by itself")


def _menu_entry(info: CommandInfo) -> BotCommand:
    return BotCommand(info.name, f"{info.description} {info.argument}".strip())
