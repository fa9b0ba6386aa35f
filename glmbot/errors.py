"""Every error that glmbot raises on purpose.

    GlmbotError
    ├── ConfigError            the configuration: file, line, key, what to do
    ├── ModelFileError         a model's folder: which file, which tensor
    ├── StoreError             history could not be read or written
    │   ├── StoreUnavailable   the server can't be reached, or can't write, for now
    │   └── ClaimLost          another process answers this conversation by now
    │       ├── Superseded     this message says something else by now, and is answered anew
    │       └── MessageGone    nobody asks this any more: who did is forgotten
    ├── BlobRefused            a file that is not kept: too large, or there is no room; says what to do
    ├── BookFull               a plug-in has as many notes as it may have
    ├── ContentRefused         moderation does not allow a question
    ├── LimitReached           a program asked as much as it may for now; says how long to wait
    ├── BackupError            a backup that can't be written, or is none
    ├── AdapterError           a platform refused us: token, port, network
    │   └── PlatformRefused    and would again: the configuration must change
    └── EngineError            one answer could not be generated
        ├── QueueFull          too many are waiting; says how long it would take
        ├── PromptTooLong      prompt and answer exceed the context
        ├── PromptInvalid      a prompt that is no text of this model
        ├── DeadlineExceeded   the answer took longer than allowed
        ├── NumericalFault     the model computed NaN or infinity
        ├── EngineStopped      the engine is shutting down, or can't go on: says which
        ├── ServerUnavailable  no model server could be reached in time
        ├── ModelUnavailable   the model that was chosen can't be loaded now
        │   └── ModelTooLarge  nor ever: it needs more than the memory that models may take
        └── PrecisionError     a precision switch was refused or rolled back

The text of each is for the operator. What a user in a chat sees is chosen in `dialogue/`, in their language.
"""

from __future__ import annotations

import os
from math import ceil

__all__ = [
    "AdapterError",
    "BackupError",
    "BlobRefused",
    "CallMissing",
    "ClaimLost",
    "ConfigError",
    "ContentRefused",
    "DeadlineExceeded",
    "EngineError",
    "EngineStopped",
    "GlmbotError",
    "LimitReached",
    "MessageGone",
    "ModelFileError",
    "ModelTooLarge",
    "ModelUnavailable",
    "NumericalFault",
    "PlatformRefused",
    "PrecisionError",
    "PromptInvalid",
    "PromptTooLong",
    "QueueFull",
    "ServerUnavailable",
    "StoreError",
    "StoreUnavailable",
    "Superseded",
    "first_words",
    "in_one_line",
    "outage",
]

_TRY_AGAIN_S = 15


class GlmbotError(Exception):
    """Base of all."""


class ConfigError(GlmbotError):
    pass


class ModelFileError(GlmbotError):
    pass


class StoreError(GlmbotError):
    pass


class StoreUnavailable(StoreError):
    pass


class ClaimLost(StoreError):
    def __init__(self, conversation: object) -> None:
        super().__init__(f"{conversation} is answered by another process")


class Superseded(ClaimLost):
    """For who is answering it is as if another process had it: nothing more is written, and `again` is told."""

    def __init__(self, conversation: object) -> None:
        StoreError.__init__(self, f"a question in {conversation} says something else by now")


class MessageGone(ClaimLost):
    """It waits in the inbox no more, so nothing is kept of what is done for it."""

    def __init__(self, conversation: object) -> None:
        StoreError.__init__(self, f"what was asked in {conversation} is not to be answered any more")


class BlobRefused(GlmbotError):
    """`reason`: "too_large", "person_full" or "store_full"."""

    def __init__(self, reason: str, words: str) -> None:
        super().__init__(words)
        self.reason = reason


class BookFull(GlmbotError):
    def __init__(self, book: str) -> None:
        super().__init__(f"the book {book} holds as many notes as it may")


class ContentRefused(GlmbotError):
    pass


class LimitReached(GlmbotError):
    """`wait_s`: seconds until it is worth asking again."""

    def __init__(self, what: str, wait_s: float) -> None:
        super().__init__(f"{what}; try again in {max(1, ceil(wait_s))} s")
        self.wait_s = wait_s


class BackupError(GlmbotError):
    pass


class AdapterError(GlmbotError):
    pass


class PlatformRefused(AdapterError):
    pass


class EngineError(GlmbotError):
    pass


class CallMissing(EngineError):
    """An answer that had to call a tool does not, or not as the tool can be called."""


class QueueFull(EngineError):
    def __init__(self, waiting: int, expected_wait_s: float | None) -> None:
        """expected_wait_s: None when nothing is known yet."""
        expected = "" if expected_wait_s is None else f"; a place is expected in {expected_wait_s:.0f} s"
        super().__init__(f"{waiting} requests are waiting{expected}")
        self.waiting = waiting
        self.expected_wait_s = expected_wait_s

    @property
    def again_after_s(self) -> int:
        """When to try again, for programs: a guess when nothing is known."""
        return _TRY_AGAIN_S if self.expected_wait_s is None else max(1, round(self.expected_wait_s))


class PromptTooLong(EngineError):
    def __init__(self, tokens: int, limit: int) -> None:
        """tokens: at least so many; a prompt that is far too long is not counted to its end."""
        super().__init__(f"the prompt has at least {tokens} tokens, and {limit} fit")
        self.tokens = tokens
        self.limit = limit


class PromptInvalid(EngineError):
    pass


class DeadlineExceeded(EngineError):
    pass


class NumericalFault(EngineError):
    pass


class EngineStopped(EngineError):
    pass


class ServerUnavailable(EngineError):
    pass


class ModelUnavailable(EngineError):
    """`model`: its name."""

    def __init__(self, model: str, words: str) -> None:
        super().__init__(f"the model {model} can't be loaded: {words}")
        self.model = model


class ModelTooLarge(ModelUnavailable):
    """Sizes in bytes."""

    def __init__(self, model: str, needed: int, budget: int) -> None:
        super().__init__(
            model,
            f"it needs {needed / 1e9:.1f} GB, and [models] memory_gb is {budget / 1e9:.1f}; raise that, or give"
            " the model a smaller precision, context_length or cache_tokens",
        )
        self.needed = needed
        self.budget = budget


class PrecisionError(EngineError):
    pass


def first_words(error: BaseException, longest: int = 300) -> str:
    """The first line of what it says, of so many characters at the most; empty where it says nothing."""
    return (str(error).strip().splitlines() or [""])[0][:longest]


def in_one_line(error: BaseException, longest: int = 300) -> str:
    """What kind it is of, and its first words."""
    first = first_words(error, longest)
    return f"{type(error).__name__}: {first}" if first else type(error).__name__


def outage(error: BaseException) -> str:
    """Why nobody was reached, in the system's words; a library's may hold an address with a token."""
    cause = getattr(error, "os_error", None) or error
    if isinstance(cause, TimeoutError):
        return "nothing came in time"
    if not isinstance(cause, OSError) or not cause.strerror:
        return type(error).__name__
    # Those of names that can't be looked up are below 0, and no numbers of the system's.
    number = cause.errno or 0
    return os.strerror(number) if number > 0 else str(cause.strerror)[:200]
