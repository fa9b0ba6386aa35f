"""Keys: any text is an id, each key is written in one way, and what released versions wrote is read as it was."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from glmbot.keys import (
    LONGEST_ID,
    ChatKey,
    ConversationKey,
    UserKey,
    in_chat,
    number_in,
    numeric_id,
    owner_from,
)

# Up to the last byte that an id may have, and what has a meaning somewhere.
_AWKWARD = [
    "0", "%30", "chat", ":", "::", "%", "%25", "*", "[a]?", "{x}", " ", "\n", "\x7f", ".", "..", "/", "-0", "é" * 64,
    "\U0010ffff" * 32, "\ufeff", "\u202e", "@alice:example.org", "Ａ", "a", "A", "x" * 128,
]  # fmt: skip
_texts = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=LONGEST_ID
)
ids = st.sampled_from(_AWKWARD) | _texts.map(
    lambda text: text.encode()[:LONGEST_ID].decode(errors="ignore") or "x"
)
_platforms = st.from_regex(r"[a-z][a-z0-9_]{0,10}", fullmatch=True)
_ONE_WORD = re.compile(r"[a-z][a-z0-9_]*(:[A-Za-z0-9._~%-]+){1,3}")
KEYS: list[Any] = [UserKey, ConversationKey, ChatKey]


@given(_platforms, ids, ids | st.just(""), ids | st.just(""))
@example("console", "0", "0", "0")
def test_what_is_written_is_read_again(platform: str, first: str, user: str, thread: str) -> None:
    keys = (
        UserKey(platform, str(first)),
        ConversationKey(platform, str(first), str(user), str(thread)),
        ChatKey(platform, str(first), str(user)),
    )
    for key in keys:
        assert type(key).parse(str(key)) == key
        assert _ONE_WORD.fullmatch(str(key)), "no log, pattern or address misreads it"
    assert [owner_from(str(key)) for key in (keys[0], keys[2])] == [keys[0], keys[2]]
    assert str(keys[1]).startswith(in_chat(platform, first))


@given(
    st.tuples(ids, ids | st.just(""), ids | st.just("")), st.tuples(ids, ids | st.just(""), ids | st.just(""))
)
def test_no_two_are_written_alike(one: tuple[str, str, str], other: tuple[str, str, str]) -> None:
    assert (str(ConversationKey("x", *one)) == str(ConversationKey("x", *other))) == (one == other)
    owners = [
        str(made) for key in (one, other) for made in (UserKey("x", str(key[0])), ChatKey("x", *key[:2]))
    ]
    assert len(set(owners)) == len({one[0], other[0]}) + len({one[:2], other[:2]})
    begins = str(ConversationKey("x", *one)).startswith(in_chat("x", other[0]))
    assert begins == (one[0] == other[0]), "of one chat are those, and no other's"


_numbers = st.integers(-(2**63) + 1, 2**63 - 1)


@given(st.integers(-(2**65), 2**65))
@example(2**63)
@example(-1)
def test_a_number_is_an_id_where_the_platform_may_have_it(number: int) -> None:
    for signed in (False, True):
        if (-(2**63) if signed else -1) < number < 2**63:
            assert number_in(numeric_id(number, signed=signed), signed=signed) == number
            continue
        for refused in (numeric_id, lambda each, signed: number_in(str(each), signed=signed)):
            with pytest.raises(ValueError, match="at most 64 bits"):
                refused(number, signed=signed)


@pytest.mark.parametrize("given", [True, 1.0, None, "7", "", "+7", " 7", "٣", "１", "7\n", "1_0", "0x7"])
def test_what_is_no_number_of_a_platform_is_none_of_its_ids(given: Any) -> None:
    with pytest.raises(ValueError, match="at most 64 bits"):
        numeric_id(given, signed=True)
    if isinstance(given, str) and given != "7":
        with pytest.raises(ValueError, match="at most 64 bits"):
            number_in(given, signed=True)


@given(_numbers, _numbers, _numbers.map(abs))
@example(0, 0, 0)
def test_released_versions_wrote_the_same_person_and_chat(chat: int, user: int, thread: int) -> None:
    where = ConversationKey.parse(f"telegram:{chat}:{user}:{thread}")
    assert where == ConversationKey(
        "telegram", str(chat), str(user) if user else "", str(str(thread) if thread else "")
    )
    assert str(where) == f"telegram:{chat}:{user}:{thread}"
    assert UserKey.parse(f"telegram:{user}") == UserKey("telegram", str(user))
    owner = f":{user}" if user else ""
    assert str(ChatKey.parse(f"web{owner}:chat:{chat}")) == f"web{owner}:chat:{chat}"
    assert ChatKey.parse(f"web{owner}:chat:{chat}") == ChatKey("web", str(chat), str(user) if user else "")


@pytest.mark.parametrize("wrong", ["", "x" * 129, "é" * 65, "a\0b", "\ud800", None, 1.5, True, b"x", ["x"]])
def test_what_is_no_id_is_refused(wrong: Any) -> None:
    for key in KEYS:
        with pytest.raises(ValueError, match="an id"):
            key("x", wrong)
    for key, fields in ((ConversationKey, ("user", "thread")), (ChatKey, ("user",))):
        for field in fields if wrong != "" else ():
            with pytest.raises(ValueError, match="an id"):
                key("x", "y", **{field: wrong})


@pytest.mark.parametrize("wrong", ["", "X", "a:b", "a b", "é", "1a", "a" * 65, None, 5])
def test_what_is_no_platform_is_refused(wrong: Any) -> None:
    for key in KEYS:
        with pytest.raises(ValueError, match="no platform"):
            key(wrong, "x")


@given(st.text(max_size=40) | st.from_regex(r"[a-z:%0-9 ]{0,30}", fullmatch=True))
@example("telegram:1:2")
@example("x:%41")
@example("x:%3a")
@example("x:%")
@example("x:%FF")
@example("x:0:chat:5")
@example("x:a:%30:0:0")
@example(":" * 100_000)
def test_what_is_read_is_what_would_be_written(text: str) -> None:
    """Two forms of one key would be two people."""
    for key in KEYS:
        try:
            found = key.parse(text)
        except ValueError:
            continue
        assert str(found) == text


@pytest.mark.parametrize(
    ("written", "key"),
    [
        ("telegram:123", UserKey("telegram", "123")), (" telegram:-100123\n", UserKey("telegram", "-100123")),
        ("telegram:00123", UserKey("telegram", "123")), ("discord:5", UserKey("discord", "5")),
        ("console:0", UserKey("console", "0")), ("slack:U02ABC", UserKey("slack", "U02ABC")),
        ("matrix:%40alice%3Aexample.org", UserKey("matrix", "@alice:example.org")),
    ],
)  # fmt: skip
def test_what_operators_write_is_read(written: str, key: UserKey) -> None:
    assert UserKey.by_hand(written) == key


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ("telegram:alice", "telegram:123456789"), ("telegram:@alice", "telegram:123456789"),
        ("telegram:1 2", "telegram:123456789"), ("telegram:٣", "telegram:123456789"),
        ("discord:99999999999999999999", "at most 64 bits"), ("telegram:", "telegram:123456789"),
        ("alice", "telegram:123456789"), ("slack:", "platform:id"), (":5", "platform:id"), ("", "platform:id"),
        ("matrix:@alice:example.org", "matrix:%40alice%3Aexample.org"), ("slack:a*", "slack:a%2A"),
        ("slack:" + "x" * 200, "128 bytes"),
    ],
)  # fmt: skip
def test_what_can_be_no_key_is_refused_with_what_to_write(written: str, words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(words)):
        UserKey.by_hand(written)
