"""The tool `convert_units`, over pint: lengths, masses, temperatures, data and all that pint knows. No money.

A unit is words, *, / and powers of one digit, and is looked at before pint sees it: pint calculates what it is
given, towers of powers included. Its tables take a third of a second to read and it keeps every unit that it is
asked about, so it is read away from the event loop, and anew after many questions.
"""

from __future__ import annotations

import asyncio
import math
import re
from threading import Lock
from typing import Any

import pint

from glmbot.host import Nature, Tool, ToolFailed, ToolUse

__all__ = ["TOOL", "CantConvert", "Units"]

_LONGEST = 60
_MOST_FACTORS = 8
_MOST_KEPT = 2000
_WORD = r"[^\W\d_]+(?:_[^\W\d_]+)*"
_UNIT = re.compile(rf"(?:1/)?{_WORD}(?:(?:\*\*|\^)-?[1-9])?(?:[*/ ]{_WORD}(?:(?:\*\*|\^)-?[1-9])?)*")
_SIGNS = str.maketrans(
    {"·": "*", "⋅": "*", "×": "*", "²": "^2", "³": "^3", "µ": "u", "μ": "u", "℃": "degC", "℉": "degF"}
)
# What models write, and people's Chinese names, as pint has them. Traditional units are those of the mainland.
_NAMES = {
    "°c": "degC", "°f": "degF", "°k": "kelvin", "c": "degC", "f": "degF", "centigrade": "degC",
    "kph": "km/h", "kmh": "km/h", "kmph": "km/h", "sqm": "m^2", "sqft": "ft^2", "sq ft": "ft^2",
    "sq m": "m^2", "米": "m", "公里": "km", "千米": "km", "厘米": "cm", "毫米": "mm", "英里": "mile",
    "英尺": "foot", "英寸": "inch", "码": "yard", "海里": "nautical_mile", "克": "g", "千克": "kg",
    "公斤": "kg", "吨": "metric_ton", "磅": "pound", "盎司": "ounce", "升": "liter", "毫升": "ml",
    "加仑": "gallon", "秒": "second", "分钟": "minute", "小时": "hour", "天": "day", "周": "week",
    "年": "year", "摄氏度": "degC", "华氏度": "degF", "开尔文": "kelvin", "度": "degree", "平方米": "m^2",
    "平方公里": "km^2", "公顷": "hectare", "英亩": "acre", "立方米": "m^3", "千瓦": "kW", "瓦": "W",
    "千瓦时": "kWh", "焦耳": "J", "卡路里": "cal", "千卡": "kcal", "大卡": "kcal", "帕": "Pa",
    "马力": "metric_horsepower", "公里/小时": "km/h", "米/秒": "m/s", "斤": "jin", "市斤": "jin",
    "两": "liang", "亩": "mu_area", "里": "li_length", "市里": "li_length", "尺": "chi", "市尺": "chi",
    "寸": "cun",
}  # fmt: skip
_DEFINED = (
    "jin = 500 * gram",
    "liang = 50 * gram",
    "mu_area = 2000 / 3 * meter ** 2",
    "li_length = 500 * meter",
    "chi = meter / 3",
    "cun = meter / 30",
)


class CantConvert(ValueError):
    """Its words are for whoever asked."""


class Units:
    """May be used by several threads, one at a time."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._registry: Any = None
        self._asked = 0

    def converted(self, value: float, source: str, target: str) -> str:
        """Raises CantConvert."""
        if not math.isfinite(value) or abs(value) > 1e100:
            raise CantConvert("the value is a number of at most 1e100")
        before, after = _as_pint_has_it(source), _as_pint_has_it(target)
        with self._lock:
            registry = self._loaded()
            try:
                found = registry.Quantity(value, _parsed(registry, before)).to(_parsed(registry, after))
                magnitude = float(found.magnitude)
            except pint.UndefinedUnitError as error:
                raise CantConvert(f"no such unit: {error.unit_names}") from error
            except pint.DimensionalityError as error:
                raise CantConvert(
                    f"{source} can't be converted to {target}: they measure different things"
                ) from error
            except (
                pint.PintError,
                ValueError,
                TypeError,
                ArithmeticError,
                AttributeError,
                KeyError,
            ) as error:
                raise CantConvert("these units can't be converted; write them like km/h or kg*m^2") from error
        if not math.isfinite(magnitude):
            raise CantConvert("the result is too large")
        return f"{value:.12g} {source} = {magnitude:.10g} {target}"

    def _loaded(self) -> Any:
        self._asked += 1
        if self._registry is None or self._asked > _MOST_KEPT:
            self._registry = pint.UnitRegistry(cache_folder=None)
            for line in _DEFINED:
                self._registry.define(line)
            self._asked = 0
        return self._registry


def _parsed(registry: Any, unit: str) -> Any:
    """Case tells mPa from MPa, so small letters are tried only where there is no such unit."""
    try:
        return registry.parse_units(unit)
    except pint.UndefinedUnitError:
        return registry.parse_units(unit.lower())


def _as_pint_has_it(written: str) -> str:
    """Raises CantConvert."""
    if len(written) > _LONGEST:
        raise CantConvert(f"a unit has at most {_LONGEST} characters")
    plain = written.strip().translate(_SIGNS)
    plain = _NAMES.get(plain.lower(), plain).removeprefix("degrees ").removeprefix("degree ")
    plain = _NAMES.get(plain.lower(), plain)
    if not _UNIT.fullmatch(plain) or len(re.findall(_WORD, plain)) > _MOST_FACTORS:
        raise CantConvert(f"{written!r} is no unit; write it like km, km/h or kg*m^2")
    return plain


_units = Units()


async def _convert(use: ToolUse) -> str:
    arguments = use.arguments
    try:
        value = float(arguments["value"])
        return await asyncio.to_thread(
            _units.converted, value, str(arguments["from_unit"]), str(arguments["to_unit"])
        )
    except (CantConvert, OverflowError) as error:
        raise ToolFailed(str(error)) from error


TOOL = Tool(
    "convert_units",
    "Converts a value between units of measurement: length, mass, temperature, speed, volume, data and so on."
    " It knows no currencies.",
    {
        "type": "object",
        "properties": {
            "value": {"type": "number"},
            "from_unit": {
                "type": "string",
                "maxLength": _LONGEST,
                "description": "For example mile, degF, km/h",
            },
            "to_unit": {"type": "string", "maxLength": _LONGEST},
        },
        "required": ["value", "from_unit", "to_unit"],
        "additionalProperties": False,
    },
    _convert,
    Nature.PURE,
    timeout_s=10.0,
    title={"en": "Unit conversion", "zh": "单位换算"},
)
