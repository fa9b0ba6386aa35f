"""A valid example of any pydantic model, with every field in it: a new field is tried without being named here."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

__all__ = ["example_of"]

# What a pattern asks for can't be made up.
_OF_PATTERN = {r"^[A-Za-z0-9-]{8,64}$": "message-1", r"^/[a-z]": "/status"}


def example_of(model: type[BaseModel], **fields: Any) -> Any:
    """`fields`: what no schema says. Raises ValidationError when the schema has grown beyond what is known here."""
    schema = model.model_json_schema(by_alias=True)
    example = {**_example(schema, schema.get("$defs", {})), **fields}
    model.model_validate(example)
    return example


def _example(schema: dict[str, Any], defined: dict[str, Any]) -> Any:
    if "$ref" in schema:
        return _example(defined[schema["$ref"].rpartition("/")[2]], defined)
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return schema["enum"][-1]
    for several in ("anyOf", "oneOf", "allOf"):
        if several in schema:
            # The widest alternative has the most places.
            made = [_example(each, defined) for each in schema[several] if each.get("type") != "null"]
            return max(made, key=lambda each: len(str(each)) if isinstance(each, dict | list) else 0)
    match schema.get("type"):
        case "object":
            return {name: _example(each, defined) for name, each in schema.get("properties", {}).items()}
        case "array" if "prefixItems" in schema:
            return [_example(each, defined) for each in schema["prefixItems"]]
        case "array":
            return [] if schema.get("maxItems") == 0 else [_example(schema.get("items", {}), defined)]
        case "integer":
            return int(max(schema.get("minimum", 1), schema.get("exclusiveMinimum", 0) + 1))
        case "number":
            most = schema.get("maximum", schema.get("exclusiveMaximum", 1))
            return (schema.get("minimum", schema.get("exclusiveMinimum", 0)) + most) / 2
        case "boolean":
            return True
        case "null":
            return None
        case "string":
            text = _OF_PATTERN.get(schema.get("pattern", ""), "hello")
            return text[: schema.get("maxLength", len(text))]
        case _:
            return "x"
