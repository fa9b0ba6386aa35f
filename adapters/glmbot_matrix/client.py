"""matrix-nio's client, with bounds on what a homeserver sends, and whose token it has.

What is asked: https://spec.matrix.org/v1.15/client-server-api/
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, cast
from urllib.parse import quote

import aiohttp
from nio import AsyncClient, AsyncClientConfig, ErrorResponse, Event, Response, SyncResponse, WhoamiResponse
from nio.events import EphemeralEvent, InviteEvent, ToDeviceEvent

from glmbot.delivery.outlet import NotWritten
from glmbot.errors import AdapterError, PlatformRefused
from glmbot.http.fields import Fields, as_fields, fields_of, parsed
from glmbot_matrix.refusals import TOKEN_ENDED, ask, code_of
from glmbot_matrix.settings import MatrixSettings

__all__ = ["MatrixClient", "TooLong", "ended", "in_path", "log_in", "refusal", "sieved", "source_of"]

# The library tells of each event, with its words where it can't read it.
for _name in ("nio", "peewee"):
    logging.getLogger(_name).setLevel(logging.CRITICAL)

_REQUEST_S = 30
# A first sync of an account in many rooms takes a homeserver its time.
_LONGEST_S = 300.0
_MOST_BYTES = 64 * 2**20
_CHUNK = 2**16
# What is larger is parsed elsewhere than where everybody's answers wait.
_LARGE = 2**17


class TooLong(NotWritten):
    """What was said at once is more than is read of any answer."""


class MatrixClient(AsyncClient):
    """It makes each request once: what is refused for now is the business of who asks."""

    def __init__(self, settings: MatrixSettings, token: str, *, encryption: bool = False) -> None:
        config = AsyncClientConfig(
            max_limit_exceeded=0,
            max_timeouts=0,
            request_timeout=_REQUEST_S,
            encryption_enabled=encryption,
        )
        folder = str(settings.keys_folder) if encryption else ""
        super().__init__(settings.required_homeserver(), store_path=folder, config=config)
        self.access_token = token
        self._through = settings.proxy_for(settings.homeserver)

    async def send(
        self,
        method: str,
        path: str,
        data: Any = None,
        headers: dict[str, str] | None = None,
        trace_context: Any = None,
        timeout: float | None = None,
    ) -> aiohttp.ClientResponse:
        """A redirect would carry the token to wherever it leads."""
        if self.client_session is None:
            self.client_session = aiohttp.ClientSession()
        limit = _REQUEST_S if timeout is None else (timeout or _LONGEST_S)
        return await self.client_session.request(
            method,
            self.homeserver + path,
            data=data,
            headers=headers,
            proxy=self._through,
            allow_redirects=False,
            timeout=aiohttp.ClientTimeout(total=limit),
        )

    async def parse_body(self, transport_response: aiohttp.ClientResponse) -> dict[Any, Any]:
        """{} for what is no JSON object, such as a proxy's page, and for what is longer than any answer."""
        with suppress(TooLong):
            return await _fields(transport_response)
        return {}

    async def create_matrix_response(
        self,
        response_class: Any,
        transport_response: aiohttp.ClientResponse,
        data: tuple[Any, ...] | None = None,
        save_to: Any = None,
    ) -> Response:
        """One event that the library can't read keeps nobody else's from being read. Raises TooLong."""
        if response_class is not SyncResponse:
            return await super().create_matrix_response(response_class, transport_response, data, save_to)
        fields = await _fields(transport_response)
        large = (transport_response.content_length or _LARGE) >= _LARGE
        response: Response = await asyncio.to_thread(_read_sync, fields) if large else _read_sync(fields)
        response.transport_response = transport_response  # pyright: ignore[reportAttributeAccessIssue]
        return response

    async def receive_response(self, response: Response) -> None:
        """What was received is there for us whatever the library's own account of a room makes of it."""
        try:
            await super().receive_response(response)
        except Exception as error:
            if not isinstance(response, SyncResponse):
                raise
            logging.getLogger(__name__).warning(
                "Matrix: the library could not take all of what came (%s)", type(error).__name__
            )

    async def ask_for(
        self, method: str, path: str, body: str | None = None
    ) -> tuple[int, Fields, Mapping[str, str]]:
        """For what the library has no words for. Raises OSError, TimeoutError, aiohttp.ClientError."""
        headers = {"Authorization": f"Bearer {self.access_token}", "Content-Type": "application/json"}
        answer = await self.send(method, path, body, headers)
        async with answer:
            return answer.status, await self.parse_body(answer), answer.headers

    async def look(self, path: str) -> Fields:
        """Nothing where that is refused. path: behind /_matrix/client. Raises the same."""
        status, fields, _ = await self.ask_for("GET", f"/_matrix/client{path}")
        return fields if status == 200 else {}


