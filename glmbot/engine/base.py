"""The protocols of engines: what the dialogue knows of any, local or remote, and what those are made of that have
the model's own tokenizer."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol, cast, runtime_checkable

from glmbot.content import Content, length_of, of_words, words_of
from glmbot.engine.score import Score
from glmbot.forms import Form
from glmbot.models.base import ChatFormat, ChatTurn
from glmbot.tools import NO_TOOLS, Offer

__all__ = [
    "LONGEST_STOP_TEXT",
    "MOST_ALTERNATIVES",
    "MOST_BIASES",
    "MOST_STOP_TEXTS",
    "Ability",
    "CallSoFar",
    "ChatFormat",
    "ChatTurn",
    "Conversation",
    "Engine",
    "EngineStats",
    "FinishReason",
    "HoldsForms",
    "PastExchange",
    "Precision",
    "PrecisionChange",
    "Prepared",
    "Progress",
    "Sampling",
    "Score",
    "TokenEngine",
    "Tunable",
    "Waits",
    "tunable",
]

MOST_STOP_TEXTS = 16
LONGEST_STOP_TEXT = 1000
"""Characters. Each is looked for at each new character of an answer."""
MOST_BIASES = 1024
MOST_ALTERNATIVES = 20
"""Of one token, as OpenAI's interface has it."""


class Precision(StrEnum):
    FP32 = "fp32"
    FP16 = "fp16"
    BF16 = "bf16"
    INT8 = "int8"
    INT4 = "int4"
    SERVED = "served"
    """Whatever a remote server runs; nothing can be switched."""


class Ability(StrEnum):
    """What an engine can beyond text in and text out. Others (pictures) come with what asks for them."""

    THOUGHTS = "thoughts"
    """What the model thinks is kept apart from its answer: `Progress.thought`."""
    PRECISIONS = "precisions"
    """Its weights can be stored at several: it is `Tunable`."""
    TOOLS = "tools"
    """It can be told of tools, reads calls and their results, and says calls: `Progress.calls`."""
    TAUGHT_TOOLS = "taught tools"
    """It was trained to call them, as far as its chat template shows; others are told of it in words."""
    FORMS = "forms"
    """It holds an answer to `Sampling.form`."""
    DRAWING = "drawing"
    """It honours min_p, penalties and biases of `Sampling`; any does the others."""
    SCORES = "scores"
    """It says how likely tokens are: `Sampling.logprobs` and `prompt_logprobs`."""
    TEXTS = "texts"
    """It goes on from any text: it is a `glmbot.engine.texts.TextEngine`."""


class FinishReason(StrEnum):
    """The names of the OpenAI interface, and "deadline" for an answer cut by its time limit."""

    STOP = "stop"
    LENGTH = "length"
    TOOL_CALLS = "tool_calls"
    """It waits for what comes of its `calls`."""
    DEADLINE = "deadline"


@dataclass(frozen=True, slots=True)
class Sampling:
    """How to draw tokens. temperature 0 is greedy; top_k 0, top_p 1 and min_p 0 are off; seed None is random.
    `form` is what all of the answer has to look like, for engines with `Ability.FORMS`.

    The presence and frequency penalties fall on what the answer has said, the repetition penalty on the prompt
    too. `logit_bias`: pairs of a token's id and what is added to its logit. `logprobs`: score each token of the
    answer beside so many of the likeliest, and `prompt_logprobs` each of the prompt; for engines with
    `Ability.SCORES`.

    Raises ValueError that names the field and its bounds: these numbers and texts come from anybody.
    """

    max_tokens: int
    temperature: float = 0.7
    top_p: float = 0.9
    top_k: int = 0
    repetition_penalty: float = 1.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    form: Form | None = None
    min_p: float = 0.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: tuple[tuple[int, float], ...] = ()
    logprobs: int | None = None
    prompt_logprobs: int | None = None
    as_written: bool = False
    """The answer is no chat's: spaces around it are kept, and nothing in it is made prettier."""

    def __post_init__(self) -> None:
        checks = {
            "min_p must be from 0 to 1": 0 <= self.min_p <= 1,
            "presence_penalty must be from -2 to 2": -2 <= self.presence_penalty <= 2,
            "frequency_penalty must be from -2 to 2": -2 <= self.frequency_penalty <= 2,
            f"logit_bias must be of at most {MOST_BIASES} tokens": len(self.logit_bias) <= MOST_BIASES,
            "logit_bias must name each token once": len(dict(self.logit_bias)) == len(self.logit_bias),
            "logit_bias must be from -100 to 100": all(-100 <= bias <= 100 for _, bias in self.logit_bias),
            f"logprobs must be of 0 to {MOST_ALTERNATIVES} tokens": all(
                0 <= (most or 0) <= MOST_ALTERNATIVES for most in (self.logprobs, self.prompt_logprobs)
            ),
            "max_tokens must be at least 1": self.max_tokens >= 1,
            "temperature must be from 0 to 5": 0 <= self.temperature <= 5,
            "top_p must be above 0 and at most 1": 0 < self.top_p <= 1,
            "top_k must be from 0 (off) to 2147483647": 0 <= self.top_k < 2**31,
            "repetition_penalty must be from 0.01 to 10": 0.01 <= self.repetition_penalty <= 10,
            "seed must be from -2^63 to 2^64-1": self.seed is None or -(2**63) <= self.seed < 2**64,
            "stop texts must not be empty": all(self.stop),
            f"stop must be at most {MOST_STOP_TEXTS} texts": len(self.stop) <= MOST_STOP_TEXTS,
            f"a stop text must have at most {LONGEST_STOP_TEXT} characters": all(
                len(text) <= LONGEST_STOP_TEXT for text in self.stop
            ),
        }
        for complaint, holds in checks.items():
            if not holds:
                raise ValueError(complaint)


