"""Reading the JSON bodies of requests: whatever their size and depth, every complaint names the field. Pure."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_core import PydanticCustomError

from glmbot.completions import Completion
from glmbot.keys import UserKey

__all__ = [
    "LARGEST_BODY",
    "LARGEST_COUNT",
    "BadRequest",
    "Body",
    "DrawingBody",
    "KnownBody",
    "LogitBias",
    "Stops",
    "StreamOptions",
    "at_most",
    "only",
    "parse",
    "parsed",
    "valid",
]

LARGEST_BODY = 8 * 2**20
LARGEST_COUNT = 2**31 - 1

_M = TypeVar("_M", bound=BaseModel)
_MOST_STOPS, _LONGEST_STOP = 16, 256
# What a body of a few hundred bytes takes no time to check, and one of millions of values seconds.
_MOST_VALUES = 32_768
_LARGE_BODY = 64 * 1024
_LONGEST_COMPLAINT = 300
# One that does not end goes to the end of the body.
_STRING = re.compile(rb'"(?:[^"\\]|\\.)*+(?:"|\\?\Z)', re.DOTALL)
_FIELD = re.compile(r"(?!str$)[a-z_]{1,40}")


class BadRequest(Exception):
    """`field` is the JSON path of what was wrong."""

    def __init__(self, message: str, field: str = "") -> None:
        super().__init__(message)
        self.field = field


class Body(BaseModel):
    """Texts are bounded by the body's size, all other things here; NaN and Infinity are no numbers."""

    model_config = ConfigDict(allow_inf_nan=False, hide_input_in_errors=True)


class KnownBody(Body):
    """What is not known is refused by its name."""

    model_config = ConfigDict(extra="forbid")


async def parsed(model: type[_M], body: bytes) -> _M:
    """`parse` for a body of any size. Raises BadRequest."""
    return parse(model, body) if len(body) <= _LARGE_BODY else await asyncio.to_thread(parse, model, body)


def parse(model: type[_M], body: bytes) -> _M:
    """Raises BadRequest."""
    if _values(body) > _MOST_VALUES:
        raise BadRequest(f"the body has more than {_MOST_VALUES} values")
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        # Without the names that pydantic gives to the branches of a union.
        named = [part for part in first["loc"] if isinstance(part, int) or _FIELD.fullmatch(part)]
        field = ".".join(str(part) for part in named[:8])
        unknown = first["type"] in ("extra_forbidden", "union_tag_invalid")
        complaint = "not supported here" if unknown else first["msg"]
        words = f"{field}: {complaint}" if field else complaint
        raise BadRequest(words[:_LONGEST_COMPLAINT], field) from None


def _values(body: bytes) -> int:
    """How many commas a JSON body has outside of texts; counting ends where there are too many."""
    count, at = 0, 0
    for match in _STRING.finditer(body):
        count += body.count(b",", at, match.start())
        at = match.end()
        if count > _MOST_VALUES:
            return count
    return count + body.count(b",", at)


def valid(text: str) -> str:
    """JSON can carry half a surrogate pair, which no tokenizer takes."""
    return text.encode("utf-8", "replace").decode()


def at_most(most: int) -> BeforeValidator:
    """Before each of a million items is looked at."""

    def check(given: object) -> object:
        if isinstance(given, list) and len(given) > most:
            raise ValueError(f"at most {most}, not {len(given)}")
        return given

    return BeforeValidator(check)


def only(*values: object) -> BeforeValidator:
    """For what a text model can't do: the values that ask for nothing of it. None always does."""

    def check(given: object) -> object:
        # JSON's true is no 1.
        if given is None or any(given == value and type(given) is type(value) for value in values):
            return None
        raise PydanticCustomError("not_supported", "not supported here")

    return BeforeValidator(check)


_MOST_BIASES = 1024
_Biases = dict[Annotated[int, Field(ge=0, le=LARGEST_COUNT)], Annotated[float, Field(ge=-100, le=100)]]
LogitBias = Annotated[_Biases, Field(max_length=_MOST_BIASES)] | None
_Stop = Annotated[str, Field(min_length=1, max_length=_LONGEST_STOP)]
Stops = _Stop | Annotated[list[_Stop], at_most(_MOST_STOPS)] | None


class DrawingBody(Body):
    """How an answer is to be drawn, as OpenAI's interfaces say it, and vLLM's beside them."""

    model: str = Field(default="", max_length=512)
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, gt=0, le=1)
    top_k: int | None = Field(default=None, ge=0, le=LARGEST_COUNT)
    min_p: float | None = Field(default=None, ge=0, le=1)
    repetition_penalty: float | None = Field(default=None, gt=0, le=10)
    presence_penalty: float | None = Field(default=None, ge=-2, le=2)
    frequency_penalty: float | None = Field(default=None, ge=-2, le=2)
    logit_bias: LogitBias = None
    n: int | None = Field(default=None, ge=1, le=8, strict=True)
    seed: int | None = Field(default=None, ge=-(2**63), lt=2**63)
    stop: Stops = None

    def completion(self, turns: Sequence[tuple[str, str]], user: UserKey, source: str) -> Completion:
        """Of the first answer; its seed is for `seed_of`."""
        return Completion(
            turns=turns,
            user=user,
            source=source,
            model=self.model,
            temperature=self.temperature,
            top_p=self.top_p,
            top_k=self.top_k,
            min_p=self.min_p,
            repetition_penalty=self.repetition_penalty,
            presence_penalty=self.presence_penalty,
            frequency_penalty=self.frequency_penalty,
            logit_bias=tuple((self.logit_bias or {}).items()),
            stop=(self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ()),
        )

    def seed_of(self, number: int) -> int | None:
        """Each answer to one request has its own, or they would be the same."""
        if self.seed is None:
            return None
        return self.seed if self.seed + number >= 2**63 else self.seed + number


class StreamOptions(Body):
    include_usage: bool = False
    include_obfuscation: Any = None
