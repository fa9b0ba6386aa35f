"""What `glmbot init` holds the answers against: this machine's ports and servers, and the platforms themselves."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import aiohttp
from pydantic import BaseModel

from glmbot.app import adapters, open_store
from glmbot.config.load import load_configuration
from glmbot.config.names import variable_name
from glmbot.errors import AdapterError, ConfigError, ModelFileError, PlatformRefused
from glmbot.keys import kind_of
from glmbot.listening import listening_error
from glmbot.named_bot import under_name
from glmbot.platforms import check_accounts
from glmbot.store.base import Upkeep

__all__ = ["Network"]

# The ports that Ollama, llama.cpp's server, vLLM and LM Studio listen on unless told otherwise.
_USUAL_PORTS = (11434, 8080, 8000, 1234)
_LOOK_S = 1.0
_WAIT_S = 10.0
_IDENTIFY_S = 20.0
_LARGEST_LIST = 1 << 20
_MOST_NAMES = 20
_LONGEST_NAME = 200


class Network:
    """See `glmbot.setup.Outside`."""

    def __init__(self, usual_ports: Sequence[int] = _USUAL_PORTS) -> None:
        self._usual_ports = usual_ports
        self._known: dict[str, BaseModel] = {}

    def taken(self, port: int) -> str:
        error = listening_error("127.0.0.1", port)
        return "" if error is None else error.strerror or str(error)

    def model(self, path: Path) -> str:
        from glmbot.models.registry import check_folder

        try:
            check_folder(path)
        except ModelFileError as error:
            return str(error)
        return ""

    def servers(self) -> Sequence[str]:
        addresses = [f"http://127.0.0.1:{port}/v1" for port in self._usual_ports]
        answers = asyncio.run(_look(addresses))
        return [address for address, well in zip(addresses, answers, strict=True) if well]

    def served(self, server: str, key: str) -> Sequence[str]:
        return asyncio.run(_models(server, key, _WAIT_S))

    def bot(self, platform: str, settings: Mapping[str, str]) -> str:
        makers, kind = adapters(), kind_of(platform)
        if kind not in makers:
            raise AdapterError(f"its library is missing: pip install '.[{kind}]' in glmbot's folder")
        wanted = _settings(platform, makers[kind].Settings, settings)
        try:
            check_accounts({**self._known, platform: wanted})
        except AdapterError as error:
            raise PlatformRefused(str(error)) from error

        async def identify() -> str:
            try:
                async with asyncio.timeout(_IDENTIFY_S):
                    return await makers[kind].identify(wanted)
            except TimeoutError as error:
                raise AdapterError(f"nothing came within {_IDENTIFY_S:.0f} seconds") from error

        self._known[platform] = wanted
        with under_name(platform):
            return asyncio.run(identify())

    def store(self, url: str) -> None:
        async def look(opened: Upkeep) -> None:
            try:
                await opened.open()
            finally:
                await opened.close()

        with TemporaryDirectory(prefix="glmbot-") as folder:
            # Where the bot keeps its journal is not known yet.
            journal = Path(folder) / "journal.sqlite3"
            wanted = {"store": {"kind": "redis", "url": url, "journal_path": journal}}
            asyncio.run(look(open_store(load_configuration(None, {}, {}, wanted))))


def _settings(platform: str, model: type[BaseModel], answers: Mapping[str, str]) -> BaseModel:
    """Of the section as it will be with these answers. Raises ConfigError."""
    kind = kind_of(platform)
    # The environment comes before what was answered here, and has sections of its own.
    own, plain = f"{variable_name(platform, '')}__", f"{variable_name(kind, '')}__"
    environment = {
        f"{plain}{key}": value
        for name, value in os.environ.items()
        if name.upper().startswith(own)
        and (key := name.upper().removeprefix(own)).lower() in model.model_fields
        and key.lower() not in answers
    }
    return load_configuration(None, {kind: model}, environment, {kind: dict(answers)}).adapters[kind]


async def _look(addresses: Sequence[str]) -> list[bool]:
    async def is_server(address: str) -> bool:
        try:
            return bool(await _models(address, "", _LOOK_S))
        except ConfigError:
            return False

    return await asyncio.gather(*map(is_server, addresses))


async def _models(server: str, key: str, timeout_s: float) -> list[str]:
    """https://platform.openai.com/docs/api-reference/models/list"""
    url = f"{server}/models"
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    timeout = aiohttp.ClientTimeout(timeout_s)
    try:
        # A redirect would carry the key to wherever it leads.
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.get(url, headers=headers, allow_redirects=False) as answer,
        ):
            if answer.status != HTTPStatus.OK:
                raise ConfigError(f"{url} answered {answer.status}")
            content: Any = json.loads(await _whole(answer.content))
        names = [str(entry["id"]) for entry in cast(list[Any], content["data"])[:_MOST_NAMES]]
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        raise ConfigError(f"{server}: {error or 'nothing came'}") from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ConfigError(f"{url} gave no list of models") from error
    return [name for name in names if name.isprintable() and len(name) < _LONGEST_NAME]


async def _whole(stream: aiohttp.StreamReader) -> bytes:
    """Raises ValueError for more than a list of models is long."""
    content = bytearray()
    async for part in stream.iter_any():
        content += part
        if len(content) > _LARGEST_LIST:
            raise ValueError("too long")
    return bytes(content)
