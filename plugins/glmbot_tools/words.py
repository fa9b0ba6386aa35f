"""The plug-in's lines. What a model is told stands with its tool, in English."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["EN", "ZH", "line"]

EN: Mapping[str, str] = {
    "command.reminders": "show or cancel reminders",
    "tools.reminder": "⏰ {text}",
    "tools.late_reminder": "⏰ {text}\n(This was due at {when}; the bot was not running then.)",
    "tools.question": "⏰ Asked as planned: {text}",
    "tools.late_question": "⏰ Asked as planned for {when}, when the bot was not running: {text}",
    "tools.reminder_of": "⏰ For {whose}: {text}",
    "tools.late_reminder_of": "⏰ For {whose}: {text}\n(This was due at {when}; the bot was not running then.)",
    "tools.question_of": "⏰ Asked as {whose} planned: {text}",
    "tools.late_question_of": "⏰ Asked as {whose} planned for {when}, when the bot was not running: {text}",
    "tools.reminders.none": "There are no reminders here.",
    "tools.reminders.title": "Reminders here ({zone}):",
    "tools.reminders.line": "{id}: {when}, {repeat}: {text}",
    "tools.reminders.line_of": "{id}: {when}, {repeat}, {whose}: {text}",
    "tools.reminders.how": "/reminders ID cancels one.",
    "tools.reminders.more": "… and {count} more.",
    "tools.reminders.cancelled": "Cancelled: {text}",
    "tools.reminders.unknown": "There is no reminder {id} of yours here.",
    "tools.repeat.never": "once",
    "tools.repeat.hourly": "every hour",
    "tools.repeat.daily": "every day",
    "tools.repeat.weekdays": "Monday to Friday",
    "tools.repeat.weekly": "every week",
    "tools.repeat.monthly": "every month",
    "tools.repeat.yearly": "every year",
}
ZH: Mapping[str, str] = {
    "command.reminders": "查看或取消提醒",
    "tools.reminder": "⏰ {text}",
    "tools.late_reminder": "⏰ {text}\n（本应在 {when} 提醒，当时机器人没有运行。）",
    "tools.question": "⏰ 定时提问：{text}",
    "tools.late_question": "⏰ 定时提问（本应在 {when}，当时机器人没有运行）：{text}",
    "tools.reminder_of": "⏰ 提醒 {whose}：{text}",
    "tools.late_reminder_of": "⏰ 提醒 {whose}：{text}\n（本应在 {when} 提醒，当时机器人没有运行。）",
    "tools.question_of": "⏰ {whose} 的定时提问：{text}",
    "tools.late_question_of": "⏰ {whose} 的定时提问（本应在 {when}，当时机器人没有运行）：{text}",
    "tools.reminders.none": "这里没有提醒。",
    "tools.reminders.title": "这里的提醒（{zone}）：",
    "tools.reminders.line": "{id}：{when}，{repeat}：{text}",
    "tools.reminders.line_of": "{id}：{when}，{repeat}，{whose}：{text}",
    "tools.reminders.how": "用 /reminders 编号 取消一条。",
    "tools.reminders.more": "……还有 {count} 条。",
    "tools.reminders.cancelled": "已取消：{text}",
    "tools.reminders.unknown": "这里没有属于您的提醒 {id}。",
    "tools.repeat.never": "一次",
    "tools.repeat.hourly": "每小时",
    "tools.repeat.daily": "每天",
    "tools.repeat.weekdays": "周一到周五",
    "tools.repeat.weekly": "每周",
    "tools.repeat.monthly": "每月",
    "tools.repeat.yearly": "每年",
}


def line(language: str, key: str, **values: object) -> str:
    return (ZH if language == "zh" else EN)[key].format(**values)
