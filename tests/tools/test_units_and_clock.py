from __future__ import annotations

from datetime import UTC, datetime

import pytest

from glmbot.host import ToolFailed
from glmbot_tools import units
from glmbot_tools.clock import difference_tool, time_tool, zone_named
from glmbot_tools.units import CantConvert, Units
from tools.fake_use import told

UNITS = Units()


@pytest.mark.parametrize(
    ("value", "source", "target", "result"),
    [
        (5, "km", "mile", "3.106855961"),
        (100, "°C", "°F", "212"),
        (-40, "degF", "degC", "-40"),
        (37, "Celsius", "kelvin", "310.15"),
        (36.6, "摄氏度", "华氏度", "97.88"),
        (90, "km/h", "m/s", "25"),
        (60, "mph", "kph", "96.56064"),
        (2, "m²", "ft^2", "21.52782083"),
        (1, "GiB", "MB", "1073.741824"),
        (3, "斤", "kg", "1.5"),
        (6, "亩", "平方米", "4000"),
        (1, "kg*m^2/s^2", "J", "1"),
        (1, "1/s", "Hz", "1"),
        (2, "cup", "ml", "473.176473"),
    ],
)
def test_a_value_is_converted(value: float, source: str, target: str, result: str) -> None:
    assert UNITS.converted(value, source, target) == f"{value:.12g} {source} = {result} {target}"


@pytest.mark.parametrize(
    ("value", "source", "target"),
    [
        (1, "km", "kg"),
        (1, "km", "parsnip"),
        (1, "dollar", "euro"),
        (1, "m**9**9**9", "m"),
        (1, "9999**99999*m", "m"),
        (1, "m^99999999", "m"),
        (1, "m" + "*m" * 20, "m"),
        (1, "m" * 100, "m"),
        (1, "__import__('os')", "m"),
        (1, "m.__class__", "m"),
        (1, "", "m"),
        (float("nan"), "m", "km"),
        (float("inf"), "m", "km"),
        (1e300, "m", "km"),
        (1e99, "yottameter^9", "yoctometer^9"),
    ],
)
def test_what_is_no_unit_is_refused(value: float, source: str, target: str) -> None:
    with pytest.raises(CantConvert):
        UNITS.converted(value, source, target)


async def test_the_tools_say_why_not() -> None:
    assert await told(units.TOOL, value=1, from_unit="inch", to_unit="cm") == "1 inch = 2.54 cm"
    with pytest.raises(ToolFailed, match="measure different things"):
        await told(units.TOOL, value=1, from_unit="inch", to_unit="kg")


async def test_the_time_is_that_of_the_person_or_of_a_zone_that_is_named() -> None:
    tool = time_tool(lambda: datetime(2026, 11, 27, 20, 30, tzinfo=UTC))
    assert await told(tool) == "Saturday, 2026-11-28, 04:30:00 in Asia/Shanghai (UTC+0800), week 48"
    assert "Friday, 2026-11-27, 15:30:00 in America/New_York" in await told(tool, zone="america/new york")
    for wrong in ("Mars/Olympus", "../../etc/passwd", "/etc/localtime", "\x00"):
        with pytest.raises(ToolFailed, match="no time zone"):
            await told(tool, zone=wrong)


def test_zones_are_known_in_any_case() -> None:
    zone = zone_named("asia/shanghai")
    assert zone is not None
    assert zone.key == "Asia/Shanghai"


async def test_days_are_counted_between_dates() -> None:
    tool = difference_tool()
    assert await told(tool, start="2026-11-27", end="2027-01-01") == (
        "From Friday, 2026-11-27 to Friday, 2027-01-01: 35 days (5 weeks and 0 days)"
    )
    assert "-1 days (-0 weeks and 1 days)" in await told(tool, start="2024-03-01", end="2024-02-29")
    with pytest.raises(ToolFailed, match="is no date"):
        await told(tool, start="2026-02-30", end="2026-03-01")