@dataclass(frozen=True, slots=True)
class CallSoFar:
    """A call while it is written. `arguments` grows; it is one JSON object once the answer has ended with
    FinishReason.TOOL_CALLS, and `id` and `name` never change."""

    id: str
    name: str
    arguments: str = ""


@dataclass(frozen=True, slots=True)
class Progress:
    """A snapshot of one generation: all of the text so far, or while it waits its `place` in line (from 1).

    `text` begins with that of every earlier snapshot, and so does `thought`: what the model thinks before it
    answers. Engines of tokens leave that in the text, between tags: see `glmbot.engine.thoughts`.
    """

    text: str = ""
    finish: FinishReason | None = None
    place: int | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0
    thought: str = ""
    calls: tuple[CallSoFar, ...] = ()
    """Of an answer to a conversation that offers tools; what is written of them is not in `text`."""
    scores: Sequence[Score] = ()
    """Of the tokens in `text`, but for one that ends it."""
    prompt_scores: tuple[Score, ...] = ()


@dataclass(frozen=True, slots=True)
class PrecisionChange:
    """What a switch did: bytes of weights and tokens/s on the probe, before and after."""

    before: Precision
    after: Precision
    weight_bytes_before: int
    weight_bytes_after: int
    probe_speed_before: float
    probe_speed_after: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Waits:
    """Seconds from requests to their first tokens: `counts` of those up to each of `bounds`, `count` of all, their
    `total`, and the median of the last few."""

    bounds: tuple[float, ...]
    counts: tuple[int, ...]
    count: int
    total: float
    median: float | None


@dataclass(frozen=True, slots=True)
class EngineStats:
    model: str
    precision: Precision
    running: int
    waiting: int
    queue_limit: int
    tokens_generated: int
    prompt_tokens_read: int
    prompt_tokens_reused: int
    requests_finished: int
    requests_cancelled: int
    requests_refused: int
    first_token: Waits
    tokens_per_second: float
    """Over the last ten seconds in which anything ran."""
    largest_batch: int
    alive: bool
    step_s: float = 0.0
    """For how long the model thread has been at what it does now; 0 while it waits for work."""
    thread: int | None = None
    """That thread, as `threading.get_ident` names it."""
    # What a remote engine has none of.
    cache_tokens_used: int = 0
    cache_tokens_total: int = 0
    cache_tokens_kept: int = 0
    """Of ended sequences, for prompts that begin alike; they give way to running ones."""
    weight_bytes: int = 0
    tokens_guessed: int = 0
    tokens_guessed_right: int = 0
    """Of those computed ahead, the ones that turned out to be drawn."""
    switching: float | None = None
    """Share done (0 to 1) of a precision switch in progress."""
    waiting_users: tuple[tuple[str, int], ...] = field(default_factory=tuple[tuple[str, int], ...])
    servers: tuple[tuple[str, bool], ...] = field(default_factory=tuple[tuple[str, bool], ...])
    """Of a remote engine: each server, and whether it is being asked."""
    cache_bytes: int = 0
    """Of the whole KV cache."""


@dataclass(frozen=True, slots=True)
class PastExchange:
    """What was asked, and all that came of it."""

    asked: Content
    said: Content

    @property
    def characters(self) -> int:
        return length_of(self.asked) + length_of(self.said)


