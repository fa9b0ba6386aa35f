"""End-to-end encryption, where it is there: whether it is, its folder of keys, and what it has to tell the
homeserver.

https://spec.matrix.org/v1.15/client-server-api/#end-to-end-encryption
"""

from __future__ import annotations

import fcntl
import logging
import os
from collections.abc import Awaitable
from hashlib import sha256
from pathlib import Path
from typing import IO, Any

from nio.crypto import ENCRYPTION_ENABLED

from glmbot.delivery.outlet import NotWritten
from glmbot.errors import PlatformRefused
from glmbot_matrix.client import MatrixClient
from glmbot_matrix.refusals import ask
from glmbot_matrix.settings import MatrixSettings

__all__ = ["KeysFolder", "is_possible", "tell_keys", "why_not"]

_log = logging.getLogger(__name__)


def is_possible(settings: MatrixSettings) -> bool:
    return settings.encryption and ENCRYPTION_ENABLED


def why_not(settings: MatrixSettings) -> str:
    """What keeps encrypted rooms from being read, in words for who runs the bot."""
    if not settings.encryption:
        return "encrypted rooms can't be read: [matrix] encryption is off"
    return "encrypted rooms can't be read: vodozemac is not installed (pip install 'matrix-nio[e2e]')"


class KeysFolder:
    """One process alone may use an account's keys: two would say different things with the same ones."""

    def __init__(self, path: Path, account: str) -> None:
        """Raises PlatformRefused."""
        name = sha256(account.encode()).hexdigest()[:16]
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._file: IO[bytes] = (path / f"{name}.lock").open("ab")
        except OSError as error:
            raise PlatformRefused(f"[matrix] keys_folder {path}: {error.strerror or error}") from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._file.close()
            raise PlatformRefused(
                f"[matrix] keys_folder {path}: another process uses it; set encryption = false where"
                " several share the"
                " account"
            ) from error

    def close(self) -> None:
        self._file.close()

    @staticmethod
    def looks_usable(path: Path) -> bool:
        """Without making it."""
        there = path if path.exists() else path.parent
        return os.access(there, os.W_OK | os.X_OK)


async def tell_keys(client: MatrixClient) -> None:
    """What the library wants told after each sync. What fails is told after the next one."""
    if client.olm is None:
        return
    try:
        await client.send_to_device_messages()
        wanted: list[Awaitable[Any]] = []
        if client.should_upload_keys:
            wanted.append(client.keys_upload())
        if client.should_query_keys:
            wanted.append(client.keys_query())
        if client.should_claim_keys:
            devices: dict[str, Any] = dict(client.get_users_for_key_claiming())
            wanted.append(client.keys_claim(devices))
        for request in wanted:
            await ask(request)
    except NotWritten as error:
        _log.warning("Matrix: keys could not be exchanged, which is tried again: %s", error)
    except Exception as error:  # of another device's malformed keys
        _log.warning("Matrix: keys could not be exchanged (%s)", type(error).__name__)
