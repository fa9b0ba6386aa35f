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

from glmbot.app import adapters, open_store
from glmbot.config.load import load_configuration
from glmbot.errors import AdapterError, ConfigError
from glmbot.listening import listening_error
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

    def taken(self, port: int) -> str:
        error = listening_error("127.0.0.1", port)
        return "" if error is None else error.strerror or str(error)

    def servers(self) -> Sequence[str]:
        addresses = [f"http://127.0.0.1:{port}/v1" for port in self._usual_ports]
        answers = asyncio.run(_look(addresses))
        return [address for address, well in zip(addresses, answers, strict=True) if well]

    def served(self, server: str, key: str) -> Sequence[str]:
        return asyncio.run(_models(server, key, _WAIT_S))

    def bot(self, platform: str, settings: Mapping[str, str]) -> str:
        makers = adapters()
        if platform not in makers:
            raise AdapterError(f"its library is missing: pip install '.[{platform}]' in glmbot's folder")
        wanted = {platform: dict(settings)}
        # The environment comes before what was answered here, and has sections of its own.
        own = f"GLMBOT_{platform.upper()}__"
        asked = {f"{own}{key.upper()}" for key in wanted[platform]}
        environment = {
            name: value
            for name, value in os.environ.items()
            if name.upper().startswith(own) and name.upper() not in asked
        }
        loaded = load_configuration(None, {platform: makers[platform].Settings}, environment, wanted)

        async def identify() -> str:
            try:
                async with asyncio.timeout(_IDENTIFY_S):
                    return await makers[platform].identify(loaded.adapters[platform])
            except TimeoutError as error:
                raise AdapterError(f"nothing came within {_IDENTIFY_S:.0f} seconds") from error

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
