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
    "command.poll": "ask everybody here to vote",
    "tools.poll.usage": "Usage: /poll QUESTION | OPTION | OPTION …, with 2 to 10 options; /poll 1 ID votes,"
    " /poll ID shows, /poll close ID ends it.",
    "tools.poll.same": "Two of these options are the same.",
    "tools.poll.many": "There are too many polls already; end some with /poll close ID.",
    "tools.poll.unknown": "There is no such poll here.",
    "tools.poll.over": "This poll has ended.",
    "tools.poll.full": "No more votes are counted here.",
    "tools.poll.not_yours": "Whoever began it ends it, or an administrator.",
    "tools.poll.anonymous": "Who speaks in a chat's name has no vote.",
    "tools.poll.refused": "The operator does not allow these words.",
    "tools.poll.title": "📊 {question}",
    "tools.poll.how": "Vote by a button, or /poll NUMBER {id}. /poll {id} shows the votes,"
    " /poll close {id} ends it.",
    "tools.poll.ended": "This poll has ended. ({id})",
    "tools.poll.voted": "You voted for {option}. ({counts})",
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
    "tools.reminders.unknown": "这里没有属于你的提醒 {id}。",
    "command.poll": "请大家投票",
    "tools.poll.usage": "用法：/poll 问题 | 选项 | 选项 ……，选项 2 到 10 个；/poll 1 编号 投票，"
    "/poll 编号 查看，/poll close 编号 结束。",
    "tools.poll.same": "有两个选项是一样的。",
    "tools.poll.many": "投票太多了，请先用 /poll close 编号 结束一些。",
    "tools.poll.unknown": "这里没有这个投票。",
    "tools.poll.over": "这个投票已经结束。",
    "tools.poll.full": "这里不再接受更多的票。",
    "tools.poll.not_yours": "只有发起人或管理员可以结束。",
    "tools.poll.anonymous": "以聊天的名义发言不能投票。",
    "tools.poll.refused": "运维人员不允许这样的内容。",
    "tools.poll.title": "📊 {question}",
    "tools.poll.how": "按按钮投票，或者发送 /poll 序号 {id}。/poll {id} 查看票数，/poll close {id} 结束。",
    "tools.poll.ended": "投票已经结束。（{id}）",
    "tools.poll.voted": "你投给了“{option}”。（{counts}）",
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
