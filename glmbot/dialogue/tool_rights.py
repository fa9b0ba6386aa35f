"""Who may have which tool called where: never, when asked, or at once.

What the operator's configuration says "never" of stays closed. Else an administrator's word for a person in this
chat counts more than that for the person, that more than that for the chat, and that more than the configuration
and what the tool is by nature. A person's own "in this chat" takes the place of being asked, and of nothing else.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, cast

from glmbot.host import Nature, Tool
from glmbot.messages import Message, Role

__all__ = ["DECIDED", "OWN", "Right", "ToolRights", "here", "right_of", "with_right"]

DECIDED = "tools"
"""The setting of a person or a chat that holds what administrators decided."""
OWN = "tools_own"
"""The setting of a person that holds what they need not be asked about again."""
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


def right_of(
    tool: Tool,
    role: Role | None,
    configured: ToolRights,
    *,
    person: Mapping[str, str],
    chat: Mapping[str, str],
    who: str,
    where: str,
) -> Right:
    """person, chat: the settings of both; who, where: their keys. role None: somebody who is not let in."""
    said = configured.of(tool.name, role)
    if role is None or said is Right.NEVER:
        return Right.NEVER
    of_person, of_chat = _kept(person.get(DECIDED, "")), _kept(chat.get(DECIDED, ""))
    if of_person is None or of_chat is None:
        # What was decided can't be read, and may have been to close it.
        return Right.NEVER
    # What was decided of a person in a chat is kept with the chat, which may move.
    decided = _right(of_chat, f"{tool.name} {who}") or _right(of_person, tool.name)
    right = decided or _right(of_chat, tool.name) or said or _BY_NATURE[tool.nature]
    own = _kept(person.get(OWN, "")) or {}
    if right is Right.ASK and _right(own, f"{tool.name} {where}") is Right.ALLOW:
        return Right.ALLOW
    return right


def with_right(kept: str, tool: str, right: Right | None, *, of: str = "") -> str:
    """The setting with this right in it, None for none. of: which person's in a chat, or where a person's.

    What can't be read is begun anew.

    Raises ValueError where it holds as many as it may.
    """
    found = dict(_kept(kept) or {})
    key = f"{tool} {of}" if of else tool
    found.pop(key, None)
    if right is not None:
        found[key] = str(right)
    if len(found) > _MOST_KEPT:
        raise ValueError(f"there are {_MOST_KEPT} rights already")
    return json.dumps(found) if found else ""


def _match(rights: Mapping[str, Right], tool: str) -> Right | None:
    if tool in rights:
        return rights[tool]
    prefixes = [each for each in rights if each.endswith("*") and tool.startswith(each[:-1])]
    return rights[max(prefixes, key=len)] if prefixes else None


def _kept(written: str) -> Mapping[str, Any] | None:
    """None for what can't be read."""
    if not written:
        return {}
    try:
        found = cast(object, json.loads(written))
    except (ValueError, RecursionError):
        return None
    return cast(dict[str, Any], found) if isinstance(found, dict) else None


def _right(kept: Mapping[str, Any], key: str) -> Right | None:
    """What is no right closes the tool."""
    value = kept.get(key)
    if value is None:
        return None
    return Right(value) if value in list(Right) else Right.NEVER
