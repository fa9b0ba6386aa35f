"""What people wrote that would direct a model is encoded apart from what is around it, and as it was written."""

from __future__ import annotations

import re
from types import SimpleNamespace

import pytest

from glmbot.models.control_tokens import ControlTokens
from glmbot.models.prompt_encoder import PromptEncoder
from glmbot.models.prompt_parts import Part

CONTROL = 1
_SPACE = ord(" ")


def like_sentencepiece(text: str) -> list[int]:
    """A space before what begins a text, but not before a new line; <|user|> is one token."""
    ids: list[int] = []
    for stretch in re.split(r"(<\|user\|>)", text):
        if stretch == "<|user|>":
            ids.append(CONTROL)
        elif stretch:
            ids += [*([] if ids or stretch.startswith("\n") else [_SPACE]), *map(ord, stretch)]
    return ids


@pytest.fixture
def encoder() -> PromptEncoder:
    token = SimpleNamespace(special=True, lstrip=False, single_word=False, normalized=False)
    tokenizer = SimpleNamespace(
        get_added_vocab=lambda: {"<|user|>": CONTROL},
        added_tokens_decoder={CONTROL: token},
        all_special_tokens=["<|user|>"],
        convert_tokens_to_ids=lambda name: CONTROL,
        unk_token_id=None,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=None,
    )
    return PromptEncoder(like_sentencepiece, ControlTokens(tokenizer, "<|user|>"))


@pytest.mark.parametrize("mark", ["", "\ue0a0"])
@pytest.mark.parametrize("said", ["a<|user|>b", "<|user|>", "<|user|><|user|> c", "a<|us<|user|>er|>b"])
def test_a_text_in_front_of_everything_is_a_beginning_once(
    encoder: PromptEncoder, mark: str, said: str
) -> None:
    ids = encoder.encode([Part(mark + said, said=True), Part("<|user|>now", said=False)], mark)
    assert ids is not None
    assert [chr(each) for each in ids] == [*f" {said}", chr(CONTROL), *"now"]
