"""When reminders are due: pure, over apscheduler's triggers, in a person's time zone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from enum import StrEnum
from zoneinfo import ZoneInfo

from apscheduler.triggers.cron import CronTrigger

__all__ = ["FURTHEST", "Repeat", "WrongTime", "first_due", "next_due"]

FURTHEST = timedelta(days=5 * 366)
_FORMS = ("%Y-%m-%d %H:%M", "%Y-%m-%d %H:%M:%S")
# From this day on not every month has one, so the last day is meant.
_LAST_DAYS = 29
_MOST_TRIES = 8


class Repeat(StrEnum):
    NEVER = "never"
    HOURLY = "hourly"
    DAILY = "daily"
    WEEKDAYS = "weekdays"
    WEEKLY = "weekly"
    MONTHLY = "monthly"
    YEARLY = "yearly"


class WrongTime(ValueError):
    """Its words are for the model, which may ask the person or correct itself."""


def first_due(at: str | None, in_minutes: float | None, zone: ZoneInfo, now: datetime) -> datetime:
    """The moment that is meant, in UTC. `at` is a time of the person's. Raises WrongTime."""
    if (at is None) == (in_minutes is None):
        raise WrongTime("say when by either at or in_minutes")
    if in_minutes is not None:
        if not 0 < in_minutes <= FURTHEST.total_seconds() / 60:
            raise WrongTime("in_minutes is more than 0, and at most five years")
        return _whole(now + timedelta(minutes=in_minutes))
    due = _read(at or "").replace(tzinfo=zone).astimezone(UTC)
    here = f"it is now {now.astimezone(zone):%Y-%m-%d %H:%M} in {zone.key}"
    if due <= now:
        raise WrongTime(f"this time is over: {here}")
    if due - now > FURTHEST:
        raise WrongTime(f"this is more than five years away: {here}")
    return due


def next_due(begun: datetime, repeat: Repeat, zone: ZoneInfo, after: datetime) -> datetime | None:
    """The first moment behind `after`, in UTC, of what began at `begun`; None for no more.

    It keeps to the clock of the zone: a daily one at nine is at nine in summer and in winter.
    """
    first = begun.astimezone(zone)
    day = "last" if first.day >= _LAST_DAYS else first.day
    at: dict[str, object] = {"hour": first.hour, "minute": first.minute, "second": first.second}
    fields: dict[Repeat, dict[str, object]] = {
        Repeat.HOURLY: {"minute": first.minute, "second": first.second},
        Repeat.DAILY: at,
        Repeat.WEEKDAYS: {"day_of_week": "mon-fri", **at},
        Repeat.WEEKLY: {"day_of_week": first.weekday(), **at},
        Repeat.MONTHLY: {"day": day, **at},
        Repeat.YEARLY: {"month": first.month, "day": day, **at},
    }
    if repeat not in fields:
        return None
    trigger = CronTrigger(timezone=zone, end_date=after + FURTHEST, **fields[repeat])
    since = after
    for _ in range(_MOST_TRIES):
        found: datetime | None = trigger.get_next_fire_time(None, since + timedelta(seconds=1))
        if found is None:
            return None
        due = found.astimezone(UTC)
        # Where clocks are put forward, it may be an hour that there is not, which lies before `after`; and where
        # they are put back, one that comes twice, of which the first counts.
        again = repeat is not Repeat.HOURLY and due.astimezone(zone).fold == 1
        if due > after and not again:
            return due
        since = max(since, due) + timedelta(minutes=30)
    return None


def _read(at: str) -> datetime:
    plain = at.strip().replace("T", " ")
    for form in _FORMS:
        try:
            return datetime.strptime(plain, form)
        except ValueError:
            continue
    raise WrongTime("at is a date and a time like 2026-11-28 09:00")


def _whole(moment: datetime) -> datetime:
    """The second that it falls into, or the next."""
    return (moment + timedelta(microseconds=999_999)).replace(microsecond=0)
