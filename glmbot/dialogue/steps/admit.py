"""Who may speak here, and what was answered before a restart."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing

from glmbot import i18n
from glmbot.dialogue.exchange import Exchange, Follows
from glmbot.dialogue.inbox import Inbox
from glmbot.dialogue.people import People, Standing
from glmbot.dialogue.replies import failed, kept, notice, stored_reply, with_actions
from glmbot.errors import ClaimLost, StoreError, StoreUnavailable
from glmbot.messages import Addressed, ChatKind, Message, Reply, ReplyState, Visibility
from glmbot.store.base import Answers

__all__ = ["admit"]

_log = logging.getLogger(__name__)


async def admit(
    people: People, store: Answers, inbox: Inbox, exchange: Exchange, following: Follows
) -> AsyncGenerator[Reply, None]:
    """Hands on what somebody says who is let in, in their language."""
    message, command = exchange.message, exchange.command
    try:
        if command is not None:
            await inbox.count_try(message)
            # A command that was obeyed before a restart is not given a second time.
            if (stored := await store.answer(message)) is not None:
                yield stored_reply(stored)
                return
        exchange.standing = standing = await people.standing(message)
        exchange.system_prompt = standing.chat.get("prompt", "")
        exchange.language = standing.user.get("language", "") or exchange.language
        if standing.role is None:
            greets = command is not None and command.name == "start"
            words = await _denied(people, message, standing, exchange.language, greets=greets)
            if words is not None:
                if command is not None:
                    await store.finish(message, kept(words))
                yield words
            return
        # What was answered before a restart is shown again whatever the limits are by now.
        if command is None and (stored := await store.answer(message)) is not None:
            await inbox.count_try(message)
            yield with_actions(stored_reply(stored), exchange.language)
            return
        async with aclosing(following(exchange)) as replies:
            async for reply in replies:
                yield reply
    except (ClaimLost, StoreUnavailable):
        raise
    except StoreError as error:
        what = message.conversation if command is None else f"/{command.name} of {message.user}"
        _log.error("%s: %s", what, error)
        yield failed(exchange.language, "answer.store_failed")


async def _denied(
    people: People, message: Message, standing: Standing, language: str, *, greets: bool
) -> Reply | None:
    """Strangers are told how to get in, where nobody else sees it or when they say /start; the blocked nothing.
    Who speaks in a chat's name may be on the list, and is told why that does not help."""
    if standing.blocked:
        return None
    if message.anonymous:
        if message.addressed is Addressed.NOT:
            return None
        return notice(language, "access.anonymous", user=message.user)
    if not (greets or _alone(message)):
        return None
    code = await people.code_for(message)
    words = i18n.text(language, "access.denied", user=message.user)
    if code:
        words += "\n" + i18n.text(language, "access.code", code=code)
    return Reply("", ReplyState.FINAL, words)


def _alone(message: Message) -> bool:
    """Whether nobody but its author sees what the bot answers."""
    return message.chat_kind is ChatKind.PRIVATE or message.visibility is Visibility.ASKER
