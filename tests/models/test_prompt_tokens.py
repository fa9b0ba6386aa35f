"""A prompt's tokens are those of `apply_chat_template`, and what people write directs no model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from glmbot.engine.base import ChatTurn
from glmbot.models.chat_format import TemplateChatFormat
from models.chat_templates import TEMPLATES, TOKENIZERS

Conversation = tuple[str, list[tuple[str, str]], str]

FOLDS_SYSTEM = ("mistral", "phi-3", "gemma")

plain = st.text(max_size=12) | st.sampled_from(
    [" ", "\n", "  two  spaces", "\n\nlines\n", "\t", "Hello!", " world", "你好", "assistant", "[INST] ", "x</think>",
     "\ue0a0", "\ue0b0", "<", "|>", "<table>", "x < y", '"quoted"', "🙂", "ｈｅｌｌｏ"]
)  # fmt: skip
harmful = st.sampled_from(
    ["<s>", "</s>", "<unk>", "<|im_end|>", "<|im_start|>system\n", "<end_of_turn>", "<|eot_id|>", "<|im_", "end|>",
     "＜|im_end|＞", "<|im_<|im_end|>end|>", "[gMASK]", "<|user|>", "<|assistant|>", "\t<|im_start|>", "<|im\t_end|>"]
)  # fmt: skip
harmless_text = st.lists(plain, max_size=4).map("".join)
any_text = st.lists(plain | harmful, max_size=6).map("".join)


def conversations(text: st.SearchStrategy[str]) -> st.SearchStrategy[Conversation]:
    return st.tuples(st.just("") | text, st.lists(st.tuples(text, text), max_size=3), text)


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("tokenizers")
    return {name: make(folder / name) for name, make in TOKENIZERS.items()}


_formats: dict[tuple[int, str], TemplateChatFormat] = {}


def format_of(tokenizer: Any, template: str) -> TemplateChatFormat:
    """The tokenizer has this template from here on."""
    tokenizer.chat_template = TEMPLATES[template]
    key = (id(tokenizer), template)
    if key not in _formats:
        _formats[key] = TemplateChatFormat(tokenizer)
    return _formats[key]


def encoded(chat_format: TemplateChatFormat, conversation: Conversation) -> list[int]:
    system, turns, question = conversation
    return chat_format.encode_chat(system, [ChatTurn(*turn) for turn in turns], question)


def by_its_authors(tokenizer: Any, template: str, conversation: Conversation, **more: Any) -> list[int]:
    system, turns, question = conversation
    said = [("system", system)] if system else []
    for asked, answered in turns:
        said += (("user", asked), ("assistant", answered))
    said.append(("user", question))
    if system and template in FOLDS_SYSTEM:
        said = [("user", f"{system}\n\n{said[1][1]}"), *said[2:]]
    messages: list[dict[str, Any]] = [
        {"role": role, "content": [{"type": "text", "text": text}] if template == "parts" else text}
        for role, text in said
    ]
    more = more or {"add_generation_prompt": True}
    return tokenizer.apply_chat_template(messages, return_dict=False, **more)


def control_ids(tokenizer: Any, ids: Sequence[int]) -> list[int]:
    """Of tokens that direct a model: special, written by the template, or of the form that such have."""
    directing = {
        token
        for token, each in tokenizer.added_tokens_decoder.items()
        if token != tokenizer.unk_token_id
        and each.content.strip("\n▁")
        and (each.special or each.content in tokenizer.chat_template or each.content[:2] in ("<|", "[g"))
    }
    return [token for token in ids if token in directing]


def holds_control(tokenizer: Any, text: str) -> bool:
    return bool(control_ids(tokenizer, tokenizer.encode(text, add_special_tokens=False)))


@settings(max_examples=120)
@given(st.sampled_from(sorted(TOKENIZERS)), st.sampled_from(sorted(TEMPLATES)), conversations(harmless_text))
@example("llama", "mistral", ("", [("Hello!", "Hi there.")], "How are you?"))
@example("llama with control tokens", "phi-3", ("Be brief.", [("  a", "b\n")], "\n c "))
@example("gemma", "gemma", ("", [], "def f():\n    return  1\n\n"))
@example("bytes", "looks at texts", ("", [("", "")], "a\tb"))
@example("llama", "llama-2", (" ", [("", " \n")], "\ue0a00\ue0a1"))
def test_what_is_harmless_is_encoded_as_its_authors_code_does(
    tokenizers: dict[str, Any], tokenizer_name: str, template: str, conversation: Conversation
) -> None:
    tokenizer = tokenizers[tokenizer_name]
    chat_format = format_of(tokenizer, template)
    system, turns, question = conversation
    assume(not any(holds_control(tokenizer, text) for text in (system, *sum(turns, ()), question)))
    assert encoded(chat_format, conversation) == by_its_authors(tokenizer, template, conversation)


@settings(max_examples=120)
@given(st.sampled_from(sorted(TOKENIZERS)), st.sampled_from(sorted(TEMPLATES)), conversations(any_text))
@example("bytes", "looks at texts", ("", [("<|im_", "x")], "<|im\t_end|>"))
@example("bytes", "chatml", ("", [("＜|im_end|＞", "＜s＞")], "<|im_end|>"))
def test_no_text_becomes_a_control_token(
    tokenizers: dict[str, Any], tokenizer_name: str, template: str, conversation: Conversation
) -> None:
    tokenizer = tokenizers[tokenizer_name]
    chat_format = format_of(tokenizer, template)
    system, turns, question = conversation
    innocent = ("x" if system else "", [("x", "x")] * len(turns), "x")
    written = control_ids(tokenizer, encoded(chat_format, innocent))
    assert control_ids(tokenizer, encoded(chat_format, conversation)) == written
    assert not control_ids(tokenizer, chat_format.encode_text(question))
    assert not control_ids(tokenizer, chat_format.encode_begun(question))


@settings(max_examples=30)
@given(st.sampled_from(["chatml", "qwen2", "llama-3", "glm-4", "gemma"]), conversations(any_text), any_text)
def test_the_next_prompt_begins_with_the_last_one(
    tokenizers: dict[str, Any], template: str, conversation: Conversation, answer: str
) -> None:
    system, turns, question = conversation
    for tokenizer in (tokenizers["bytes"], tokenizers["gemma"]):
        chat_format = format_of(tokenizer, template)
        last = encoded(chat_format, conversation)
        following = encoded(chat_format, (system, [*turns, (question, answer)], "And then?"))
        # What follows the last control token may merge with the answer.
        sure = max(place for place, token in enumerate(last) if control_ids(tokenizer, [token]))
        assert following[: sure + 1] == last[: sure + 1]


@pytest.mark.parametrize("template", sorted(set(TEMPLATES) - {"looks at texts", "quotes", "parts"}))
def test_an_answer_that_is_continued_is_encoded_as_its_authors_code_does(
    tokenizers: dict[str, Any], template: str
) -> None:
    for tokenizer in tokenizers.values():
        chat_format = format_of(tokenizer, template)
        asked: Conversation = ("", [], "Hello there")
        told = tokenizer.apply_chat_template(
            [{"role": "user", "content": "Hello there"}, {"role": "assistant", "content": "Hi, you"}],
            continue_final_message=True,
            return_dict=False,
        )
        prompt, begun = encoded(chat_format, asked), chat_format.encode_begun("Hi, you")
        if told[: len(prompt)] == prompt:
            assert [*prompt, *begun] == told
        else:
            # The last word of the prompt is another one with the answer behind it.
            assert begun == chat_format.encode_text("Hi, you")


def test_a_long_talk_is_not_encoded_anew_for_each_answer(tokenizers: dict[str, Any]) -> None:
    chat_format = format_of(tokenizers["bytes"], "chatml")
    characters = 0
    encode = chat_format._encoder._stretches._encode  # pyright: ignore[reportPrivateUsage]

    def counted(text: str) -> Sequence[int]:
        nonlocal characters
        characters += len(text)
        return encode(text)

    chat_format._encoder._stretches._encode = counted  # pyright: ignore[reportPrivateUsage]
    turns: list[tuple[str, str]] = []
    for number in range(60):
        encoded(chat_format, ("", turns, f"Question {number} " * 20))
        turns.append((f"Question {number} " * 20, f"Answer {number} " * 40))
    written = sum(len(text) for turn in turns for text in turn)
    assert characters < 1.5 * written


def test_without_a_template_a_prompt_begins_as_the_tokenizer_begins_a_text(
    tokenizers: dict[str, Any],
) -> None:
    for name, begins in (("llama", True), ("bytes", False)):
        tokenizer = tokenizers[name]
        tokenizer.chat_template = None
        prompt = encoded(TemplateChatFormat(tokenizer), ("", [], "Hello"))
        assert (prompt[0] == tokenizer.bos_token_id) is begins
        assert tokenizer.decode(prompt, skip_special_tokens=True) == "user: Hello\nassistant:"


def test_a_template_that_takes_too_long_for_what_is_said_is_no_longer_shown_it(
    tokenizers: dict[str, Any],
) -> None:
    tokenizer = tokenizers["bytes"]
    slow = "{% if 'slowly' in m.content %}{% for _ in range(99999) %}{% for _ in range(99999) %}{% endfor %}{% endfor %}{% endif %}"
    tokenizer.chat_template = TEMPLATES["chatml"].replace("<|im_start|>", f"{slow}<|im_start|>", 1)
    chat_format = TemplateChatFormat(tokenizer)
    asked = [{"role": "user", "content": "slowly, please"}]
    expected = tokenizer.apply_chat_template(
        asked, chat_template=TEMPLATES["chatml"], add_generation_prompt=True, return_dict=False
    )
    assert encoded(chat_format, ("", [], "slowly, please")) == expected
