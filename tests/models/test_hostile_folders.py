"""Model folders by somebody who means harm, or by a bad download: refused in words that name the file, in time."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub.errors import StrictDataclassError
from hypothesis import given
from hypothesis import strategies as st
from transformers import CONFIG_MAPPING

from chatglm_folder import Generation, write_chatglm_folder
from glmbot.errors import ModelFileError, PromptInvalid
from glmbot.models.base import ChatTurn, well_formed
from glmbot.models.family import read_json, refuse_monsters
from glmbot.models.registry import load, load_tokenizer, model_name
from glmbot.models.template import ChatTemplate, TemplateExceeded, TemplateRefused, Wish
from glmbot.models.text_cache import TextCache
from glmbot.models.text_growth import growth
from tiny_architectures import KINDS

SAID = Wish([{"role": "user", "content": "x"}])
MESSAGES = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
FOR_EVER = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"


@pytest.fixture
def folder(tiny_model: Path, tmp_path: Path) -> Path:
    shutil.copytree(tiny_model, tmp_path / "model")
    return tmp_path / "model"


def change(file: Path, **fields: Any) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | fields))


def set_template(folder: Path, template: str) -> None:
    for each in folder.glob("chat_template*"):
        each.unlink()
    change(folder / "tokenizer_config.json", chat_template=template)


@pytest.mark.parametrize(
    "template",
    [
        FOR_EVER,
        "{{ 'a' * 20000000000 }}",
        "{% set n = namespace(x='aaaaaaaa') %}{% for a in range(60) %}{% set n.x = n.x ~ n.x %}{% endfor %}",
        "{{ '%1000000000s' % 'a' }}",
        "{{ 'a'.center(3000000000) }}",
        "{{ 'a'|center(3000000000) }}",
        "{{ (range(99999)|list * 99999)|length }}",
        "{% macro f(n) %}{{ f(n + 1) }}{{ f(n + 1) }}{% endmacro %}{{ f(1) }}",
        "{% for a in range(99999) %}{{ 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa' }}{% endfor %}",
    ],
)
def test_a_template_that_wants_too_much_is_stopped(template: str) -> None:
    with pytest.raises((TemplateExceeded, TemplateRefused)):
        ChatTemplate(template + MESSAGES, {}).render(SAID)
    assert ChatTemplate(MESSAGES, {}).render(SAID) == "x", "and the next one is rendered"


@pytest.mark.parametrize(
    "template",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ cycler.__init__.__globals__.os.environ }}",
        "{{ raise_exception.__globals__ }}",
        "{% include '/etc/passwd' %}",
        "{% set n = namespace() %}{% set n.__class__ = 1 %}",
        "{% for",
    ],
)
def test_a_template_that_reaches_for_the_program_is_refused(template: str) -> None:
    try:
        made = ChatTemplate(template + MESSAGES, {}).render(SAID)
    except TemplateRefused:
        return
    assert made == "x", "what it reached for is empty"


def test_what_templates_of_published_models_use_is_there() -> None:
    template = (
        "{{ bos_token }}{% if tools is not none %}tools{% endif %}{% for m in messages %}{% if loop.last %}"
        "{% break %}{% endif %}{% generation %}{{ m.role }}{% endgeneration %}{% endfor %}{{ messages|tojson }}"
        "{{ strftime_now('%Y') | length }}{% if add_generation_prompt %}!{% endif %}"
    )
    said = Wish([{"role": "user", "content": "你"}, {"role": "assistant", "content": "b"}])
    made = ChatTemplate(template, {"bos_token": "<s>"}).render(said)
    assert made == '<s>user[{"role": "user", "content": "你"}, {"role": "assistant", "content": "b"}]4!'


def test_the_process_that_renders_knows_nothing_of_our_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    from glmbot.models import template

    monkeypatch.setenv("GLMBOT_REMOTE__API_KEY", "sk-1")
    assert not any(name.startswith("GLMBOT") for name in template._PASSED)


def test_a_template_without_end_is_refused_when_the_folder_is_opened(folder: Path) -> None:
    set_template(folder, "{% if messages|length > 2 %}" + FOR_EVER + "{% endif %}" + MESSAGES)
    with pytest.raises(ModelFileError, match=r"chat_template takes more than 2 s"):
        load_tokenizer(folder)


def test_a_template_that_bites_later_fails_that_conversation_alone(folder: Path) -> None:
    set_template(folder, "{% if messages|length == 5 %}" + FOR_EVER + "{% endif %}" + MESSAGES)
    chat = load_tokenizer(folder).chat_format
    before = chat.encode_chat("", (), "hello")
    with pytest.raises(PromptInvalid, match="chat template"):
        chat.encode_chat("", [ChatTurn("a", "b")] * 2, "hello")
    assert chat.encode_chat("", (), "hello") == before


@pytest.mark.parametrize(
    "template",
    [
        "{% for a in range(9999) %}{{ messages[0].content }}{% endfor %}",
        MESSAGES + "\ue0a0999999\ue0a1",
        MESSAGES + "\ue0a0" + "9" * 6000 + "\ue0a1",
    ],
)
def test_a_template_that_repeats_or_forges_texts_does_not_multiply_work(folder: Path, template: str) -> None:
    set_template(folder, template)
    chat = load_tokenizer(folder).chat_format
    with suppress(PromptInvalid):
        assert len(chat.encode_chat("", (), "hello")) < 30_000


def test_a_tokenizer_that_panics_fails_that_text_alone(folder: Path) -> None:
    bad = {"type": "Split", "pattern": {"Regex": "(a+)+$"}, "behavior": "Isolated", "invert": False}
    rest = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    change(folder / "tokenizer.json", pre_tokenizer={"type": "Sequence", "pretokenizers": [bad, rest]})
    chat = load_tokenizer(folder).chat_format
    with pytest.raises(PromptInvalid, match="tokenizer fails"):
        chat.encode_chat("", (), "a" * 40 + "!")
    assert chat.encode_chat("", (), "hello")


@pytest.mark.parametrize("part", ["normalizer", "decoder"])
@pytest.mark.parametrize("pattern", [{"String": "a"}, {"Regex": "a|b"}, {"Regex": ""}])
def test_replacements_that_fill_the_memory_are_refused(
    folder: Path, part: str, pattern: dict[str, str]
) -> None:
    longer = {"type": "Replace", "pattern": pattern, "content": "a" * 16}
    change(folder / "tokenizer.json", **{part: {"type": "Sequence", f"{part}s": [longer] * 9}})
    with pytest.raises(ModelFileError, match=rf"tokenizer\.json: {part}: .* times longer"):
        load_tokenizer(folder)


def test_replacements_of_published_tokenizers_are_not() -> None:
    for pattern, content in (({"String": " "}, "▁"), ({"Regex": " {2,}"}, " "), ({"String": "``"}, '"')):
        each = {"type": "Replace", "pattern": pattern, "content": content}
        assert growth({"type": "Sequence", "normalizers": [{"type": "NFKC"}, each, each]}) <= 4


def test_a_tokenizer_that_panics_while_it_is_opened_is_refused(folder: Path) -> None:
    file = folder / "tokenizer.json"
    fields = json.loads(file.read_text())
    # Merges are cut by its length, whatever they are.
    fields["model"]["continuing_subword_prefix"] = "e" + "\u0301" * 1000
    file.write_text(json.dumps(fields))
    with pytest.raises(ModelFileError, match="model"):
        load_tokenizer(folder)


@pytest.mark.parametrize("text", ["\ud800", "a\udfffb", "\ud83d\ude00", "你\ud800"])
def test_half_a_surrogate_pair_is_text_like_any_other(folder: Path, text: str) -> None:
    chat = load_tokenizer(folder).chat_format
    assert chat.decode(chat.encode_text(text)) == well_formed(text)


CONFIGS: dict[str, tuple[dict[str, Any], str]] = {
    "wide": ({"hidden_size": 10**9, "intermediate_size": 10**9}, "hidden_size|weights"),
    "wide between": ({"intermediate_size": 10**9}, "weights"),
    "many layers": ({"num_hidden_layers": 1999}, "num_hidden_layers is 1999"),
    "more layers": ({"num_hidden_layers": 10**6}, "num_hidden_layers is 1000000"),
    "many words": ({"vocab_size": 4 * 10**9}, "weights"),
    "no heads": ({"num_attention_heads": 0}, "num_attention_heads"),
    "negative": ({"head_dim": -4}, "head_dim"),
    "no layers": ({"num_hidden_layers": 0}, "num_hidden_layers is 0"),
    "many experts": ({"model_type": "mixtral", "num_local_experts": 10**6}, "num_local_experts"),
    "square tables": (
        {
            "model_type": "gpt_neo",
            "num_layers": 2,
            "attention_types": [[["global"], 2]],
            "num_heads": 4,
            "max_position_embeddings": 60000,
        },
        "max_position_embeddings is 60000|weights|its own attention",
    ),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_sizes_are_held_against_the_weights_before_anything_is_allocated(folder: Path, name: str) -> None:
    fields, words = CONFIGS[name]
    change(folder / "config.json", **fields)
    with pytest.raises(ModelFileError, match=rf"config\.json: .*({words})"):
        load(folder, "eager")


def _pipe(file: Path) -> None:
    file.unlink(missing_ok=True)
    os.mkfifo(file)


def _device(file: Path) -> None:
    file.unlink(missing_ok=True)
    file.symlink_to("/dev/zero")


def _deep(file: Path) -> None:
    file.write_text('{"model_type": "llama", "a": ' + "[" * 100_000 + "]" * 100_000 + "}")


def _huge(file: Path) -> None:
    with file.open("wb") as opened:
        opened.truncate(1 << 30)


@pytest.mark.parametrize("harm", [_pipe, _device, _deep, _huge])
@pytest.mark.parametrize(
    "name", ["config.json", "tokenizer_config.json", "generation_config.json", "tokenizer.json"]
)
def test_a_file_that_is_none_is_refused(folder: Path, harm: Callable[[Path], None], name: str) -> None:
    harm(folder / name)
    with pytest.raises(ModelFileError, match=str(folder)):
        load(folder, "sdpa")


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "a/../../b", "..", ""])
def test_an_index_names_files_of_its_folder_only(folder: Path, name: str) -> None:
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": name}}))
    with pytest.raises(ModelFileError, match=r"index\.json"):
        load(folder, "sdpa")


@pytest.mark.parametrize("generation", [None, "chatglm3-6b", "chatglm-6b"])
@pytest.mark.parametrize("end", ["</s>", "", [2, None], [[2]], 2.5, True, {"id": 2}])
def test_what_ends_an_answer_is_a_number_or_the_file_is_refused(
    folder: Path, tmp_path: Path, generation: Generation | None, end: object
) -> None:
    opened = folder if generation is None else write_chatglm_folder(tmp_path / generation, generation)
    change(opened / "config.json", eos_token_id=end)
    with pytest.raises(ModelFileError, match=r"config\.json"):
        load(opened, "sdpa")


def test_json_is_read_up_to_a_size_and_a_depth(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    file.write_text('{"a": "' + "x" * 100 + '"}')
    assert read_json(file)
    with pytest.raises(ModelFileError, match="at most 50 are read"):
        read_json(file, 50)


@given(st.lists(st.text(max_size=40) | st.sampled_from(["a" * 300, "b" * 5000]), max_size=60))
def test_kept_texts_have_a_bound_in_bytes_and_are_encoded_the_same(texts: list[str]) -> None:
    cache = TextCache(lambda text: [ord(each) for each in text], most_bytes=4000, largest_bytes=3000)
    for text in texts:
        assert cache.encode(text) == [ord(each) for each in text]
        assert 0 <= cache.bytes <= 4000


def test_what_published_configurations_say_is_no_monster() -> None:
    """The experts of a layer are counted, and have sizes; so has what each layer is given."""
    for kind in KINDS:
        with suppress(StrictDataclassError):  # One is not valid by its defaults.
            refuse_monsters(
                Path("config.json"), json.loads(CONFIG_MAPPING[kind]().to_json_string(use_diff=False))
            )
    refuse_monsters(Path("config.json"), {"shared_expert_intermediate_size": 20480, "num_experts": 64})
    for name in ("num_hidden_layers", "n_routed_experts", "num_local_experts", "decoder_layers", "n_layer"):
        for number in (3_000_000, 3e12):
            with pytest.raises(ModelFileError, match=name):
                refuse_monsters(Path("config.json"), {name: number})


def test_a_link_that_leads_to_itself_is_refused(tmp_path: Path) -> None:
    link = tmp_path / "latest"
    link.symlink_to(link)
    with pytest.raises(ModelFileError, match=f"{link}: there is no such model folder"):
        load(link, "eager")
    assert model_name(link) == "latest"
