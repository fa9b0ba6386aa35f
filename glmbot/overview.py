"""What an operator sees of a running bot, as plain data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["LoggedCall", "LoggedCalls", "ModelInfo", "Overview", "Sample", "StreamInfo", "UserInfo"]


@dataclass(frozen=True, slots=True)
class StreamInfo:
    """One answer in progress. `age_s`: seconds since it was asked for."""

    conversation: str
    user: str
    state: str
    characters: int
    age_s: float


@dataclass(frozen=True, slots=True)
class UserInfo:
    """A person the operator can do something about. `access` is "admin", "user", "blocked", "waiting" or ""."""

    user: str
    name: str
    access: str
    code: str
    hourly_limit: int | None
    asked_this_hour: int


@dataclass(frozen=True, slots=True)
class Sample:
    """One point of the operator's plots. `memory` is this process's resident set in bytes."""

    at: float
    memory: int
    tokens_per_second: float
    running: int
    waiting: int
    cache_share: float


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """One of several models. `share`: how far it is loaded, None when it is not being loaded. `bytes`: what it
    takes of this machine's memory. `trouble`: it could not be loaded."""

    name: str
    loaded: bool
    share: float | None
    precision: str
    precisions: Sequence[str]
    switching: float | None
    running: int
    waiting: int
    bytes: int
    trouble: bool


@dataclass(frozen=True, slots=True)
class Overview:
    """What the operator's page shows, taken in one moment. `model`, `precision`, `switching`, `weight_bytes` and
    `queue_limit` are of the default model, other figures of all. `memory_budget`: bytes that models may take, None
    for no bound. `users` is a page of them; the next one comes after the
    key `next_users`, which is "" on the last one."""

    model: str
    precision: str
    precisions: Sequence[str]
    switching: float | None
    running: int
    waiting: int
    queue_limit: int
    weight_bytes: int
    finished: int
    refused: int
    dead_letters: int
    waiting_users: Sequence[tuple[str, int]]
    streams: Sequence[StreamInfo]
    users: Sequence[UserInfo]
    next_users: str
    errors: Sequence[tuple[float, str, str]]
    samples: Sequence[Sample]
    models: Sequence[ModelInfo] = ()
    memory_budget: int | None = None


@dataclass(frozen=True, slots=True)
class LoggedCall:
    """Of a tool. `at` in Unix time; `outcome`: "done", "failed", "unknown", "stopped", or why it was not made.
    `digest`: of its arguments."""

    at: float
    user: str
    conversation: str
    tool: str
    digest: str
    outcome: str


@dataclass(frozen=True, slots=True)
class LoggedCalls:
    """A page, the newest first. `before`: what the next page is asked for with, "" on the last one."""

    calls: Sequence[LoggedCall]
    before: str
