"""Prompts: the template's own control tokens, and none from users."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer

from glmbot.engine.base import ChatTurn
from glmbot.errors import ModelFileError
from glmbot.models.chat_format import TemplateChatFormat


@pytest.fixture(scope="module")
def tokenizer(tiny_model: Path) -> object:
    return AutoTokenizer.from_pretrained(tiny_model)


@pytest.fixture(scope="module")
def chat_format(tokenizer: object) -> TemplateChatFormat:
    return TemplateChatFormat(tokenizer)  # pyright: ignore[reportArgumentType]


def test_an_ordinary_conversation_is_encoded_as_the_template_says(
    tokenizer: object, chat_format: TemplateChatFormat
) -> None:
    expected = tokenizer.apply_chat_template(  # pyright: ignore
        [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Hello there"},
            {"role": "assistant", "content": "Hi!"},
            {"role": "user", "content": "你好"},
        ],
        add_generation_prompt=True,
        return_dict=False,
    )
    assert chat_format.encode_chat("Be brief.", [ChatTurn("Hello there", "Hi!")], "你好") == expected


pieces = st.lists(
    st.text(max_size=10)
    | st.sampled_from(
        ["<|im_start|>", "<|im_end|>", "<|endoftext|>", "<|im_", "start|>", "<", "|>", "<|im_start|>system\n"]
    ),
    max_size=8,
).map("".join)


@given(pieces)
def test_users_text_never_becomes_a_control_token_and_comes_back_unchanged(
    tokenizer: object, chat_format: TemplateChatFormat, text: str
) -> None:
    tokens = chat_format.encode_text(text)
    assert not set(tokens) & set(tokenizer.all_special_ids)  # pyright: ignore
    assert chat_format.decode(tokens) == text


@given(pieces, pieces, pieces)
def test_a_prompt_has_exactly_the_templates_control_tokens(
    tokenizer: object, chat_format: TemplateChatFormat, question: str, answer: str, last: str
) -> None:
    start, end = tokenizer.convert_tokens_to_ids(["<|im_start|>", "<|im_end|>"])  # pyright: ignore
    tokens = chat_format.encode_chat("", [ChatTurn(question, answer)], last)
    assert tokens.count(start) == 4
    assert tokens.count(end) == 3


def test_the_demo_models_format_matches_its_own_template(demo_model: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(demo_model)
    expected = tokenizer.apply_chat_template(
        [{"role": "user", "content": "What is the capital of France?"}],
        add_generation_prompt=True,
        return_dict=False,
    )
    assert TemplateChatFormat(tokenizer).encode_chat("", [], "What is the capital of France?") == expected


def test_a_template_without_a_system_role_gives_it_to_the_first_question(tiny_model: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    tokenizer.chat_template = (
        "{% for m in messages %}{% if m['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
        "{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"
    )
    chat_format = TemplateChatFormat(tokenizer)
    text = chat_format.decode(chat_format.encode_chat("Be brief.", [ChatTurn("one", "two")], "three"))
    assert text == "user: Be brief.\n\none\nassistant: two\nuser: three\n"


LEAVES_SYSTEM_OUT = (
    "{% for m in messages %}{% if m['role'] == 'user' %}<|im_start|>user\n{{ m['content'] }}<|im_end|>\n"
    "{% elif m['role'] == 'assistant' %}{{ m['content'] }}<|im_end|>\n{% endif %}{% endfor %}"
)
WANTS_PARTS = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% for part in m.content %}{% if part.type == 'text' %}"
    "{{ part.text }}{% endif %}{% endfor %}<|im_end|>{% endfor %}"
)
LEAVES_ALL_OUT = "{% for m in messages %}<|im_start|>{{ m.role }}<|im_end|>{% endfor %}"


@pytest.mark.parametrize("template", [LEAVES_SYSTEM_OUT, WANTS_PARTS])
def test_nothing_that_is_said_is_left_out_by_a_template(tiny_model: Path, template: str) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    tokenizer.chat_template = template
    prompt = tokenizer.decode(
        TemplateChatFormat(tokenizer).encode_chat("Be brief.", [ChatTurn("Hello", "Hi!")], "Who are you?")
    )
    places = [prompt.find(text) for text in ("Be brief.", "Hello", "Hi!", "Who are you?")]
    assert -1 not in places
    assert places == sorted(places)


def test_a_template_that_leaves_the_question_out_is_refused(tiny_model: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    tokenizer.chat_template = LEAVES_ALL_OUT
    with pytest.raises(ModelFileError, match="leaves out what is said"):
        TemplateChatFormat(tokenizer)


def test_words_that_were_added_to_a_vocabulary_are_words_and_what_directs_a_model_is_not(
    tiny_model: Path,
) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    tokenizer.chat_template += "{# <think> #}"
    # None of them is called special.
    tokenizer.add_tokens(["glmbot", "<table>", "▁▁▁", "<think>", "<|tool|>", "<｜User｜>", "[INST]"])
    chat_format = TemplateChatFormat(tokenizer)
    for word in ("glmbot", "<table>"):
        assert chat_format.encode_text(word) == [tokenizer.convert_tokens_to_ids(word)]
    for token in ("<think>", "<|tool|>", "<｜User｜>", "[INST]"):
        assert tokenizer.convert_tokens_to_ids(token) not in chat_format.encode_text(f"a {token} b")
        assert chat_format.decode(chat_format.encode_text(token)) == token


def test_threads_do_not_each_remember_ten_thousand_words(tiny_model: Path) -> None:
    class Model:
        kept = 10_000

        def _resize_cache(self, words: int) -> None:
            self.kept = words

    class Backend:
        def __init__(self, backend: Any) -> None:
            self._backend, self.model = backend, Model()

        def __getattr__(self, name: str) -> Any:
            return getattr(self._backend, name)

    tokenizer: Any = AutoTokenizer.from_pretrained(tiny_model)
    backend = tokenizer._tokenizer = Backend(tokenizer._tokenizer)
    TemplateChatFormat(tokenizer)
    assert backend.model.kept <= 1000


def test_tokens_become_the_text_that_the_tokenizers_class_makes_of_them(tokenizer: Any) -> None:
    decode = TemplateChatFormat(tokenizer).decode

    @given(st.lists(st.integers(0, len(tokenizer) - 1), max_size=12))
    def same(tokens: list[int]) -> None:
        wanted = tokenizer.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        assert decode(tokens) == wanted

    same()


def test_a_tokenizer_with_a_way_of_its_own_to_text_keeps_it(tiny_model: Path) -> None:
    tokenizer: Any = AutoTokenizer.from_pretrained(tiny_model)
    kind = type(tokenizer)
    tokenizer.__class__ = type(
        "Loud", (kind,), {"_decode": lambda *given, **named: kind._decode(*given, **named).upper()}
    )
    assert TemplateChatFormat(tokenizer).decode(tokenizer.encode("the fox")) == "THE FOX"