@dataclass(frozen=True, slots=True)
class Conversation:
    """What an engine is asked: the last word is `asked`, unless an answer was `begun` that is to go on.

    `past` is oldest first, and at most `turn_limit` of it go along (None: as many as fit). An engine reads the
    parts that its `abilities` name. All have words, which are `question` and `turns`.

    `offer`: the tools that may be called, for engines with `Ability.TOOLS`. `said`: what has come of `asked` so
    far, calls and their results, after which the answer goes on.
    """

    asked: Content
    past: Sequence[PastExchange] = ()
    system: str = ""
    begun: str = ""
    turn_limit: int | None = None
    offer: Offer = NO_TOOLS
    said: Content = ()

    @classmethod
    def of_words(
        cls,
        question: str,
        turns: Sequence[ChatTurn] = (),
        system: str = "",
        begun: str = "",
        turn_limit: int | None = None,
    ) -> Conversation:
        past = [PastExchange(of_words(turn.question), of_words(turn.answer)) for turn in turns]
        return cls(of_words(question), past, system, begun, turn_limit)

    @property
    def question(self) -> str:
        return words_of(self.asked)

    @property
    def turns(self) -> Sequence[ChatTurn]:
        return [ChatTurn(words_of(each.asked), words_of(each.said)) for each in self.past]

    @property
    def characters(self) -> int:
        """How much there is to read."""
        past = sum(each.characters for each in self.past)
        return past + len(self.question) + len(self.system) + len(self.begun) + length_of(self.said)


@dataclass(frozen=True, slots=True)
class Prepared:
    """A conversation as one engine will read it. Each has a class of its own, which nobody else looks into.

    `prompt_tokens` are never more than the `room` that there was. `turns` of the past are in it, `dropped` are
    not. `beginning` is what every text of the answer begins with: as much of a begun one as went along.

    The descriptions of tools take `tool_tokens` of them. `tools_dropped`: none of these were told of, since they
    would have taken more than half of the room.
    """

    prompt_tokens: int
    room: int
    turns: int
    dropped: int
    question_cut: bool
    beginning: str
    tool_tokens: int = field(default=0, kw_only=True)
    tools_dropped: int = field(default=0, kw_only=True)


class Engine(Protocol):
    """Answers conversations."""

    @property
    def model_name(self) -> str: ...

    @property
    def context_length(self) -> int:
        """Tokens of prompt and answer together."""
        ...

    @property
    def abilities(self) -> frozenset[Ability]: ...

    @property
    def generation_defaults(self) -> Mapping[str, object]:
        """The model folder's own sampling defaults (generation_config.json)."""
        ...

    def prepare(self, conversation: Conversation, room: int) -> Prepared:
        """The longest prompt of at most `room` tokens: see `glmbot.engine.fit`. May be called from any thread; the
        work grows with the conversation, so a long one is not for the event loop.

        Raises ValueError when the system prompt leaves no room for a question, and EngineError for a conversation
        that the model can't be told.
        """
        ...

    def generate(
        self, prepared: Prepared, sampling: Sampling, *, user: str, deadline_s: float | None = None
    ) -> AsyncGenerator[Progress, None]:
        """Stream one answer. Snapshots are conflated; the last one carries `finish`.

        Raises QueueFull, PromptTooLong or PromptInvalid at once, and any other EngineError in the middle. The
        deadline holds even when the model stands still. Closing the generator cancels at the next step and frees
        the cache. Requests of one `user` share one turn in line.
        """
        ...

    async def forget(self, user: str) -> None:
        """Drop what is kept of this user's ended requests."""
        ...

    def stats(self) -> EngineStats: ...

    async def close(self) -> None: ...


@runtime_checkable
class Tunable(Protocol):
    """What an engine has besides whose weights can be stored at several precisions: see `tunable`."""

    @property
    def precision(self) -> Precision: ...

    @property
    def precisions(self) -> Sequence[Precision]:
        """What `set_precision` accepts for this model on this device."""
        ...

    async def set_precision(
        self, precision: Precision, on_progress: Callable[[float], None] | None = None
    ) -> PrecisionChange:
        """Switch between two steps; running generations go on. Raises PrecisionError after rolling back."""
        ...


def tunable(engine: Engine | None) -> Tunable | None:
    """The engine, where its precision can be switched."""
    return cast(Tunable, engine) if engine is not None and Ability.PRECISIONS in engine.abilities else None


@runtime_checkable
class HoldsForms(Protocol):
    """What a `TokenEngine` has besides that may hold answers to `Sampling.form`."""

    @property
    def holds_forms(self) -> bool: ...


class TokenEngine(Protocol):
    """Tokens in, text out: a model whose tokenizer is at hand. `glmbot.engine.templated` makes it an `Engine`."""

    @property
    def model_name(self) -> str: ...

    @property
    def context_length(self) -> int:
        """Tokens of prompt and answer together."""
        ...

    @property
    def chat_format(self) -> ChatFormat: ...

    @property
    def generation_defaults(self) -> Mapping[str, object]: ...

    def generate(
        self,
        prompt: Sequence[int],
        sampling: Sampling,
        *,
        user: str,
        deadline_s: float | None = None,
        begun: int = 0,
    ) -> AsyncGenerator[Progress, None]:
        """As `Engine.generate`. The last `begun` tokens of the prompt are the beginning of the answer: the text
        starts with theirs."""
        ...

    async def forget(self, user: str) -> None: ...

    def stats(self) -> EngineStats: ...

    async def close(self) -> None: ...
