"""No element and no attribute that a browser knows comes out of an answer, whatever macro of LaTeX it stands in."""

from __future__ import annotations

import time
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glmbot_web.render import to_html


def _words(text: str) -> list[str]:
    return text.split()


# https://html.spec.whatwg.org/multipage/indices.html, https://www.w3.org/TR/SVG2/eltindex.html and MathML 3.
ELEMENTS = _words("""
a abbr acronym address applet area article aside audio b base basefont bdi bdo bgsound big blink blockquote body br button
canvas caption center cite code col colgroup command content data datalist dd del details dfn dialog dir div dl dt element em
embed fencedframe fieldset figcaption figure font footer form frame frameset h1 h2 h3 h4 h5 h6 head header hgroup hr html i
iframe image img input ins isindex kbd keygen label legend li link listing main map mark marquee math menu menuitem meta
meter multicol nav nextid nobr noembed noframes noscript object ol optgroup option output p param picture plaintext portal
pre progress q rb rbc rp rt rtc ruby s samp script search section select shadow slot small source spacer span strike strong
style sub summary sup svg table tbody td template textarea tfoot th thead time title tr track tt u ul var video wbr xmp
animate animateMotion animateTransform circle clipPath defs desc discard ellipse feImage filter foreignObject g handler
linearGradient line marker mask metadata mpath path pattern polygon polyline radialGradient rect set stop switch symbol text
textPath tspan use view annotation annotation-xml maction malignmark merror mglyph mlabeledtr mmultiscripts ms mscarries
semantics none mprescripts x-custom
""")
# Those, and the events of https://html.spec.whatwg.org/multipage/webappapis.html#event-handlers.
ATTRIBUTES = _words("""
href xlink:href src srcset srcdoc action formaction data code codebase archive background cite classid longdesc lowsrc manifest
poster profile usemap ping style class id name is slot part target http-equiv content accesskey autofocus contenteditable draggable
hidden inert popover popovertarget tabindex dir lang nonce itemprop accept-charset enctype method formmethod for form list
value type rel as integrity crossorigin referrerpolicy sandbox allow loading actiontype selection definitionurl
from to by values attributeName begin dur fill onload onerror onclick onfocus onblur onmouseover onpointerenter onwheel ontoggle
onanimationstart ontransitionend onbeforetoggle onscroll oninput onchange onsubmit onkeydown oncopy onpaste onplay onended
onmessage onhashchange onpageshow onunload onresize onbegin onend onrepeat formtarget
""")
MACROS = [
    r"\text{%s}", r"\mbox{%s}", r"\mathrm{%s}", r"\textbf{%s}", r"\operatorname{%s}", r"\color{%s}{x}", r"\href{%s}{x}",
    r"\begin{matrix}%s\end{matrix}", r"\hspace{%s}", r"\fbox{%s}", r"\not{%s}", r"{%s}", r"\left%s x \right)", r"\mathbb{%s}",
    r"\colorbox{%s}{x}", r"\style{%s}{x}", r"\tag{%s}", r"\label{%s}", r"\text{\text{%s}}", r"\frac{\text{%s}}{2}",
]  # fmt: skip
# What an answer's own Markdown and mathematics may become, with the attributes that each of them has.
ALLOWED = set(
    _words("""a blockquote br code del div em h1 h2 h3 h4 h5 h6 hr li ol p pre s span strong table tbody td th thead tr ul math menclose
    mfrac mi mn mo mover mpadded mphantom mroot mrow mspace msqrt mstyle msub msubsup msup mtable mtd mtext mtr munder
    munderover""")
)
NEVER = set(ATTRIBUTES) - {"href", "target", "rel", "class", "form", "dir", "value"}


class Seen(HTMLParser):
    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))


def check(html: str) -> None:
    for element, attributes in Seen(html).elements:
        assert element in ALLOWED, (element, html)
        assert not NEVER & set(attributes), (attributes, html)
        assert set(attributes) & {"href", "target", "rel", "title"} == set() or element == "a", html
        assert (attributes.get("href") or "http://").startswith(("http://", "https://", "mailto:")), html
        assert attributes.get("dir", "auto") == "auto", html
        assert (attributes.get("value") or "0").isdigit(), html
        assert "value" not in attributes or element == "li", html
        if element in ("div", "span", "td", "th"):
            classes = set((attributes.get("class") or "").split())
            known = {"bar", "code", "math", "table", "language", "center", "left", "right", "short"}
            assert classes <= known, html
        else:
            assert "class" not in attributes, html


