"""Which of a model's addresses may become links."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glmbot.delivery.markdown import may_link


@pytest.mark.parametrize(
    "address",
    ["https://e.org", "http://e.org:8080/a?b=c#d", "HTTPS://E.ORG/", "https://[2001:db8::1]/", "https://例え.jp/パス",
     "https://xn--r8jz45g.jp/%E3%83%91", "http://localhost", "https://e.org/a@b", "https://t.me/someone",
     "mailto:somebody+glm@e.org"],
)  # fmt: skip
def test_links_of_the_web_and_of_mail_stay_links(address: str) -> None:
    assert may_link(address)


@pytest.mark.parametrize(
    "address",
    ["", "e.org", "//e.org/a", "/a", "#a", "tg://user?id=7", "TG://user?id=7", "tg:user?id=7", "ton://x", "tonsite://x.ton",
     "javascript:alert(1)", "java\nscript:alert(1)", " javascript:alert(1)", "vbscript:x", "data:text/html,x",
     "file:///etc/passwd", "blob:https://e.org/1", "view-source:https://e.org", "discord://-/channels/1", "ftp://e.org",
     "intent://x#Intent;scheme=http;end", "ms-settings:", "https:e.org", "https:/e.org", "https:///e.org", "https://",
     "https://bank.com@other.org", "https://bank.com:443@other.org/", "https://bank.com%40other.org",
     "https://bank.com\\@other.org", "https:\\\\other.org", "https://e.org\\..\\x", "https://e.org/a b", "https://e.org/\x00",
     "https://e.org/\r\nSet-Cookie:x", "\x01https://e.org", "https://e.org/\u202egpj.exe", "https://e\u200b.org",
     "https://e.org/\ud800", "https://[::1", "https://e.org:99999999", "https://e..org", "https://e.org/" + "a" * 5000,
     "mailto:", "mailto:a@e.org?bcc=b@e.org", "mailto:a@e.org,b@e.org", "mailto:a%0ab@e.org", "https://e.org/<b>"],
)  # fmt: skip
def test_everything_else_stays_text(address: str) -> None:
    assert not may_link(address)


@given(st.text() | st.from_regex(r"[a-z]{1,9}:[/\\@a-z.]*[^x]*", fullmatch=True))
def test_no_other_scheme_whatever_the_address(address: str) -> None:
    if may_link(address):
        parts = urlsplit(address)
        assert parts.scheme in ("http", "https", "mailto")
        assert "@" not in parts.netloc
        assert parts.scheme == "mailto" or parts.hostname
