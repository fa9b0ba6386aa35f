"""When something is due, by the clock of a person's zone, whatever that clock does."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glmbot_tools.times import FURTHEST, Repeat, WrongTime, first_due, next_due

BERLIN, SHANGHAI, LORD_HOWE = (
    ZoneInfo("Europe/Berlin"),
    ZoneInfo("Asia/Shanghai"),
    ZoneInfo("Australia/Lord_Howe"),
)
NOW = datetime(2026, 11, 27, 12, 0, tzinfo=UTC)


def local(moment: datetime | None, zone: ZoneInfo) -> str:
    assert moment is not None
    return f"{moment.astimezone(zone):%Y-%m-%d %H:%M %z}"


def test_a_time_is_that_of_the_person() -> None:
    assert first_due("2026-11-28 09:00", None, SHANGHAI, NOW) == datetime(2026, 11, 28, 1, 0, tzinfo=UTC)
    assert first_due("2026-11-28T09:00:30", None, BERLIN, NOW) == datetime(2026, 11, 28, 8, 0, 30, tzinfo=UTC)
    assert first_due(None, 20, BERLIN, NOW) == NOW + timedelta(minutes=20)


@pytest.mark.parametrize(
    ("at", "minutes", "words"),
    [
        ("2026-11-27 12:59", None, "this time is over: it is now 2026-11-27 13:00 in Europe/Berlin"),
        ("2036-01-01 00:00", None, "more than five years away"),
        ("tomorrow", None, "a date and a time like"),
        ("2026-02-30 09:00", None, "a date and a time like"),
        (None, 0, "more than 0"),
        (None, -5, "more than 0"),
        (None, 1e300, "at most five years"),
        (None, float("nan"), "more than 0"),
        (None, None, "either at or in_minutes"),
        ("2026-12-01 09:00", 5, "either at or in_minutes"),
    ],
)
def test_what_can_not_be_meant_is_refused(at: str | None, minutes: float | None, words: str) -> None:
    with pytest.raises(WrongTime, match=words):
        first_due(at, minutes, BERLIN, NOW)


@pytest.mark.parametrize(
    ("begun", "repeat", "after", "due"),
    [
        # Friday.
        ("2026-11-27 09:00", Repeat.DAILY, "2026-11-27 09:00", "2026-11-28 09:00 +0100"),
        ("2026-11-27 09:00", Repeat.WEEKDAYS, "2026-11-27 09:00", "2026-11-30 09:00 +0100"),
        ("2026-11-27 09:00", Repeat.WEEKLY, "2026-11-27 09:00", "2026-12-04 09:00 +0100"),
        ("2026-11-27 09:20", Repeat.HOURLY, "2026-11-27 09:20", "2026-11-27 10:20 +0100"),
        ("2026-11-27 09:00", Repeat.MONTHLY, "2026-11-27 09:00", "2026-12-27 09:00 +0100"),
        ("2026-01-31 09:00", Repeat.MONTHLY, "2026-01-31 09:00", "2026-02-28 09:00 +0100"),
        ("2026-01-31 09:00", Repeat.MONTHLY, "2026-02-28 09:00", "2026-03-31 09:00 +0200"),
        ("2028-02-29 09:00", Repeat.YEARLY, "2028-02-29 09:00", "2029-02-28 09:00 +0100"),
        # Nine is nine, in winter and in summer.
        ("2026-03-28 09:00", Repeat.DAILY, "2026-03-28 09:00", "2026-03-29 09:00 +0200"),
        ("2026-10-24 09:00", Repeat.DAILY, "2026-10-24 09:00", "2026-10-25 09:00 +0100"),
        # Missed for a month: the next one, and not all of them.
        ("2026-10-01 09:00", Repeat.DAILY, "2026-11-27 10:00", "2026-11-28 09:00 +0100"),
    ],
)
def test_the_next_time_keeps_to_the_clock_of_the_zone(
    begun: str, repeat: Repeat, after: str, due: str
) -> None:
    first, since = (datetime.fromisoformat(each).replace(tzinfo=BERLIN) for each in (begun, after))
    assert local(next_due(first, repeat, BERLIN, since.astimezone(UTC)), BERLIN) == due


def test_an_hour_that_there_is_not_or_is_twice_is_met_once() -> None:
    for zone, begun, days in (
        (BERLIN, datetime(2026, 3, 27, 2, 30, tzinfo=BERLIN), 5),
        (BERLIN, datetime(2026, 10, 23, 2, 30, tzinfo=BERLIN), 5),
        (LORD_HOWE, datetime(2026, 10, 2, 2, 15, tzinfo=LORD_HOWE), 5),
        (LORD_HOWE, datetime(2026, 4, 3, 1, 45, tzinfo=LORD_HOWE), 5),
    ):
        met = [begun.astimezone(UTC)]
        for _ in range(days):
            due = next_due(begun, Repeat.DAILY, zone, met[-1])
            assert due is not None
            met.append(due)
        gaps = [after - before for before, after in zip(met, met[1:], strict=False)]
        assert all(timedelta(hours=22) <= gap <= timedelta(hours=26) for gap in gaps), (zone, gaps)


_moments = st.datetimes(datetime(2026, 1, 1), datetime(2030, 1, 1), timezones=st.just(UTC))


@given(
    _moments, st.timedeltas(timedelta(0), timedelta(days=800)),
    st.sampled_from([each for each in Repeat if each is not Repeat.NEVER]),
    st.sampled_from([BERLIN, SHANGHAI, LORD_HOWE, ZoneInfo("America/New_York"), ZoneInfo("Africa/Casablanca")]),
)  # fmt: skip
def test_the_next_time_is_always_later_and_within_bounds(
    begun: datetime, passed: timedelta, repeat: Repeat, zone: ZoneInfo
) -> None:
    after = begun + passed
    due = next_due(begun, repeat, zone, after)
    assert due is not None
    assert after < due <= after + FURTHEST
    assert next_due(begun, Repeat.NEVER, zone, after) is None
