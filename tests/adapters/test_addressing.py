"""What counts as speaking to the bot: tables of what people write, the same on Telegram and on Discord.

The decisions are pure, so no bot runs here: an update goes through the adapter's reading of it, and through what a
group's mode says of that.
"""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from adapters.said import (
    COMMANDS,
    ME,
    OTHER_ROLE,
    OTHERS,
    OURS,
    PICTURE,
    ROLE,
    US,
    answers,
    entities_of,
    on_discord,
    on_telegram,
    replying,
    units,
)
from glmbot.messages import Addressed, ChatKind
from glmbot.openings import slash_command, without
from glmbot_discord.normalize import Self
from platforms.telegram_server import BOT

SILENT, ANSWERED = False, True

# ---- commands, paths, comments ----------------------------------------------------------------------------------

# {us} and {them} are the names of bots; what each mode of a group does: mention, command, all.
IN_GROUPS = [
    ("/8ball will it rain?", SILENT, SILENT, SILENT),
    ("/d20+3", SILENT, SILENT, SILENT),
    ("/roll@{them}", SILENT, SILENT, SILENT),
    ("/ask@{them} why", SILENT, SILENT, SILENT),
    ("/help@{them}", SILENT, SILENT, SILENT),
    ("/帮助 我", SILENT, SILENT, SILENT),
    ("/start-up costs", SILENT, SILENT, SILENT),
    ("!roll 2d6", SILENT, SILENT, SILENT),
    ("！help", SILENT, SILENT, SILENT),
    ("/ban {@us}", SILENT, SILENT, SILENT),
    ("!kick {@us}", SILENT, SILENT, SILENT),
    ("/8ball {@us} will it rain?", SILENT, SILENT, SILENT),
    ("/etc/hosts is wrong", SILENT, SILENT, ANSWERED),
    ("/usr/bin?", SILENT, SILENT, ANSWERED),
    ("//todo: fix", SILENT, SILENT, ANSWERED),
    ("/* a comment */", SILENT, SILENT, ANSWERED),
    ("/.env is missing", SILENT, SILENT, ANSWERED),
    ("/config.toml is wrong", SILENT, SILENT, ANSWERED),
    ("/", SILENT, SILENT, ANSWERED),
    ("!", SILENT, SILENT, ANSWERED),
    ("hello", SILENT, SILENT, ANSWERED),
    ("say /ask to it", SILENT, SILENT, ANSWERED),
    ("/ask why", ANSWERED, ANSWERED, ANSWERED),
    ("/ASK why", ANSWERED, ANSWERED, ANSWERED),
    ("/ask: why", ANSWERED, ANSWERED, ANSWERED),
    ("／ask 为什么", ANSWERED, ANSWERED, ANSWERED),
    ("／ＡＳＫ　为什么", ANSWERED, ANSWERED, ANSWERED),
    ("/ask@{us} why", ANSWERED, ANSWERED, ANSWERED),
    ("/help", ANSWERED, ANSWERED, ANSWERED),
    ("/help!", ANSWERED, ANSWERED, ANSWERED),
    ("/ask {@us} why", ANSWERED, ANSWERED, ANSWERED),
    ("{@us} /ask why", ANSWERED, ANSWERED, ANSWERED),
    ("{@us}, /ask why", ANSWERED, ANSWERED, ANSWERED),
    ("/8ball@{us}", ANSWERED, ANSWERED, ANSWERED),
    ("{@us} /8ball", ANSWERED, SILENT, ANSWERED),
    ("{@us} !important", ANSWERED, SILENT, ANSWERED),
    ("{@us} hello", ANSWERED, SILENT, ANSWERED),
    ("hello {@us}", ANSWERED, SILENT, ANSWERED),
    ("你好 {@us}，请问", ANSWERED, SILENT, ANSWERED),
    ("/etc/hosts is wrong, {@us}", ANSWERED, SILENT, ANSWERED),
    ("//todo {@us}", ANSWERED, SILENT, ANSWERED),
    ("{@us}", ANSWERED, SILENT, ANSWERED),
    ("@everyone look", SILENT, SILENT, ANSWERED),
    ("@here look", SILENT, SILENT, ANSWERED),
]


