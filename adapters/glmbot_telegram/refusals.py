"""What Telegram's refusals mean. What is not known here means nothing more than that this request was refused.

Sources: errors that the Bot API server words itself (`fail_query_with_error` and the checks before it,
https://github.com/tdlib/telegram-bot-api/blob/master/telegram-bot-api/Client.cpp); those of the client library
under it (https://github.com/tdlib/td, MessagesManager.cpp, DialogManager.cpp); and names that come through from
Telegram's own servers (https://core.telegram.org/api/errors, and the tables under
https://core.telegram.org/method/ of messages.sendMessage, messages.editMessage and messages.sendMedia).
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum, auto

__all__ = ["KNOWN", "Meaning", "meaning"]


class Meaning(Enum):
    SAME = auto()
    """It is so already."""
    GONE = auto()
    """Nothing can be written to this chat or topic any more."""
    CLOSED = auto()
    """Nothing may be written there for now; an administrator of the chat can change that."""
    MISSING = auto()
    """The message to edit or to delete is no longer there, or no longer to be edited."""
    QUOTE = auto()
    """The message that would be quoted is not there."""
    TOPIC = auto()
    """The topic is not there."""
    BUTTONS = auto()
    """The buttons are refused."""
    UNKNOWN = auto()
    """This request was refused, for a reason that is not known."""


_BOT_API = "telegram-bot-api Client.cpp"
_TDLIB = "tdlib"
_SERVER = "core.telegram.org/method"

# A part of the description in small letters, what it means, where it comes from. The first that fits counts.
KNOWN: Sequence[tuple[str, Meaning, str]] = (
    ("message is not modified", Meaning.SAME, _BOT_API),
    ("message_not_modified", Meaning.SAME, _SERVER),
    ("bot was blocked by the user", Meaning.GONE, _BOT_API),
    ("user_is_blocked", Meaning.GONE, _SERVER),
    ("user is deactivated", Meaning.GONE, _BOT_API),
    ("user_deactivated", Meaning.GONE, _SERVER),
    ("input_user_deactivated", Meaning.GONE, _SERVER),
    ("bot was kicked from the", Meaning.GONE, _BOT_API),
    ("bot is not a member of the", Meaning.GONE, _BOT_API),
    ("bot can't initiate conversation with a user", Meaning.GONE, _BOT_API),
    ("bot can't send messages to bots", Meaning.GONE, _BOT_API),
    ("bots can't send messages to bots", Meaning.GONE, _BOT_API),
    ("bot can't send messages to the user", Meaning.GONE, _BOT_API),
    ("user_is_bot", Meaning.GONE, _SERVER),
    ("the group chat was deleted", Meaning.GONE, _BOT_API),
    ("group chat was deactivated", Meaning.GONE, _BOT_API),
    ("chat was deleted", Meaning.GONE, _BOT_API),
    ("chat not found", Meaning.GONE, _BOT_API),
    ("user not found", Meaning.GONE, _BOT_API),
    ("peer_id_invalid", Meaning.GONE, _SERVER),
    ("chat_id_invalid", Meaning.GONE, _SERVER),
    ("channel_invalid", Meaning.GONE, _SERVER),
    ("channel_private", Meaning.GONE, _SERVER),
    ("chat_forbidden", Meaning.GONE, _SERVER),
    ("topic_deleted", Meaning.GONE, _SERVER),
    ("topic_closed", Meaning.CLOSED, _SERVER),
    ("chat_write_forbidden", Meaning.CLOSED, _SERVER),
    ("chat_restricted", Meaning.CLOSED, _SERVER),
    ("chat_guest_send_forbidden", Meaning.CLOSED, _SERVER),
    ("chat_send_plain_forbidden", Meaning.CLOSED, _SERVER),
    ("chat_admin_required", Meaning.CLOSED, _SERVER),
    ("user_banned_in_channel", Meaning.CLOSED, _SERVER),
    ("user_restricted", Meaning.CLOSED, _SERVER),
    ("need administrator rights", Meaning.CLOSED, _BOT_API),
    ("not enough rights", Meaning.CLOSED, _TDLIB),
    ("have no rights to send", Meaning.CLOSED, _BOT_API),
    ("have no write access to the chat", Meaning.CLOSED, _TDLIB),
    ("message to edit not found", Meaning.MISSING, _BOT_API),
    ("message to delete not found", Meaning.MISSING, _BOT_API),
    ("message can't be edited", Meaning.MISSING, _BOT_API),
    ("there is no text in the message to edit", Meaning.MISSING, _BOT_API),
    ("message identifier is not specified", Meaning.MISSING, _BOT_API),
    ("message_edit_time_expired", Meaning.MISSING, _SERVER),
    ("message_author_required", Meaning.MISSING, _SERVER),
    ("reply_message_id_invalid", Meaning.QUOTE, _SERVER),
    ("reply_to_invalid", Meaning.QUOTE, _SERVER),
    ("reply_to_monoforum_peer_invalid", Meaning.QUOTE, _SERVER),
    ("message to be replied not found", Meaning.QUOTE, _BOT_API),
    ("replied message not found", Meaning.QUOTE, _BOT_API),
    ("message to reply not found", Meaning.QUOTE, _BOT_API),
    ("message thread not found", Meaning.TOPIC, _BOT_API),
    ("topic_id_invalid", Meaning.TOPIC, _SERVER),
    ("msg_thread_id_invalid", Meaning.TOPIC, _SERVER),
    ("top_msg_id_invalid", Meaning.TOPIC, _SERVER),
    ("message_id_invalid", Meaning.MISSING, _SERVER),
    ("msg_id_invalid", Meaning.MISSING, _SERVER),
    ("button_", Meaning.BUTTONS, _SERVER),
    ("reply_markup_", Meaning.BUTTONS, _SERVER),
    ("reply markup", Meaning.BUTTONS, _BOT_API),
    ("inline keyboard", Meaning.BUTTONS, _BOT_API),
)


def meaning(description: str) -> Meaning:
    """Of the words in an answer of the Bot API that is not ok."""
    words = description.lower()
    return next((known for part, known, _ in KNOWN if part in words), Meaning.UNKNOWN)
