"""What people and models write is calculated exactly; what would run, hang or grow is refused at once."""

from __future__ import annotations

import time
from contextlib import suppress

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from glmbot.host import Nature, ToolFailed
from glmbot_tools import calculator
from glmbot_tools.calculator import CantCalculate, calculated
from tools.fake_use import told


@pytest.mark.parametrize(
    ("expression", "result"),
    [
        ("2 + 3 * 4", "14"),
        ("(2 + 3) × 4 ÷ 8", "2.5"),
        ("0.1 + 0.2", "0.3"),
        ("2^10", "1024"),
        ("（１２＋３）＊２", "30"),
        ("10 / 5", "2"),
        ("1 / 3", "0.3333333333333333333333333333333333"),
        ("-7 // 2", "-4"),
        ("-7.5 // 2", "-4"),
        ("-7 % 3", "2"),
        ("-7.5 % 2", "0.5"),
        ("2 ** -2", "0.25"),
        ("2 ** 100", str(2**100)),
        ("123456789012345678901234567890 * 9", "1111111101111111110111111111010"),
        ("sqrt(144)", "12"),
        ("sqrt(2)", "1.414213562373095048801688724209698"),
        ("sin(0)", "0"),
        ("round(cos(pi), 6)", "-1"),
        ("log(8, 2)", "3"),
        ("log10(1000)", "3"),
        ("round(2.675, 2)", "2.68"),
        ("round(1234, -2)", "1200"),
        ("max(3, 7.5, 2)", "7.5"),
        ("sum(1, 2, 3.5)", "6.5"),
        ("gcd(84, 36) + lcm(4, 6)", "24"),
        ("factorial(20)", "2432902008176640000"),
        ("comb(49, 6)", "13983816"),
        ("floor(-2.5) + ceil(2.1)", "0"),
        ("1e3 * 2", "2000"),
        ("1_000 * 3", "3000"),
    ],
)
def test_it_calculates(expression: str, result: str) -> None:
    assert calculated(expression) == result


@pytest.mark.parametrize(
    "expression",
    [
        "",
        "x + 1",
        "__import__('os').system('id')",
        "().__class__.__bases__[0].__subclasses__()",
        "open('/etc/passwd')",
        "eval('1')",
        "(lambda: 1)()",
        "[i for i in (1,)]",
        "'a' * 10",
        "abs.__self__",
        "f'{1}'",
        "1 if 1 else 2",
        "1 < 2",
        "1 and 2",
        "(a := 5)",
        "max(*(1, 2))",
        "round(1.5, ndigits=1)",
        "True + 1",
        "2j * 2j",
        "sqrt(-1)",
        "log(0)",
        "asin(2)",
        "1 / 0",
        "1 // 0",
        "1.5 % 0",
        "0 ** -1",
        "9 ** 9 ** 9",
        "9.5 ** 9.5 ** 9.5 ** 9.5",
        "10 ** 5000",
        "factorial(10 ** 9)",
        "comb(10 ** 9, 5 * 10 ** 8)",
        "exp(10 ** 6)",
        "floor(1e6000)",
        "gcd(1.5, 2)",
        "round(1, 10 ** 9)",
        "1e999999999",
        "sin(10 ** 400)",
        "(" * 250 + "1" + ")" * 249,
        "1" * 501,
        "+".join("1" * 240),
        "-" * 499 + "1",
        "1 << 100000000",
        "int('9' * 9999)",
        "\x00",
        "1\n2",
    ],
)
def test_nothing_else_is_run(expression: str) -> None:
    started = time.process_time()
    with pytest.raises(CantCalculate):
        calculated(expression)
    assert time.process_time() - started < 1


_written = st.recursive(
    st.one_of(
        st.integers(-(10**12), 10**12).map(str), st.floats(allow_nan=False, allow_infinity=False).map(repr)
    ),
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["+", "-", "*", "/", "//", "%", "**"]), inner).map(
            lambda parts: f"({parts[0]}){parts[1]}({parts[2]})"
        ),
        st.tuples(
            st.sampled_from(["sqrt", "exp", "ln", "sin", "floor", "round", "factorial", "abs", "lcm"]), inner
        ).map(lambda parts: f"{parts[0]}({parts[1]})"),
    ),
    max_leaves=12,
)


@given(_written | st.text(max_size=60))
@example("9**9**4")
def test_whatever_is_written_ends_soon_with_a_number_or_a_reason(expression: str) -> None:
    with suppress(CantCalculate):
        assert len(calculated(expression)) <= 4001


async def test_the_tool_tells_the_model_why_not() -> None:
    assert await told(calculator.TOOL, expression="6 * 7") == "42"
    with pytest.raises(ToolFailed, match="divides by zero"):
        await told(calculator.TOOL, expression="1/0")
    assert calculator.TOOL.nature is Nature.PURE
