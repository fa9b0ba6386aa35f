"""Every kind of tokenizer says what its tokens stand for, and models of each kind can be held to a form."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from chatglm_folder import write_chatglm_folder
from engine.masked import allowed
from glm130b_folder import write_glm130b_folder
from glmbot.engine.base import FinishReason, Precision, Progress, Sampling
from glmbot.engine.grammars import json_rule
from glmbot.engine.local import LocalEngine, LocalEngineSettings
from glmbot.engine.masks import FormCompiler
from glmbot.engine.vocabulary import read_vocabulary
from glmbot.errors import PromptInvalid
from glmbot.forms import Form, FormKind
from glmbot.models.base import Speechless, Spells, Vocabulary
from glmbot.models.registry import load_tokenizer
from models.test_glm10b import write_glm10b_folder

REGEX = r'(北京|Paris): [0-9]{1,3} \("[a-z]{2,5}"\)'
FOLDERS: dict[str, Callable[[Path], object]] = {
    "chatglm-6b": lambda folder: write_chatglm_folder(folder, "chatglm-6b"),
    "chatglm2-6b": lambda folder: write_chatglm_folder(folder, "chatglm2-6b"),
    "chatglm3-6b": lambda folder: write_chatglm_folder(folder, "chatglm3-6b"),
    "glm-10b": write_glm10b_folder,
    "glm-10b-chinese": lambda folder: write_glm10b_folder(folder, chinese=True),
    "glm-130b": lambda folder: (folder.mkdir(), write_glm130b_folder(folder)),
}


@pytest.mark.parametrize("name", FOLDERS)
async def test_a_model_of_each_kind_says_what_was_asked_for(name: str, tmp_path: Path) -> None:
    folder = tmp_path / name
    FOLDERS[name](folder)
    settings = LocalEngineSettings(folder, precision=Precision.FP32, cache_tokens=4096, threads=1)
    engine = await LocalEngine.start(settings)
    chat = engine.chat_format
    assert isinstance(chat, Spells)
    known = chat.vocabulary()
    assert isinstance(known, Vocabulary)
    text = "你好 Paris 1 2\U0001f389"
    spelt = b"".join(known.texts[token] for token in chat.encode_text(text)).decode()
    assert spelt.strip() == chat.decode(chat.encode_text(text)).strip()
    prompt = chat.encode_chat("", (), "hello")
    sampling = Sampling(90, temperature=1.0, top_p=1.0, form=Form(FormKind.REGEX, REGEX))
    for seed in range(6):
        last = Progress()
        async for last in engine.generate(prompt, replace(sampling, seed=seed), user="u"):
            pass
        assert last.finish is FinishReason.STOP
        assert re.fullmatch(REGEX, last.text), last.text
    await engine.close()


def compiler(folder: Path, *, thinks: bool = True) -> FormCompiler:
    talk = load_tokenizer(folder)
    tokenizer = read_vocabulary(talk.chat_format, 520, talk.stop_tokens)
    assert tokenizer is not None
    return FormCompiler(tokenizer, talk.chat_format, talk.stop_tokens, thinks=thinks)


def test_a_thought_that_was_opened_is_thought_before_the_form_begins(tiny_model: Path) -> None:
    forms = compiler(tiny_model)
    encode = load_tokenizer(tiny_model).chat_format.encode_text
    matcher = forms.compile(Form(FormKind.REGEX, "[ab]{2}"), encode("What? <think>\n"))
    (first,) = matcher.masks()
    assert len(allowed(first, 520)) > 300
    assert 2 not in allowed(first, 520)
    # The end of the tag, the lines behind it and what follows may be of one token.
    for token in encode("I think {so}. </think>\n\n"):
        matcher.take(token)
    (mask,) = matcher.masks()
    expected = {tuple(encode(each)) for each in ("a", "b")}
    assert {(token,) for token in allowed(mask, 520)} == expected
    for token in encode("ab"):
        matcher.take(token)
    assert matcher.ended


def test_a_beginning_has_the_form_or_is_refused(tiny_model: Path) -> None:
    forms = compiler(tiny_model)
    encode = load_tokenizer(tiny_model).chat_format.encode_text
    begun = encode("ab")
    matcher = forms.compile(Form(FormKind.REGEX, "abc?"), [*encode("Say it."), *begun], len(begun))
    matcher.take(encode("c")[0])
    assert matcher.ended
    with pytest.raises(PromptInvalid, match="beginning of the answer"):
        forms.compile(Form(FormKind.REGEX, "b"), [*encode("Say it."), *begun], len(begun))


class Letters(Speechless):
    def vocabulary(self) -> Vocabulary:
        return Vocabulary({0: b"a", 1: b"b"}, {2: "<end>"})

    def decode(self, tokens: Sequence[int]) -> str:
        return "".join("ab"[token] for token in tokens)


def test_what_a_vocabulary_can_not_spell_is_refused() -> None:
    tokenizer = read_vocabulary(Letters(), 4, [2])
    assert tokenizer is not None
    forms = FormCompiler(tokenizer, Letters(), [2], thinks=True)
    (mask,) = forms.compile(Form(FormKind.REGEX, "[bc]+"), [0]).masks()
    assert allowed(mask, 4) == {1}
    with pytest.raises(PromptInvalid, match="no answer has it"):
        forms.compile(Form(FormKind.REGEX, "c"), [0])


def test_a_model_that_ends_no_answer_is_held_to_none(tiny_model: Path) -> None:
    assert read_vocabulary(load_tokenizer(tiny_model).chat_format, 520, ()) is None


@pytest.mark.parametrize(
    ("kind", "said", "right"),
    [
        ("date", "2024-02-29", True),
        ("date", "2023-02-29", False),
        ("date", "2000-02-29", True),
        ("date", "1900-02-29", False),
        ("date", "0000-01-01", False),
        ("date", "0004-02-29", True),
        ("date", "2023-04-31", False),
        ("date", "2023-12-31", True),
        ("date-time", "2024-02-29T23:59:00Z", True),
        ("date-time", "2023-02-29T23:59:00Z", False),
        ("date-time", "2023-02-28T23:59:00.123456789+01:00", True),
        ("date-time", "2023-02-28T23:59:00.1234567891Z", False),
        ("time", "23:59:00.5Z", True),
        ("time", "23:59:00.1234567891Z", False),
    ],
)
@pytest.mark.parametrize("inline", [False, True])
def test_a_date_is_a_day_that_the_calendar_has_and_a_time_has_an_end(
    tiny_model: Path, kind: str, said: str, right: bool, inline: bool
) -> None:
    """Wherever in a schema, and in that of a tool; what a property may be called is no schema."""
    day = {"type": "string", "format": kind, "title": "pattern"}
    schema = {"type": "object", "properties": {"format": {"anyOf": [day, {"const": {"format": "date"}}]}}}
    form = Form(FormKind.SCHEMA, json.dumps(schema))
    if inline:
        form = Form(FormKind.GRAMMAR, f"start: {json_rule(schema)}")
    matcher = compiler(tiny_model).compile(form, [0])._matcher
    encode = load_tokenizer(tiny_model).chat_format.encode_text
    for text in (json.dumps({"format": said}), '{"format": {"format": "date"}}'):
        tokens = encode(text)
        assert (matcher.validate_tokens(tokens) == len(tokens)) is (right or "{" in text[1:])
