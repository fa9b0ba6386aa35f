"""[plugins.mcp]: which servers there are, what of each may be used, and how long it may take."""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Self
from urllib.parse import parse_qsl, urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator

from glmbot.host import Nature
from glmbot.http.address_guard import AddressGuard

__all__ = ["NAME", "FromPage", "Sandbox", "ServerSettings", "Settings", "WhoMay", "looks_secret"]

_HEADER = re.compile(r"[A-Za-z0-9-]{1,64}")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
# What a server is called in the names of its tools; the first "_" there ends it.
NAME = re.compile(r"[a-z][a-z0-9-]{0,23}")
# The transport's own, or the connection's.
_OUR_HEADERS = ("content-type", "accept", "accept-encoding", "host", "content-length", "connection")

_SHORTEST_KEY = 16

Word = Annotated[str, Field(max_length=4096)]


class Sandbox(StrEnum):
    AUTO = "auto"
    """Where bubblewrap is there."""
    REQUIRED = "required"
    OFF = "off"


class WhoMay(StrEnum):
    EVERYONE = "everyone"
    ADMINS = "admins"
    NOBODY = "nobody"


class FromPage(StrEnum):
    """What administrators may add on the operator's page."""

    NOTHING = "nothing"
    ADDRESSES = "addresses"
    """Public ones, and those of `allowed_networks`."""
    SANDBOXED = "sandboxed"
    """Also programs, in bubblewrap and without network."""
    PROGRAMS = "programs"
    """Also where that is not there: whoever has the page's token has this machine then."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class ServerSettings(_Section):
    """[plugins.mcp.servers.NAME]: `command` or `url`, one of them."""

    command: list[Word] = Field(default_factory=list[str], max_length=64)
    env: dict[str, SecretStr] = Field(default_factory=dict[str, SecretStr], max_length=32)
    sandbox: Sandbox = Sandbox.AUTO
    network: bool = True
    read: list[Path] = Field(default_factory=list[Path], max_length=32)
    write: list[Path] = Field(default_factory=list[Path], max_length=32)

    url: str = Field(default="", max_length=2048)
    token: SecretStr | None = None
    token_file: Path | None = None
    headers: dict[str, SecretStr] = Field(default_factory=dict[str, SecretStr], max_length=32)

    tools: list[Word] | None = Field(default=None, max_length=128)
    nature: Nature | None = None
    trust_hints: bool = False
    natures: dict[str, Nature] = Field(default_factory=dict[str, Nature], max_length=128)
    asks_admins: bool = False
    resources: bool = True
    prompts: WhoMay = WhoMay.ADMINS

    sampling_calls: int = Field(default=0, ge=0, le=10)
    """How often it may ask the model in one call of a tool."""
    sampling_tokens: int = Field(default=512, ge=1, le=8192)

    connect_s: float = Field(default=30.0, gt=0, le=600)
    timeout_s: float = Field(default=60.0, gt=0, le=3600)
    at_once: int = Field(default=4, ge=1, le=64)

    @field_validator("env")
    @classmethod
    def _check_env(cls, env: dict[str, SecretStr]) -> dict[str, SecretStr]:
        for name in env:
            if not _VARIABLE.fullmatch(name):
                raise ValueError(f"{name[:64]!r} is no name of a variable")
        return env

    @field_validator("headers")
    @classmethod
    def _check_headers(cls, headers: dict[str, SecretStr]) -> dict[str, SecretStr]:
        for name, value in headers.items():
            if not _HEADER.fullmatch(name) or name.lower() in _OUR_HEADERS:
                raise ValueError(f"{name[:64]!r} is no header that can be set")
            if not value.get_secret_value().isascii() or not value.get_secret_value().isprintable():
                raise ValueError(f"the header {name} holds more than printable ASCII")
        return headers

    @field_validator("read", "write")
    @classmethod
    def _check_folders(cls, folders: list[Path]) -> list[Path]:
        for folder in folders:
            if not folder.is_absolute():
                raise ValueError(f"{folder} does not begin with /")
        return folders

    @field_validator("token_file")
    @classmethod
    def _check_file(cls, file: Path | None) -> Path | None:
        if file is not None and not file.is_absolute():
            raise ValueError(f"{file} does not begin with /")
        return file

    @model_validator(mode="after")
    def _check(self) -> Self:
        if bool(self.command) == bool(self.url):
            raise ValueError('say command = ["PROGRAM", …] or url = "https://…", one of them')
        if self.url:
            parts = urlsplit(self.url)
            if parts.scheme not in ("http", "https") or not parts.hostname:
                raise ValueError("url is an address such as https://tools.example.org/mcp")
            if parts.username or parts.password:
                raise ValueError("an address holds no password; use token or headers")
            if self.env or self.read or self.write:
                raise ValueError("env, read and write are for servers with a command")
        elif self.token or self.token_file or self.headers:
            raise ValueError("token, token_file and headers are for servers with a url")
        if self.command and not self.command[0].strip():
            raise ValueError("command begins with a program")
        return self

    @property
    def hidden(self) -> Sequence[str]:
        """What is to be said nowhere; also what stands behind an address's path, or looks like a key in it."""
        found = [*self.env.values(), *self.headers.values(), *([self.token] if self.token else [])]
        query = urlsplit(self.url).query
        values = [value for _, value in parse_qsl(query)]
        return [
            *(each.get_secret_value() for each in found),
            *([query, *values] if query else []),
            *(each for each in urlsplit(self.url).path.split("/") if looks_secret(each)),
        ]

    def secret(self) -> str:
        """The bearer token, "" for none. Raises OSError and UnicodeDecodeError for a file that can't be read."""
        if self.token is not None:
            return self.token.get_secret_value().strip()
        return self.token_file.read_text("utf-8").strip() if self.token_file is not None else ""


def looks_secret(part: str) -> bool:
    """Some services have people's keys in the path of their addresses."""
    return len(part) >= _SHORTEST_KEY and any(char.isdigit() for char in part)


class Settings(_Section):
    folder: Path = Path(".glmbot/mcp")
    """In which each server with a command has a folder of its own."""
    servers: dict[str, ServerSettings] = Field(default_factory=dict[str, ServerSettings], max_length=16)
    from_page: FromPage = FromPage.NOTHING
    allowed_networks: list[Word] = Field(default_factory=list[str], max_length=64)
    """That servers of the page may be in though they are not public."""

    @field_validator("allowed_networks")
    @classmethod
    def _check_networks(cls, written: list[str]) -> list[str]:
        try:
            AddressGuard.networks(written)
        except ValueError as error:
            raise ValueError(f"{error}; write networks like 192.168.7.0/24") from error
        return written

    @field_validator("servers")
    @classmethod
    def _check_names(cls, servers: dict[str, ServerSettings]) -> dict[str, ServerSettings]:
        for name in servers:
            if not NAME.fullmatch(name):
                raise ValueError(
                    f"{name[:64]!r} is no name of a server: a small letter, and 23 small letters, digits and -"
                    " at most"
                )
        return servers
