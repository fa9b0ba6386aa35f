"""Files that people send, on each store: kept once, for whom they are for, as long as they are referred to."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import time
from base64 import b64encode
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing, suppress
from dataclasses import asdict, replace
from hashlib import sha256
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glmbot.app import _blob_limits
from glmbot.backup import back_up, restore
from glmbot.config.operation import StoreSection
from glmbot.errors import BackupError, BlobRefused, StoreError, StoreUnavailable
from glmbot.keys import ChatKey, ConversationKey, UserKey
from glmbot.messages import Message
from glmbot.store.base import Store, StoredAnswer
from glmbot.store.blob_folder import BlobFolder
from glmbot.store.blobs import PIECE_BYTES, BlobLimits, keep, read
from glmbot.store.journal import JournaledRedisStore
from glmbot.store.records import Blob
from glmbot.store.redis import RedisStore
from glmbot.store.sealed import new_key, sealed
from glmbot.store.sqlite import SqliteStore
from redis_server import Server

ANN, BOB = UserKey("telegram", "5"), UserKey("telegram", "6")
HOME, ROOM = ConversationKey("telegram", "5"), ConversationKey("telegram", "-7")
NOW = 1_700_000_000.0


async def kept(
    store: Store,
    content: bytes,
    where: ConversationKey = HOME,
    user: UserKey = ANN,
    at: float = NOW,
    **more: Any,
) -> Blob:
    said = {"media_type": "image/png", "name": "cat.png", **more}
    return await keep(store, where, user, content, at=at, **said)


async def content_of(store: Store, blob: Blob, where: ConversationKey = HOME) -> bytes:
    async with aclosing(read(store, where, blob)) as pieces:
        return b"".join([piece async for piece in pieces])


def inside(store: Store) -> Any:
    return getattr(store, "_store", store)


def limit(store: Store, **limits: float) -> None:
    bare = inside(store)
    holder = bare._blobs if isinstance(bare, RedisStore) else bare
    holder._limits = replace(holder._limits, **limits)


async def left(store: Store) -> list[str]:
    """Everything that tells of a file: names of keys, of files on the disk, and rows."""
    bare = inside(store)
    if isinstance(bare, RedisStore):
        prefix = bare._keys.prefix
        found = [key async for key in bare._redis.scan_iter(match=f"{prefix}:*blob*")]
        return [key for key in found if not key.endswith(":total") or await bare._redis.get(key) != "0"]
    rows = await bare._read(
        lambda db: db.execute("SELECT digest FROM blobs UNION ALL SELECT digest FROM blob_refs").fetchall()
    )
    return [str(path) for path in bare._folder.path.rglob("*") if path.is_file()] + [row[0] for row in rows]


async def tidied(store: Store, now: float) -> None:
    while await store.tidy(now):
        pass


@pytest.mark.parametrize("size", [0, 1, PIECE_BYTES, PIECE_BYTES + 1, 3 * PIECE_BYTES + 7])
async def test_what_is_put_comes_back_in_pieces_where_it_was_put_and_nowhere_else(
    store: Store, size: int
) -> None:
    content = os.urandom(size)
    blob = await kept(store, content)
    assert blob == Blob(sha256(content).hexdigest(), "image/png", "cat.png", size, NOW)
    assert await store.blob(HOME, blob.digest) == blob
    assert await content_of(store, blob) == content
    assert await store.blob_bytes(ANN) == size
    assert [each.blob async for each in store.blobs(ANN)] == [blob]
    assert await store.blob(ROOM, blob.digest) is None
    with pytest.raises(StoreError, match="has no file"):
        await content_of(store, blob, ROOM)
    assert not await store.remove_blob(ROOM, blob.digest)
    assert await store.remove_blob(HOME, blob.digest)
    assert await left(store) == []


async def test_one_content_is_kept_once_and_goes_with_its_last_reference(store: Store) -> None:
    content = os.urandom(1000)
    first = await kept(store, content)
    await kept(store, content, ROOM, BOB, name="other.png")
    again = await kept(store, content, ROOM, ANN, NOW + 1, name="new.png")
    assert [each.blob.digest async for each in store.blobs()] == [first.digest] * 3
    assert await store.blob(ROOM, first.digest) == again
    assert await store.blob_bytes(ANN) == 2000
    assert await store.forget(ANN) == 0
    assert await content_of(store, first, ROOM) == content
    assert (await store.blob(ROOM, first.digest)) == replace(first, name="other.png")
    assert await store.blob(HOME, first.digest) is None
    await store.reset(ROOM)
    assert await left(store) == []
    assert await store.blob_bytes(BOB) == 0


async def test_what_is_too_large_or_finds_no_room_is_refused_with_what_to_do_and_leaves_nothing(
    store: Store,
) -> None:
    limit(store, each=1000, person=2500, everybody=4000)
    with pytest.raises(BlobRefused, match="blob_mb") as refused:
        await kept(store, bytes(1001))
    assert refused.value.reason == "too_large"
    assert await left(store) == []
    for number in range(2):
        await kept(store, os.urandom(1000 - number))
    with pytest.raises(BlobRefused, match="blob_person_mb") as refused:
        await kept(store, os.urandom(1000))
    assert refused.value.reason == "person_full"
    limit(store, everybody=2100)
    with pytest.raises(BlobRefused, match="blob_total_mb") as refused:
        await kept(store, os.urandom(1000), user=BOB)
    assert refused.value.reason == "store_full"
    assert await store.blob_bytes(BOB) == 0
    assert len([each async for each in store.blobs()]) == 2
    await store.forget(ANN)
    assert await left(store) == []
    await kept(store, os.urandom(1000), user=BOB)


async def test_a_file_that_says_less_than_it_has_is_refused(store: Store) -> None:
    limit(store, each=1000)

    async def endless() -> AsyncGenerator[bytes]:
        while True:
            yield bytes(PIECE_BYTES)

    blob = Blob("0" * 64, "image/png", "x", 10, NOW)
    with pytest.raises(StoreError, match="more bytes"):
        await store.put_blob(HOME, ANN, blob, endless())
    assert await store.blob(HOME, blob.digest) is None
    await store.forget(ANN)


async def test_who_is_forgotten_leaves_no_file_and_others_keep_theirs(store: Store) -> None:
    mine, shared = os.urandom(500), os.urandom(500)
    for where in (HOME, ROOM):
        await kept(store, mine, where)
    blob = await kept(store, shared, ROOM)
    await kept(store, shared, ROOM, BOB)
    await store.forget(ANN)
    assert [(each.user, each.blob.digest) async for each in store.blobs()] == [(BOB, blob.digest)]
    assert await content_of(store, blob, ROOM) == shared
    assert await store.blob_bytes(ANN) == 0
    assert not [name for name in await left(store) if sha256(mine).hexdigest() in name]


async def test_a_reset_deletes_the_files_of_its_conversation_but_of_what_waits_for_an_answer(
    store: Store,
) -> None:
    waiting, answered = Message("u1", HOME, ANN, "see"), Message("u2", HOME, ANN, "look")
    for message in (waiting, answered):
        await store.accept(message, NOW)
    await store.claim(HOME, 60)
    blobs = {
        name: await kept(store, name.encode(), update_id=update_id, at=at)
        for name, update_id, at in [
            ("waiting", "u1", NOW), ("answered", "u2", NOW), ("nobody's", "", NOW), ("long ago", "u9", NOW),
            ("to be accepted", "u3", time.time()),
        ]
    }  # fmt: skip
    elsewhere = await kept(store, b"waiting", ROOM, update_id="u1")
    await store.finish(answered, StoredAnswer("a", "done", ""), question="look")
    await store.reset(HOME)
    there = {name for name, blob in blobs.items() if await store.blob(HOME, blob.digest) is not None}
    assert there == {"waiting", "to be accepted"}
    assert await content_of(store, blobs["waiting"]) == b"waiting"
    assert await content_of(store, elsewhere, ROOM) == b"waiting"


@pytest.mark.parametrize("with_turn", [True, False])
async def test_files_move_with_their_chat_and_their_person(store: Store, with_turn: bool) -> None:
    old, new = ChatKey("telegram", "-7"), ChatKey("telegram", "-100")
    there = replace(ROOM, chat="-100")
    if with_turn:
        message = Message("u1", ROOM, ANN, "see")
        await store.accept(message, NOW)
        await store.claim(ROOM, 60)
        await store.finish(message, StoredAnswer("a", "done", ""), question="see", at=NOW)
        await store.delivered(message)
        await store.release(ROOM)
    content = os.urandom(700)
    blob = await kept(store, content, ROOM)
    await kept(store, content, ROOM, BOB)
    # What is there already stays, and counts once.
    await kept(store, content, there, BOB, name="there.png")
    await store.move(old, new, NOW)
    await store.move(old, new, NOW)
    assert await store.blob(ROOM, blob.digest) is None
    assert await content_of(store, blob, there) == content
    assert await store.blob_bytes(BOB) == 700
    carol = UserKey("telegram", "77")
    await kept(store, content, HOME)
    await store.move(ANN, carol, NOW)
    found = {(each.conversation, each.user) async for each in store.blobs()}
    assert found == {(there, BOB), (there, carol), (replace(HOME, chat="77"), carol)}
    assert await store.blob_bytes(ANN) == 0
    assert await store.blob_bytes(carol) == 1400
    for person in (carol, BOB):
        await store.forget(person)
    assert await left(store) == []


async def test_files_are_deleted_after_their_time(store: Store) -> None:
    limit(store, kept_s=100)
    old = await kept(store, b"old", at=NOW - 101)
    new = await kept(store, b"new", at=NOW - 99)
    await tidied(store, NOW)
    assert await store.blob(HOME, old.digest) is None
    assert await content_of(store, new) == b"new"
    assert not [name for name in await left(store) if old.digest in name]


WORST = [
    "",
    "x",
    "../../../etc/passwd",
    "/",
    "\0",
    "\ud800",
    "A" * 64,
    "0" * 63,
    "0" * 64 + "\n",
    "*",
    "é" * 64,
    "%s" * 32,
]


async def test_the_worst_digests_lead_nowhere(store: Store) -> None:
    blob = await kept(store, b"here")
    for digest in WORST:
        assert await store.blob(HOME, digest) is None
        assert not await store.remove_blob(HOME, digest)
        with pytest.raises(StoreError):
            await anext(store.blob_pieces(HOME, digest))
        with pytest.raises(ValueError, match="digest"):
            Blob(digest, "image/png", "x", 1, NOW)
    assert await content_of(store, blob) == b"here"


@settings(max_examples=15)
@given(st.text(max_size=400), st.text(max_size=200), st.binary(max_size=50))
async def test_any_name_and_media_type_are_kept_bounded(
    store: Store, name: str, media_type: str, content: bytes
) -> None:
    blob = await kept(store, content, name=name, media_type=media_type)
    assert await store.blob(HOME, blob.digest) == blob
    assert len(blob.name) <= 255
    assert "\n" not in blob.media_type
    assert await content_of(store, blob) == content


async def test_others_have_their_turn_while_a_large_file_is_written_and_read(store: Store) -> None:
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    running = asyncio.create_task(others())
    content = os.urandom(16 * PIECE_BYTES)
    blob = await kept(store, content)
    written, turns = turns, 0
    assert await content_of(store, blob) == content
    running.cancel()
    assert min(written, turns) >= 16


class Crash(BaseException):
    """The process is gone."""


def stepping(monkeypatch: pytest.MonkeyPatch, store: Store, before: Callable[[int], Awaitable[None]]) -> None:
    """Has `before` done before each step of the store, with its number."""
    bare, steps = inside(store), count()

    def counted(method: Callable[..., Any]) -> Callable[..., Any]:
        async def step(*given: Any, **named: Any) -> Any:
            try:
                await before(next(steps))
            except Crash:
                for each in given:
                    if asyncio.iscoroutine(each):
                        each.close()
                raise
            return await method(*given, **named)

        return step

    if isinstance(bare, RedisStore):
        monkeypatch.setattr(bare._connection, "ask", counted(bare._connection.ask))
        for part in (bare._blobs, bare._removal, bare._histories, bare._moves):
            monkeypatch.setattr(part, "_ask", bare._connection.ask)
    else:
        for name in ("_run", "_read", "_on_disk"):
            monkeypatch.setattr(bare, name, counted(getattr(bare, name)))
        monkeypatch.setattr(bare._connection, "write", counted(bare._connection.write))


def crashing(monkeypatch: pytest.MonkeyPatch, store: Store, after: int) -> None:
    """Has each step of the store raise `Crash` from the one of that number on."""

    async def crash(number: int) -> None:
        if number >= after:
            raise Crash

    stepping(monkeypatch, store, crash)
    monkeypatch.setattr("glmbot.store.blob_folder.NewBlob.discard", lambda new: None)


async def agrees(store: Store) -> None:
    """Each reference has its content, nothing is there without one, and what is counted is what is there."""
    found = [each async for each in store.blobs()]
    for each in found:
        assert len(await content_of(store, each.blob, each.conversation)) == each.blob.size
    for user in (ANN, BOB):
        assert await store.blob_bytes(user) == sum(each.blob.size for each in found if each.user == user)
        assert {each async for each in store.blobs(user)} == {each for each in found if each.user == user}
    bare = inside(store)
    digests = {each.blob.digest for each in found}
    if isinstance(bare, RedisStore):
        sizes = await bare._redis.hgetall(bare._keys.contents("sizes"))
        assert set(sizes) == digests
        total = int(await bare._redis.get(bare._keys.contents("total")) or 0)
        assert total == sum(int(each.split(" ")[0]) for each in sizes.values())
    else:
        assert {path.name for path in bare._folder.path.rglob("*") if path.is_file()} == digests
        (total,) = await bare._read(lambda db: db.execute("SELECT stored FROM blobs_total").fetchone())
        (stored,) = await bare._read(
            lambda db: db.execute("SELECT COALESCE(SUM(stored), 0) FROM blobs").fetchone()
        )
        assert total == stored


@pytest.mark.parametrize("act", ["put", "remove", "forget", "reset", "move"])
async def test_a_crash_anywhere_leaves_nothing_that_tidying_does_not_end(
    store: Store, monkeypatch: pytest.MonkeyPatch, act: str
) -> None:
    content, other = os.urandom(PIECE_BYTES + 1), os.urandom(100)
    later = time.time() + 8000
    monkeypatch.setattr("glmbot.store.redis_blobs._SETTLED_AFTER_S", -1.0)
    monkeypatch.setattr("glmbot.store.redis_blobs._SWEPT_EVERY_S", -1.0)
    monkeypatch.setattr("glmbot.store.sqlite_blobs._WRITTEN_WITHIN_S", -10.0)
    monkeypatch.setattr("glmbot.store.sqlite_blobs._SWEPT_EVERY_S", -1.0)
    ways: dict[str, Callable[[], Any]] = {
        "put": lambda: kept(store, content, ROOM, BOB),
        "remove": lambda: store.remove_blob(ROOM, sha256(content).hexdigest()),
        "forget": lambda: store.forget(ANN),
        "reset": lambda: store.reset(ROOM),
        "move": lambda: store.move(ChatKey("telegram", "-7"), ChatKey("telegram", "-100"), NOW),
    }
    for after in range(200):
        await kept(store, other, ROOM, ANN)
        if act != "put":
            await kept(store, content, ROOM, ANN)
        with monkeypatch.context() as broken:
            crashing(broken, store, after)
            ended = False
            with suppress(Crash):
                await ways[act]()
                ended = True
        if act == "put" and ended:
            assert await store.blob(ROOM, sha256(content).hexdigest()) is not None
        # A sweep of what a scan gives in pages.
        for _ in range(3):
            await tidied(store, later)
        await agrees(store)
        if ended:
            return
        await store.reset(ROOM)
        await store.reset(replace(ROOM, chat="-100"))
    raise AssertionError("it never ended")


@pytest.mark.parametrize("act", ["put", "move", "rename", "remove"])
@pytest.mark.parametrize("beside", ["forget", "reset", "remove", "put"])
async def test_whatever_another_process_does_between_any_two_steps_both_agree(
    redis_url: str, monkeypatch: pytest.MonkeyPatch, act: str, beside: str
) -> None:
    monkeypatch.setattr("glmbot.store.redis_blobs._SETTLED_AFTER_S", -1.0)
    monkeypatch.setattr("glmbot.store.redis_blobs._SWEPT_EVERY_S", -1.0)
    store, other = (RedisStore(redis_url, prefix=f"beside {act} {beside}") for _ in range(2))
    carol, digest = UserKey("telegram", "9"), sha256(b"same").hexdigest()
    ways: dict[str, Callable[[Store], Awaitable[Any]]] = {
        "put": lambda by: kept(by, b"same", ROOM),
        "move": lambda by: by.move(ChatKey("telegram", "-7"), ChatKey("telegram", "-100"), NOW),
        "rename": lambda by: by.move(ANN, carol, NOW),
        "remove": lambda by: by.remove_blob(ROOM, digest),
        "forget": lambda by: by.forget(ANN),
        "reset": lambda by: by.reset(ROOM),
    }
    for at in range(300):
        await kept(store, b"same", ROOM)
        happened = False

        async def happen(number: int, at: int = at) -> None:
            nonlocal happened
            if number == at:
                happened = True
                await ways[beside](other)

        with monkeypatch.context() as patch, suppress(StoreError):
            stepping(patch, store, happen)
            await ways[act](store)
        if happened and act != "put" and beside in ("forget", "reset"):
            found = [each async for each in other.blobs()]
            assert found == [], at
        await tidied(other, NOW)
        await agrees(other)
        for person in (ANN, carol):
            await other.forget(person)
        assert [name for name in await left(other) if "blob_chats" not in name] == []
        if not happened:
            return
    raise AssertionError("it never ended")


async def test_a_sealed_store_shows_no_byte_of_a_file_and_no_name(tmp_path: Path) -> None:
    words = b"nobody else reads this " * 1000
    key = new_key()
    store = sealed(SqliteStore(tmp_path / "s.sqlite3"), [key])
    await store.open()
    blob = await kept(store, words, name="diary.txt")
    await store.close()
    disk = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert b"nobody else" not in disk
    assert b"diary" not in disk
    newer = sealed(SqliteStore(tmp_path / "s.sqlite3"), [new_key(), key])
    await newer.open()
    assert await content_of(newer, blob) == words
    await newer.close()


async def test_a_file_is_its_owners_alone_and_one_that_was_changed_is_known(tmp_path: Path) -> None:
    os.umask(0)
    store = SqliteStore(tmp_path / "s.sqlite3")
    await store.open()
    blob = await kept(store, b"x" * 1000)
    found = list((tmp_path / "s.sqlite3.blobs").rglob("*"))
    os.umask(0o022)
    assert {path.stat().st_mode & 0o777 for path in found if path.is_file()} == {0o600}
    assert {
        path.stat().st_mode & 0o777 for path in (tmp_path / "s.sqlite3.blobs", *found) if path.is_dir()
    } == {0o700}
    (path,) = (path for path in found if path.is_file())
    for damage, words in [
        (b"\0\0\3\xe8" + b"y" * 1000, "damaged"),
        (b"", "damaged"),
        (b"\xff" * 9, "cut short"),
    ]:
        path.write_bytes(damage)
        with pytest.raises(StoreError, match=words):
            await content_of(store, blob)
    path.unlink()
    with pytest.raises(StoreError, match="missing"):
        await content_of(store, blob)
    await kept(store, b"x" * 1000)
    assert await content_of(store, blob) == b"x" * 1000
    await store.close()


async def test_two_processes_that_put_and_forget_the_same_agree(tmp_path: Path) -> None:
    bot, terminal = SqliteStore(tmp_path / "s.sqlite3"), SqliteStore(tmp_path / "s.sqlite3")
    for store in (bot, terminal):
        await store.open()
    for _ in range(10):
        await asyncio.gather(kept(bot, b"same"), terminal.forget(ANN), kept(terminal, b"same", ROOM, BOB))
        await agrees(bot)
    for store in (bot, terminal):
        await store.close()


async def test_what_stands_in_the_folder_by_somebody_elses_hand_stays(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "s.sqlite3")
    await store.open()
    blob = await kept(store, b"x")
    folder = tmp_path / "s.sqlite3.blobs"
    stray = folder / blob.digest[:2] / (blob.digest[:2] + "0" * 62)
    stray.write_bytes(b"a crash left it")
    other = folder / blob.digest[:2] / "notes"
    other.mkdir()
    await tidied(store, NOW)
    assert not stray.exists()
    assert other.exists()
    assert await content_of(store, blob) == b"x"
    await store.close()


async def test_a_backup_carries_files_from_any_store_to_any_store(store: Store, tmp_path: Path) -> None:
    content = os.urandom(PIECE_BYTES + 5)
    blob = await kept(store, content)
    await kept(store, content, ROOM, BOB, name="theirs.png")
    empty = await kept(store, b"", ROOM, BOB)
    assert await back_up(store, tmp_path / "b.gz") == 0
    other = sealed(
        SqliteStore(tmp_path / "other.sqlite3", blobs=BlobLimits(person=PIECE_BYTES + 5)), [new_key()]
    )
    await other.open()
    done = await restore(other, tmp_path / "b.gz")
    assert (done.files, done.refused) == (3, 0)
    assert await content_of(other, blob) == content
    assert (await other.blob(ROOM, blob.digest)) == replace(blob, name="theirs.png")
    assert await content_of(other, empty, ROOM) == b""
    await agrees(other)
    limit(other, each=10)
    done = await restore(other, tmp_path / "b.gz")
    assert (done.files, done.refused) == (1, 2)
    await other.close()


async def test_what_a_store_in_memory_keeps_of_files_goes_with_it() -> None:
    store: Any = SqliteStore(Path(":memory:"))
    await store.open()
    blob = await kept(store, b"secret")
    folder = store._folder.path
    assert await content_of(store, blob) == b"secret"
    assert folder.exists()
    await store.close()
    assert not folder.exists()


async def test_what_is_damaged_or_deleted_meanwhile_ends_no_backup(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    store = SqliteStore(tmp_path / "s.sqlite3")
    await store.open()
    blobs = [await kept(store, bytes([number]) * 1000) for number in range(4)]
    await kept(store, b"\0" * 1000, ROOM, BOB)
    damaged, missing, deleted = blobs[1:]
    await kept(store, b"\1" * 1000, ROOM, BOB)
    at = {path.name: path for path in (tmp_path / "s.sqlite3.blobs").rglob("*")}
    at[damaged.digest].write_bytes(b"\0\0\3\xe8" + b"y" * 1000)
    at[missing.digest].unlink()
    listed, times = store.blobs, count()

    async def as_the_bot_runs(user: UserKey | None = None) -> AsyncGenerator[Any]:
        found = [each async for each in listed(user)]
        # First it is looked whether there are any.
        if next(times):
            await store.remove_blob(HOME, blobs[0].digest)
            await store.remove_blob(HOME, deleted.digest)
        for each in found:
            yield each

    monkeypatch.setattr(store, "blobs", as_the_bot_runs)
    await back_up(store, tmp_path / "b.gz")
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 2
    assert all(any(digest in words for words in told) for digest in (damaged.digest, missing.digest))
    other = SqliteStore(tmp_path / "other.sqlite3")
    await other.open()
    assert (await restore(other, tmp_path / "b.gz")).files == 1
    assert await content_of(other, blobs[0], ROOM) == b"\0" * 1000
    await store.close()
    await other.close()


async def test_no_backup_takes_the_content_from_a_file_that_is_there(tmp_path: Path) -> None:
    """A line in between, and the next reference would be to what is not in the backup."""
    store = SqliteStore(tmp_path / "s.sqlite3")
    await store.open()
    blob = await kept(store, b"mine")
    said = asdict(blob)
    mine = {"file": said, "of": str(HOME), "user": str(ANN)}
    theirs = {**mine, "of": str(ROOM), "user": str(BOB)}
    piece = {"piece": b64encode(b"mine").decode()}
    between = {"owner": str(BOB), "settings": {}}
    for lines in ([mine, piece, between, theirs], [{**mine, "file": {**said, "size": 2**40}}, piece]):
        header = {"glmbot": "backup", "version": 3}
        with gzip.open(tmp_path / "b.gz", "wt") as file:
            file.writelines(json.dumps(each) + "\n" for each in (header, *lines, {"end": len(lines)}))
        with pytest.raises(BackupError, match="nothing was restored"):
            await restore(store, tmp_path / "b.gz")
    assert await content_of(store, blob) == b"mine"
    await store.close()


def test_a_folder_that_is_not_there_has_nothing(tmp_path: Path) -> None:
    folder = BlobFolder(tmp_path / "none")
    assert folder.subfolders() == []
    assert list(folder.unfinished(time.time())) == []
    folder.remove("0" * 64)


@pytest.mark.parametrize(
    ("section", "limits"),
    [
        ({}, BlobLimits(20_000_000, 500_000_000, 10_000_000_000, 30 * 86400)),
        ({"kind": "redis"}, BlobLimits(20_000_000, 500_000_000, 500_000_000, 30 * 86400)),
        ({"keep_days": 7, "blob_total_mb": 1}, BlobLimits(20_000_000, 500_000_000, 1_000_000, 7 * 86400)),
        ({"keep_days": 90, "blob_mb": 0.5}, BlobLimits(500_000, 500_000_000, 10_000_000_000, 30 * 86400)),
        ({"blob_keep_days": 0}, BlobLimits(20_000_000, 500_000_000, 10_000_000_000, 0)),
    ],
)
def test_no_file_outlives_its_turn_by_setting(section: dict[str, Any], limits: BlobLimits) -> None:
    assert _blob_limits(StoreSection(**section)) == limits


async def test_a_file_is_refused_while_redis_is_away_and_nothing_of_it_is_left(
    server: Server, tmp_path: Path
) -> None:
    store = JournaledRedisStore(server.url, tmp_path / "journal.sqlite3", prefix="away", timeout_s=1.0)
    await store.open()
    blob = await kept(store, b"before")
    await server.kill()
    with pytest.raises(StoreUnavailable):
        await kept(store, b"meanwhile")
    assert store.journaled == 0
    await server.start()
    async with asyncio.timeout(60):
        while True:
            with suppress(StoreUnavailable):
                # What the bot does all the time tells a new server what the one before knew.
                await store.waiting("telegram", 0.1)
                await kept(store, b"after")
                break
            await asyncio.sleep(0.05)
    digests = {each.blob.digest async for each in store.blobs()}
    assert digests <= {blob.digest, sha256(b"after").hexdigest()}
    await agrees(store)
    await store.close()
