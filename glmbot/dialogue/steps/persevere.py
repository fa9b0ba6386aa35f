"""As long as the store is away, an exchange waits and begins again."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace

from glmbot import i18n
from glmbot.dialogue.exchange import Exchange, Follows
from glmbot.dialogue.inbox import Inbox
from glmbot.dialogue.readiness import Readiness
from glmbot.errors import ClaimLost, MessageGone, StoreUnavailable, Superseded
from glmbot.messages import Reply, ReplyState

__all__ = ["persevere"]

_log = logging.getLogger(__name__)

_STORE_PAUSE_S = 0.5


async def persevere(
    inbox: Inbox, readiness: Readiness, exchange: Exchange, following: Follows
) -> AsyncGenerator[Reply, None]:
    """The place in the lane is kept meanwhile, so that what was asked later is not answered sooner. Raises
    ClaimLost."""
    text, waits = "", False
    while True:
        try:
            # Each try begins with what there was before the first.
            async with aclosing(following(replace(exchange))) as replies:
                async for reply in replies:
                    text = reply.text
                    yield reply
            return
        except (Superseded, MessageGone):
            raise
        except ClaimLost:
            # Before this leaves its lane, so that what waits behind it does not begin.
            inbox.lose(exchange.message.conversation)
            raise
        except StoreUnavailable as error:
            readiness.doubt()
            if not waits:
                _log.error("%s waits for the store: %s", exchange.message.conversation, error)
            waits = True
            words = i18n.text(exchange.language, "answer.store_away")
            yield Reply(text, ReplyState.STREAMING if text else ReplyState.QUEUED, words)
        await asyncio.sleep(_STORE_PAUSE_S)
        if exchange.ticket is not None:
            exchange.ticket.check()
