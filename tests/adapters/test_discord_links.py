"""Which of a model's addresses are links in Discord's client: those of the web and of mail."""

from __future__ import annotations

import re

import pytest

from glmbot_discord.render import render


@pytest.mark.parametrize(
    "scheme", ["tg", "discord", "steam", "javascript", "data", "file", "tel", "ftp", "x-y.z"]
)
@pytest.mark.parametrize(
    "form",
    [
        "[x]({0})", "[x]( {0})", "[x](<{0}>)", '[x]({0} "title")', "[x]\n({0})", "![x]({0})", "<{0}>", "see {0}.",
        "~~~\n[x]({0})\n~~~", "    [x]({0})", "[a]: {0}\n\n[a]", "\\`[x]({0})\\`", "**[x]({0})**", "- > [x]({0})",
        "`a`[x]({0})`b`", "``` ```{0}``` ```",
    ],
)  # fmt: skip
def test_no_address_of_another_scheme_is_a_link_on_discord(scheme: str, form: str) -> None:
    address = f"{scheme}://host/path"
    content = render(form.format(address))
    outside = re.sub(r"```.*?```|(?<![\\`])(`+)(?!`).*?(?<!`)\1(?!`)", "", content, flags=re.DOTALL)
    assert address not in outside
    # And with its slashes escaped, which Discord's client undoes in a link.
    assert "](" not in render(f"[x]({scheme}\\:\\/\\/host)")


@pytest.mark.parametrize(
    "text",
    [
        "[x](https://ok.org/a_(b))", "<https://ok.org>", "see https://ok.org/x, and http://a.b", "[x](mailto:a@b.org)",
        "`[x](tg://a)`", "```\n[x](tg://a)\n```", "vector<std::string> a:b x::y", "<t:123:R> <a:x:1> <@1> </ask:1>",
        "[x](file.md)", "f(x) and [1] (see below)", "[x](HTTPS://OK.ORG)",
    ],
)  # fmt: skip
def test_what_may_be_a_link_and_what_is_none_stays_as_it_is_on_discord(text: str) -> None:
    assert render(text) == text


def test_a_name_that_looks_like_a_host_is_no_link_on_discord() -> None:
    assert "](" not in render("[x](https://bank.com@evil.org)")
