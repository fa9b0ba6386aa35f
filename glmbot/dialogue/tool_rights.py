"""Who may have which tool called where: never, when asked, or at once.

What the operator's configuration says "never" of stays closed. Else an administrator's word for a person in this
chat counts more than that for the person, that more than that for the chat, and that more than the configuration
and what the tool is by nature. A person's own "in this chat" takes the place of being asked, and of nothing else.

Whoever allows a tool allows what they were told of it: once it is described otherwise, or takes other arguments,
it is asked about anew. Each decision is a setting of its own, so that of two at once none is lost.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from hashlib import sha256

from glmbot.dialogue.toolset import Offered
from glmbot.host import Nature
from glmbot.messages import Message, Role

__all__ = ["Right", "ToolRights", "decided", "here", "is_full", "own", "right_of", "written"]

_DECIDED, _OWN = "tool_decided_", "tool_own_"
_MOST_KEPT = 500


class Right(StrEnum):
    NEVER = "never"
    ASK = "ask"
    ALLOW = "allow"


_BY_NATURE: Mapping[Nature, Right] = {
    Nature.PURE: Right.ALLOW,
    Nature.READS: Right.ASK,
    Nature.ACTS: Right.NEVER,
}


@dataclass(frozen=True, slots=True)
class ToolRights:
    """The configuration's, by tool; "files_*" is for all whose names begin so. Of several the longest holds."""

    everybody: Mapping[str, Right] = field(default_factory=dict[str, Right])
    admins: Mapping[str, Right] = field(default_factory=dict[str, Right])

    @classmethod
    def written(cls, everybody: Mapping[str, str], admins: Mapping[str, str]) -> ToolRights:
        """Raises ValueError for what is no right."""
        both = [{tool: Right(right) for tool, right in each.items()} for each in (everybody, admins)]
        return cls(*both)

    def of(self, tool: str, role: Role | None) -> Right | None:
        found = _match(self.admins, tool) if role is Role.ADMIN else None
        return found or _match(self.everybody, tool)


def here(message: Message) -> str:
    """The chat, in what is kept of a person."""
    return str(message.chat)


def decided(tool: str, person: str = "") -> str:
    """The setting of a person or a chat that holds what administrators decided. person: of that one in a chat."""
    return _named(_DECIDED, tool, person)


def own(tool: str, where: str) -> str:
    """The setting of a person by which they need not be asked there again."""
    return _named(_OWN, tool, where)


def written(right: Right, offered: Offered) -> str:
    """As the value of such a setting; the name is for who reads it."""
    return f"{right} {offered.digest} {offered.tool.name}"


def is_full(settings: Mapping[str, str], setting: str) -> bool:
    """Whether there are as many decisions as there may be, and this is none of them."""
    kept = [name for name in settings if name.startswith((_DECIDED, _OWN))]
    return setting not in settings and len(kept) >= _MOST_KEPT


def right_of(
    offered: Offered,
    role: Role | None,
    configured: ToolRights,
    *,
    person: Mapping[str, str],
    chat: Mapping[str, str],
    who: str,
    where: str,
) -> Right:
    """person, chat: the settings of both; who, where: their keys. role None: somebody who is not let in."""
    tool = offered.tool
    said = configured.of(tool.name, role)
    if role is None or said is Right.NEVER:
        return Right.NEVER
    # What was decided of a person in a chat is kept with the chat, which may move.
    found = (
        chat.get(decided(tool.name, who)) or person.get(decided(tool.name)) or chat.get(decided(tool.name))
    )
    right = _read(found, offered) or said or _BY_NATURE[tool.nature]
    if right is Right.ASK and _read(person.get(own(tool.name, where)), offered) is Right.ALLOW:
        return Right.ALLOW
    return right


def _match(rights: Mapping[str, Right], tool: str) -> Right | None:
    if tool in rights:
        return rights[tool]
    prefixes = [each for each in rights if each.endswith("*") and tool.startswith(each[:-1])]
    return rights[max(prefixes, key=len)] if prefixes else None


def _named(kind: str, *of: str) -> str:
    """A setting's name is short, and a key may be long."""
    return kind + sha256(" ".join(of).encode("utf-8", "replace")).hexdigest()[:32]


def _read(kept: str | None, offered: Offered) -> Right | None:
    """What is no right closes the tool."""
    if not kept:
        return None
    right, _, rest = kept.partition(" ")
    digest = rest.partition(" ")[0]
    if right == Right.ALLOW and digest != offered.digest:
        return Right.ASK if digest else Right.NEVER
    return Right(right) if right in list(Right) else Right.NEVER
