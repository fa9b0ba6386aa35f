"""Our bot on a real Synapse: a person in rooms, a thread, an answer that grows, reactions, invitations, a redaction, an
upgraded room, an encrypted one.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import subprocess
import tempfile
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
from nio import AsyncClient, AsyncClientConfig
from pydantic import SecretStr

from adapters.scripted import ScriptedEngine, last_question
from adapters.waiting import running
from conftest import free_port, make_dialogue
from glmbot.dialogue.access import Access
from glmbot.keys import UserKey
from glmbot.store.sqlite import SqliteStore
from glmbot_matrix.adapter import MatrixAdapter, MatrixSettings
from glmbot_matrix.normalize import BUTTONS
from platforms.matrix_html import faults_of

__all__ = ["check_matrix"]

Results = list[tuple[str, bool, str]]
_NAME = "rig.test"
_CONFIG = """
server_name: "{name}"
listeners:
  - port: {port}
    type: http
    tls: false
    bind_addresses: ["127.0.0.1"]
    resources: [{{names: [client], compress: false}}]
database: {{name: sqlite3, args: {{database: "{folder}/synapse.db"}}}}
media_store_path: "{folder}/media"
signing_key_path: "{folder}/signing.key"
pid_file: "{folder}/synapse.pid"
log_config: "{folder}/log.yaml"
report_stats: false
enable_registration: true
enable_registration_without_verification: true
suppress_key_server_warning: true
trusted_key_servers: []
macaroon_secret_key: "rig"
form_secret: "rig"
# Limits of messages stay, a little above Synapse's own, so that some are met.
rc_message: {{per_second: 4, burst_count: 12}}
rc_registration: {{per_second: 1000, burst_count: 1000}}
rc_joins: {{local: {{per_second: 1000, burst_count: 1000}}}}
rc_invites:
  per_room: {{per_second: 1000, burst_count: 1000}}
  per_user: {{per_second: 1000, burst_count: 1000}}
  per_issuer: {{per_second: 1000, burst_count: 1000}}
"""
_LOG = "version: 1\ndisable_existing_loggers: true\nroot: {level: ERROR}\n"


@dataclass
class Person:
    """Somebody with a client of their own."""

    url: str
    http: aiohttp.ClientSession
    user: str
    token: str
    numbers: Any

    async def ask(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        headers = {"Authorization": f"Bearer {self.token}"}
        while True:
            async with self.http.request(
                method, f"{self.url}/_matrix/client/v3{path}", json=body, headers=headers
            ) as answer:
                fields = await answer.json()
                if answer.status != 429:
                    return fields
            await asyncio.sleep(fields.get("retry_after_ms", 1000) / 1000)

    async def room(self, *invited: str, **more: Any) -> str:
        made = {"preset": "private_chat", "invite": list(invited), **more}
        return str((await self.ask("POST", "/createRoom", made))["room_id"])

    async def say(self, room: str, text: str, mention: str = "", /, **more: Any) -> str:
        content = {
            "msgtype": "m.text",
            "body": text,
            "m.mentions": {"user_ids": [mention]} if mention else {},
            **more,
        }
        return await self.send(room, "m.room.message", content)

    async def send(self, room: str, kind: str, content: dict[str, Any]) -> str:
        path = f"/rooms/{quote(room)}/send/{kind}/t{next(self.numbers)}"
        return str((await self.ask("PUT", path, content))["event_id"])

    async def events(self, room: str) -> list[dict[str, Any]]:
        found = await self.ask("GET", f"/rooms/{quote(room)}/messages?dir=b&limit=200")
        return list(reversed(found.get("chunk", [])))

    async def shown(self, room: str, bot: str) -> list[tuple[str, dict[str, Any]]]:
        """The bot's messages as they are now."""
        now: dict[str, dict[str, Any]] = {}
        for event in await self.events(room):
            content = event["content"]
            if event["sender"] != bot or event["type"] != "m.room.message" or not content:
                continue
            relation = content.get("m.relates_to", {})
            if relation.get("rel_type") == "m.replace":
                if relation["event_id"] in now:
                    now[relation["event_id"]] = content["m.new_content"]
            else:
                now[event["event_id"]] = content
        return list(now.items())

    async def texts(self, room: str, bot: str) -> list[str]:
        return [content["body"] for _, content in await self.shown(room, bot)]

    async def members(self, room: str) -> dict[str, str]:
        found = await self.ask("GET", f"/rooms/{quote(room)}/members")
        return {each["state_key"]: each["content"]["membership"] for each in found.get("chunk", [])}


