"""What a model has to call is a valid call, whatever it would rather say; what it need not call is its own words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from form_schemas import SCHEMAS
from glmbot.content import Text
from glmbot.engine.base import Ability, Conversation, FinishReason, Precision, Sampling
from glmbot.engine.call_forms import call_form
from glmbot.engine.local import LocalEngine, LocalEngineSettings
from glmbot.engine.masks import compiler_of
from glmbot.engine.templated import TemplatedEngine
from glmbot.models.calls.bare import LlamaJson, MistralCalls
from glmbot.models.calls.lines import NameAndJson
from glmbot.models.calls.reader import CallReader
from glmbot.models.calls.syntax import CallSyntax
from glmbot.models.calls.tagged import TaggedJson
from glmbot.models.registry import load
from glmbot.tools import Choice, Offer, ToolDescription

SYNTAXES: list[CallSyntax] = [
    TaggedJson(),
    LlamaJson(),
    MistralCalls(),
    MistralCalls(named=True),
    NameAndJson(),
]
CITY: dict[str, Any] = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "unit": {"enum": ["c", "f"]}},
    "required": ["city"],
    "additionalProperties": False,
}
TOOLS = [ToolDescription("weather", "Of a city.", CITY), ToolDescription("add", "", {"type": "object"})]


@pytest.fixture(scope="module")
def compiler(tiny_model: Path) -> Any:
    return compiler_of(load(tiny_model, "sdpa"), thinks=True)


@pytest.mark.parametrize("syntax", SYNTAXES, ids=lambda each: type(each).__name__)
@pytest.mark.parametrize("choice", [Choice.AUTO, Choice.REQUIRED])
def test_each_format_lets_through_what_its_models_write_and_no_other_call(
    compiler: Any, tiny_model: Path, syntax: CallSyntax, choice: Choice
) -> None:
    form = call_form(syntax, Offer(TOOLS, choice), {})
    assert form is not None
    encode = load_format(tiny_model).encode_text

    def taken(text: str) -> tuple[bool, bool]:
        """Whether it may be said, and end there."""
        matcher = compiler.compile(form, [0])
        tokens = encode(text)
        rest = matcher._matcher.try_consume_tokens(tokens)
        return rest == len(tokens), matcher._matcher.is_accepting()

    good = syntax.written("weather", {"city": "Oslo", "unit": "c"})
    assert taken(good) == (True, True)
    assert CallReader([syntax], {tool.name: tool.parameters for tool in TOOLS}).end(good)[1]
    for wrong in ({"city": 5}, {"town": "Oslo"}, {"city": "Oslo", "unit": "k"}):
        assert taken(syntax.written("weather", wrong))[0] is False
    # A line that is no tool's name is a line.
    if not (isinstance(syntax, NameAndJson) and choice is Choice.AUTO):
        assert taken(syntax.written("weathers", {}))[0] is False
    assert taken("Just words.") == ((choice is Choice.AUTO),) * 2


_formats: dict[Path, Any] = {}


def load_format(folder: Path) -> Any:
    if folder not in _formats:
        _formats[folder] = load(folder, "sdpa").chat_format
    return _formats[folder]


async def test_a_model_that_draws_at_random_calls_what_it_has_to_and_validly(tiny_model: Path) -> None:
    engine = TemplatedEngine(
        await LocalEngine.start(LocalEngineSettings(tiny_model, precision=Precision.FP32))
    )
    try:
        assert Ability.FORMS in engine.abilities
        tools = [
            ToolDescription(f"tool_{number}", "One.", schema)
            for number, schema in enumerate(SCHEMAS.values())
            if schema.get("type") == "object"
        ][:6]
        called = 0
        for number, tool in enumerate(tools):
            offer = Offer([tool], Choice.REQUIRED, tool.name, parallel=False)
            prepared = engine.prepare(Conversation((Text("Now"),), offer=offer), 1500)
            last = None
            async for last in engine.generate(prepared, Sampling(400, 1.0, seed=number), user="a"):
                pass
            assert last is not None
            if last.finish is FinishReason.TOOL_CALLS:
                called += 1
                assert [call.name for call in last.calls] == [tool.name]
                Draft202012Validator(dict(tool.parameters)).validate(json.loads(last.calls[0].arguments))
            else:
                assert last.finish is FinishReason.LENGTH
                assert last.calls == ()
        assert called > 3
    finally:
        await engine.close()
