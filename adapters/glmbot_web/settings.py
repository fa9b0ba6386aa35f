"""The section [web] of the configuration, and what is unwise or refused in it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr

from glmbot.errors import PlatformRefused
from glmbot_web.origins import check_host, check_origin
from glmbot_web.peers import check_network, is_loopback

__all__ = ["WebSettings", "refuse_what_is_open", "secret_of"]

_SHORTEST_TOKEN = 16


class WebSettings(BaseModel):
    """The chat page and the HTTP interfaces."""

    alone: ClassVar[bool] = True
    """One server answers what all adapters want answered."""
    model_config = ConfigDict(extra="forbid", frozen=True)

    host: str = Field(
        default="127.0.0.1",
        description="127.0.0.1 can be reached from this machine alone; others need a token.",
    )
    port: int = Field(default=8080, ge=0, le=65535, description="0 takes any free port.")
    token: SecretStr | None = Field(
        default=None, description="For chatting and for programs. Better in GLMBOT_WEB__TOKEN."
    )
    admin_token: SecretStr | None = Field(
        default=None,
        description="For administrators: whoever logs in with it has the operator's page too. It must differ from"
        " token; better in GLMBOT_WEB__ADMIN_TOKEN.",
    )
    admin: bool = Field(
        default=False,
        description="Whether everybody on this machine is an administrator. Counts only without any token.",
    )
    trusted_proxies: list[Annotated[str, AfterValidator(check_network)]] = Field(
        default=[],
        description='Addresses or networks of your proxies, like ["127.0.0.1"], whose X-Forwarded-For and'
        " X-Forwarded-Proto are believed.",
    )
    allowed_hosts: list[Annotated[str, AfterValidator(check_host)]] = Field(
        default=[],
        description='Other names of this server that are answered without a token, like ["host.docker.internal"].',
    )
    allowed_origins: list[Annotated[str, AfterValidator(check_origin)]] = Field(
        default=[],
        description='Sites whose pages may call /v1 and POST / from a browser (CORS), like ["https://chat.example.org"].',
    )
    show_thoughts: bool = Field(
        default=True,
        description="Show what a model thinks before it answers: folded on the page, and as reasoning_content to"
        " programs.",
    )
    max_connections: int = Field(
        default=1000,
        ge=4,
        le=100_000,
        description="Connections open at the same time; idle ones make room for new ones.",
    )

    def advice(self) -> Sequence[tuple[bool, str]]:
        """For `glmbot doctor`: what holds, and whether that is well."""
        tokens = {
            "token": secret_of(self.token) or "",
            "admin_token": secret_of(self.admin_token) or "",
        }
        found: list[tuple[bool, str]] = []
        if not tokens["token"] and not is_loopback(self.host):
            found.append((False, f"host {self.host} can be reached from other machines: set token"))
        if tokens["token"] and tokens["token"] == tokens["admin_token"]:
            found.append((False, "token and admin_token are the same: everybody would be an administrator"))
        found += [
            (False, f"{name} has {len(text)} characters; it can be guessed: openssl rand -hex 24 makes one")
            for name, text in tokens.items()
            if 0 < len(text) < _SHORTEST_TOKEN
        ]
        if self.admin and any(tokens.values()):
            found.append(
                (False, "admin = true counts only without any token; administrators log in with admin_token")
            )
        people = "whoever has token" if tokens["token"] else "everybody on this machine"
        if tokens["admin_token"]:
            operators = "who logs in with admin_token"
        else:
            operators = people if self.admin and not tokens["token"] else "nobody (set admin_token)"
        found.append((True, f"may chat: {people}; administrators of the page: {operators}"))
        return found


def secret_of(secret: SecretStr | None) -> str | None:
    """An empty one is none: an environment variable that was left empty must not open the door."""
    return (secret.get_secret_value() or None) if secret is not None else None


def refuse_what_is_open(settings: WebSettings) -> None:
    """Raises PlatformRefused for a door that would stand open."""
    token = secret_of(settings.token)
    if token is None and not is_loopback(settings.host):
        raise PlatformRefused(
            f"[web] host {settings.host} can be reached from other machines: set token"
            " (GLMBOT_WEB__TOKEN), or host to 127.0.0.1"
        )
    if token is not None and token == secret_of(settings.admin_token):
        raise PlatformRefused(
            "[web] token and admin_token are the same, so everybody would be an administrator: set two"
        )