@pytest.mark.parametrize(("text", "mention", "command", "everything"), IN_GROUPS)
def test_a_groups_mode_and_what_is_said_there_decide_together(
    text: str, mention: bool, command: bool, everything: bool
) -> None:
    expected = {"mention": mention, "command": command, "all": everything}
    telegram = on_telegram(text.replace("{@us}", f"@{US}").format(us=US, them=OTHERS))
    assert {mode: answers(telegram, mode) for mode in expected} == expected, "Telegram"
    there = on_discord(text.replace("{@us}", f"<@{ME.id}>").format(us="GLMbot", them=OTHERS))
    assert {mode: answers(there, mode) for mode in expected} == expected, "Discord"


@pytest.mark.parametrize("text", ["/8ball", "/translate@other_bot", "!roll"])
def test_another_bots_command_is_no_reply_to_us(text: str) -> None:
    assert not answers(on_telegram(text, reply_to_message=OURS))
    assert not answers(on_discord(text, **replying(ME.id)))


def test_what_begins_with_another_bots_name_is_said_to_that_one_in_any_mode() -> None:
    other = SimpleNamespace(id=77, bot=True)
    for text, answered in (
        ("<@77> hello", SILENT),
        (f"<@77> ask <@{ME.id}>", ANSWERED),
        ("what is <@77>?", ANSWERED),
    ):
        mentions = [other, SimpleNamespace(id=ME.id, bot=True)] if str(ME.id) in text else [other]
        assert answers(on_discord(text, mentions=mentions), "all") is answered
    for text, answered in (
        (f"@{OTHERS} hello", SILENT),
        (f"@{OTHERS} ask @{US}", ANSWERED),
        (f"what is @{OTHERS}?", ANSWERED),
        ("@somebody hello", ANSWERED),
    ):
        assert answers(on_telegram(text), "all") is answered
    person = SimpleNamespace(id=77, bot=False)
    assert answers(on_discord("<@77> hello", mentions=[person]), "all")


ANY_TEXT = st.one_of(
    st.text(max_size=60),
    st.builds(
        "".join,
        st.lists(
            st.sampled_from(
                ["/", "／", "!", "//", " ", "\n", "ask", "help", "8ball", "d20+3", "帮助", "etc", "@", OTHERS, "@" + OTHERS,
                 US, ".", ":", "，", "`", "> ", "<@&", "<@", "7>", f"{OTHER_ROLE}>", "@everyone", "é", "𝔞", "\u200b"]
            ),
            max_size=8,
        ),
    ),
)  # fmt: skip


@given(ANY_TEXT)
@example("/d20+3")
@example("/ask")
@example("/askew")
def test_no_words_without_a_mention_a_reply_or_a_command_of_ours_are_answered(text: str) -> None:
    text = text.strip()
    ours = re.match(r"[/／](\w+)(?=[\s:：,，.!?~。！？…]|\Z)", text)
    if f"@{US}".lower() in text.lower() or (ours and ours[1].lower() in COMMANDS):
        return
    assert not answers(on_telegram(text))
    assert not answers(on_discord(text))
    assert not answers(on_discord(text, me=Self(ME.id, ME.name, ME.roles, reads_all=False)))


@pytest.mark.parametrize(
    ("text", "name", "argument", "to"),
    [
        ("/ask why", "ask", "why", ""),
        ("/Ask@OurBot  why\nnot", "ask", "why\nnot", "OurBot"),
        ("／ａｓｋ　为什么", "ask", "为什么", ""),
        ("/ask：为什么", "ask", "为什么", ""),
        ("/stop.", "stop", "", ""),
        ("/help！", "help", "", ""),
        ("/8ball", "8ball", "", ""),
        ("/帮助 我", "帮助", "我", ""),
        ("/d20+3 now", "d20+3", "now", ""),
        ("/start-up costs", "start-up", "costs", ""),
    ],
)
def test_a_command_is_read_in_any_script_width_and_case(text: str, name: str, argument: str, to: str) -> None:
    found = slash_command(text)
    assert found is not None
    assert (found.name, found.argument, found.to) == (name, argument, to)


