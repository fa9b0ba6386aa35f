"""Kinds of text that were read as something else, each with what it means."""

from __future__ import annotations

import pytest

from delivery.shown import cut_for
from glmbot.delivery.markdown import make_parser
from glmbot_discord.delivery import ChannelOutlet
from glmbot_discord.render import render as to_discord
from glmbot_telegram.delivery import TelegramOutlet
from glmbot_telegram.render import render as to_telegram
from glmbot_web.render import to_html

PARSER = make_parser()


def emphasised(markdown: str) -> list[tuple[str, str]]:
    """Each emphasis with its words."""
    found: list[tuple[str, str]] = []
    (inline,) = [token for token in PARSER.parse(markdown) if token.type == "inline"]
    opened: list[str] = []
    for token in inline.children or []:
        if token.type in ("strong_open", "em_open", "s_open"):
            opened.append("")
        elif token.type in ("strong_close", "em_close", "s_close"):
            found.append((token.tag, opened.pop()))
        else:
            opened = [each + token.content for each in opened]
    return found


def mathematics(markdown: str) -> list[str]:
    tokens = [child for token in PARSER.parse(markdown) for child in (token, *(token.children or []))]
    return [token.content.strip() for token in tokens if token.type.startswith("math")]


@pytest.mark.parametrize(
    ("markdown", "expected"),
    [
        ("**注意：**请先备份。", [("strong", "注意：")]),
        ("**注意：**Please", [("strong", "注意：")]),
        ("这是**“重点”**内容。", [("strong", "“重点”")]),
        ("用**函数（function）**来做，*斜体。*再", [("strong", "函数（function）"), ("em", "斜体。")]),
        ("**「重要」**です", [("strong", "「重要」")]),
        ("**(중요)**입니다", [("strong", "(중요)")]),
        ("و**«كلمة»**", [("strong", "«كلمة»")]),
        ("~~旧的。~~新的", [("s", "旧的。")]),
        ("__注意：__请", [("strong", "注意：")]),
        ("共**3**个，**2024**年，**100**km，**LLM**s", [("strong", "3"), ("strong", "2024"), ("strong", "100"), ("strong", "LLM")]),
        ("这是*重点*内容", [("em", "重点")]),
        ("2*3*4 = 24, 5! = 5*4*3*2*1, 2*pi*r", []),
        ("(a+b)*(c+d)*(e+f), x[0]*y[1]*z, f(x)*g(x)*h, √2*√3*5", []),
        ("2**10 and 2**20, x**2 + y**2", []),
        ("面积 = 长*宽*高", []),
        ("COUNT(*), SUM(*)", []),
        ("src/*/test/*, **/*.py and lib/**/x", []),
        ("*x = 2*3*", [("em", "x = 2*3")]),
        ("rm *.txt *.*, a.*, b.* and (.*)x(.*)", []),
        ('"*" and "*", （*）和（*）', []),
        ("A*算法和D*算法", []),
        ("*It leans.* And", [("em", "It leans.")]),
        ("是**`code`**吗，**[x](http://a.b)**是，***重要！***请", [("strong", "code"), ("strong", "x"), ("strong", "重要！"), ("em", "重要！")]),
        ("https://e.org/__init__.py and www.e.org/_next/_x_/a", []),
        ("lib/__init__.py, __init__ and __main__.py", []),
        ("**https://e.org/_a_**：说明", [("strong", "https://e.org/_a_")]),
        ("合同_（修订）_终稿, 报告_2024_最终.docx", []),
    ],
)  # fmt: skip
def test_what_is_emphasis_and_what_is_a_sign_of_the_text(
    markdown: str, expected: list[tuple[str, str]]
) -> None:
    assert emphasised(markdown) == expected


