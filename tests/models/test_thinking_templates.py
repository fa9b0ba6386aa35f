"""Prompts of models that think, as their published templates make them, and the switch that some of them have."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest
from tokenizers import AddedToken

from glmbot.engine.base import Conversation, FinishReason, Progress
from glmbot.engine.templated import prepare_tokens
from glmbot.engine.thoughts import apart, begins_inside
from glmbot.models.base import ChatTurn
from glmbot.models.chat_format import TemplateChatFormat
from models.chat_templates import TOKENIZERS

# Each says what its name's authors' template says in a chat without tools, in words of ours.
QWEN3 = (
    "{%- set ns = namespace(last=-1) %}{%- for m in messages %}{%- if m.role == 'user' %}"
    "{%- set ns.last = loop.index0 %}{%- endif %}{%- endfor %}"
    "{%- for m in messages %}{%- set said = m.content %}{%- set thought = '' %}"
    "{%- if m.reasoning_content is string %}{%- set thought = m.reasoning_content %}"
    "{%- elif m.role == 'assistant' and '</think>' in said %}"
    "{%- set thought = said.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}"
    "{%- set said = said.split('</think>')[-1].lstrip('\\n') %}{%- endif %}"
    "{{- '<|im_start|>' + m.role + '\\n' }}"
    "{%- if m.role == 'assistant' and loop.index0 > ns.last %}"
    "{{- '<think>\\n' + thought.strip('\\n') + '\\n</think>\\n\\n' + said.lstrip('\\n') }}"
    "{%- else %}{{- said }}{%- endif %}{{- '<|im_end|>\\n' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}"
    "{%- if enable_thinking is defined and enable_thinking is false %}{{- '<think>\\n\\n</think>\\n\\n' }}"
    "{%- endif %}{%- endif %}"
)
GLM_4_5 = (
    "[gMASK]<sop>{%- for m in messages %}{%- if m.role == 'user' %}{{ '<|user|>\\n' + m.content }}"
    "{{- '/nothink' if enable_thinking is defined and not enable_thinking and not m.content.endswith('/nothink')"
    " else '' }}{%- elif m.role == 'assistant' %}<|assistant|>{%- set said = m.content %}"
    "{%- if '</think>' in said %}{%- set said = said.split('</think>')[-1].lstrip('\\n') %}{%- endif %}"
    "{{- '\\n<think></think>' }}{%- if said.strip() %}{{ '\\n' + said.strip() }}{%- endif %}"
    "{%- else %}{{ '<|system|>\\n' + m.content }}{%- endif %}{%- endfor %}"
    "{%- if add_generation_prompt %}<|assistant|>"
    "{{- '\\n<think></think>' if enable_thinking is defined and not enable_thinking else '' }}{%- endif %}"
)
DEEPSEEK_R1 = (
    "{{ bos_token }}{%- for m in messages %}{%- if m.role == 'user' %}{{ '<｜User｜>' + m.content }}"
    "{%- elif m.role == 'assistant' %}{%- set said = m.content %}{%- if '</think>' in said %}"
    "{%- set said = said.split('</think>')[-1] %}{%- endif %}{{ '<｜Assistant｜>' + said + eos_token }}"
    "{%- else %}{{ m.content }}{%- endif %}{%- endfor %}"
    "{%- if add_generation_prompt %}{{ '<｜Assistant｜><think>\\n' }}{%- endif %}"
)
GLM_Z1 = (
    "[gMASK]<sop>{%- for m in messages %}{%- if m.role == 'assistant' %}"
    "{{ '<|assistant|>\\n' + m.content.split('</think>')[-1].strip() }}"
    "{%- else %}{{ '<|' + m.role + '|>\\n' + m.content }}{%- endif %}{%- endfor %}"
    "{%- if add_generation_prompt %}{{ '<|assistant|>\\n<think>' }}{%- endif %}"
)
TEMPLATES = {"qwen3": QWEN3, "glm-4.5": GLM_4_5, "deepseek-r1": DEEPSEEK_R1, "glm-z1": GLM_Z1}
THOUGHT = "They ask for a town. "
BEFORE = f"<think>\n{THOUGHT}\n</think>\n\nParis."


def tokenizer_of(folder: Path, template: str, *, special: bool = False) -> Any:
    tokenizer = TOKENIZERS["bytes"](folder / "tokenizer")
    tokenizer.add_tokens(
        [AddedToken(tag, special=special) for tag in ("<think>", "</think>")], special_tokens=special
    )
    tokenizer.chat_template = TEMPLATES[template]
    return tokenizer


@pytest.mark.parametrize("template", TEMPLATES)
def test_the_prompt_is_that_of_the_template_for_an_answer_without_its_thought(
    tmp_path: Path, template: str
) -> None:
    tokenizer = tokenizer_of(tmp_path, template)
    chat_format = TemplateChatFormat(tokenizer)
    for answer in ("Paris.", BEFORE):
        said = [("user", "Capital?"), ("assistant", "Paris."), ("user", "And Italy?")]
        messages = [{"role": role, "content": text} for role, text in said]
        expected = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
        prompt = chat_format.encode_chat("", [ChatTurn("Capital?", answer)], "And Italy?")
        assert prompt == expected
        assert THOUGHT not in tokenizer.decode(prompt)
    assert begins_inside(chat_format, prompt) is (template in ("deepseek-r1", "glm-z1"))


@pytest.mark.parametrize("template", TEMPLATES)
async def test_an_answer_that_goes_on_stands_behind_its_thought(tmp_path: Path, template: str) -> None:
    """Else the model would take it for its thought, and go on with that."""
    chat_format = TemplateChatFormat(tokenizer_of(tmp_path, template))
    prompt = prepare_tokens(chat_format, Conversation.of_words("Count", begun="One, two"), 1000)
    text = chat_format.decode(prompt.tokens)
    opens = template in ("deepseek-r1", "glm-z1")
    assert text.endswith("</think>\n\nOne, two" if opens else "One, two")
    assert text.count("<think>") == opens

    async def says() -> AsyncGenerator[Progress, None]:
        yield Progress(f"{prompt.beginning}, three", FinishReason.STOP)

    (last,) = [each async for each in apart(says(), known=len(prompt.beginning))]
    assert (last.text[len(prompt.beginning) :], last.thought) == (", three", "")


@pytest.mark.parametrize("template", ["qwen3", "glm-4.5"])
def test_a_model_can_be_asked_not_to_think(tmp_path: Path, template: str) -> None:
    tokenizer = tokenizer_of(tmp_path, template)
    chat_format = TemplateChatFormat(tokenizer, thinks=False)
    prompt = chat_format.encode_chat("", [], "Capital?")
    messages = [{"role": "user", "content": "Capital?"}]
    assert prompt == tokenizer.apply_chat_template(
        messages, add_generation_prompt=True, enable_thinking=False, return_dict=False
    )
    assert prompt != TemplateChatFormat(tokenizer).encode_chat("", [], "Capital?")
    assert not begins_inside(chat_format, prompt)


def test_who_asks_it_of_a_template_without_a_switch_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        TemplateChatFormat(tokenizer_of(tmp_path, "glm-z1"), thinks=False)
    assert "no switch" in caplog.text


@pytest.mark.parametrize("special", [False, True])
def test_tags_are_text_whatever_the_tokenizer_calls_them(tmp_path: Path, special: bool) -> None:
    tokenizer = tokenizer_of(tmp_path, "qwen3", special=special)
    chat_format = TemplateChatFormat(tokenizer)
    ids = tokenizer.encode("<think>hm</think>Hi", add_special_tokens=False)
    assert chat_format.decode(ids) == "<think>hm</think>Hi"
    assert chat_format.decode(ids[:1]) == "<think>"
