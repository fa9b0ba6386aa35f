"""Which of a model's addresses may become links, and that no Markdown takes long to read."""

from __future__ import annotations

import time
from collections.abc import Callable
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glmbot.delivery.code_files import code_files
from glmbot.delivery.markdown import make_parser, may_link
from glmbot.delivery.split import split_markdown, utf16_length
from glmbot_telegram.render import fits


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
     "https://e.org/\ud800", "https://[::1", "https://e.org:99999999", "https://e.org:65536", "https://e.org:0/", "https://e..org", "https://e.org/" + "a" * 5000,
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


HOSTILE: dict[str, Callable[[int], str]] = {
    "open brackets": lambda n: "\\[" * (n // 2),
    "open parentheses": lambda n: "\\(" * (n // 2),
    "open parentheses in lines": lambda n: "\\(\n" * (n // 3) + "\\)",
    "brackets and code": lambda n: "\\[ `a` " * (n // 7),
    "ever longer ticks": lambda n: "\\[" + "a".join("`" * i for i in range(1, int((2 * n) ** 0.5))),
    "ticks": lambda n: "\\[" + "`a" * (n // 2),
    "fences": lambda n: "\\[\n" + "```a\n" * (n // 5),
    "one endless fence": lambda n: "~" * n,
    "an endless fence and lines": lambda n: "`" * (n // 2) + "\n" + "a\n" * (n // 4),
    "square brackets": lambda n: "[" * n,
    "images": lambda n: "![[" * (n // 3),
    "references": lambda n: "[a]: " * (n // 5),
    "stars": lambda n: "**a *b " * (n // 7),
    "strikes": lambda n: "~~a" * (n // 3),
    "quotes": lambda n: "\n".join(">" * i + " a" for i in range(1, int((2 * n) ** 0.5))),
    "headings": lambda n: "# a\n" * (n // 4),
    "a wide table": lambda n: "|".join("a" * (n // 4)) + "\n" + "|".join("-" * (n // 4)) + "\n",
    "dollars": lambda n: "$a " * (n // 3),
    "markup": lambda n: "<![CDATA[" * (n // 9),
    "accents": lambda n: "a" + "\u0301" * n,
}


def spent(work: Callable[[], object]) -> float:
    """Seconds of processor time, the better of two."""
    times: list[float] = []
    for _ in range(2):
        began = time.process_time()
        work()
        times.append(time.process_time() - began)
    return min(times)


@pytest.mark.parametrize("name", HOSTILE)
def test_no_markdown_takes_more_than_its_length_to_read(name: str) -> None:
    """Four times as long may take eight times as long, not sixteen or more."""
    parser = make_parser()

    def cut(text: str) -> None:
        split_markdown(text, 3600, utf16_length, fits)

    for work in (parser.parse, cut, code_files):
        short, long = HOSTILE[name](2_000), HOSTILE[name](8_000)
        fits.cache_clear()
        before = spent(lambda work=work, text=short: work(text))
        fits.cache_clear()
        after = spent(lambda work=work, text=long: work(text))
        assert after < 8 * before + 0.15, f"{work}: {before:.3f} s, then {after:.3f} s"


def test_forty_kilobytes_of_open_brackets_are_read_at_once() -> None:
    assert spent(lambda: make_parser().parse("\\[" * 20_000)) < 0.5
