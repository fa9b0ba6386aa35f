"""A message of OneBot 11 is read alike in both of its formats, whatever it says."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from glmbot.messages import Addressed, Message
from glmbot_onebot.normalize import Quoted, Recalled, read_event, to_message
from glmbot_onebot.segments import segments, words_of
from platforms.onebot_server import SELF, as_string

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
WORDS = st.one_of(
    TEXT, st.sampled_from(["[CQ:at,qq=all]", "&#91;CQ:at&#93;", "&amp;#44;", "[", "]", ",=", "/new", "!a"])
)
AT = st.sampled_from([str(SELF), "all", "8"])
PART: st.SearchStrategy[dict[str, Any]] = st.one_of(
    st.builds(lambda text: {"type": "text", "data": {"text": text}}, WORDS),
    st.builds(lambda qq: {"type": "at", "data": {"qq": qq}}, AT),
    st.builds(lambda url: {"type": "image", "data": {"file": url}}, TEXT),
)


def event(message: object, **changes: Any) -> dict[str, Any]:
    return {
        "post_type": "message", "message_type": "group", "sub_type": "normal", "self_id": SELF, "user_id": 7,
        "group_id": 5, "message_id": -12, "time": 1, "message": message, "sender": {"nickname": "Ada"}, **changes,
    }  # fmt: skip


def said(message: object, quoted: Quoted | None = None, **changes: Any) -> Message | None:
    read = read_event(event(message, **changes))
    assert read is not None
    assert not isinstance(read, Recalled)
    return to_message(read, quoted, "", keywords=[], language="zh")


@given(st.lists(PART, min_size=1, max_size=6))
def test_both_formats_say_the_same_and_no_text_becomes_a_code(parts: list[dict[str, Any]]) -> None:
    text = words_of(segments(parts))
    assert words_of(segments(as_string(parts))) == text
    assert said(parts) == said(as_string(parts))


@given(st.lists(PART.filter(lambda part: part["data"].get("qq") != str(SELF)), min_size=1, max_size=6))
def test_no_words_without_a_mention_a_reply_or_a_command_are_said_to_it(parts: list[dict[str, Any]]) -> None:
    message = said(parts)
    assert message is None or message.addressed in (Addressed.NOT, Addressed.BY_COMMAND)


@given(WORDS)
def test_what_is_quoted_or_forwarded_is_never_a_command(text: str) -> None:
    read = read_event(event([], message_type="private"))
    assert read is not None
    assert not isinstance(read, Recalled)
    message = to_message(read, Quoted(text=text), text, keywords=[], language="zh")
    assert message is not None
    assert message.command is None


def test_others_devices_notices_and_anonymous_people() -> None:
    assert read_event(event("hi", user_id=SELF)) is None
    assert read_event(event("hi", sub_type="notice")) is None
    assert read_event(event("hi", message_type="guild")) is None
    anonymous = said(f"[CQ:at,qq={SELF}] hi", sub_type="anonymous", anonymous={"id": 1, "name": "x"})
    assert anonymous is not None
    assert (anonymous.user.id, anonymous.anonymous) == ("g5", True)
