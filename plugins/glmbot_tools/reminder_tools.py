"""`remind_me`, `list_reminders` and `cancel_reminder`, and the command /reminders.

They change only what is the asker's own, in the chat where they ask, and a second message there is all that comes
of it. So they need not be opened like what acts on others; but each is asked about, since a page that was read may
have talked the model into it, and since small models get times wrong: who presses the button has read the time.
"""

from __future__ import annotations

from collections.abc import Sequence

from glmbot.bot import Bot
from glmbot.host import Call, Command, Nature, Tool, ToolFailed, ToolUse
from glmbot.keys import ConversationKey, UserKey
from glmbot.messages import ChatKind, Reply, ReplyState, Role
from glmbot_tools.clock import zone_named
from glmbot_tools.reminder import LONGEST_TEXT, MOST_TIMES, Reminder, id_of
from glmbot_tools.reminders import Clock, ReminderRefused, Reminders, utc_now
from glmbot_tools.times import Repeat, WrongTime, first_due

__all__ = ["reminder_tools", "reminders_command"]

_LONGEST_SHOWN = 80
_MOST_SHOWN = 30


def reminder_tools(reminders: Reminders, clock: Clock = utc_now) -> Sequence[Tool]:
    async def remind_me(use: ToolUse) -> str:
        reminder = _wanted(use, clock)
        if not use.bot.can_announce(reminder.conversation):
            raise ToolFailed("Nothing can be sent here later: there are no reminders on this platform.")
        try:
            await reminders.add(use.bot, reminder)
        except ReminderRefused as error:
            raise ToolFailed(f"No reminder was set: {error}.") from error
        again = "" if reminder.repeat is Repeat.NEVER else f", then {reminder.repeat.value}"
        return f"Reminder {reminder.id} is set for {reminder.local} ({reminder.zone.key}){again}."

    async def list_reminders(use: ToolUse) -> str:
        found = await _own(reminders, use.bot, use.user, use.conversation, use.chat_kind)
        if not found:
            return "There are no reminders."
        return "\n".join(
            f"{each.id}: {each.local} ({each.zone.key}), {each.repeat.value}: {each.text}"
            for each in found[:_MOST_SHOWN]
        )

    async def cancel_reminder(use: ToolUse) -> str:
        wanted = str(use.arguments["id"]).strip()
        # What waits in their other chats is nothing for the eyes of a group.
        found = await _own(reminders, use.bot, use.user, use.conversation, use.chat_kind)
        known = {(each.user, each.id) for each in found}
        done = await reminders.cancel(use.bot, wanted, lambda each: (each.user, each.id) in known)
        if done is None:
            raise ToolFailed(
                f"There is no reminder {wanted[:20]!r} of this person here; list_reminders tells their ids."
            )
        return f"Cancelled: {done.text}"

    return tuple(
        Tool(name, description, schema, function, Nature.READS, title=title)
        for function, (name, description, schema, title) in zip(
            (remind_me, list_reminders, cancel_reminder), _TOLD, strict=True
        )
    )


def reminders_command(reminders: Reminders) -> Command:
    """Everybody sees and cancels their own; in a group, administrators those of all."""

    async def obey(call: Call) -> Reply:
        message, wanted = call.message, call.argument.strip()
        everybody = call.role is Role.ADMIN and message.chat_kind is not ChatKind.PRIVATE
        if everybody:
            found = await reminders.in_chat(call.bot, message.conversation)
        else:
            found = await _own(
                reminders, call.bot, str(message.user), str(message.conversation), message.chat_kind
            )
        if wanted:
            known = {(each.user, each.id) for each in found}
            done = await reminders.cancel(call.bot, wanted, lambda each: (each.user, each.id) in known)
            if done is None:
                return call.fail("tools.reminders.unknown", id=wanted[:20])
            return call.say("tools.reminders.cancelled", text=done.text[:_LONGEST_SHOWN])
        if not found:
            return call.say("tools.reminders.none")
        lines = [call.text("tools.reminders.title", zone=found[0].zone.key)]
        for each in found[:_MOST_SHOWN]:
            repeat = call.text(f"tools.repeat.{each.repeat.value}")
            text = each.text[:_LONGEST_SHOWN]
            facts = {"id": each.id, "when": each.local, "repeat": repeat, "text": text}
            if everybody:
                lines.append(call.text("tools.reminders.line_of", whose=each.whose, **facts))
            else:
                lines.append(call.text("tools.reminders.line", **facts))
        if len(found) > _MOST_SHOWN:
            lines.append(call.text("tools.reminders.more", count=len(found) - _MOST_SHOWN))
        lines.append(call.text("tools.reminders.how"))
        return Reply("", ReplyState.FINAL, "\n".join(lines))

    return Command("reminders", obey, argument="ID", rank=95)


