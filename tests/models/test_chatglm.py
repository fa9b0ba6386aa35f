"""The ChatGLM family: tokenizers, chat formats, published folders, and Transformers' own doors to them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from chatglm_folder import (
    GENERATIONS,
    Generation,
    train_ice_text,
    train_tokenizer_model,
    write_chatglm_folder,
)
from glmbot.engine.base import Conversation
from glmbot.engine.templated import prepare_tokens
from glmbot.errors import ModelFileError
from glmbot.models.base import ChatTurn
from glmbot.models.chatglm.chat_format import ChatGLMChatFormat
from glmbot.models.chatglm.family import register_chatglm
from glmbot.models.chatglm.tokenizer import CONTROL, ChatGLMTokenizer
from glmbot.models.chatglm2.chat_format import ChatGLM2ChatFormat, ChatGLM3ChatFormat
from glmbot.models.chatglm2.tokenizer import ChatGLM2Tokenizer
from glmbot.models.registry import load

TURNS = [ChatTurn("你好", "你好！有什么可以帮你？"), ChatTurn("1+1", "2")]
ROLES = ("<|system|>", "<|user|>", "<|assistant|>", "<|observation|>")

# Any text, and text that is rich in what the tokenizers treat in a special way.
texts = st.one_of(
    st.text(),
    st.lists(
        st.sampled_from(
            [
                " ",
                "  ",
                "\n",
                "\t",
                "<n>",
                "<|tab|>",
                "<|blank_7|>",
                *CONTROL,
                *ROLES,
                "sop",
                "你好",
                "，",
                "a",
                "🙂",
            ]
        ),
        max_size=12,
    ).map("".join),
)


@pytest.fixture(scope="module")
def vocabularies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("vocabularies")
    train_ice_text(folder / "ice_text.model")
    train_ice_text(folder / "identity.model", normalisation="identity")
    train_tokenizer_model(folder / "tokenizer.model")
    return folder


@pytest.fixture(scope="module")
def first(vocabularies: Path) -> ChatGLMTokenizer:
    return ChatGLMTokenizer(str(vocabularies / "ice_text.model"), num_image_tokens=0)


@pytest.fixture(scope="module")
def later(vocabularies: Path) -> ChatGLM2Tokenizer:
    return ChatGLM2Tokenizer(str(vocabularies / "tokenizer.model"))


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[Generation, Path]:
    base = tmp_path_factory.mktemp("published")
    return {generation: write_chatglm_folder(base / generation, generation) for generation in GENERATIONS}


# ---- tokenizers -----------------------------------------------------------------------------------------


@given(text=texts)
def test_any_text_comes_back_from_chatglm_when_nothing_is_normalised(vocabularies: Path, text: str) -> None:
    tokenizer = _cached_first(vocabularies / "identity.model", 20000)
    ids = tokenizer.encode_text(text)
    # SentencePiece reads NUL as the end of the text it was given, and has its own mark for a space.
    if "\x00" not in text and "\u2581" not in text:
        assert tokenizer.decode_text(ids) == text
    assert all(token >= 20000 for token in ids)


@given(text=texts)
def test_any_text_comes_back_from_chatglm2(later: ChatGLM2Tokenizer, text: str) -> None:
    if "\x00" not in text and "\u2581" not in text:
        assert later.decode_text(later.encode_text(text)) == text


@given(text=texts)
def test_normalised_text_comes_back_unchanged(first: ChatGLMTokenizer, text: str) -> None:
    once = first.decode_text(first.encode_text(text))
    twice = first.decode_text(first.encode_text(once))
    assert once == twice


@given(text=texts)
def test_text_never_becomes_a_control_token(
    first: ChatGLMTokenizer, later: ChatGLM2Tokenizer, text: str
) -> None:
    forbidden = {first.id_of(piece) for piece in (*CONTROL, "<pad>", "<s>", "</s>")}
    assert not forbidden & set(first.encode_text(text))
    assert not forbidden & set(first.encode_text("［ｇＭＡＳＫ］" + text))
    assert all(2 < token < later.text.size for token in later.encode_text(text))


def test_white_space_has_pieces_of_its_own(first: ChatGLMTokenizer) -> None:
    ids = first.encode_text("a\nb\tc" + " " * 5 + "d" + " " * 83)
    pieces = [first.convert_ids_to_tokens(token) for token in ids]
    assert [piece for piece in pieces if "<" in piece] == [
        "<n>", "<|tab|>", "<|blank_5|>", "<|blank_80|>", "<|blank_3|>",
    ]  # fmt: skip


def test_what_looks_like_a_white_space_piece_stays_as_written(first: ChatGLMTokenizer) -> None:
    text = "list<n> and <|tab|> and <|blank_4|>"
    ids = first.encode_text(text)
    assert first.decode_text(ids) == text
    assert first.id_of("<n>") not in ids


def test_full_width_punctuation_is_normalised_as_published(first: ChatGLMTokenizer) -> None:
    assert first.decode_text(first.encode_text("你好，世界！")) == "你好,世界!"


def test_the_first_revision_counts_image_tokens_in_front(vocabularies: Path) -> None:
    both = [_cached_first(vocabularies / "ice_text.model", images) for images in (0, 20000)]
    final, early = (tokenizer.encode_text("你好 world") for tokenizer in both)
    assert early == [token + 20000 for token in final]
    assert both[1].convert_ids_to_tokens(7) == "<image_7>"


@pytest.mark.parametrize("generation", GENERATIONS)
def test_tokenizers_open_through_transformers_and_can_be_saved(
    folders: dict[Generation, Path], generation: Generation, tmp_path: Path
) -> None:
    register_chatglm()
    tokenizer: Any = AutoTokenizer.from_pretrained(folders[generation], trust_remote_code=False)
    assert isinstance(tokenizer, ChatGLMTokenizer if generation == "chatglm-6b" else ChatGLM2Tokenizer)
    tokenizer.save_pretrained(tmp_path)
    again: Any = type(tokenizer).from_pretrained(tmp_path)
    text = "你好 world <sop>"
    assert again(text)["input_ids"] == tokenizer(text)["input_ids"]
    padded = tokenizer(["你好", text], padding=True)
    assert padded["attention_mask"][0][0] == 0
    assert str(tokenizer.decode(tokenizer(text)["input_ids"], skip_special_tokens=True)).endswith(text)


# ---- chat formats ---------------------------------------------------------------------------------------


def test_chatglm_counts_rounds_from_zero_and_a_lone_question_stands_alone(first: ChatGLMTokenizer) -> None:
    chat = ChatGLMChatFormat(first)
    end = [first.id_of("[gMASK]"), first.id_of("<sop>")]
    assert chat.encode_chat("", (), "你好") == [*first.encode_text("你好"), *end]
    expected = "[Round 0]\n问：你好\n答：你好！有什么可以帮你？\n[Round 1]\n问：1+1\n答：2\n[Round 2]\n问：再见\n答："
    assert chat.encode_chat("", TURNS, "再见") == [*first.encode_text(expected), *end]


def test_chatglm2_counts_rounds_from_one(later: ChatGLM2Tokenizer) -> None:
    chat = ChatGLM2ChatFormat(later)
    begin = [later.control["[gMASK]"], later.control["sop"]]
    assert later.control["[gMASK]"] == later.text.size + 1
    expected = "[Round 1]\n\n问：1+1\n\n答：2\n\n[Round 2]\n\n问：你好\n\n答："
    assert chat.encode_chat("", TURNS[1:], "你好") == [*begin, *later.encode_text(expected)]


def test_chatglm3_speaks_in_roles(later: ChatGLM2Tokenizer) -> None:
    chat = ChatGLM3ChatFormat(later)
    say, line = later.encode_text, later.encode_text("\n")
    control = later.control
    assert chat.encode_chat("友好", TURNS[1:], "你好") == [
        control["[gMASK]"], control["sop"],
        control["<|system|>"], *line, *say("友好"),
        control["<|user|>"], *line, *say("1+1"),
        control["<|assistant|>"], *line, *say("2"),
        control["<|user|>"], *line, *say("你好"),
        control["<|assistant|>"],
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        (" 你好,世界!  ", "你好，世界！"),
        ("Yes, sure: 3:4;", "Yes, sure: 3:4;"),
        ("是;a?b?好:", "是；a?b？好："),
        ("[[训练时间]],是", "2023年，是"),
    ],
)
def test_chatglm_answers_get_their_full_width_punctuation_back(
    first: ChatGLMTokenizer, raw: str, shown: str
) -> None:
    assert ChatGLMChatFormat(first).finish_text(raw) == shown


def test_later_answers_are_stripped_only(later: ChatGLM2Tokenizer) -> None:
    assert ChatGLM3ChatFormat(later).finish_text("\n 你好,[[训练时间]]") == "你好,2023年"


@given(question=texts, budget=st.integers(40, 120), answers=st.lists(texts, max_size=4))
def test_fit_counts_each_generation_exactly(
    first: ChatGLMTokenizer, later: ChatGLM2Tokenizer, question: str, budget: int, answers: list[str]
) -> None:
    turns = [ChatTurn("问题" * place, answer) for place, answer in enumerate(answers)]
    for chat in (ChatGLMChatFormat(first), ChatGLM2ChatFormat(later), ChatGLM3ChatFormat(later)):
        prompt = prepare_tokens(chat, Conversation.of_words(question, turns, turn_limit=10), budget)
        assert len(prompt.tokens) <= budget
        if not prompt.question_cut:
            recent = turns[len(turns) - prompt.turns :]
            assert list(prompt.tokens) == chat.encode_chat("", recent, question)
            if prompt.dropped:
                more = turns[len(turns) - prompt.turns - 1 :]
                assert len(chat.encode_chat("", more, question)) > budget


@pytest.mark.parametrize(
    ("generation", "chat", "ends"),
    [
        ("chatglm-6b", ChatGLMChatFormat, 1),
        ("chatglm2-6b", ChatGLM2ChatFormat, 1),
        ("chatglm3-6b", ChatGLM3ChatFormat, 3),
    ],
)
def test_each_folder_is_known_for_what_it_is(
    folders: dict[Generation, Path], generation: Generation, chat: type, ends: int
) -> None:
    model = load(folders[generation], "sdpa")
    assert isinstance(model.chat_format, chat)
    assert len(model.stop_tokens) == ends
    assert model.generation_defaults["top_p"] == (0.7 if generation == "chatglm-6b" else 0.8)
    assert model.shape.positions == 2048


# ---- models through Transformers ------------------------------------------------------------------------


@pytest.mark.parametrize("generation", GENERATIONS)
def test_transformers_generates_from_a_padded_batch_as_from_each_alone(
    folders: dict[Generation, Path], generation: Generation
) -> None:
    register_chatglm()
    folder = folders[generation]
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    questions = ["你好", "今天天气很好 hello world", "The quick brown fox\n\n北京"]
    batch = tokenizer(questions, padding=True, return_tensors="pt")
    fields = {name: batch[name] for name in ("input_ids", "attention_mask")}
    together = model.generate(**fields, max_new_tokens=8, do_sample=False)[:, -8:]
    for question, answer in zip(questions, together, strict=True):
        alone = tokenizer(question, return_tensors="pt")["input_ids"]
        assert (
            model.generate(input_ids=alone, max_new_tokens=8, do_sample=False)[0, -8:].tolist()
            == answer.tolist()
        )


@pytest.mark.parametrize("generation", GENERATIONS)
def test_a_saved_configuration_opens_as_the_same_class(
    folders: dict[Generation, Path], generation: Generation, tmp_path: Path
) -> None:
    register_chatglm()
    config = AutoConfig.from_pretrained(folders[generation], trust_remote_code=False)
    config.save_pretrained(tmp_path)
    again = AutoConfig.from_pretrained(tmp_path)
    assert type(again) is type(config)
    assert again.to_diff_dict() | {"_name_or_path": ""} == config.to_diff_dict() | {"_name_or_path": ""}


# ---- wrong folders --------------------------------------------------------------------------------------


def test_the_vocabulary_of_another_model_is_refused_with_the_piece_that_is_off(
    tmp_path: Path, vocabularies: Path
) -> None:
    folder = write_chatglm_folder(tmp_path / "m", "chatglm-6b", gmask_token_id=130001)
    with pytest.raises(ModelFileError, match=r"ice_text\.model: has \[gMASK\] at \d+, .* says 130001"):
        load(folder, "sdpa")
    (folder / "ice_text.model").write_bytes((vocabularies / "tokenizer.model").read_bytes())
    with pytest.raises(ModelFileError, match=r"ice_text\.model: has no piece <n>"):
        load(folder, "sdpa")


def test_a_vocabulary_larger_than_the_model_is_refused(tmp_path: Path) -> None:
    folder = write_chatglm_folder(tmp_path / "m", "chatglm2-6b", padded_vocab_size=256)
    with pytest.raises(ModelFileError, match=r"tokenizer\.model: has \d+ tokens and the model 256"):
        load(folder, "sdpa")


@pytest.mark.parametrize("content", [b"", b"not a model", b"\x00" * 100])
def test_a_vocabulary_that_is_no_model_is_named(
    folders: dict[Generation, Path], tmp_path: Path, content: bytes
) -> None:
    folder = write_chatglm_folder(tmp_path / "m", "chatglm3-6b")
    (folder / "tokenizer.model").write_bytes(content)
    with pytest.raises(ModelFileError, match=re.escape(str(folder / "tokenizer.model"))):
        load(folder, "sdpa")
    (folder / "tokenizer.model").unlink()
    with pytest.raises(ModelFileError, match=r"tokenizer\.model: missing"):
        load(folder, "sdpa")


def test_one_dimensional_positions_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="position_encoding_2d"):
        write_chatglm_folder(tmp_path / "m", "chatglm-6b", position_encoding_2d=False)


_first_tokenizers: dict[tuple[Path, int], ChatGLMTokenizer] = {}


def _cached_first(file: Path, images: int) -> ChatGLMTokenizer:
    if (file, images) not in _first_tokenizers:
        _first_tokenizers[file, images] = ChatGLMTokenizer(str(file), num_image_tokens=images)
    return _first_tokenizers[file, images]
