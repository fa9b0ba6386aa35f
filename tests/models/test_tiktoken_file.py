"""glm-4-9b-chat as it was first published: tiktoken's vocabulary, ChatGLM3's layout, a template with metadata."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import regex
from hypothesis import given
from hypothesis import strategies as st

from chatglm_folder import BILINGUAL, write_chatglm_folder
from glmbot.engine.base import ChatFormat, ChatTurn, Precision, Sampling
from glmbot.engine.local import LocalEngine, LocalEngineSettings
from glmbot.errors import ModelFileError
from glmbot.models.registry import load_tokenizer
from glmbot.models.tiktoken_file import read_tiktoken

# The published code's own words: https://huggingface.co/zai-org/glm-4-9b-chat/blob/main/tokenization_chatglm.py
CUT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
CONTROL = (
    "<|endoftext|>", "[MASK]", "[gMASK]", "[sMASK]", "<sop>", "<eop>", "<|system|>", "<|user|>", "<|assistant|>",
    "<|observation|>", "<|begin_of_image|>", "<|end_of_image|>", "<|begin_of_video|>", "<|end_of_video|>",
)  # fmt: skip
TEMPLATE = (
    "[gMASK]<sop>{% for item in messages %}<|{{ item['role'] }}|>{{ item['metadata'] }}\n{{ item['content'] }}"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def ranks() -> dict[bytes, int]:
    """Of all bytes, and what byte pairs make of a text."""
    found = {bytes([byte]): byte for byte in range(256)}
    words = [piece.encode() for text in BILINGUAL for piece in regex.findall(CUT, text)]
    while len(found) < 420:
        parts = [cut(word, found) for word in words]
        pairs = [left + right for each in parts for left, right in pairwise(each)]
        found[max(pairs, key=lambda pair: (pairs.count(pair), pair))] = len(found)
    return found


def cut(word: bytes, found: dict[bytes, int]) -> list[bytes]:
    """As tiktoken does it: of all neighbours those are put together whose whole has the lowest rank."""
    parts = [bytes([byte]) for byte in word]
    while True:
        best = min(
            (at for at in range(len(parts) - 1) if parts[at] + parts[at + 1] in found),
            key=lambda at: (found[parts[at] + parts[at + 1]], at),
            default=None,
        )
        if best is None:
            return parts
        parts[best : best + 2] = [parts[best] + parts[best + 1]]


RANKS = ranks()


def write_vocabulary(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    lines = (f"{base64.b64encode(word).decode()} {rank}" for word, rank in RANKS.items())
    (folder / "tokenizer.model").write_text("\n".join(lines) + "\n")
    added = {
        str(len(RANKS) + place): {"content": token, "special": True} for place, token in enumerate(CONTROL)
    }
    said = {"tokenizer_class": "ChatGLM4Tokenizer", "added_tokens_decoder": added, "chat_template": TEMPLATE}
    (folder / "tokenizer_config.json").write_text(json.dumps(said))
    return folder / "tokenizer.model"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("glm") / "glm-4-9b-chat"
    ends = [len(RANKS) + CONTROL.index(token) for token in ("<|endoftext|>", "<|user|>", "<|observation|>")]
    write_chatglm_folder(made, "chatglm3-6b", eos_token_id=ends, rope_ratio=500)
    write_vocabulary(made)
    return made


@pytest.fixture(scope="module")
def chat_format(folder: Path) -> ChatFormat:
    return load_tokenizer(folder).chat_format


@given(text=st.text() | st.sampled_from(BILINGUAL) | st.text("ab 12\n'sS北京。\t", max_size=40))
def test_words_are_cut_as_tiktoken_cuts_them(text: str, chat_format: ChatFormat) -> None:
    expected = [RANKS[part] for piece in regex.findall(CUT, text) for part in cut(piece.encode(), RANKS)]
    assert chat_format.encode_text(text) == expected
    assert chat_format.decode(expected) == text


def test_its_template_is_followed_and_no_text_is_a_role(folder: Path) -> None:
    found = load_tokenizer(folder)
    control = {token: len(RANKS) + place for place, token in enumerate(CONTROL)}
    prompt = found.chat_format.encode_chat("", [ChatTurn("a", "b")], "<|user|> hi")
    roles = [token for token in prompt if token >= len(RANKS)]
    names = ("[gMASK]", "<sop>", "<|user|>", "<|assistant|>", "<|user|>", "<|assistant|>")
    assert roles == [control[name] for name in names]
    assert found.stop_tokens == {control["<|endoftext|>"], control["<|user|>"], control["<|observation|>"]}


async def test_it_answers(folder: Path) -> None:
    settings = LocalEngineSettings(folder, precision=Precision.FP32, cache_tokens=256, threads=1)
    engine = await LocalEngine.start(settings)
    prompt = engine.chat_format.encode_chat("", [], "你好")
    last = [each async for each in engine.generate(prompt, Sampling(8, temperature=0), user="a")][-1]
    await engine.close()
    assert last.completion_tokens == 8


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (lambda lines: [*lines[:300], "AA== 300"], "line 301"),
        (lambda lines: [*lines[:300], "!!!! 300"], "line 301"),
        (lambda lines: [lines[1], lines[0], *lines[2:]], "line 1"),
        (lambda lines: [*lines, f"{'QUFB' * 100} {len(lines)}"], f"line {len(RANKS) + 1}"),
        (lambda lines: lines[:200], "no word"),
    ],
)
def test_a_damaged_vocabulary_is_refused(
    harm: Callable[[list[str]], list[str]], words: str, tmp_path: Path
) -> None:
    file = write_vocabulary(tmp_path / "damaged")
    file.write_text("\n".join(harm(file.read_text().splitlines())))
    with pytest.raises(ModelFileError, match=words):
        read_tiktoken(file)


@pytest.mark.parametrize(
    "added", [None, [], {}, {"5": {"content": "x"}}, {"420": 5}, {"x": {"content": "x"}}]
)
def test_control_tokens_that_do_not_follow_are_refused(added: Any, tmp_path: Path) -> None:
    file = write_vocabulary(tmp_path / "odd")
    (tmp_path / "odd" / "tokenizer_config.json").write_text(json.dumps({"added_tokens_decoder": added}))
    if added == {}:
        assert len(read_tiktoken(file)) == len(RANKS)
        return
    with pytest.raises(ModelFileError, match="added_tokens_decoder"):
        read_tiktoken(file)
