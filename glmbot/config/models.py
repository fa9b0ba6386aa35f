"""The sections of what answers: the models of this machine and of others, and how answers are drawn."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, SecretStr

from glmbot.config.section import Section, checked_address

__all__ = [
    "MODEL_NAME",
    "ModelSection",
    "ModelsSection",
    "NamedLocalModel",
    "NamedRemoteModel",
    "RemoteSection",
    "SamplingSection",
]

_MOST_TOKENS = 2**20
MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def _check_server(url: str) -> str:
    return checked_address(url, "a server is an address such as http://10.0.0.5:8000/v1", "api_key_file")


def _check_name(name: str) -> str:
    if name and not MODEL_NAME.fullmatch(name):
        raise ValueError("a model's name is 1 to 64 letters, digits, dots, underscores and hyphens")
    return name


class _LocalModel(Section):
    path: Path = Field(
        default=Path(".glmbot/models/smollm2-135m-instruct"),
        description="Folder of a Transformers model, or a GGUF file. `glmbot pull` makes the one named here by"
        " default.",
    )
    device: str = Field(
        default="auto",
        description='"auto", "cpu", "cuda:1", or several GPUs to spread the layers over: "cuda:0,cuda:1".',
    )
    precision: Literal["auto", "fp32", "fp16", "bf16", "int8", "int4"] = Field(
        default="auto",
        description="auto: that of a quantised checkpoint, else bf16 on a CPU and fp16 on a GPU."
        " Administrators switch it with /precision.",
    )
    prefix_path: Path | None = Field(
        default=None, description="Folder of a P-Tuning v2 checkpoint made for this ChatGLM model."
    )
    adapters: list[Path] = Field(
        default=[],
        max_length=8,
        description="Folders of LoRA adapters, as PEFT saves them, that are merged into the model while it is"
        " loaded.",
    )
    chat_format: Literal["auto", "chatglm2", "chatglm3"] = Field(
        default="auto",
        description="For a ChatGLM2 or ChatGLM3 whose files do not say which of both it is.",
    )
    thinking: Literal["auto", "off"] = Field(
        default="auto",
        description="off: a model that thinks before it answers, and whose chat template has a switch for that,"
        " answers at once. Of servers with the chat interface those of vLLM, SGLang and llama.cpp know it.",
    )
    context_length: int = Field(
        default=2048, ge=64, le=_MOST_TOKENS, description="Tokens of history, question and answer together."
    )
    max_answer_tokens: int = Field(
        default=512, ge=1, le=_MOST_TOKENS, description="Tokens kept free for an answer."
    )
    cache_tokens: int = Field(
        default=0,
        ge=0,
        le=2**26,
        description="Size of the KV cache in tokens, for all conversations together."
        " 0: 16384, or context_length where that is more; fewer where memory has no room for them.",
    )
    max_batch: int = Field(default=16, ge=1, le=1024, description="Answers generated at the same time.")
    queue_limit: int = Field(
        default=64,
        ge=0,
        le=100_000,
        description="Requests that may wait; the next one is told when to come back.",
    )
    prefill_tokens: int = Field(
        default=0,
        ge=0,
        le=_MOST_TOKENS,
        description="Prompt tokens read in one step beside decoding; 0: 128 on a CPU, 512 on a GPU.",
    )
    threads: int = Field(
        default=0, ge=0, le=1024, description="CPU threads; 0: one for each core it may use."
    )
    gpu_plain: bool = Field(
        default=False,
        description="true: on a GPU torch computes alone, without kernels and graphs of glmbot's own. Slower; for"
        " a card on which they misbehave.",
    )
    tensor_parallel: int = Field(
        default=1,
        ge=1,
        le=64,
        description="How many processes share the model, each with a part of every layer; on GPUs one for each"
        " card. It must divide the model's heads. 1: this process alone.",
    )
    load: Literal["start", "first use"] = Field(
        default="start",
        description="When it is loaded: when the bot starts, or when somebody first asks it.",
    )


class ModelSection(_LocalModel):
    """The model, and what it may use of this machine. With others in [models.NAME] it is the default one."""

    name: Annotated[str, AfterValidator(_check_name)] = Field(
        default="",
        description="What it is called in /model and over HTTP. Empty: as its folder, or as its servers call it.",
    )


class RemoteSection(Section):
    """The model on other machines: OpenAI-compatible servers (vLLM, SGLang, llama.cpp's, hosted services).
    Then no model is loaded here, and of [model] only name, thinking, context_length, max_answer_tokens and
    queue_limit count."""

    servers: list[Annotated[str, AfterValidator(_check_server)]] = Field(
        default=[],
        description='Like ["http://10.0.0.5:8000/v1"]. Of several, each with the same model, the least busy is'
        " asked, and another goes on when one fails. None: the model runs here.",
    )
    interface: Literal["completions", "chat"] = Field(
        default="completions",
        description="completions sends tokens, so prompts fit exactly and no text can become a control token; it"
        " needs tokenizer. chat leaves the template to the server, as hosted services want it, and counts a"
        " character as a token.",
    )
    tools: Literal["auto", "words", "off"] = Field(
        default="auto",
        description="How a server of the chat interface is told of tools. auto: as tools, and one that refuses"
        " them has them described in the system prompt. words: always so, for one that takes tools and does"
        " nothing with them. off: not at all.",
    )
    tokenizer: Path | None = Field(
        default=None,
        description="Folder of the served model; its configuration and tokenizer files are enough.",
    )
    model: str = Field(
        default="", description="The model's name there. Empty: the first that the server lists."
    )
    api_key: SecretStr | None = Field(
        default=None,
        description="The servers' key; better in the environment (GLMBOT_REMOTE__API_KEY), or in api_key_file.",
    )
    api_key_file: Path | None = Field(default=None, description="A file with the key alone in it.")
    parallel: int = Field(
        default=16, ge=1, le=10_000, description="Answers asked for at the same time; others wait in line."
    )
    connect_s: float = Field(default=5.0, gt=0, le=3600, description="Seconds that connecting may take.")
    first_token_s: float = Field(
        default=90.0, gt=0, le=86400, description="Seconds that the first word of an answer may take."
    )
    next_token_s: float = Field(
        default=30.0, gt=0, le=86400, description="Seconds that each next word may take."
    )
    patience_s: float = Field(
        default=60.0,
        ge=0,
        le=86400,
        description="Seconds that an answer waits for a working server before it fails.",
    )


class ModelsSection(Section):
    """More models to choose from with /model. Each has a section of its own, [models.NAME], with the keys of
    [model] except name (load is "first use" there unless it says otherwise), or those of [remote] and of [model]
    thinking, context_length, max_answer_tokens and queue_limit, or engine = "KIND" of a plug-in with its keys and
    context_length, max_answer_tokens, parallel, queue_limit and load."""

    memory_gb: float = Field(
        default=0.0,
        ge=0,
        le=1_000_000,
        description="What the models of this machine may take of its memory together, weights and caches. The one"
        " that was not asked for longest gives way to the next. 0: no bound.",
    )
    idle_minutes: float = Field(
        default=30.0,
        ge=0,
        le=1_000_000,
        description="A model that was not loaded at the start is unloaded when nobody has asked it for so long;"
        " 0: never.",
    )
    people_choose: bool = Field(
        default=False,
        description="Whether everybody chooses the model of their private chats with /model. Administrators always"
        " may, and choose that of a group.",
    )


class NamedLocalModel(_LocalModel):
    """[models.NAME] of a model on this machine."""

    load: Literal["start", "first use"] = Field(default="first use")


class NamedRemoteModel(RemoteSection):
    """[models.NAME] of a model on other machines."""

    servers: list[Annotated[str, AfterValidator(_check_server)]] = Field(
        min_length=1, description='Like ["http://10.0.0.5:8000/v1"].'
    )
    thinking: Literal["auto", "off"] = Field(default="auto")
    context_length: int = Field(default=2048, ge=64, le=_MOST_TOKENS)
    max_answer_tokens: int = Field(default=512, ge=1, le=_MOST_TOKENS)
    queue_limit: int = Field(default=64, ge=0, le=100_000)


class NamedPluginModel(Section):
    """[models.NAME] of an engine that a plug-in brings. `settings`: what the plug-in made of its own keys."""

    engine: str
    context_length: int = Field(default=2048, ge=64, le=_MOST_TOKENS)
    max_answer_tokens: int = Field(default=512, ge=1, le=_MOST_TOKENS)
    parallel: int = Field(default=16, ge=1, le=10_000)
    queue_limit: int = Field(default=64, ge=0, le=100_000)
    load: Literal["start", "first use"] = Field(default="first use")
    settings: Any = None

    def __eq__(self, other: object) -> bool:
        """A plug-in that registers anew may have made another class of the same settings."""
        return isinstance(other, NamedPluginModel) and self.model_dump() == other.model_dump()


NamedModel = NamedLocalModel | NamedRemoteModel | NamedPluginModel


class SamplingSection(Section):
    """How answers are drawn. What is left out comes from the model's own generation_config.json."""

    temperature: float | None = Field(
        default=None, ge=0, le=5, description="0 always takes the likeliest token."
    )
    top_p: float | None = Field(default=None, gt=0, le=1, description="Nucleus sampling; 1 is off.")
    top_k: int | None = Field(
        default=None, ge=0, lt=2**31, description="Only the k likeliest tokens; 0 is off."
    )
    repetition_penalty: float | None = Field(default=None, gt=0, le=10, description="1 is off.")
