"""Every key of the configuration as a page of the documentation, in both languages, made from the settings models.

`python -m glmbot.config_reference` writes docs/configuration.md and docs/configuration.zh.md of a clone anew.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from glmbot.app import adapter_settings
from glmbot.config.names import unit_of
from glmbot.config.reload import NEED_A_RESTART
from glmbot.config_example import about_key, about_section, default_of, sections

__all__ = ["PAGES", "reference_markdown"]

PAGES = {"en": "configuration.md", "zh": "configuration.zh.md"}
_SIGNS = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}
# A bare address would end in the full stop of its sentence, and brackets would be a link.
_AS_CODE = re.compile(
    r"`[^`]*`|\w[\w+]*://[^\s，。；、)）;\"`]*[\w/]|\[[a-z_.]+\]|\[\"[^\]]*\"\]|[A-Z_]+__[A-Z_]+"
)

_WORDS: dict[str, dict[str, str]] = {
    "en": {
        "title": "Configuration",
        "head": """\
One TOML file, `config.toml` unless `--config` names another. This page has every key; `glmbot init --example`
prints the same as a commented file.

- **Environment.** Each key can also be set in the environment, which wins: `GLMBOT_TELEGRAM__TOKEN` is
  `[telegram] token`. A list is JSON there: `GLMBOT_ACCESS__ADMINS='["telegram:123456789"]'`.
  `GLMBOT_NATIVE` chooses the kernels ([Operator](operator.md)).
- **Platforms.** A platform runs when its section is in the file, or one of its keys in the environment. An empty
  section is enough. A further bot of a platform has a section of its own, `[telegram.NAME]`, and in the
  environment `GLMBOT_TELEGRAM__NAME__TOKEN` ([Several bots](bots.md)).
- **Paths** that are relative count from the folder of the file.
- **Mistakes.** `glmbot check FILE` names all of them, each with its line, its key and the nearest right name.
  `glmbot doctor` also tries what the configuration names: model, store, tokens.
- **Changes** hold after `/reload` or `kill -HUP`, except those of {restart}, which need a restart.

This page is made from the code: `python -m glmbot.config_reference` writes it.
""",
        "columns": "key | type | default | unit | bounds | meaning",
        "str": "text",
        "int": "whole number",
        "float": "number",
        "bool": "true or false",
        "Path": "path",
        "SecretStr": "secret text",
        "list": "list of {}",
        "dict": "table of {}",
        "choice": "one of {}",
        "none": "none",
    },
    "zh": {
        "title": "配置",
        "head": """\
一个 TOML 文件，默认是 `config.toml`，也可以用 `--config` 指定。本页列出全部配置项；
`glmbot init --example --language zh` 会打印一份带中文说明的配置文件。

- **环境变量。** 每一项也可以写在环境变量里，环境变量优先：`GLMBOT_TELEGRAM__TOKEN` 就是
  `[telegram] token`。列表在环境变量里写成 JSON：`GLMBOT_ACCESS__ADMINS='["telegram:123456789"]'`。
  `GLMBOT_NATIVE` 用来选择内核（见[管理](operator.zh.md)）。
- **平台。** 文件里有某个平台的小节，或者环境变量里有它的某一项，它就会运行。空的小节也可以。
  同一平台的另一个机器人另写一节 `[telegram.NAME]`，环境变量是 `GLMBOT_TELEGRAM__NAME__TOKEN`
  （见[多个机器人](bots.zh.md)）。
- **路径。** 相对路径从配置文件所在的文件夹算起。
- **写错了。** `glmbot check FILE` 一次列出所有错误，各带行号、键名和最接近的正确写法。`glmbot doctor` 还会实际检查
  配置里写的模型、存储和令牌。
- **修改。** `/reload` 或 `kill -HUP` 之后生效；{restart} 的修改要重启才生效。

本页由代码生成：`python -m glmbot.config_reference`。
""",
        "columns": "键 | 类型 | 默认 | 单位 | 范围 | 含义",
        "str": "文字",
        "int": "整数",
        "float": "数",
        "bool": "true 或 false",
        "Path": "路径",
        "SecretStr": "保密的文字",
        "list": "{}列表",
        "dict": "由{}组成的表",
        "choice": "{} 之一",
        "none": "无",
    },
}
_UNITS_ZH = {
    "seconds": "秒",
    "minutes": "分钟",
    "GB": "GB",
    "MB": "MB",
    "days": "天",
    "tokens": "token",
    "questions an hour": "个问题/小时",
    "questions": "个问题",
    "turns": "轮",
    "requests": "个请求",
    "answers": "个回答",
    "processes": "个进程",
    "attempts": "次",
    "steps": "步",
    "threads": "个线程",
    "connections": "个连接",
}


def reference_markdown(adapters: Mapping[str, type[BaseModel]], language: str) -> str:
    words = _WORDS[language]
    restart = [f"`[{name}]`" for name in NEED_A_RESTART]
    both = " and " if language == "en" else " 和 "
    listed = both.join(((", " if language == "en" else "、").join(restart[:-1]), restart[-1]))
    parts = [f"# {words['title']}\n\n{words['head'].replace('{restart}', listed)}"]
    for name, model in sections(adapters).items():
        parts.append(f"## [{name}]\n\n{_as_code(about_section(name, model, language))}\n")
        parts.append("\n".join(_table(name, model, language)) + "\n")
    return "\n".join(parts)


def _table(section: str, model: type[BaseModel], language: str) -> Iterator[str]:
    words = _WORDS[language]
    yield f"| {words['columns']} |"
    yield "| --- " * 6 + "|"
    for key, field in model.model_fields.items():
        default = default_of(field)
        unit = unit_of(key) if _numbers(field.annotation) else ""
        cells = [
            f"`{key}`",
            _type(field.annotation, words),
            f"`{default}`" if default else words["none"],
            _UNITS_ZH[unit] if language == "zh" and unit else unit,
            ", ".join(_bounds(field)),
            _as_code(about_key(section, model, key, language)),
        ]
        yield f"| {' | '.join(cell.replace('|', '&#124;') or '–' for cell in cells)} |"


def _type(annotation: Any, words: Mapping[str, str]) -> str:
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _type(inner[0], words)
    if origin is Literal:
        return words["choice"].format(", ".join(f'`"{each}"`' for each in inner))
    if origin is list:
        return words["list"].format(_type(inner[0], words))
    if origin is dict:
        return words["dict"].format(_type(inner[1], words))
    if origin in (Union, UnionType):
        return _type(next(each for each in inner if each is not NoneType), words)
    return words[annotation.__name__]


def _numbers(annotation: Any) -> bool:
    inner = get_args(annotation) or (annotation,)
    return any(each in (int, float) for each in inner)


def _bounds(field: FieldInfo) -> Iterator[str]:
    for bound in field.metadata:
        for name, sign in _SIGNS.items():
            if (value := getattr(bound, name, None)) is not None:
                yield f"{sign} {value:,}"


def _as_code(text: str) -> str:
    """Addresses and names that Markdown would read as something else."""
    text = " ".join(text.split())
    return _AS_CODE.sub(lambda found: found[0] if found[0][0] == "`" else f"`{found[0]}`", text)


def main() -> None:
    docs = Path(__file__).parent.parent / "docs"
    for language, name in PAGES.items():
        (docs / name).write_text(reference_markdown(adapter_settings(), language), "utf-8")


if __name__ == "__main__":
    main()
