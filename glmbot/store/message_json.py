"""Messages and their answers as JSON: what stands in the store, in the journal and on its way between chats."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any, cast

from glmbot.keys import ConversationKey, UserKey
from glmbot.messages import Act, Addressed, ChatKind, Message, ReplyState, Role, Visibility
from glmbot.store.records import StoredAnswer

__all__ = ["answer_from_json", "kept_json", "marks_from_json", "message_from_json", "message_to_json"]

# Among the adapter's notes, where a message's source and act are kept.
_SOURCE, _ACT = "glmbot.source", "glmbot.act"
_ENDED = frozenset(str(state) for state in ReplyState if state.ended)
_MESSAGE_FIELDS = frozenset(each.name for each in fields(Message)) - {"act"}
_NO_ACT = Act()
# Earlier releases refuse a field that they do not know, so these are written only where they say something.
_LATER_FIELDS: Mapping[str, object] = {
    "visibility": Visibility.EVERYONE,
    "quoted_from": "",
    "anonymous": False,
}


def message_to_json(message: Message) -> dict[str, Any]:
    written = asdict(message)
    written["conversation"] = str(message.conversation)
    written["user"] = str(message.user)
    source = written.pop("source")
    for name, usual in _LATER_FIELDS.items():
        if written[name] == usual:
            del written[name]
    said = {
        each.name: value
        for each in fields(Act)
        if (value := getattr(message.act, each.name)) != getattr(_NO_ACT, each.name)
    }
    act = json.dumps(said, default=dict) if said else ""
    del written["act"]
    notes = {name: note for name, note in ((_SOURCE, source), (_ACT, act)) if note}
    written["origin"] = {**message.origin, **notes}
    return written


def message_from_json(written: object) -> Message:
    """Undo `message_to_json`. What an older version did not write has its default; what a later one wrote and this
    one does not know is left out. Raises ValueError for what is no message.
    """
    if not isinstance(written, dict):
        raise ValueError("a message is a JSON object")
    found = {name: value for name, value in cast(dict[str, Any], written).items() if name in _MESSAGE_FIELDS}
    missing = {"update_id", "conversation", "user", "text"} - found.keys()
    if missing:
        raise ValueError(f"a message has {', '.join(sorted(missing))}")
    for name in ("edits", "in_place", "own", "anonymous"):
        if not isinstance(found.get(name, False), bool):
            raise ValueError(f"{name} must be true or false")
    for name in ("conversation", "user"):
        if not isinstance(found[name], str):
            raise ValueError(f"{name} must be text")
    origin = found.get("origin", {})
    if not isinstance(origin, dict):
        raise ValueError("an origin is a JSON object")
    notes = dict(cast(dict[str, Any], origin))
    vouched = found.get("vouched")
    known: dict[str, Any] = {
        **found,
        "source": notes.pop(_SOURCE, ""),
        "act": _act_from(notes.pop(_ACT, "{}")),
        "origin": notes,
        "conversation": ConversationKey.parse(found["conversation"]),
        "user": UserKey.parse(found["user"]),
        "chat_kind": ChatKind(found.get("chat_kind", ChatKind.PRIVATE)),
        "vouched": None if vouched is None else Role(vouched),
        "addressed": Addressed(found.get("addressed", Addressed.DIRECTLY)),
        "visibility": Visibility(found.get("visibility", Visibility.EVERYONE)),
    }
    return Message(**known)


def kept_json(written: str | bytes) -> Any:
    """What the store keeps as JSON. Raises ValueError for what is none, nesting beyond any reader's depth too."""
    try:
        return json.loads(written)
    except RecursionError as error:
        raise ValueError("JSON of such a depth is none of ours") from error


def _act_from(written: object) -> Act:
    """Raises ValueError."""
    found = kept_json(written) if isinstance(written, str) else None
    if not isinstance(found, dict):
        raise ValueError("an act is a JSON object")
    known = {each.name for each in fields(Act)}
    said = {name: value for name, value in cast(dict[str, Any], found).items() if name in known}
    if not isinstance(said.get("pieces", {}), dict):
        raise ValueError("an act's pieces are a JSON object")
    return Act(**said)


def marks_from_json(written: str) -> dict[str, str]:
    """Raises ValueError for what are no marks."""
    marks = kept_json(written)
    if not isinstance(marks, dict):
        raise ValueError("marks are a JSON object")
    found = cast(dict[str, Any], marks)
    if not all(isinstance(value, str) for value in found.values()):
        raise ValueError("a mark is text")
    return found


def answer_from_json(written: str) -> StoredAnswer:
    """Raises ValueError for what is no answer."""
    found = kept_json(written)
    if not isinstance(found, dict):
        raise ValueError("an answer is a JSON object")
    known = cast(dict[str, Any], found)
    names = [each.name for each in fields(StoredAnswer)]
    texts = {name: known[name] for name in names if name in known}
    if not {"text", "state", "notice"} <= texts.keys() or not all(
        isinstance(value, str) for value in texts.values()
    ):
        raise ValueError("an answer has text, state and notice")
    if texts["state"] not in _ENDED:
        raise ValueError("an answer's state is that of one that has ended")
    return StoredAnswer(**texts)
