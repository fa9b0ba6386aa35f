"""The bot's own words, in English and Chinese, from en.toml and zh.toml.

settings.zh.toml says in Chinese what each key of the configuration is for.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from functools import cache
from importlib.resources import files

__all__ = ["LANGUAGES", "catalogue", "choose_language", "settings_words", "text"]

LANGUAGES = ("en", "zh")


def choose_language(*wishes: str) -> str:
    """The first of our languages among BCP 47 tags such as "zh-Hans-CN"; English when there is none."""
    for wish in wishes:
        base = wish.replace("_", "-").partition("-")[0].lower()
        if base in LANGUAGES:
            return base
    return LANGUAGES[0]


@cache
def catalogue(language: str) -> dict[str, str]:
    return tomllib.loads((files("glmbot.i18n") / f"{language}.toml").read_text("utf-8"))


@cache
def settings_words(language: str) -> Mapping[str, Mapping[str, str]]:
    """What settings are for, by section and key ("_": the section itself). Nothing in English, which stands in the
    settings models."""
    if language == LANGUAGES[0]:
        return {}
    return tomllib.loads((files("glmbot.i18n") / f"settings.{language}.toml").read_text("utf-8"))


def text(language: str, key: str, **values: object) -> str:
    """The line `key` with its {fields} filled in. Raises KeyError for an unknown key."""
    return catalogue(choose_language(language))[key].format(**values)
