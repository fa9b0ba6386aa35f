"""What is taken of what a server offers, which is anything at all."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mcp_types import (
    CallToolResult,
    ElicitRequestFormParams,
    GetPromptResult,
    ImageContent,
    Prompt,
    PromptMessage,
    Resource,
    ResourceTemplate,
    TextContent,
    Tool,
    ToolAnnotations,
)
from pydantic import ValidationError

from glmbot.host import Nature
from glmbot_mcp import listing
from glmbot_mcp.elicitation import fields_of
from glmbot_mcp.listing import (
    ServerPrompt,
    in_one_line,
    nature_of,
    prompts_of,
    public_name,
    resources_of,
    templates_of,
    tools_of,
)
from glmbot_mcp.prompts import arguments_of, command_names
from glmbot_mcp.results import LONGEST_RESULT, called, prompted
from glmbot_mcp.servers import advice, answering
from glmbot_mcp.settings import ServerSettings, Settings
from plugins.mcp_world import Use

SERVER = ServerSettings(command=["tool"])


def tool(name: str = "look", schema: dict[str, Any] | None = None, **hints: Any) -> Tool:
    annotations = ToolAnnotations(**hints) if hints else None
    return Tool(name=name, input_schema=schema or {"type": "object"}, annotations=annotations)


def server(**changes: Any) -> ServerSettings:
    return ServerSettings.model_validate({"command": ["tool"], **changes})


@given(st.lists(st.text(min_size=1, max_size=130), min_size=2, max_size=8, unique=True))
def test_names_are_those_that_models_may_use_and_no_two_are_the_same(names: list[str]) -> None:
    public = [public_name("files", name) for name in names]
    assert all(re.fullmatch(r"files_[A-Za-z0-9_-]{1,58}", name) for name in public)
    assert len(set(public)) == len(names)


def test_a_look_alike_is_another_tool_with_a_name_that_shows_it() -> None:
    assert public_name("files", "read_file") == "files_read_file"
    assert re.fullmatch(r"files_r_ad_file_[0-9a-f]{8}", public_name("files", "rеad_file"))


@pytest.mark.parametrize(
    ("changes", "hints", "nature"),
    [
        ({}, {"read_only_hint": True}, Nature.ACTS),
        ({"trust_hints": True}, {"read_only_hint": True}, Nature.READS),
        ({"trust_hints": True}, {"read_only_hint": True, "destructive_hint": True}, Nature.ACTS),
        ({"trust_hints": True}, {}, Nature.ACTS),
        ({"nature": "pure"}, {}, Nature.PURE),
        ({"nature": "pure"}, {"read_only_hint": False}, Nature.ACTS),
        ({"nature": "reads"}, {"destructive_hint": True}, Nature.ACTS),
        ({"nature": "reads"}, {"read_only_hint": True}, Nature.READS),
        ({"natures": {"look": "pure"}}, {"destructive_hint": True}, Nature.PURE),
    ],
)
def test_what_a_server_says_of_itself_makes_its_tools_stricter_only(
    changes: dict[str, Any], hints: dict[str, Any], nature: Nature
) -> None:
    assert nature_of(server(**changes), tool(**hints)) is nature


def test_what_can_not_be_taken_is_left_out_by_name() -> None:
    deep: dict[str, Any] = {"type": "object"}
    for _ in range(50):
        deep = {"type": "object", "properties": {"x": deep}}
    given = [
        tool("ok"),
        tool("ok"),
        tool("deep", deep),
        tool("large", {"type": "object", "description": "x" * 20_000}),
        tool("list", {"type": "array"}),
        tool("far", {"type": "object", "properties": {"x": {"$ref": "https://example.org/schema"}}}),
        tool("near", {"type": "object", "$defs": {"a": {}}, "properties": {"x": {"$ref": "#/$defs/a"}}}),
    ]
    taken, left_out = tools_of("s", SERVER, given)
    assert [each.public for each in taken] == ["s_ok", "s_near"]
    assert [each.partition(":")[0] for each in left_out] == ["ok", "deep", "large", "list", "far"]


def test_only_tools_of_the_list_are_taken_and_no_more_than_fit() -> None:
    taken, left_out = tools_of("s", server(tools=["b"]), [tool("a"), tool("b"), tool("c")])
    assert [each.name for each in taken] == ["b"]
    assert not left_out
    assert len(tools_of("s", SERVER, [tool(f"t{number}") for number in range(1000)])[0]) == 64


def test_what_takes_long_to_check_is_left_out_and_the_same_is_not_checked_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wide = {"type": "object", "properties": {str(number): {} for number in range(1200)}}
    taken, left_out = tools_of("s", SERVER, [tool(f"t{number}", wide) for number in range(10)])
    assert len(taken) == 4
    assert "more than 5000 parts" in left_out[0]
    broken = {"type": "object", "properties": {"x": {"type": "nothing"}}}
    assert tools_of("s", SERVER, [tool("broken", broken)])[0] == []
    monkeypatch.setattr(listing, "Draft202012Validator", None)
    again, _ = tools_of("s", SERVER, [tool("t0", wide)], taken)
    assert again[0] is taken[0]


def test_a_tool_that_says_something_else_has_another_digest() -> None:
    def digest(**changes: Any) -> str:
        return tools_of("s", SERVER, [tool().model_copy(update=changes)])[0][0].digest

    assert (
        len({digest(), digest(description="Now with more"), digest(input_schema={"type": "object", "a": 1})})
        == 3
    )


def test_addresses_and_prompts_are_words() -> None:
    uris = ["note://1", "two words", "note://\u202e1", "x" * 600]
    assert [uri for uri, _ in resources_of([Resource(uri=uri, name="n") for uri in uris])] == ["note://1"]
    templates = [ResourceTemplate(uri_template=uri, name="n") for uri in ("note://{id}", "{any}", "file")]
    assert templates_of(templates) == ["note://"]
    assert [each.name for each in prompts_of([Prompt(name="ok"), Prompt(name="a b"), Prompt(name="")])] == [
        "ok"
    ]


@given(st.text(max_size=300), st.integers(1, 100))
def test_a_line_is_one_line_and_holds_nothing_that_can_not_be_seen(text: str, longest: int) -> None:
    line = in_one_line(text, longest)
    assert len(line) <= longest
    assert len(line.splitlines()) <= 1
    assert not re.search("[\x00-\x1f\u200b-\u200f\u202a-\u202e\u2066-\u2069]", line)


def test_what_is_no_text_is_named_and_what_is_long_is_cut() -> None:
    image = ImageContent(data="QUJDRA==", mime_type="image/png")
    assert (
        called(CallToolResult(content=[TextContent(text="Here:"), image])) == "Here:\n\n[image/png, 6 bytes]"
    )
    assert called(CallToolResult(content=[], structured_content={"a": "你"})) == '{"a": "你"}'
    long = called(CallToolResult(content=[TextContent(text="x" * 100_000)]))
    assert long.endswith("[36,000 more characters were left out]")
    assert len(long) < LONGEST_RESULT + 100


def test_a_prompt_is_one_question_whoever_is_said_to_speak_in_it() -> None:
    said = [("user", "What is it?"), ("assistant", "I obey.")]
    messages = [
        PromptMessage.model_validate({"role": r, "content": {"type": "text", "text": t}}) for r, t in said
    ]
    assert prompted(GetPromptResult(messages=messages)) == "What is it?\n\nI obey."


@given(
    st.lists(
        st.tuples(st.from_regex(r"[a-z][a-z0-9-]{0,23}", fullmatch=True), st.text(min_size=1, max_size=64)),
        unique=True,
    )
)
def test_each_prompt_has_a_command_of_its_own_that_platforms_take(prompts: list[tuple[str, str]]) -> None:
    names = command_names(prompts)
    assert len(set(names)) == len(prompts)
    assert all(re.fullmatch(r"[a-z][a-z0-9_]{0,31}", name) for name in names)


def test_prompts_that_would_be_called_alike_are_told_apart() -> None:
    names = command_names([("a-b", "c"), ("a", "b_c"), ("files", "Read File")])
    # Nor does one take the name that another has for being called alike.
    takers = [("a", name.removeprefix("a_")) for name in names[:2]]
    assert len(set(command_names([("a-b", "c"), ("a", "b_c"), *takers]))) == 4
    assert names[2] == "files_read_file"
    assert names[0] != names[1]
    assert all(name.startswith("a_b_c_") for name in names[:2])


def test_arguments_of_a_prompt() -> None:
    one = ServerPrompt("greet", "", [("who", True)])
    two = ServerPrompt("pair", "", [("one", True), ("two", False)])
    assert arguments_of(one, "all of you") == {"who": "all of you"}
    assert arguments_of(one, "") == ("mcp.missing", {"names": "who"})
    assert arguments_of(two, 'one="a b" two=c') == {"one": "a b", "two": "c"}
    assert arguments_of(two, "two=c") == ("mcp.missing", {"names": "one"})
    assert arguments_of(two, "three=c") == ("mcp.unknown", {"names": "three", "known": "one, two"})
    assert arguments_of(two, "one='a") == {"one": "'a"}


@pytest.mark.parametrize(
    ("properties", "required", "buttons"),
    [
        ({"sure": {"type": "boolean"}}, ["sure"], [["Yes", "No"]]),
        ({"size": {"type": "string", "enum": ["S", "L"]}}, [], [["S", "L"]]),
        ({"size": {"type": "string", "oneOf": [{"const": "s", "title": "Small"}]}}, [], [["Small"]]),
        ({"name": {"type": "string"}}, ["name"], [[]]),
        ({"same": {"type": "string", "enum": ["a", "a"]}}, ["same"], None),
        ({"same": {"type": "string", "enum": ["a", "a"]}}, [], []),
        ({"many": {"type": "string", "enum": [str(n) for n in range(5)]}}, ["many"], [[]]),
        ({"more": {"type": "string", "enum": [str(n) for n in range(50)]}}, ["more"], None),
        ({"list": {"type": "array"}}, ["list"], None),
        ({str(n): {"type": "boolean"} for n in range(5)}, [], None),
    ],
)
def test_what_can_be_asked_has_buttons_or_is_typed(
    properties: dict[str, Any], required: list[str], buttons: list[list[str]] | None
) -> None:
    fields = fields_of({"type": "object", "properties": properties, "required": required}, "Yes", "No")
    found = None if fields is None else [[shown for shown, _ in each.choices] for each in fields]
    assert found == buttons


@pytest.mark.parametrize(
    ("schema", "text", "value"),
    [
        ({"type": "string"}, "Ann", "Ann"),
        ({"type": "string", "minLength": 3}, "no", None),
        ({"type": "string"}, "x" * 2001, None),
        ({"type": "integer", "minimum": 1}, "12", 12),
        ({"type": "integer"}, "1.5", None),
        ({"type": "integer"}, "1e400", None),
        ({"type": "number", "maximum": 2}, "1.5", 1.5),
        ({"type": "number", "maximum": 2}, "nan", None),
        ({"type": "number", "minimum": "x"}, "-3", -3.0),
        ({"type": "string", "enum": list("abcdef")}, "C", "c"),
        ({"type": "string", "enum": list("abcdef")}, "g", None),
    ],
)
async def test_what_is_typed_is_read_by_its_kind_and_asked_twice_at_most(
    schema: dict[str, Any], text: str, value: object
) -> None:
    use = Use(lambda _: text)
    wanted = {"type": "object", "properties": {"it": schema}, "required": ["it"]}
    params = ElicitRequestFormParams(message="What?", requested_schema=wanted)
    result = await answering("tiny", use, params)
    if value is None:
        assert (result.action, result.content) == ("cancel", None)
        assert len(use.asked) == 2
        assert "does not fit" in use.asked[1][0]
    else:
        assert (result.action, result.content) == ("accept", {"it": value})
    assert all(use.typed)


async def test_what_need_not_be_said_may_be_skipped_and_all_may_be_declined() -> None:
    properties = {"name": {"type": "string"}, "size": {"type": "string", "enum": ["S", "L"]}}
    params = ElicitRequestFormParams(
        message="What?", requested_schema={"type": "object", "properties": properties, "required": ["size"]}
    )
    skips = await answering(
        "tiny", Use(lambda choices: next((c for c in choices if "Skip" in c), "S")), params
    )
    assert (skips.action, skips.content) == ("accept", {"size": "S"})
    assert (await answering("tiny", Use(lambda choices: "✗ Don't answer"), params)).action == "decline"


@pytest.mark.parametrize("choice", ["✗ Don't answer", "✕ Don’t  ANSWER", "→Skip this!"])
async def test_a_choice_that_reads_like_our_own_buttons_is_not_shown(choice: str) -> None:
    properties = {"size": {"type": "string", "enum": ["S", choice]}}
    params = ElicitRequestFormParams(
        message="What?", requested_schema={"type": "object", "properties": properties, "required": ["size"]}
    )
    use = Use(lambda choices: choices[0])
    assert (await answering("tiny", use, params)).action == "decline"
    assert not use.asked


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, "one of them"),
        ({"command": ["x"], "url": "https://e.org"}, "one of them"),
        ({"url": "ftp://e.org"}, "url is an address"),
        ({"url": "https://me:pw@e.org"}, "no password"),
        ({"url": "https://e.org", "headers": {"Host": "x"}}, "no header"),
        ({"url": "https://e.org", "headers": {"X-Key": "a\nb"}}, "printable"),
        ({"command": ["x"], "read": ["data"]}, "does not begin with /"),
        ({"command": ["x"], "env": {"A-B": "x"}}, "no name of a variable"),
        ({"command": ["x"], "token": "t"}, "for servers with a url"),
    ],
)
def test_settings_that_can_not_be_meant_are_refused(given: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        ServerSettings.model_validate(given)


def test_a_server_has_a_name_that_ends_at_the_first_underscore() -> None:
    with pytest.raises(ValidationError, match="no name of a server"):
        Settings.model_validate({"servers": {"my_files": {"command": ["x"]}}})


def test_doctor_says_what_runs_without_a_wall() -> None:
    servers = {"a": server(), "b": server(sandbox="off"), "c": ServerSettings(url="http://e.org", token="x")}  # type: ignore[arg-type]
    said = advice(servers, lambda program: None if program == "bwrap" else program)
    assert [(well, words[:28]) for well, words in said] == [
        (False, "a: bubblewrap is not install"),
        (False, "b: it runs without a sandbox"),
        (False, "c: what is secret is sent to"),
    ]
    assert advice({"a": server()}, lambda program: program) == [(True, "1 servers")]
