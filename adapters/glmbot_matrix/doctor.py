"""What `glmbot doctor` finds out by asking the homeserver."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import aiohttp
from nio import WhoamiResponse

from glmbot.errors import AdapterError
from glmbot.http.fields import Fields, fields_of
from glmbot.http.replays import CLOCK_OFF_S, clock_ahead
from glmbot_matrix.client import MatrixClient, log_in
from glmbot_matrix.encryption import KeysFolder, is_possible, why_not
from glmbot_matrix.settings import MatrixSettings

__all__ = ["device_advice", "examine"]

# Matrix 1.11 brought media that only who is logged in can get: https://spec.matrix.org/v1.15/changelog/v1.11/
_SINCE = "v1.11"


async def examine(settings: MatrixSettings, token: str) -> list[tuple[bool, str]]:
    """Raises AdapterError."""
    client = MatrixClient(settings, token)
    try:
        known = await log_in(client, settings)
        return await _examine(client, settings, known)
    except (OSError, TimeoutError, aiohttp.ClientError) as error:
        raise AdapterError(f"Matrix at {settings.homeserver}: {type(error).__name__}") from error
    finally:
        await client.close()


async def _examine(
    client: MatrixClient, settings: MatrixSettings, known: WhoamiResponse
) -> list[tuple[bool, str]]:
    found = [(True, f"the token is that of {known.user_id}, session {known.device_id or '(none)'}")]
    _, fields, headers = await client.ask_for("GET", "/_matrix/client/versions")
    versions = fields.get("versions")
    if isinstance(versions, list) and _SINCE not in versions:
        found.append(
            (False, f"the homeserver is old: it does not speak {_SINCE} of Matrix, so files may be missing")
        )
    if (off := abs(clock_ahead(headers.get("Date", ""), time.time()))) > CLOCK_OFF_S:
        found.append(
            (
                False,
                f"this machine's clock is {off:.0f} s off that of the homeserver: what is said may seem too old",
            )
        )
    if known.is_guest:
        found.append((False, "the token is a guest's, who can't be invited: log in as an account"))
    if not is_possible(settings):
        return [*found, (True, why_not(settings))]
    found += _folder_advice(settings.keys_folder)
    if not known.device_id:
        return [
            *found,
            (False, "the token has no session, so encrypted rooms can't be read: log in for another"),
        ]
    body = json.dumps({"device_keys": {known.user_id: [known.device_id]}})
    _, told, _ = await client.ask_for("POST", "/_matrix/client/v3/keys/query", body)
    return [*found, *device_advice(told, known.user_id, known.device_id, has_keys=_has_keys(settings, known))]


def _folder_advice(folder: Path) -> list[tuple[bool, str]]:
    if KeysFolder.looks_usable(folder):
        return [
            (True, f"encrypted rooms can be read; the keys are in {folder}, which belongs into your backups")
        ]
    return [(False, f"keys_folder {folder} can't be written, so encrypted rooms can't be read")]


def _has_keys(settings: MatrixSettings, known: WhoamiResponse) -> bool:
    return (settings.keys_folder / f"{known.user_id}_{known.device_id}.db").exists()


def device_advice(told: Fields, user: str, device: str, *, has_keys: bool) -> list[tuple[bool, str]]:
    """Of the session's keys, as https://spec.matrix.org/v1.15/client-server-api/#post_matrixclientv3keysquery
    tells them. has_keys: whether there are some in our folder."""
    keys = fields_of(fields_of(fields_of(told, "device_keys"), user), device)
    if not keys:
        return []
    if not has_keys:
        return [
            (
                False,
                f"the session {device} has keys of another program: encrypted rooms can be read only by"
                " that one. Log"
                " in once more, for a session of the bot's own, and use its token",
            )
        ]
    signed: Mapping[str, Any] = fields_of(fields_of(keys, "signatures"), user)
    if any(name != f"ed25519:{device}" for name in signed):
        return [(True, f"the session {device} is verified by its account")]
    return [
        (
            False,
            f"the session {device} is not verified by its account: some clients warn of it, or don't give it their"
            " keys. Log in as the account with Element, and verify the session there (Settings, Sessions)",
        )
    ]
