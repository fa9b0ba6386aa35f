"""What stands where in Redis, all under one prefix.

Those of a conversation share the hash tag {platform:chat:user:thread} and change together only inside one Lua
script. Indexes of people and of all are written before what they point to, so a crash between leaves at worst a
pointer to nothing.

    PREFIX:{conversation}:inbox     hash: "message U" "answer U" "turn U" "marks U" "dead U" of each update id U
    PREFIX:{conversation}:queue     sorted set: update ids of messages to be answered, by arrival
    PREFIX:{conversation}:claim     the process that answers it (see redis_claims.py)
    PREFIX:{conversation}:seen      sorted set: update ids by time
    PREFIX:{conversation}:tree      hash: turn id -> "parent user time\\n{question, answer, ref}"
    PREFIX:{conversation}:children  sorted set: turn ids by their parent's
    PREFIX:{conversation}:anchors   hash: a platform's message id -> "turn place"; the question's place is 0,
                                    that of its later pieces below it
    PREFIX:{conversation}:refs      sorted set: a platform's message ids by turn
    PREFIX:{conversation}:people    set of who has turns
    PREFIX:{conversation}:turns:USER  sorted set: a person's turn ids by time
    PREFIX:{conversation}:blobs     hash: "digest person" -> "token {what they call a file}"
    PREFIX:{conversation}:blob_people  hash: digest -> who put it there
    PREFIX:{conversation}:meta      hash: epoch, last_id, head; "moved": where it went; "from C": what came
    PREFIX:{user}:places            sorted set: where they have written, by time; with an end until there is a turn
    PREFIX:{user or chat}:settings  hash
    PREFIX:{user}:chats             set: private chats with settings
    PREFIX:{user}:blobs             hash: "digest conversation" -> "bytes token"
    PREFIX:{blob:DIGEST}:pieces     list: the content of a file; "new:…": what is being written
    PREFIX:{blob:DIGEST}:refs       hash: "conversation person" -> "time token"
    PREFIX:{blobs}:sizes            hash: digest -> "bytes mark" of all contents; PREFIX:{blobs}:total: their sum
    PREFIX:blob_chats:platform      set: conversations with files
    PREFIX:blob_removing            set: references that are being removed: "digest conversation person token"
    PREFIX:{book:BOOK}:notes        hash: name -> "version person\\ntext"; :names: sorted set of the names
    PREFIX:{user}:notes             set: "book name"
    PREFIX:books                    set
    PREFIX:everyone PREFIX:persons  sorted sets of names: all who have settings, the people among them
    PREFIX:having:NAME              set of who has a setting of that name
    PREFIX:recent:platform          sorted set: conversations by their last turn's time
    PREFIX:ages                     sorted set: conversations by their oldest turn's time
    PREFIX:letters                  sorted set: "conversation update" of dead letters by time
    PREFIX:{asked}:owner            sorted set: the last hour's update ids by time, of a person, a chat, or all
    PREFIX:forgetting, PREFIX:moves wishes that are carried out a little at a time
    PREFIX:platforms, PREFIX:layout
"""

from __future__ import annotations

from collections.abc import Sequence

from glmbot.keys import ChatKey, ConversationKey, UserKey

__all__ = ["TURN_PARTS", "RedisKeys"]

# Everything of a conversation's turns but the turns of each person.
TURN_PARTS = ("tree", "meta", "anchors", "refs", "children", "people")


class RedisKeys:
    def __init__(self, prefix: str) -> None:
        self.prefix = prefix

    def named(self, name: str) -> str:
        return f"{self.prefix}:{name}"

    def of(self, conversation: ConversationKey | str, part: str) -> str:
        return f"{self.prefix}:{{{conversation}}}:{part}"

    def all_of(self, conversation: ConversationKey | str, parts: Sequence[str]) -> list[str]:
        return [self.of(conversation, part) for part in parts]

    def turns_of(self, conversation: ConversationKey | str, user: UserKey | str) -> str:
        return self.of(conversation, f"turns:{user}")

    def owner(self, owner: UserKey | ChatKey | str, part: str) -> str:
        return f"{self.prefix}:{{{owner}}}:{part}"

    def asked(self, owner: str) -> str:
        # One hash tag for all, since one script looks at several.
        return f"{self.prefix}:{{asked}}:{owner}"

    def book(self, book: str, part: str) -> str:
        return f"{self.prefix}:{{book:{book}}}:{part}"

    def content(self, digest: str, part: str) -> str:
        return f"{self.prefix}:{{blob:{digest}}}:{part}"

    def contents(self, part: str) -> str:
        """Of all files together."""
        return f"{self.prefix}:{{blobs}}:{part}"
