"""The section [plugins.tools]."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from yarl import URL

from glmbot.http.address_guard import AddressGuard

__all__ = ["Settings"]


def _networks(written: list[str]) -> list[str]:
    try:
        AddressGuard.networks(written)
    except ValueError as error:
        raise ValueError(f"{error}; write networks like 192.168.7.0/24") from error
    return written


def _server(written: str) -> str:
    if written:
        url = URL(written)
        if url.scheme not in ("http", "https") or not url.raw_host:
            raise ValueError("write the address of a SearXNG server, like http://127.0.0.1:8888")
    return written


class Settings(BaseModel):
    model_config = ConfigDict(extra="forbid")

    leave_out: list[str] = Field(default=[], max_length=64, description='Tools by name: ["web_search"].')
    ports: list[Annotated[int, Field(ge=1, le=65535)]] = Field(
        default=[80, 443], min_length=1, max_length=64, description="Ports of pages that may be read."
    )
    allowed_networks: Annotated[list[str], AfterValidator(_networks)] = Field(
        default=[],
        max_length=64,
        description="Networks whose pages may be read though they are not public: an intranet's.",
    )
    web_timeout_s: float = Field(default=20.0, gt=0, le=120, description="For one page, or one search.")
    page_bytes: int = Field(default=2_000_000, ge=1000, le=20_000_000, description="Of a page, unpacked.")
    page_characters: int = Field(
        default=6000, ge=200, le=200_000, description="Of a page's text, that the model is told."
    )
    searxng: Annotated[str, AfterValidator(_server)] = Field(
        default="", description="A SearXNG server that answers in JSON; without one, ddgs searches."
    )
    search_results: int = Field(default=5, ge=1, le=20)
    reminders_per_person: int = Field(default=20, ge=1, le=1000, description="That wait, in all chats.")
    reminders_per_chat: int = Field(default=50, ge=1, le=1000, description="That wait, of all people.")
    python_s: float = Field(default=2.0, gt=0, le=30, description="For one program of the tool `python`.")
    python_bytes: int = Field(default=64_000_000, ge=1_000_000, le=1_000_000_000)
