"""Schemas as tools and programs really have them. Strings have an end, since a random model never finds one."""

from __future__ import annotations

import json
from typing import Any

from jsonschema import Draft202012Validator

__all__ = ["SCHEMAS", "is_valid"]


def _object(**properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _text(most: int = 12, **more: Any) -> dict[str, Any]:
    return {"type": "string", "maxLength": most, **more}


_COUNT = {"type": "integer", "minimum": 0, "maximum": 120}

SCHEMAS: dict[str, dict[str, Any]] = {
    "weather": _object(city=_text(), unit={"enum": ["celsius", "fahrenheit"]}),
    "search": _object(query=_text(20), limit={"type": "integer", "minimum": 1, "maximum": 50}),
    "天气查询": _object(城市=_text(), 日期={"enum": ["今天", "明天", "后天"]}, 详细={"type": "boolean"}),
    "address": _object(
        name=_text(), home=_object(street=_text(), number=_COUNT, geo=_object(lat=_COUNT, lon=_COUNT))
    ),
    "order": _object(
        items={
            "type": "array",
            "minItems": 1,
            "maxItems": 3,
            "items": _object(sku={"type": "string", "pattern": "^[A-Z]{3}-[0-9]{4}$"}, count=_COUNT),
        },
        express={"type": "boolean"},
    ),
    "reminder": _object(
        text=_text(16),
        at={"type": "string", "pattern": "^[0-2][0-9]:[0-5][0-9]$"},
        repeat={"enum": ["once", "daily", None]},
    ),
    "payment": _object(
        to=_text(),
        by={
            "anyOf": [
                _object(kind={"const": "card"}, last4={"type": "string", "pattern": "^[0-9]{4}$"}),
                _object(kind={"const": "转账"}, 账号={"type": "string", "pattern": "^[0-9]{8,12}$"}),
            ]
        },
    ),
    "vote": _object(
        question=_text(), options={"type": "array", "items": _text(6), "minItems": 2, "maxItems": 4}
    ),
    "convert": _object(
        value={"type": "number", "minimum": -273.15, "maximum": 1000},
        source={"enum": ["°C", "°F", "K"]},
        target={"enum": ["°C", "°F", "K"]},
    ),
    "contact": _object(
        id={"type": "string", "format": "uuid"},
        born={"type": "string", "format": "date"},
        phone={"type": ["string", "null"], "maxLength": 9},
    ),
    "tree": {
        "$ref": "#/$defs/node",
        "$defs": {
            "node": _object(值=_COUNT, next={"anyOf": [{"$ref": "#/$defs/leaf"}, {"type": "null"}]}),
            "leaf": _object(值=_COUNT),
        },
    },
    "filter": {
        "type": "object",
        "properties": {"tag": _text(), "数量": _COUNT, "since": {"type": "string", "format": "date-time"}},
        "required": ["tag"],
        "additionalProperties": False,
    },
}


def is_valid(schema: dict[str, Any], written: str) -> bool:
    try:
        found = json.loads(written)
    except ValueError:
        return False
    return Draft202012Validator(schema, format_checker=Draft202012Validator.FORMAT_CHECKER).is_valid(found)
