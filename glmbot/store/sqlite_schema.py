"""The tables of the embedded store, and how those of earlier versions become them (PRAGMA user_version).

What stands in `_STEPS` was released and never changes again; a change is one more step at the end.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import suppress

from glmbot.keys import ChatKey, ConversationKey, UserKey
from glmbot.store.private_chats import owner_now, person_of
from glmbot.store.sqlite_turns import names_in

__all__ = ["bring_up_to_date"]


def _people_of_private_chats(db: sqlite3.Connection) -> None:
    """Settings of private chats stood under the chat's number alone, whoever knew it."""
    owners = db.execute("SELECT DISTINCT owner FROM settings WHERE instr(owner, ':chat:') > 0").fetchall()
    for (owner,) in owners:
        with suppress(ValueError):
            chat = ChatKey.parse(owner)
            spoke = db.execute(
                "SELECT DISTINCT conversation, user FROM turns WHERE conversation >= ? AND conversation < ?",
                names_in(chat),
            ).fetchall()
            now = owner_now(
                chat, [(ConversationKey.parse(each), UserKey.parse(user)) for each, user in spoke]
            )
            if now is not None:
                db.execute("UPDATE OR IGNORE settings SET owner = ? WHERE owner = ?", (str(now), owner))
            if now != chat:
                db.execute("DELETE FROM settings WHERE owner = ?", (owner,))
    # Counters of conversations without turns hold their person's number too.
    for (name,) in db.execute("SELECT conversation FROM epochs").fetchall():
        with suppress(ValueError):
            conversation = ConversationKey.parse(name)
            if person := person_of(conversation):
                db.execute("INSERT OR IGNORE INTO places VALUES (?, ?, 0, 0)", (str(person), name))