_SCHEMA = {
    "type": "object",
    "properties": {
        "text": {
            "type": "string",
            "minLength": 1,
            "maxLength": LONGEST_TEXT,
            "description": "What the person is told then, or the question.",
        },
        "at": {
            "type": "string",
            "maxLength": 19,
            "description": "The person's date and time, like 2026-11-28 09:00. Instead of in_minutes.",
        },
        "in_minutes": {"type": "number", "description": "From now. Instead of at."},
        "repeat": {
            "type": "string",
            "enum": [each.value for each in Repeat],
            "description": f"How often after that, {MOST_TIMES} times at most. Leave it out for once.",
        },
        "asks": {"type": "boolean", "description": "Whether text is a question that you are to answer then."},
    },
    "required": ["text"],
    "additionalProperties": False,
}
_TOLD = (
    (
        "remind_me",
        "Reminds the person who asks, in this chat, later. Or asks you a question then, with asks.",
        _SCHEMA,
        {"en": "Set a reminder", "zh": "设置提醒"},
    ),
    (
        "list_reminders",
        "Lists the reminders that the person who asks has set.",
        {"type": "object", "properties": {}, "additionalProperties": False},
        {"en": "List reminders", "zh": "查看提醒"},
    ),
    (
        "cancel_reminder",
        "Cancels a reminder of the person who asks, by its id.",
        {
            "type": "object",
            "properties": {"id": {"type": "string", "maxLength": 20}},
            "required": ["id"],
            "additionalProperties": False,
        },
        {"en": "Cancel a reminder", "zh": "取消提醒"},
    ),
)


def _wanted(use: ToolUse, clock: Clock) -> Reminder:
    """Raises ToolFailed."""
    given, now = use.arguments, clock()
    zone = zone_named(use.timezone)
    text = " ".join(str(given["text"]).split())[:LONGEST_TEXT].replace("\0", "")
    if zone is None or not text:
        raise ToolFailed("No reminder was set: there is nothing to be reminded of, or no time zone.")
    at, minutes = given.get("at"), given.get("in_minutes")
    try:
        due = first_due(
            None if at is None else str(at), None if minutes is None else float(minutes), zone, now
        )
        repeat = Repeat(given.get("repeat") or Repeat.NEVER)
    except (ValueError, OverflowError) as error:
        words = str(error) if isinstance(error, WrongTime) else "this is no time"
        raise ToolFailed(f"No reminder was set: {words}.") from error
    return Reminder(
        id_of(use.id, use.user, use.conversation),
        UserKey.parse(use.user),
        ConversationKey.parse(use.conversation),
        use.chat_kind,
        use.language,
        zone,
        text,
        bool(given.get("asks", False)),
        due,
        due,
        repeat,
        1 if repeat is Repeat.NEVER else MOST_TIMES,
        name=use.user_name,
    )


async def _own(
    reminders: Reminders, bot: Bot, user: str, conversation: str, kind: ChatKind
) -> Sequence[Reminder]:
    """A person's own: in a private chat all of them, elsewhere those of that chat."""
    found, here = await reminders.of(bot, UserKey.parse(user)), ConversationKey.parse(conversation)
    return [each for each in found if kind is ChatKind.PRIVATE or each.conversation.chat == here.chat]
