"""What QQ's refusals mean.

https://bot.q.qq.com/wiki/develop/api-v2/dev-prepare/api-call-guide.html, and the lists at
https://bot.q.qq.com/wiki/develop/api-v2/autogen/api/v2_groups_group_openid_messages.post.html and
v2_users_user_openid_messages.post.html (September 2026). What is not known here means no more than that this
request was refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from glmbot.delivery.outlet import Closed, Flooded, Gone, NotWritten, Refused, Unreachable, refused_by_page
from glmbot.http.fields import Fields

__all__ = [
    "ADDRESS_REFUSED",
    "BUTTONS_REFUSED",
    "DOUBLED",
    "ENDED",
    "IN_AUDIT",
    "MARKDOWN_REFUSED",
    "NOT_FROM_HERE",
    "TOKEN_ENDED",
    "WRONG_APP",
    "Coded",
    "codes_of",
    "refused",
]

# 304026, 304027 回复的消息 id 错误, 过期; 304103, 40034005 消息 ID 已过期; 40034024 to 40034027 msg_id 或
# event_id 无效、已过期、不支持; 40034128 被动回复时间或次数超限.
ENDED = frozenset({304026, 304027, 304103, 40034005, 40034024, 40034025, 40034026, 40034027, 40034128})
# 消息被去重: a message with this msg_id and msg_seq was taken before.
DOUBLED = frozenset({40054005})
# URL_NOT_ALLOWED url 未报备; 不允许发送 URL.
ADDRESS_REFUSED = frozenset({304003, 40054010})
# 304036, 40034127 没有 markdown 模板的权限; 40034008 to 40034011, 40034124 参数错误; the others are of guilds.
MARKDOWN_REFUSED = frozenset(
    {304036, 40034127, 40034008, 40034009, 40034010, 40034011, 40034124, 50041, 50042, 50055, 50056}
)
# 304037 没有发消息按钮组件的权限, 304038 to 304040 组件错误, 304062 按钮数量, 305007 键盘样式, 40034029 行/列超限,
# 40034106 to 40034109 指令错误.
BUTTONS_REFUSED = frozenset(
    {304037, 304038, 304039, 304040, 304062, 305007, 40034029, 40034106, 40034108, 40034109}
)
# Taken, and seen once somebody has looked at it.
IN_AUDIT = frozenset({304023, 304024})
# 11241, 11243 token 错误.
TOKEN_ENDED = frozenset({11241, 11243})
# Of the access token's interface: 100007 appid invalid, 100016 invalid appid or secret, 10004 机器人不存在.
WRONG_APP = frozenset({100007, 100016, 10004})
# 接口访问源 IP 不在白名单.
NOT_FROM_HERE = frozenset({11298, 40023002})

_KNOWN: Mapping[type[NotWritten], frozenset[int]] = {
    # 消息发送超频, 子频道消息触发限频, 消息被限频, 触发频道内限频, 频率限制, Too many requests.
    Flooded: frozenset({22009, 20028, 1100100, 1100308, 50002, 100001}),
    # 系统错误，一般重试一次会好; 机器人没连上 gateway; 消息发送异常，请稍后重试.
    Unreachable: frozenset(
        {11252, 11242, 11263, 11281, 304016, 304018, 40054006, 50055001, 50055002, 50055006, 50001, 1100300}
    ),
    # 机器人被禁言; 不允许在此(子)频道发消息; 私信已关闭; 用户拒收消息.
    Closed: frozenset({40054002, 304046, 304048, 304031, 40054013}),
    # 机器人不是群成员; 无好友关系; 该群已失效; 子频道、频道异常; 私信不存在; 机器人不在频道内.
    Gone: frozenset({40034101, 40054003, 40054004, 1100104, 10003, 304032, 304034, 610007}),
}
# Some come with a status as if QQ had failed.
_SURE = ENDED | DOUBLED | ADDRESS_REFUSED | MARKDOWN_REFUSED | BUTTONS_REFUSED
_WAIT_S = 1.0


class Coded(Refused):
    """`codes` are for the outlet, which may do without the part that was refused."""

    def __init__(self, words: str, codes: Sequence[int]) -> None:
        super().__init__(words)
        self.codes = frozenset(codes)


def codes_of(found: Fields) -> Sequence[int]:
    """None for a success. Some answers have two."""
    given = [found.get(name) for name in ("err_code", "code")]
    return [code for code in given if type(code) is int and code != 0]


def refused(status: int, found: Fields, trace: str) -> NotWritten:
    """trace: QQ's own name of the request, which its support asks for."""
    codes = codes_of(found)
    said = f"QQ: {' '.join(map(str, codes)) or status} {_words(found)}{_traced(trace)}".strip()
    if NOT_FROM_HERE.intersection(codes):
        return Unreachable(f"{said}; this machine's address is not in the bot's IP allow-list")
    for meaning, known in _KNOWN.items():
        if known.intersection(codes):
            return Flooded(_WAIT_S) if meaning is Flooded else meaning(said)
    if status == 429:
        return Flooded(_WAIT_S)
    if not codes:
        return refused_by_page(status, said)
    if TOKEN_ENDED.intersection(codes) or (status >= 500 and not _SURE.intersection(codes)):
        return Unreachable(said)
    return Coded(said, codes)


def _words(found: Fields) -> str:
    words = found.get("message")
    return " ".join(words.split())[:200] if isinstance(words, str) else ""


def _traced(trace: str) -> str:
    return f" (trace {trace})" if trace.isalnum() and len(trace) <= 64 else ""