@pytest.mark.parametrize(
    ("markdown", "expected"),
    [
        ("$$\na &= b \\\\[2pt] c &= d\n$$\n\nand \\[ e=f \\] then", ["a &= b \\\\[2pt] c &= d", "e=f"]),
        ("\\[\n\\begin{pmatrix} a \\\\[4pt] c \\end{pmatrix}\n\\]", ["\\begin{pmatrix} a \\\\[4pt] c \\end{pmatrix}"]),
        ("text\n\\[\nx_1*y\n\\]\nmore", ["x_1*y"]),
        ("1. Solve:\n\n   $$\n   a_1*b = 2\n   $$", ["a_1*b = 2"]),
        ("> \\[\n> x_1*y\n> \\]", ["x_1*y"]),
        ("$$x$$ and \\[E=mc^2\\] and $n$th, $x$-axis, $\\alpha$是", ["x", "E=mc^2", "n", "x", "\\alpha"]),
        ("\\(a_b\\), \\(ABC\\), $f(x) = \\text{if a then b}$", ["a_b", "ABC", "f(x) = \\text{if a then b}"]),
        ("\\[1\\] \\[WARNING\\] \\[see below\\] \\[x\\] \\[ \\] \\[a\\](http://a.b) \\(optional\\)", []),
        ("$DONE/$TOTAL, $BTC/$ETH, $A:$B, ${A}/${B}, $HOME and $PATH, \"$HOME\"/\"$USER\"", []),
        ("from $5 to $10, US$5 and US$7, $5 (or A$ 8), echo $$ and $$, Outer$Inner$1", []),
        ("`\\(x\\)` and `$x$`", []),
        ("\\[a-z\\] \\[y/N\\] \\[2023-01-01\\] \\[1, 2\\] \\[Alt+F4\\] \\[my_name\\]", []),
        ("https://e.org/$a$/b", []),
        ("\\begin{align}\na &= b \\\\[2pt]\nc_1 &= d\n\\end{align}", ["\\begin{align}\na &= b \\\\[2pt]\nc_1 &= d\n\\end{align}"]),
    ],
)  # fmt: skip
def test_what_is_mathematics_and_what_only_has_its_signs(markdown: str, expected: list[str]) -> None:
    assert mathematics(markdown) == expected


@pytest.mark.parametrize("wrap", ["{0}", "> {0}", "- {0}"])
@pytest.mark.parametrize(
    ("markdown", "wanted"),
    [
        ("| a |\n|---|\n| 1 | excess |", "excess"),
        ("| [docs](https://e.org/d) | b |\n|---|---|\n| 1 | 2 |", "https://e.org/d"),
        ("[1]: https://e.org/x 'Title'", "Title"),
        ("```python app.py\nx\n```", "app.py"),
        ("[file](docs/a.md)", "docs/a.md"),
        ("[x](http://localhost:8080)", "http://localhost:8080"),
        ("10. a\n9. b\n8. c", "8"),
        ("| a |\n|---|\n| one<br>two |", "two"),
    ],
)
def test_lines_cells_and_addresses_that_a_platform_has_no_place_for_are_said(
    markdown: str, wanted: str, wrap: str
) -> None:
    first, *rest = markdown.split("\n")
    inside = "\n".join(
        [
            wrap.format(first),
            *(("> " if wrap[0] == ">" else "  " if wrap[0] == "-" else "") + line for line in rest),
        ]
    )
    text, entities = to_telegram(inside)
    assert wanted in text or any(entity.url == wanted for entity in entities)
    assert wanted in to_discord(inside)
    assert wanted in to_html(inside)


@pytest.mark.parametrize(
    ("markdown", "expected"),
    [
        ("1. See:\n\n   | a | b |\n   |---|---|\n   | 1 | 2 |\n2. Done", "1. See:\n\n```\na | b\n--+--\n1 | 2\n```\n2. Done"),
        ("> | a |\n> |---|\n> | 1 |", "> ```\n> a\n> -\n> 1\n> ```"),
        ("1. x\n\n   $$\n   a_1*b\n   $$", "1. x\n\n```latex\na_1*b\n```"),
        ("~~~python\n__init__ = **x**\n~~~", "```python\n__init__ = **x**\n```"),
        ("````markdown\n```js\n1\n```\n````", "```markdown\n``\u200b`js\n1\n``\u200b`\n```"),
        ("a:\n\n    def f(**kw):", "a:\n\n```\ndef f(**kw):\n```"),
        ("a &lt;T&gt; &amp; b&nbsp;c", "a <T> & b\u00a0c"),
        ("2*3*4 and __init__ and snake_case, a ~~ b", "2\\*3\\*4 and \\_\\_init\\_\\_ and snake_case, a \\~\\~ b"),
        ("https://e.org/__init__/*a*", "https://e.org/__init__/*a*"),
        ("\\# no\n\\- no\n1\\. no\n\\> no", "\\# no\n\\- no\n1\\. no\n\\> no"),
        ("[https://e.org](https://e.org) **a *b***", "https://e.org **a *b***"),
        ("Head\n====\n\n- a\n  - b\n    1. c", "# Head\n\n- a\n  - b\n    1. c"),
        ("> a\n>\n> - b\n>   > c", "> a\n> \n> - b\n>   > c"),
    ],
)  # fmt: skip
def test_discords_own_dialect_wherever_a_construct_stands(markdown: str, expected: str) -> None:
    assert to_discord(markdown) == expected