@pytest.mark.parametrize(
    "text", ["/etc/hosts", "/usr/bin?", "//todo", "/", "/ ask", "/^a/", "/.env", "/a.txt", "/b>", "x /ask"]
)
def test_paths_comments_and_patterns_are_no_commands(text: str) -> None:
    assert slash_command(text) is None


@given(st.text(max_size=40), st.lists(st.tuples(st.integers(0, 40), st.integers(0, 5)), max_size=4))
def test_nothing_but_mentions_and_gaps_is_taken_out_of_a_text(
    text: str, places: list[tuple[int, int]]
) -> None:
    spans, end = [], 0
    for start, length in sorted(places):
        if end <= start <= len(text):
            end = min(len(text), start + length)
            spans.append((start, end))
    kept = "".join(
        char for at, char in enumerate(text) if not any(start <= at < stop for start, stop in spans)
    )
    gaps = " \t,:，：、"
    assert [c for c in without(text, spans) if c not in gaps and not c.isspace()] == [
        c for c in kept if c not in gaps and not c.isspace()
    ]


# ---- mentions ---------------------------------------------------------------------------------------------------


def entity(kind: str, text: str, part: str, **more: Any) -> dict[str, Any]:
    return {"type": kind, "offset": units(text[: text.index(part)]), "length": units(part), **more}


@pytest.mark.parametrize("kind", ["blockquote", "expandable_blockquote", "code", "pre"])
def test_a_mention_in_a_quote_or_in_code_is_none_to_us_on_telegram(kind: str) -> None:
    text = f"he said @{US} hi\nand left"
    around = entity(kind, text, f"he said @{US} hi")
    said = on_telegram(text, entities=[around, *entities_of(text)])
    assert not answers(said)
    said = on_telegram(f"{text} @{US}", entities=[around, *entities_of(f"{text} @{US}")])
    assert answers(said)
    assert said is not None
    assert said.text == text, "what is quoted stays as it is"


@pytest.mark.parametrize(
    "text",
    ["> <@{us}> hi\nand left", "he wrote\n> <@{us}>", ">>> a\n<@{us}> b", "`<@{us}>`", "```\n<@{us}>\n```", "``a ` <@{us}>``"],
)  # fmt: skip
def test_a_mention_in_a_quote_or_in_code_is_none_to_us_on_discord(text: str) -> None:
    text = text.format(us=ME.id)
    assert not answers(on_discord(text))
    said = on_discord(f"<@!{ME.id}>\n{text}", pings=True)
    assert answers(said)
    assert said is not None
    assert said.text == text


def test_a_mention_in_a_caption_or_by_name_counts_on_telegram() -> None:
    caption = f"look @{US}"
    said = on_telegram(photo=PICTURE, caption=caption, caption_entities=entities_of(caption))
    assert said is not None
    assert (answers(said), said.text, said.media) == (True, "look", "photo")
    text = "𝔞 glmbot, look"
    said = on_telegram(text, entities=[entity("text_mention", text, "glmbot", user=BOT)])
    assert said is not None
    assert (said.addressed, said.text) == (Addressed.BY_MENTION, "𝔞, look")


def test_a_role_of_ours_is_a_mention_on_discord_and_other_roles_and_everybody_are_not() -> None:
    said = on_discord(f"<@&{ROLE}> hello")
    assert said is not None
    assert (said.addressed, said.text) == (Addressed.BY_MENTION, "hello")
    assert not answers(on_discord(f"<@&{OTHER_ROLE}> hello"))
    assert not answers(on_discord(f"> <@&{ROLE}> hello\nno"))
    assert not answers(on_discord(f"<@&{ROLE}> hello", me=Self(ME.id, ME.name, reads_all=True)))


def test_an_unknown_command_is_answered_in_private_and_a_path_is_a_question() -> None:
    for text in ("/8ball", "/帮助", "/d20+3"):
        for said in (on_telegram(text, private=True), on_discord(text, private=True)):
            assert said is not None
            assert said.chat_kind is ChatKind.PRIVATE
            command = slash_command(said.text)
            assert command is not None
            assert command.name not in COMMANDS
    for text in ("/etc/hosts is wrong", "//todo", "!important"):
        for said in (on_telegram(text, private=True), on_discord(text, private=True)):
            assert said is not None
            assert slash_command(said.text) is None
