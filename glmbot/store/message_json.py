"""Messages and their answers as JSON: what stands in the store, in the journal and on its way between chats.

Several releases may write one store. What an older one did not write has its default. A field that a later one
wrote and this one does not know is dropped: it is missing, too, in what is written again (after a move, or for
messages that became one), since nobody here could keep it true. A known field with a wrong value makes its message
a damaged one; the error names the field and never repeats the value, which may be somebody's words.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, TypeVar, cast

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    PlainValidator,
    TypeAdapter,
    ValidationError,
)

from glmbot.keys import ConversationKey, UserKey
from glmbot.messages import (
    Act,
    Addressed,
    Announce,
    Ask,
    ChatKind,
    Edit,
    Intent,
    Message,
    Press,
    Role,
    Visibility,
)
from glmbot.store.records import StoredAnswer

__all__ = [
    "Stored",
    "answer_from_json",
    "kept_json",
    "marks_from_json",
    "message_from_json",
    "message_to_json",
    "read_as",
]

# Among the adapter's notes, where a message's source and act are kept.
_SOURCE, _ACT = "glmbot.source", "glmbot.act"


def _key(parse: Callable[[str], object]) -> Any:
    def read(written: object) -> object:
        try:
            return parse(cast(str, written))
        except ValueError:
            # Its own words repeat what was given.
            raise ValueError("no key") from None

    return PlainValidator(read), PlainSerializer(str)


_Number = Annotated[int, Field(ge=0, lt=2**63)]


class Stored(BaseModel):
    """An object as it is written. What else stands in it is dropped."""

    model_config = ConfigDict(strict=True, extra="ignore", hide_input_in_errors=True)


class _Message(Stored):
    """In the order in which it is written."""

    update_id: str
    conversation: Annotated[ConversationKey, *_key(ConversationKey.parse)]
    user: Annotated[UserKey, *_key(UserKey.parse)]
    text: str
    chat_kind: Annotated[ChatKind, Field(strict=False)] = ChatKind.PRIVATE
    user_name: str = ""
    language: str = ""
    vouched: Annotated[Role, Field(strict=False)] | None = None
    origin: dict[str, str] = {}
    ref: str = ""
    edits: bool = False
    replies_to: str = ""
    quoted: str = ""
    quoted_from: str = ""
    in_place: bool = False
    addressed: Annotated[Addressed, Field(strict=False)] = Addressed.DIRECTLY
    media: str = ""
    own: bool = False
    visibility: Annotated[Visibility, Field(strict=False)] = Visibility.EVERYONE
    anonymous: bool = False


class _Act(Stored):
    album: str = ""
    at: _Number = 0
    cut: _Number = 0
    forwarded: bool = False
    pieces: dict[str, _Number] = {}


class _Answer(Stored):
    text: str
    state: Literal["final", "stopped", "failed"]
    notice: str
    finish_reason: str = ""
    thought: str = ""


_S = TypeVar("_S", bound=Stored)
_MARKS = TypeAdapter(dict[str, str], config=ConfigDict(strict=True))
_NO_ACT = Act()
# Released versions wrote what a message is meant for as these, and of a button what it stands under as what is
# replied to.
_FLAGS = ("edits", "in_place", "own")
_SAME = _Message.model_fields.keys() - {*_FLAGS, "replies_to"}
# Earlier releases refuse a field that they do not know, so these are written only where they say something.
_LATER: Mapping[str, object] = {
    name: _Message.model_fields[name].default for name in ("visibility", "quoted_from", "anonymous")
}


def message_to_json(message: Message) -> dict[str, Any]:
    """Undone by `message_from_json`."""
    said: dict[str, Any] = {name: getattr(message, name) for name in _SAME} | _flags(message)
    notes = dict(message.origin)
    if message.source:
        notes[_SOURCE] = message.source
    if message.act != _NO_ACT:
        notes[_ACT] = _act_to_json(message.act)
    said["origin"] = notes
    written = _Message.model_construct(**said)
    usual = {name for name, value in _LATER.items() if said[name] == value}
    return written.model_dump(mode="json", exclude=usual)


def message_from_json(written: object) -> Message:
    """Raises ValueError for what is no message."""
    found = dict(read_as(_Message, written, "a message"))
    notes = found["origin"]
    source, act = notes.pop(_SOURCE, ""), notes.pop(_ACT, None)
    intent = _intent(**{name: found.pop(name) for name in _FLAGS}, ref=found["replies_to"])
    if isinstance(intent, Press):
        found["replies_to"] = ""
    return Message(**found, intent=intent, source=source, act=_NO_ACT if act is None else _act_from_json(act))


def kept_json(written: str | bytes) -> Any:
    """What the store keeps as JSON. Raises ValueError for what is none, nesting beyond any reader's depth too."""
    try:
        return json.loads(written)
    except RecursionError as error:
        raise ValueError("JSON of such a depth is none of ours") from error


def marks_from_json(written: str) -> dict[str, str]:
    """Raises ValueError for what are no marks."""
    try:
        return _MARKS.validate_python(kept_json(written))
    except ValidationError:
        raise ValueError("marks are a JSON object of texts") from None


def answer_from_json(written: object) -> StoredAnswer:
    """Raises ValueError for what is no answer."""
    return StoredAnswer(**dict(read_as(_Answer, written, "an answer")))


def _flags(message: Message) -> dict[str, Any]:
    intent = message.intent
    return {
        "edits": isinstance(intent, Edit),
        "in_place": isinstance(intent, Press),
        "own": isinstance(intent, Announce),
        "replies_to": message.about,
    }


def _intent(*, edits: bool, in_place: bool, own: bool, ref: str) -> Intent:
    """They exclude each other; of several, which damage alone can set, the narrower one counts."""
    if own:
        return Announce()
    if in_place:
        return Press(ref)
    return Edit() if edits else Ask()


def _act_to_json(act: Act) -> str:
    said = _Act.model_construct(**{name: getattr(act, name) for name in _Act.model_fields})
    return json.dumps(said.model_dump(exclude_defaults=True))


def _act_from_json(written: str) -> Act:
    return Act(**dict(read_as(_Act, kept_json(written), "an act")))


def read_as(kind: type[_S], written: object, what: str) -> _S:
    """Raises ValueError that names the first field that is wrong, and says nothing of its value."""
    try:
        return kind.model_validate(written)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        # What stands further inside is the value's own.
        field = f" {first['loc'][0]}:" if first["loc"] else ""
        raise ValueError(f"{what}:{field} {first['msg']}") from None