TABLE = "| name | n |\n|---|---|\n" + "\n".join(f"| item {number} | {number} |" for number in range(400))
CODE = [f"print('line number {number}', value_{number})" for number in range(110)]


def nested(indent: str, head: str) -> str:
    return head + "\n".join(indent + line for line in ["```python", *CODE, "```"]) + "\n\nDone."


@pytest.mark.parametrize("outlet", [TelegramOutlet, ChannelOutlet])
@pytest.mark.parametrize("wrap", ["", "> ", "   "])
def test_a_table_goes_on_as_a_table_after_a_cut(
    outlet: type[TelegramOutlet | ChannelOutlet], wrap: str
) -> None:
    lines = "\n".join(wrap + line for line in TABLE.split("\n"))
    pieces = cut_for(outlet, "1. See:\n\n" + lines if wrap == "   " else lines)
    assert len(pieces) > 1
    for piece in pieces:
        text, entities = to_telegram(piece)
        assert "|---|" not in text
        assert "pre" in [str(entity.type) for entity in entities]
        assert "name" in text


@pytest.mark.parametrize("outlet", [TelegramOutlet, ChannelOutlet])
@pytest.mark.parametrize(
    "markdown",
    [nested("     ", "1. Install\n   - Run:\n\n"), nested("    ", "10. Run:\n\n"), nested("> ", ""), nested("> > ", ""),
     nested(">   ", "> - x:\n>\n"), nested("", "")],
)  # fmt: skip
def test_code_goes_on_as_code_after_a_cut(
    outlet: type[TelegramOutlet | ChannelOutlet], markdown: str
) -> None:
    pieces = cut_for(outlet, markdown)
    assert len(pieces) > 1
    told: list[str] = []
    for piece in pieces:
        (code,) = [token.content for token in PARSER.parse(piece) if token.type == "fence"]
        told += code.rstrip("\n").split("\n")
    assert told == CODE


@pytest.mark.parametrize("one", ["👍🏽", "🇨🇳", "1️⃣", "กำ", "कि", "क्षि", "👨‍👩‍👧", "e\u0301", "각"])
def test_no_cut_is_inside_of_a_grapheme(one: str) -> None:
    for shift in range(7):
        for outlet in (TelegramOutlet, ChannelOutlet):
            pieces = cut_for(outlet, "x" * shift + one * 2000)
            assert all(piece.startswith(one) and piece.endswith(one) for piece in pieces[1:])


@pytest.mark.parametrize(
    "markdown",
    [
        ">" * 200 + " deep",
        "- " * 150 + "deep",
        "\n".join("  " * level + f"- w{level}" for level in range(99)),
    ],
)
def test_nothing_is_too_deep_to_be_said(markdown: str) -> None:
    last = markdown.split()[-1]
    for shown in (to_telegram(markdown)[0], to_discord(markdown), to_html(markdown)):
        assert last in shown


def test_paths_keep_their_backslashes() -> None:
    for path in ("C:\\_new\\_old\\*x", "D:\\a\\[b]\\"):
        assert to_telegram(f"see {path}\nnext")[0] == f"see {path}\nnext"
    assert to_telegram("snake\\_case")[0] == "snake_case"


def test_tabs_of_code_are_seen_on_telegram() -> None:
    assert to_telegram("```go\nfunc f() {\n\treturn\n}\n```")[0] == "func f() {\n    return\n}"


def test_columns_are_aligned_as_the_table_says() -> None:
    table = "| item | price |\n|:---|---:|\n| tea | 5 |\n| coffee | 12 |"
    assert to_telegram(table)[0] == "item   | price\n-------+------\ntea    |     5\ncoffee |    12"