def source_of(event: Any) -> Fields:
    """As it came: of members of a room that the bot is invited to the library takes the content out."""
    source: Fields = event.source
    return source if "content" in source else {**source, "content": getattr(event, "content", {})}


def in_path(given: str) -> str:
    return quote(given, safe="")


async def _fields(answer: aiohttp.ClientResponse) -> dict[str, Any]:
    """{} for what is no JSON object. Raises TooLong."""
    raw = bytearray()
    async for chunk in answer.content.iter_chunked(_CHUNK):
        raw += chunk
        if len(raw) > _MOST_BYTES:
            answer.close()
            raise TooLong(f"Matrix: an answer of more than {_MOST_BYTES} bytes")
    with suppress(ValueError):
        read = await asyncio.to_thread(parsed, bytes(raw)) if len(raw) > _LARGE else parsed(bytes(raw))
        return dict(as_fields(read))
    return {}


def _read_sync(fields: dict[str, Any]) -> Any:
    try:
        return SyncResponse.from_dict(fields)
    except Exception:  # whatever a malformed event trips over
        return SyncResponse.from_dict(sieved(fields))


def sieved(fields: Fields) -> dict[str, Any]:
    """A sync without the events that the library can't read, and without the rooms that are none. Pure."""
    rooms = fields_of(fields, "rooms")
    kept: dict[str, Any] = {}
    for membership, parts in (
        ("join", (("state", Event), ("timeline", Event), ("ephemeral", EphemeralEvent))),
        ("leave", (("state", Event), ("timeline", Event))),
        ("invite", (("invite_state", InviteEvent),)),
    ):
        kept[membership] = {
            str(room): {**as_fields(given), **{name: _part(given, name, kind) for name, kind in parts}}
            for room, given in fields_of(rooms, membership).items()
        }
        for room in kept[membership].values():
            room.pop("account_data", None)
    return {
        "next_batch": fields.get("next_batch"),
        "rooms": kept,
        "to_device": _part(fields, "to_device", ToDeviceEvent),
        **{
            name: fields[name]
            for name in ("device_lists", "device_one_time_keys_count")
            if isinstance(fields.get(name), dict)
        },
    }


def _part(given: object, name: str, kind: Any) -> dict[str, Any]:
    part = fields_of(as_fields(given), name)
    events = part.get("events")
    listed = cast(list[object], events) if isinstance(events, list) else []
    return {**part, "events": [event for event in listed if _readable(event, kind.parse_event)]}


def _readable(event: object, parse: Callable[[Any], object]) -> bool:
    try:
        parse(event)
    except Exception:
        return False
    return isinstance(event, dict)


async def log_in(client: MatrixClient, settings: MatrixSettings) -> WhoamiResponse:
    """Whose token it is: https://spec.matrix.org/v1.15/client-server-api/#get_matrixclientv3accountwhoami. Raises
    AdapterError."""
    try:
        known: WhoamiResponse = await ask(client.whoami())
    except NotWritten as error:
        raise await refusal(client, settings, error) from error
    if settings.account and known.user_id != settings.account:
        raise PlatformRefused(
            f"[matrix] token: it is that of {known.user_id}, and account is {settings.account}; log in"
            " again as that"
            " account, or write the other one"
        )
    return known


async def refusal(client: MatrixClient, settings: MatrixSettings, error: Exception) -> AdapterError:
    """In words for who runs the bot."""
    words = str(error)
    if any(code in words for code in TOKEN_ENDED):
        return PlatformRefused(
            f"[matrix] token: the homeserver does not know it ({words.removeprefix('Matrix: ')}); it ends with its"
            " session: log in once more for a new one"
        )
    if await _is_homeserver(client):
        return AdapterError(f"Matrix at {settings.homeserver}: {words}")
    return AdapterError(
        f"[matrix] homeserver: nothing at {settings.homeserver} answers as a homeserver ({words}). It need not be"
        " what stands behind the colon of accounts: that name's /.well-known/matrix/client has it as"
        " base_url. A proxy"
        " goes into [matrix] proxy, or into HTTPS_PROXY"
    )


async def _is_homeserver(client: MatrixClient) -> bool:
    """https://spec.matrix.org/v1.15/client-server-api/#get_matrixclientversions"""
    with suppress(OSError, TimeoutError, aiohttp.ClientError, ValueError):
        status, fields, _ = await client.ask_for("GET", "/_matrix/client/versions")
        return status == 200 and isinstance(fields.get("versions"), list)
    return False


def ended(answer: object) -> bool:
    """Whether the token has had its time."""
    return isinstance(answer, ErrorResponse) and code_of(answer) in TOKEN_ENDED
