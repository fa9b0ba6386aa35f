"""The sections of its operation: where things are kept, what is logged and traced."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, SecretStr

from glmbot.config.section import Section, checked_address

__all__ = ["LogSection", "StoreSection", "TracingSection"]


def _check_endpoint(url: str) -> str:
    example = "an endpoint is an address such as http://127.0.0.1:4318/v1/traces"
    return url and checked_address(url, example, "OTEL_EXPORTER_OTLP_HEADERS")


class StoreSection(Section):
    """Where histories are kept."""

    kind: Literal["sqlite", "redis"] = Field(default="sqlite", description='"sqlite" needs no server.')
    path: Path = Field(default=Path(".glmbot/glmbot.sqlite3"), description="The SQLite file.")
    url: SecretStr = Field(
        default=SecretStr("redis://127.0.0.1:6379/0"),
        description="redis://, rediss:// (TLS) or unix://; redis+sentinel://host:port,host:port/service;"
        " redis+cluster://host:port.",
    )
    prefix: str = Field(default="glmbot", description="First part of every Redis key.")
    journal_path: Path = Field(
        default=Path(".glmbot/journal.sqlite3"),
        description="Where a process keeps what comes while Redis is away; each process needs a file of its own.",
    )
    journal_limit: int = Field(
        default=10_000,
        ge=0,
        le=10_000_000,
        description="Steps kept there at most; beyond them no message is accepted.",
    )
    claim_s: float = Field(
        default=20.0,
        ge=1,
        le=3600,
        description="Seconds after which another process answers what a dead one had begun.",
    )
    encryption_key: SecretStr | None = Field(
        default=None,
        description="Encrypts what is kept of texts and names; `glmbot key` makes one. Better in the environment"
        " (GLMBOT_STORE__ENCRYPTION_KEY), or in encryption_key_file.",
    )
    encryption_key_file: Path | None = Field(
        default=None, description="A file with one key a line: the first encrypts, all of them decrypt."
    )
    keep_days: float = Field(
        default=0, ge=0, le=36500, description="Days after which turns are deleted; 0 keeps them."
    )
    blob_mb: float = Field(
        default=20, gt=0, le=1000, description="Largest picture, voice message or file that is kept, in MB."
    )
    blob_person_mb: float = Field(
        default=500, gt=0, le=1_000_000, description="What is kept of one person's files together, in MB."
    )
    blob_total_mb: float | None = Field(
        default=None,
        gt=0,
        le=100_000_000,
        description="What is kept of all files together, in MB. By default 10,000 with SQLite, which keeps them in"
        " a folder beside its file, and 500 with Redis, whose memory they take.",
    )
    blob_keep_days: float = Field(
        default=30,
        ge=0,
        le=36500,
        description="Days after which files are deleted; 0 keeps them for as long as turns are kept.",
    )


class LogSection(Section):
    """The log."""

    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        default="INFO", description="Lines below this level are left out."
    )
    format: Literal["text", "json"] = Field(default="text", description="json writes one object a line.")


class TracingSection(Section):
    """Traces of single messages (OpenTelemetry). They hold no text of anybody."""

    endpoint: Annotated[str, AfterValidator(_check_endpoint)] = Field(
        default="",
        description="An OTLP/HTTP collector, such as http://127.0.0.1:4318/v1/traces. Empty: no traces."
        " Headers that it needs stand in the environment (OTEL_EXPORTER_OTLP_HEADERS).",
    )
    share: float = Field(default=1.0, ge=0, le=1, description="Share of messages that are traced.")