_STEPS: tuple[str | Callable[[sqlite3.Connection], None], ...] = (
    """
CREATE TABLE IF NOT EXISTS inbox (
    arrival INTEGER PRIMARY KEY AUTOINCREMENT,
    platform TEXT NOT NULL,
    update_id TEXT NOT NULL,
    accepted_at REAL NOT NULL,
    user TEXT,
    message TEXT,
    marks TEXT NOT NULL DEFAULT '{}',
    answer TEXT,
    UNIQUE (platform, update_id)
);
CREATE INDEX IF NOT EXISTS inbox_open ON inbox (platform, arrival) WHERE message IS NOT NULL;
CREATE TABLE IF NOT EXISTS turns (
    conversation TEXT NOT NULL,
    id INTEGER NOT NULL,
    user TEXT NOT NULL,
    question TEXT NOT NULL,
    answer TEXT NOT NULL,
    at REAL NOT NULL,
    PRIMARY KEY (conversation, id)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS turns_user ON turns (user);
CREATE TABLE IF NOT EXISTS epochs (conversation TEXT PRIMARY KEY, epoch INTEGER NOT NULL, last_id INTEGER NOT NULL)
    WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS settings (
    user TEXT NOT NULL, name TEXT NOT NULL, value TEXT NOT NULL, PRIMARY KEY (user, name)
) WITHOUT ROWID;
""",
    """
ALTER TABLE inbox ADD COLUMN turn INTEGER;
ALTER TABLE turns ADD COLUMN parent INTEGER NOT NULL DEFAULT 0;
ALTER TABLE turns ADD COLUMN ref TEXT NOT NULL DEFAULT '';
UPDATE turns SET parent = COALESCE(
    (SELECT MAX(id) FROM turns AS t WHERE t.conversation = turns.conversation AND t.id < turns.id), 0);
ALTER TABLE epochs ADD COLUMN head INTEGER NOT NULL DEFAULT 0;
UPDATE epochs SET head = COALESCE(
    (SELECT MAX(id) FROM turns WHERE turns.conversation = epochs.conversation), 0);
CREATE INDEX turns_at ON turns (at);
-- place: 0 is the question's message, the answer's messages count from 1.
CREATE TABLE anchors (
    conversation TEXT NOT NULL, ref TEXT NOT NULL, turn INTEGER NOT NULL, place INTEGER NOT NULL,
    PRIMARY KEY (conversation, ref)
) WITHOUT ROWID;
CREATE INDEX anchors_turn ON anchors (conversation, turn);
CREATE TRIGGER turn_gone AFTER DELETE ON turns BEGIN
    DELETE FROM anchors WHERE conversation = OLD.conversation AND turn = OLD.id;
END;
ALTER TABLE settings RENAME COLUMN user TO owner;
""",
    """
ALTER TABLE inbox ADD COLUMN conversation TEXT;
ALTER TABLE inbox ADD COLUMN dead TEXT;
ALTER TABLE inbox ADD COLUMN dead_at REAL;
UPDATE inbox SET conversation = json_extract(message, '$.conversation') WHERE message IS NOT NULL;
CREATE INDEX inbox_conversation ON inbox (conversation, arrival) WHERE message IS NOT NULL;
""",
    """
CREATE TABLE asked (
    owner TEXT NOT NULL,
    question TEXT NOT NULL,
    at REAL NOT NULL,
    PRIMARY KEY (owner, question)
) WITHOUT ROWID;
""",
    """
-- Where somebody has written: `turns` of their own, the last one `at`. For lists that need not read the turns.
CREATE TABLE places (
    user TEXT NOT NULL, conversation TEXT NOT NULL, turns INTEGER NOT NULL, at REAL NOT NULL,
    PRIMARY KEY (user, conversation)
) WITHOUT ROWID;
INSERT INTO places SELECT user, conversation, COUNT(*), MAX(at) FROM turns GROUP BY user, conversation;
INSERT OR IGNORE INTO places SELECT user, conversation, 0, accepted_at FROM inbox
    WHERE user IS NOT NULL AND conversation IS NOT NULL;
CREATE INDEX places_conversation ON places (conversation);
CREATE INDEX places_at ON places (user, at, conversation) WHERE turns > 0;
CREATE INDEX places_recent ON places (at, user, conversation) WHERE turns > 0;
CREATE TRIGGER turn_comes AFTER INSERT ON turns BEGIN
    INSERT INTO places VALUES (NEW.user, NEW.conversation, 1, NEW.at)
        ON CONFLICT (user, conversation) DO UPDATE SET turns = turns + 1, at = MAX(at, NEW.at);
END;
CREATE TRIGGER turn_goes AFTER DELETE ON turns BEGIN
    UPDATE places SET turns = turns - 1, at = COALESCE(
        (SELECT MAX(at) FROM turns WHERE user = OLD.user AND conversation = OLD.conversation), at)
        WHERE user = OLD.user AND conversation = OLD.conversation;
END;
CREATE TRIGGER turn_moves AFTER UPDATE OF conversation, user ON turns BEGIN
    UPDATE places SET turns = turns - 1 WHERE user = OLD.user AND conversation = OLD.conversation;
    INSERT INTO places VALUES (NEW.user, NEW.conversation, 1, NEW.at)
        ON CONFLICT (user, conversation) DO UPDATE SET turns = turns + 1, at = MAX(at, NEW.at);
END;
DROP INDEX turns_user;
CREATE INDEX turns_person ON turns (user, conversation, at);
CREATE INDEX turns_parent ON turns (conversation, parent);
CREATE INDEX inbox_told ON inbox (accepted_at) WHERE message IS NULL;
CREATE INDEX inbox_user ON inbox (user) WHERE user IS NOT NULL;
CREATE INDEX inbox_dead ON inbox (dead_at, arrival) WHERE dead IS NOT NULL;
CREATE INDEX asked_at ON asked (at);
CREATE INDEX asked_owner ON asked (owner, at);
CREATE INDEX settings_name ON settings (name, owner);
CREATE INDEX settings_people ON settings (owner) WHERE instr(owner, ':chat:') = 0;
-- Wishes that are carried out a little at a time, and finished by the next process.
CREATE TABLE forgetting (user TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE resetting (conversation TEXT PRIMARY KEY, upto INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE moves (
    old TEXT PRIMARY KEY, new TEXT NOT NULL, at REAL NOT NULL, followed REAL NOT NULL
) WITHOUT ROWID;
CREATE INDEX moves_new ON moves (new);
-- A turn's id in the new conversation is `shift` more, for ids up to `upto`.
CREATE TABLE shifts (
    old TEXT PRIMARY KEY, new TEXT NOT NULL, shift INTEGER NOT NULL, upto INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX shifts_new ON shifts (new);
CREATE TABLE health (id INTEGER PRIMARY KEY, asked INTEGER NOT NULL);
""",
    _people_of_private_chats,
    "CREATE INDEX anchors_question ON anchors (ref, conversation) WHERE place = 0;",
    "ALTER TABLE turns ADD COLUMN thought TEXT NOT NULL DEFAULT '';",
    """
-- Contents of files, which stand in a folder beside the database: see blob_folder.py. Those without a reference
-- are about to be deleted.
CREATE TABLE blobs (digest TEXT PRIMARY KEY, stored INTEGER NOT NULL, refs INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX blobs_gone ON blobs (refs) WHERE refs <= 0;
CREATE TABLE blobs_total (id INTEGER PRIMARY KEY CHECK (id = 1), stored INTEGER NOT NULL);
INSERT INTO blobs_total VALUES (1, 0);
CREATE TRIGGER blob_comes AFTER INSERT ON blobs BEGIN
    UPDATE blobs_total SET stored = stored + NEW.stored WHERE id = 1;
END;
CREATE TRIGGER blob_changes AFTER UPDATE OF stored ON blobs BEGIN
    UPDATE blobs_total SET stored = stored + NEW.stored - OLD.stored WHERE id = 1;
END;
CREATE TRIGGER blob_goes AFTER DELETE ON blobs BEGIN
    UPDATE blobs_total SET stored = stored - OLD.stored WHERE id = 1;
END;
-- update_id: of the message that brought it.
CREATE TABLE blob_refs (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    conversation TEXT NOT NULL, digest TEXT NOT NULL, user TEXT NOT NULL,
    media_type TEXT NOT NULL, name TEXT NOT NULL, size INTEGER NOT NULL, at REAL NOT NULL, update_id TEXT NOT NULL,
    UNIQUE (conversation, digest, user)
);
CREATE INDEX blob_refs_user ON blob_refs (user, size);
CREATE INDEX blob_refs_digest ON blob_refs (digest, seq);
CREATE INDEX blob_refs_at ON blob_refs (at);
CREATE TRIGGER blob_ref_comes AFTER INSERT ON blob_refs BEGIN
    INSERT INTO blobs VALUES (NEW.digest, 0, 1) ON CONFLICT (digest) DO UPDATE SET refs = refs + 1;
END;
CREATE TRIGGER blob_ref_goes AFTER DELETE ON blob_refs BEGIN
    UPDATE blobs SET refs = refs - 1 WHERE digest = OLD.digest;
END;
-- A reset leaves files that came after it.
ALTER TABLE resetting ADD COLUMN files_upto INTEGER NOT NULL DEFAULT 0;
""",
    "ALTER TABLE turns ADD COLUMN parts TEXT NOT NULL DEFAULT '';",
    """
-- What plug-ins and tools remember. user: whose it is, '' for nobody's.
CREATE TABLE notes (
    book TEXT NOT NULL, name TEXT NOT NULL, text TEXT NOT NULL, user TEXT NOT NULL, version INTEGER NOT NULL,
    PRIMARY KEY (book, name)
) WITHOUT ROWID;
CREATE INDEX notes_user ON notes (user) WHERE user <> '';
""",
)


def bring_up_to_date(db: sqlite3.Connection) -> None:
    """Each step is one transaction. Raises sqlite3.Error, and ValueError for a file of a later version."""
    version = int(db.execute("PRAGMA user_version").fetchone()[0])
    if version > len(_STEPS):
        raise ValueError(
            f"was written by a later version of glmbot (its layout is {version}, not {len(_STEPS)})"
        )
    for number, step in enumerate(_STEPS[version:], version + 1):
        if isinstance(step, str):
            db.executescript(f"BEGIN IMMEDIATE; {step} PRAGMA user_version = {number}; COMMIT;")
            continue
        db.execute("BEGIN IMMEDIATE")
        with db:
            step(db)
            db.execute(f"PRAGMA user_version = {number}")
