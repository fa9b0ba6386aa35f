"""The XML that WeCom posts and is answered with: one element with one level of fields. Pure.

What comes is read without entities, document types or anything from elsewhere, and only so deep.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from xml.sax.saxutils import escape

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import ParseError, fromstring

__all__ = ["fields_in", "written"]

_MOST_FIELDS = 100
# https://www.w3.org/TR/xml/#charsets
_NO_CHARACTERS = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def fields_in(xml: bytes) -> Mapping[str, str]:
    """The fields that are words, by their names; "" for those that have fields of their own. Raises ValueError."""
    try:
        root: Any = fromstring(xml, forbid_dtd=True)
    except (ParseError, DefusedXmlException, UnicodeError, LookupError) as error:
        raise ValueError("not the XML that WeCom sends") from error
    if root.tag != "xml" or len(root) > _MOST_FIELDS:
        raise ValueError("not the XML that WeCom sends")
    return {str(each.tag): str(each.text or "") for each in root}


def written(fields: Mapping[str, str | int]) -> str:
    """What XML has no signs for is left out."""
    inside = "".join(
        f"<{name}>{escape(_NO_CHARACTERS.sub('', str(value)))}</{name}>" for name, value in fields.items()
    )
    return f"<xml>{inside}</xml>"
