"""The tools `current_time` and `date_difference`."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime
from functools import cache
from zoneinfo import ZoneInfo, available_timezones

from glmbot.host import Nature, Tool, ToolFailed, ToolUse

__all__ = ["difference_tool", "time_tool", "zone_named"]

Now = Callable[[], datetime]

_LONGEST_ZONE = 64


def time_tool(now: Now = lambda: datetime.now(UTC)) -> Tool:
    async def current_time(use: ToolUse) -> str:
        name = str(use.arguments.get("zone") or use.timezone)
        zone = zone_named(name)
        if zone is None:
            raise ToolFailed(
                f"there is no time zone {name[:_LONGEST_ZONE]!r}; it is a name like Asia/Shanghai"
            )
        there = now().astimezone(zone)
        return (
            f"{there:%A, %Y-%m-%d, %H:%M:%S} in {zone.key} (UTC{there:%z}), week {there.isocalendar().week}"
        )

    return Tool(
        "current_time",
        "Tells the date, the day of the week and the time of now, for the person who asks or in a zone.",
        {
            "type": "object",
            "properties": {
                "zone": {
                    "type": "string",
                    "maxLength": _LONGEST_ZONE,
                    "description": "An IANA name like Europe/Berlin; leave it out for the person's own.",
                }
            },
            "additionalProperties": False,
        },
        current_time,
        Nature.PURE,
        timeout_s=5.0,
        title={"en": "Date and time", "zh": "日期和时间"},
    )


def difference_tool() -> Tool:
    async def date_difference(use: ToolUse) -> str:
        start, end = _date(use.arguments["start"]), _date(use.arguments["end"])
        days = (end - start).days
        weeks, rest = divmod(abs(days), 7)
        return (
            f"From {start:%A}, {start} to {end:%A}, {end}: {days} days"
            f" ({'-' if days < 0 else ''}{weeks} weeks and {rest} days)"
        )

    one = {"type": "string", "pattern": r"^\d{4}-\d{2}-\d{2}$", "description": "YYYY-MM-DD"}
    return Tool(
        "date_difference",
        "Counts the days between two dates, and tells the day of the week of both.",
        {
            "type": "object",
            "properties": {"start": one, "end": one},
            "required": ["start", "end"],
            "additionalProperties": False,
        },
        date_difference,
        Nature.PURE,
        timeout_s=5.0,
        title={"en": "Days between dates", "zh": "日期间隔"},
    )


def zone_named(name: str) -> ZoneInfo | None:
    """In whatever case it is written; None for one that there is not."""
    known = _zones().get(name.strip().replace(" ", "_").casefold())
    return ZoneInfo(known) if known is not None else None


@cache
def _zones() -> dict[str, str]:
    return {name.casefold(): name for name in available_timezones()}


def _date(written: object) -> date:
    try:
        return date.fromisoformat(str(written))
    except ValueError as error:
        raise ToolFailed(f"{str(written)[:20]!r} is no date; write it as YYYY-MM-DD") from error
