"""The command /poll, and the tool `start_poll`, which does the same for who asks the model.

A group's answer has a button for each option; who presses is told the counts. `/poll ID` shows them to everybody.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from glmbot.host import Call, Command, Nature, Tool, ToolFailed, ToolUse
from glmbot.keys import ChatKey, ConversationKey, UserKey
from glmbot.messages import Action, ChatKind, Reply, ReplyState, Role
from glmbot_tools.poll import LONGEST_OPTION, LONGEST_QUESTION, MOST_OPTIONS, Poll, WrongPoll
from glmbot_tools.polls import Polls
from glmbot_tools.words import line

__all__ = ["poll_command", "poll_tool"]

_VOTE = re.compile(r"(?P<option>[0-9]{1,2})\s+(?P<id>[a-z]{8})")
_END = re.compile(r"(?:close|结束)\s+(?P<id>[a-z]{8})")
_SHOW = re.compile(r"[a-z]{8}")
_LETTERS = "abcdefghij"
_LONGEST_LABEL = 20


def poll_command(polls: Polls) -> Command:
    async def obey(call: Call) -> Reply:
        message, given = call.message, call.argument.strip()
        try:
            if message.anonymous:
                raise WrongPoll("tools.poll.anonymous")
            if vote := _VOTE.fullmatch(given):
                poll = await polls.vote(call.bot, message.chat, vote["id"], message.user, int(vote["option"]))
                counts = await polls.counts(call.bot, poll)
                shown = ", ".join(
                    f"{option} {count}" for option, count in zip(poll.options, counts, strict=True)
                )
                return call.say(
                    "tools.poll.voted", option=poll.options[int(vote["option"]) - 1], counts=shown
                )
            if end := _END.fullmatch(given):
                admin = call.role is Role.ADMIN
                poll = await polls.end(call.bot, message.chat, end["id"], message.user, admin=admin)
            elif _SHOW.fullmatch(given):
                found = await polls.find(call.bot, message.chat, given)
                if found is None:
                    raise WrongPoll("tools.poll.unknown")
                poll = found
            else:
                question, *options = re.split(r"[|｜\n]", given)
                if await call.bot.check_prompt(message, given) == "prompt.refused":
                    raise WrongPoll("tools.poll.refused")
                poll = await polls.begin(call.bot, message.chat, message.user, question, options)
        except WrongPoll as error:
            return call.fail(error.key)
        words = _shown(poll, await polls.counts(call.bot, poll), call.language)
        return Reply("", ReplyState.FINAL, words, actions=_buttons(poll, message.chat_kind))

    return Command("poll", obey, argument="QUESTION | OPTION | OPTION", rank=96)


def poll_tool(polls: Polls) -> Tool:
    async def start_poll(use: ToolUse) -> str:
        conversation, user = ConversationKey.parse(use.conversation), UserKey.parse(use.user)
        owner = user.id if use.chat_kind is ChatKind.PRIVATE else ""
        chat = ChatKey(conversation.platform, conversation.chat, owner)
        if use.chat_kind is not ChatKind.GROUP:
            raise ToolFailed("There is nobody else here who could vote. Polls are for groups.")
        try:
            poll = await polls.begin(
                use.bot,
                chat,
                user,
                str(use.arguments["question"]),
                [str(each) for each in use.arguments["options"]],
            )
        except WrongPoll as error:
            raise ToolFailed(f"There is no poll: {line('en', error.key)}") from error
        words = _shown(poll, [0] * len(poll.options), use.language)
        if await use.bot.announce(conversation, words, name=f"poll {poll.id}"):
            return f"The poll {poll.id} stands in the chat, with how to vote. Do not repeat it."
        return f"Show the person this, word for word:\n{words}"

    schema = {
        "type": "object",
        "properties": {
            "question": {"type": "string", "minLength": 1, "maxLength": LONGEST_QUESTION},
            "options": {
                "type": "array",
                "minItems": 2,
                "maxItems": MOST_OPTIONS,
                "items": {"type": "string", "minLength": 1, "maxLength": LONGEST_OPTION},
            },
        },
        "required": ["question", "options"],
        "additionalProperties": False,
    }
    title = {"en": "Start a poll", "zh": "发起投票"}
    return Tool(
        "start_poll", "Asks everybody of this group to vote.", schema, start_poll, Nature.READS, title=title
    )


def _shown(poll: Poll, counts: Sequence[int], language: str) -> str:
    total = sum(counts)
    lines = [line(language, "tools.poll.title", question=poll.question)]
    for number, (option, count) in enumerate(zip(poll.options, counts, strict=True), 1):
        share = f" ({100 * count / total:.0f} %)" if total else ""
        lines.append(f"{number}. {option} · {count}{share}")
    key = "tools.poll.how" if poll.counts is None else "tools.poll.ended"
    return "\n".join([*lines, line(language, key, id=poll.id)])


def _buttons(poll: Poll, kind: ChatKind) -> tuple[Action, ...]:
    if poll.counts is not None or kind is not ChatKind.GROUP:
        return ()
    return tuple(
        Action(f"poll{letter}{poll.id}", f"{number}. {option}"[:_LONGEST_LABEL])
        for number, (letter, option) in enumerate(zip(_LETTERS, poll.options, strict=False), 1)
    )