@pytest.mark.parametrize("macro", MACROS)
def test_no_element_that_a_browser_knows_comes_out_of_a_formula(macro: str) -> None:
    for markup in (
        "<{0}>",
        "<{0}/id=x/onload=a()/href=//evil.example/x/src=//evil.example>",
        "</mtext></math><{0}/action=/x>y</{0}>",
        "&lt;{0}&gt; &#60;{0}&#62; &#x3c;{0}&#x3e;",
    ):
        for start in range(0, len(ELEMENTS), 20):
            formulas = [macro % markup.format(element) for element in ELEMENTS[start : start + 20]]
            check(to_html("\n\n".join(f"${formula}$" for formula in formulas)))


@pytest.mark.parametrize(
    "macro", [r"$\text{%s}$", r"$$\mbox{</mtext>%s}$$", "%s", "- %s", "| a |\n|---|\n| %s |"]
)
def test_no_attribute_that_a_browser_knows_comes_out_of_an_answer(macro: str) -> None:
    for element in ("a", "p", "mrow", "mtext", "math", "div", "td"):
        tags = [f'<{element} {attribute}="javascript:a()">x</{element}>' for attribute in ATTRIBUTES]
        check(to_html("\n\n".join(macro % tag for tag in tags)))


@pytest.mark.parametrize(
    "text",
    [
        r"$\text{<math><mtext><table><mglyph><style><!--</style><img title=\"--&gt;&lt;img src=1 onerror=alert(1)&gt;\">}$",
        r"$\text{<svg><style>&lt;/style&gt;<img src=x onerror=a()>}$",
        r"$\text{</math><annotation-xml encoding=text/html><form id=a>}$",
        "[x](javascript:alert(1)) [y](tg://user?id=1) [z](/api/logout) [w](https://bank.example@evil.example)",
        '<https://evil.example/"onclick=a> <javascript:a> <data:text/html,x>',
        "```<script>\n</code></pre><script>a()</script>\n```",
        r"$\href{javascript:a()}{x}$ $\raise{-900px}{x}$ $\mathstyle{x}$",
        "# <h1 onclick=a>\n\n> <form>\n\n| <b> | <i onclick=a> |\n|:-:|--:|\n| <u> | <s style=x> |",
    ],
)
def test_tricks_of_parsers_stay_text(text: str) -> None:
    check(to_html(text))


@given(
    st.lists(
        st.sampled_from(
            [
                *MACROS,
                "$",
                "$$",
                "\n",
                "`",
                "<!--",
                "-->",
                "<![CDATA[",
                "]]>",
                "</math>",
                "<form>",
                "&lt;",
                "|",
                "\\",
                "}",
                "{",
                "<a href=x>",
                "\x00",
                "é",
            ]
        )
        | st.text(max_size=8),
        max_size=12,
    )
)
def test_whatever_is_between_dollars_becomes_nothing_else(parts: list[str]) -> None:
    check(to_html("".join(parts).replace("%s", "<form>")))


def test_mathematics_links_and_tables_are_still_there() -> None:
    html = to_html(
        '$\\frac{a}{b} < \\sqrt{x}$ and $\\text{if a < b}$\n\n| n | m |\n|:-:|--:|\n| 1 | 2 |\n\n[x](https://example.org/?a=b&c=d "t")\n\n3. c'
    )
    for expected in (
        "<mfrac>", "<msqrt>", "if\N{NO-BREAK SPACE}a", "&lt;", '<th class="center short"', '<td class="right short"', '<ol start="3"',
        'href="https://example.org/?a=b&amp;c=d"', 'rel="noopener noreferrer nofollow"', 'target="_blank"',
    ):  # fmt: skip
        assert expected in html.replace("&nbsp;", "\N{NO-BREAK SPACE}")


@pytest.mark.parametrize(
    "text", ["$" + "{" * 1900 + "}" * 50 + "$", "$\\frac" * 600 + "$", "> " * 5000 + "x", "$" + "\\sqrt{" * 500 + "}" * 500 + "$",
             "x" * 3_000_000, "$x$ " * 5000, "a|" * 5000 + "\n" + "-|" * 5000]
)  # fmt: skip
def test_a_hostile_answer_is_rendered_in_bounded_time(text: str) -> None:
    began = time.process_time()
    check(to_html(text))
    assert time.process_time() - began < 10