@asynccontextmanager
async def synapse(python: Path, folder: Path) -> AsyncGenerator[str]:
    port = free_port()
    (folder / "log.yaml").write_text(_LOG)
    config = folder / "homeserver.yaml"
    config.write_text(_CONFIG.format(name=_NAME, port=port, folder=folder))
    command = [str(python), "-m", "synapse.app.homeserver", "-c", str(config)]
    subprocess.run([*command, "--generate-keys"], check=True, cwd=folder, capture_output=True)  # noqa: ASYNC221
    server = subprocess.Popen(  # noqa: ASYNC220
        command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait()


async def check_matrix(python: Path) -> Results:
    """What was tried, whether it held, and why not."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        async with synapse(python, folder) as url, aiohttp.ClientSession() as http:
            if not await _eventually(lambda: _is_up(http, url)):
                return [("Synapse is up", False, "it did not answer")]
            numbers = itertools.count(1)
            bot, ann, bob = [await _registered(http, url, each, numbers) for each in ("bot", "ann", "bob")]
            store = SqliteStore(folder / "store.sqlite3")
            await store.open()
            try:
                return await _talk(folder, store, bot, ann, bob)
            finally:
                await store.close()


async def _talk(folder: Path, store: SqliteStore, bot: Person, ann: Person, bob: Person) -> Results:
    results: Results = []

    async def note(what: str, held: Callable[[], Awaitable[bool]], why: Callable[[], Awaitable[Any]]) -> None:
        ok = await _eventually(held)
        results.append((what, ok, "" if ok else str(await why())[:500]))

    def made(engine: ScriptedEngine) -> MatrixAdapter:
        settings = MatrixSettings(
            homeserver=ann.url,
            account=bot.user,
            token=SecretStr(bot.token),
            keys_folder=folder / "keys",
            edit_interval_s=0.3,
        )
        access = Access(users={UserKey("matrix", ann.user)})
        return MatrixAdapter(settings, make_dialogue(engine, store, access=access))

    echo = ScriptedEngine(lambda prompt: f"to: {last_question(prompt)}")
    async with running(made(echo)):
        await _private(note, ann, bot)
        await _group(note, ann, bob, bot)
        await _invitations(note, ann, bob, bot)
        await _upgrades(note, ann, bot)
        await _encrypted(note, folder, ann, bot)
    room = await ann.room(bot.user)
    grows = ScriptedEngine("word " * 400, steps=40, step_s=0.1)
    async with running(made(grows)):
        await _grows(note, room, ann, bot)
    asked = len(echo.prompts)
    async with running(made(echo)):
        await ann.say(room, "after a restart")
        await note(
            "after a restart the next question is answered, and no earlier one again",
            lambda: _says(ann, room, bot, "to: after a restart"),
            lambda: ann.texts(room, bot.user),
        )
        results.append(("no earlier one again", len(echo.prompts) == asked + 1, str(echo.prompts[asked:])))
    return results


async def _private(note: Any, ann: Person, bot: Person) -> None:
    room = await ann.room(bot.user, is_direct=True)
    words = "5 < 6 & **bold** <b>@room</b>"
    await ann.say(room, words)
    why = lambda: ann.texts(room, bot.user)  # noqa: E731
    await note("in a chat of two it comes, and answers what was said before it came",
               lambda: _says(ann, room, bot, f"to: {words}"), why)  # fmt: skip
    ((event, content),) = await ann.shown(room, bot.user)
    await note(
        "its HTML is what the spec lists", lambda: _true(not faults_of(content)), lambda: _true(content)
    )
    await note("a reaction stands under it as a button", lambda: _reacts(ann, room, bot, event, "🔄"), why)
    edits = len(await ann.events(room))
    await ann.send(
        room, "m.reaction", {"m.relates_to": {"rel_type": "m.annotation", "event_id": event, "key": "🔄"}}
    )
    await note("touching it has it answered once more in its place",
               lambda: _grew(ann, room, bot, edits), why)  # fmt: skip
    asked = await ann.say(room, "first")
    await note("a question is answered", lambda: _says(ann, room, bot, "to: first"), why)
    new = {"msgtype": "m.text", "body": "second", "m.mentions": {}}
    await ann.say(room, "* second", **{"m.new_content": new, "m.relates_to": {"rel_type": "m.replace",
                                                                              "event_id": asked}})  # fmt: skip
    await note(
        "an edited question is answered in its new words", lambda: _says(ann, room, bot, "to: second"), why
    )
    await ann.ask("PUT", f"/rooms/{quote(room)}/redact/{quote(asked)}/r1", {})
    await note(
        "a redacted question takes its answer along", lambda: _silent(ann, room, bot, "to: second"), why
    )
    await ann.say(room, "!export")
    await note("a file comes", lambda: _has_file(ann, room, bot), why)


async def _group(note: Any, ann: Person, bob: Person, bot: Person) -> None:
    room = await ann.room(bot.user, bob.user, name="three")
    why = lambda: ann.texts(room, bot.user)  # noqa: E731
    await bob.ask("POST", f"/join/{quote(room)}", {})
    await note(
        "who may speak to it has it come",
        lambda: _is_in(ann, room, bot.user, "join"),
        lambda: ann.members(room),
    )
    await ann.say(room, "to nobody")
    root = await ann.say(room, "bot: mentioned", bot.user)
    await note("a mention is answered", lambda: _says(ann, room, bot, "to: mentioned"), why)
    await note("and nobody else", lambda: _silent(ann, room, bot, "nobody"), why)
    thread = {
        "rel_type": "m.thread",
        "event_id": root,
        "is_falling_back": True,
        "m.in_reply_to": {"event_id": root},
    }
    await ann.say(room, "bot: within", bot.user, **{"m.relates_to": thread})
    await note("a thread is answered", lambda: _says(ann, room, bot, "to: within"), why)
    sent = [each["content"] for each in await ann.events(room) if each["sender"] == bot.user]
    within = [each for each in sent if each.get("m.relates_to", {}).get("event_id") == root]
    await note("in the thread", lambda: _true(bool(within)), lambda: _true(sent))
    named = [each["m.mentions"] for each in sent if each.get("m.mentions")]
    await note("it tells who asked", lambda: _true({"user_ids": [ann.user]} in named), lambda: _true(named))
    await bob.say(room, "bot: let me", bot.user)
    await note("strangers are not answered there", lambda: _silent(ann, room, bot, "let me"), why)


async def _invitations(note: Any, ann: Person, bob: Person, bot: Person) -> None:
    room = await bob.room(bot.user)
    await note("a stranger's invitation into a room is refused",
               lambda: _is_in(bob, room, bot.user, "leave"), lambda: bob.members(room))  # fmt: skip
    direct = await bob.room(bot.user, is_direct=True)
    await bob.say(direct, "hello")
    await note("in a chat of two a stranger is told a code", lambda: _says(bob, direct, bot, "pair"),
               lambda: bob.texts(direct, bot.user))  # fmt: skip


async def _upgrades(note: Any, ann: Person, bot: Person) -> None:
    for preset in ("public_chat", "private_chat"):
        room = await ann.room(bot.user, preset=preset, room_version="10", name=preset)
        await _eventually(lambda room=room: _is_in(ann, room, bot.user, "join"))
        await ann.say(room, "bot: remember", bot.user)
        await _eventually(lambda room=room: _says(ann, room, bot, "to: remember"))
        new = str(
            (await ann.ask("POST", f"/rooms/{quote(room)}/upgrade", {"new_version": "11"}))[
                "replacement_room"
            ]
        )
        if preset == "private_chat":
            await ann.ask("POST", f"/rooms/{quote(new)}/invite", {"user_id": bot.user})
        await note(f"an upgraded room is followed ({preset})", lambda new=new: _is_in(ann, new, bot.user, "join"),
                   lambda new=new: ann.members(new))  # fmt: skip
        await asyncio.sleep(2)
        await ann.say(new, "bot: /context", bot.user)
        await note(f"with its history ({preset})", lambda new=new: _says(ann, new, bot, "1 "),
                   lambda new=new: ann.texts(new, bot.user))  # fmt: skip


async def _grows(note: Any, room: str, ann: Person, bot: Person) -> None:
    await _eventually(lambda: _is_in(ann, room, bot.user, "join"))
    await ann.say(room, "go on")
    await note("a long answer grows, and its end arrives under the limits of Synapse",
               lambda: _whole(ann, room, bot), lambda: ann.texts(room, bot.user))  # fmt: skip
    edits = [each for each in await ann.events(room) if "m.new_content" in each["content"]]
    await note("in several edits of one message", lambda: _true(len(edits) > 3), lambda: _true(len(edits)))


async def _encrypted(note: Any, folder: Path, ann: Person, bot: Person) -> None:
    """A person's client with encryption, for which the library is used at this end too."""
    (folder / "ann").mkdir()
    client = AsyncClient(ann.url, ann.user, store_path=str(folder / "ann"), config=AsyncClientConfig())
    await client.login("secret", device_name="another")
    try:
        start = {
            "type": "m.room.encryption",
            "state_key": "",
            "content": {"algorithm": "m.megolm.v1.aes-sha2"},
        }
        room = await ann.room(bot.user, is_direct=True, initial_state=[start])
        await _eventually(lambda: _is_in(ann, room, bot.user, "join"))
        heard: list[str] = []

        async def sync() -> None:
            told: Any = await client.sync(2000)
            if client.should_upload_keys:
                await client.keys_upload()
            if client.should_query_keys:
                await client.keys_query()
            joined = told.rooms.join.get(room)
            for event in joined.timeline.events if joined else []:
                if event.sender == bot.user and event.decrypted:
                    heard.append(json.dumps(event.source["content"]))

        for _ in range(3):
            await sync()
        await client.room_send(room, "m.room.message", {"msgtype": "m.text", "body": "in secret", "m.mentions": {}},
                               ignore_unverified_devices=True)  # fmt: skip

        async def answered() -> bool:
            await sync()
            return any("to: in secret" in each for each in heard)

        await note("an encrypted room is read, and answered encrypted", answered, lambda: _true(heard))
        seen = [
            each
            for each in await ann.events(room)
            if each["sender"] == bot.user and BUTTONS in each["content"]
        ]
        await note("and nothing of it is open", lambda: _true(not seen), lambda: _true(seen))
    finally:
        await client.close()


# ---- what holds -------------------------------------------------------------------------------------------------


async def _true(given: Any) -> Any:
    return given


async def _says(person: Person, room: str, bot: Person, words: str) -> bool:
    return any(words in text for text in await person.texts(room, bot.user))


async def _silent(person: Person, room: str, bot: Person, words: str) -> bool:
    return not await _says(person, room, bot, words)


async def _whole(person: Person, room: str, bot: Person) -> bool:
    return sum(text.count("word") for text in await person.texts(room, bot.user)) == 400


async def _is_in(person: Person, room: str, user: str, membership: str) -> bool:
    return (await person.members(room)).get(user) == membership


async def _reacts(person: Person, room: str, bot: Person, event: str, key: str) -> bool:
    return any(
        each["type"] == "m.reaction"
        and each["sender"] == bot.user
        and each["content"].get("m.relates_to", {})
        == {"rel_type": "m.annotation", "event_id": event, "key": key}
        for each in await person.events(room)
    )


async def _grew(person: Person, room: str, bot: Person, before: int) -> bool:
    events = await person.events(room)
    edited = [each for each in events[before:] if "m.new_content" in each["content"]]
    return bool(edited) and len(await person.shown(room, bot.user)) == 1


async def _has_file(person: Person, room: str, bot: Person) -> bool:
    shown = await person.shown(room, bot.user)
    return any(content["msgtype"] == "m.file" and content["url"].startswith("mxc://") for _, content in shown)


async def _is_up(http: aiohttp.ClientSession, url: str) -> bool:
    try:
        async with http.get(f"{url}/_matrix/client/versions") as answer:
            return answer.status == 200
    except aiohttp.ClientError:
        return False


async def _registered(http: aiohttp.ClientSession, url: str, name: str, numbers: Any) -> Person:
    body = {"auth": {"type": "m.login.dummy"}, "username": name, "password": "secret"}
    async with http.post(f"{url}/_matrix/client/v3/register", json=body) as answer:
        fields = await answer.json()
    return Person(url, http, str(fields["user_id"]), str(fields["access_token"]), numbers)


async def _eventually(holds: Callable[[], Awaitable[bool]]) -> bool:
    for _ in range(120):
        if await holds():
            return True
        await asyncio.sleep(0.5)
    return False
