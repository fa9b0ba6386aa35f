"""Where tokens and keys come from: the environment or the configuration, or files of their own."""

from __future__ import annotations

from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr

from glmbot.errors import AdapterError, ConfigError, PlatformRefused

__all__ = ["TokenSettings", "not_shared", "read_secret"]

_LONGEST = 1000


def _check_proxy(proxy: SecretStr | None) -> SecretStr | None:
    address = "" if proxy is None else proxy.get_secret_value()
    if address and not _is_proxy(address):
        raise ValueError("a proxy is an address such as http://127.0.0.1:7890")
    return proxy


def _is_proxy(address: str) -> bool:
    try:
        parts = urlsplit(address)
        # Reading it is what refuses one that is none.
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


class TokenSettings(BaseModel):
    """The part that the settings of every platform with a token share."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    token: SecretStr | None = Field(
        default=None,
        description="The bot's token; better in the environment (GLMBOT_SECTION__TOKEN), or in token_file.",
    )
    token_file: Path | None = Field(default=None, description="A file with the token alone in it.")
    proxy: Annotated[SecretStr | None, AfterValidator(_check_proxy)] = Field(
        default=None,
        description="An HTTP proxy on the way to the platform, such as http://127.0.0.1:7890. Without one,"
        " HTTPS_PROXY in the environment counts.",
    )

    def proxy_for(self, url: str) -> str | None:
        """The proxy for requests to this address; loopback and NO_PROXY need none of the environment's.

        Raises AdapterError for one of the environment's that can't be used.
        """
        if self.proxy is not None:
            return self.proxy.get_secret_value() or None
        parts = urlsplit(url)
        if not parts.hostname or parts.hostname == "localhost" or proxy_bypass(parts.hostname):
            return None
        with suppress(ValueError):
            if ip_address(parts.hostname).is_loopback:
                return None
        given = getproxies().get(parts.scheme)
        if not given:
            return None
        # Curl, too, takes a host alone for one of HTTP.
        proxy = given if "://" in given else f"http://{given}"
        if not _is_proxy(proxy):
            name = f"{parts.scheme.upper()}_PROXY"
            raise AdapterError(
                f"{name} in the environment is no HTTP proxy such as http://127.0.0.1:7890; set another one as"
                " proxy in the platform's section"
            )
        return proxy

    def trouble_beside(self, other: BaseModel, name: str) -> str:
        """Why this bot can't be in one process with another of its platform, whose section is `name`; "" where it
        can."""
        mine = self._known_token()
        same = mine and isinstance(other, TokenSettings) and mine == other._known_token()
        return not_shared("token", name) if same else ""

    def _known_token(self) -> str:
        """ "" for one that can't be read, which is said elsewhere."""
        with suppress(AdapterError):
            return self.read_token("")
        return ""

    def read_token(self, section: str) -> str:
        """Raises PlatformRefused that says where a token may come from."""
        if self.token is not None:
            return _only(self.token.get_secret_value(), f"[{section}] token")
        if self.token_file is None:
            raise PlatformRefused(
                f"[{section}] no token; set GLMBOT_{section.upper()}__TOKEN in the environment, or token_file"
                " in the configuration"
            )
        try:
            with self.token_file.open(encoding="utf-8") as file:
                text = file.read(_LONGEST + 1)
        except OSError as error:
            raise PlatformRefused(f"[{section}] token_file: {error}") from error
        except ValueError as error:
            raise PlatformRefused(f"[{section}] token_file {self.token_file} is no text") from error
        return _only(text, f"[{section}] token_file {self.token_file}")


def read_secret(section: str, name: str, value: SecretStr | None, file: Path | None) -> str:
    """A secret that may also stand in a file of its own. Raises ConfigError when that can't be read."""
    if value is not None and value.get_secret_value():
        return value.get_secret_value()
    if file is None:
        return ""
    try:
        return file.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"[{section}] {name}_file {file}: {error}") from error


def not_shared(key: str, name: str) -> str:
    """See `TokenSettings.trouble_beside`: each would answer what is said to both."""
    return f"{key}: it is that of [{name}]; each bot needs one of its own"


def _only(text: str, place: str) -> str:
    token = text.strip()
    if not token:
        raise PlatformRefused(f"{place} is empty")
    if len(text) > _LONGEST or not token.isprintable() or " " in token:
        raise PlatformRefused(f"{place} holds more than a token")
    return token
