"""The tool `calculate`: arithmetic as people write it, exact where it can be.

An expression is parsed by `ast` and walked here: what is not on the list is refused, so nothing is ever run. Whole
numbers are exact, others have 34 digits (decimal128), and every step is bounded before it is taken.
"""

from __future__ import annotations

import ast
import math
import unicodedata
from collections.abc import Callable, Mapping
from decimal import (
    ROUND_HALF_EVEN,
    Context,
    Decimal,
    DecimalException,
    DivisionByZero,
    InvalidOperation,
    Overflow,
)

from glmbot.host import Nature, Tool, ToolFailed, ToolUse

__all__ = ["TOOL", "CantCalculate", "calculated"]

Number = int | Decimal

_LONGEST = 500
_MOST_STEPS = 200
_MOST_DIGITS = 4000
# 2 ** 13,288 has 4,000 digits.
_MOST_BITS = 13_288
_LARGEST_FACTORIAL = 1400
_MOST_ARGUMENTS = 100
_CONTEXT = Context(
    prec=34,
    rounding=ROUND_HALF_EVEN,
    Emin=-6143,
    Emax=6144,
    traps=[DivisionByZero, InvalidOperation, Overflow],
)
# As people and models write them.
_WRITTEN = str.maketrans({"×": "*", "·": "*", "∙": "*", "÷": "/", "−": "-", "–": "-", "^": "**", "π": "pi"})
_CONSTANTS = {
    "pi": Decimal("3.141592653589793238462643383279503"),
    "e": Decimal("2.718281828459045235360287471352662"),
}


class CantCalculate(ValueError):
    """Its words are for whoever wrote the expression."""


def calculated(expression: str) -> str:
    """Raises CantCalculate."""
    written = unicodedata.normalize("NFKC", expression).strip().translate(_WRITTEN)
    if not written or len(written) > _LONGEST:
        raise CantCalculate(f"an expression has 1 to {_LONGEST} characters")
    try:
        tree = ast.parse(written, mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise CantCalculate("this is no expression; write one like (2 + 3) * sqrt(16) / 7") from error
    if sum(1 for _ in ast.walk(tree)) > _MOST_STEPS * 3:
        raise CantCalculate(f"the expression has more than {_MOST_STEPS} steps")
    try:
        return _written(_value(tree.body))
    except ZeroDivisionError as error:
        raise CantCalculate("this divides by zero") from error
    except (DecimalException, OverflowError) as error:
        raise CantCalculate("the result is too large, or is no real number") from error
    except RecursionError as error:
        raise CantCalculate("the expression is nested too deeply") from error


async def _calculate(use: ToolUse) -> str:
    try:
        return calculated(str(use.arguments["expression"]))
    except CantCalculate as error:
        raise ToolFailed(str(error)) from error


TOOL = Tool(
    "calculate",
    "Calculates an arithmetic expression exactly. Use it for every calculation.",
    {
        "type": "object",
        "properties": {
            "expression": {
                "type": "string",
                "maxLength": _LONGEST,
                "description": "For example 12.5 * (3 + 4) or sqrt(2) ** 10. Known: + - * / // % **, pi, e, sqrt,"
                " exp, ln, log10, log(x, base), sin, cos, tan, asin, acos, atan, degrees, radians, abs, round,"
                " floor, ceil, min, max, sum, gcd, lcm, factorial, comb. Angles are in radians.",
            }
        },
        "required": ["expression"],
        "additionalProperties": False,
    },
    _calculate,
    Nature.PURE,
    timeout_s=10.0,
    title={"en": "Calculator", "zh": "计算器"},
)


def _value(node: ast.expr) -> Number:
    match node:
        case ast.Constant(value=bool() | complex()):
            raise CantCalculate("only real numbers can be calculated with")
        case ast.Constant(value=int(value)):
            return _bounded(value)
        case ast.Constant(value=float()):
            # The shortest digits that make this float: those that were written, up to 15 of them.
            return _bounded(_CONTEXT.create_decimal(repr(node.value)))
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return _minus(_value(operand))
        case ast.UnaryOp(op=ast.UAdd(), operand=operand):
            return _value(operand)
        case ast.BinOp(left=left, op=operator, right=right):
            step = _OPERATORS.get(type(operator))
            if step is None:
                raise CantCalculate("known operators are + - * / // % **")
            return _bounded(step(_value(left), _value(right)))
        case ast.Name(id=name) if name in _CONSTANTS:
            return _CONSTANTS[name]
        case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]) if name in _FUNCTIONS:
            if len(arguments) > _MOST_ARGUMENTS or any(isinstance(each, ast.Starred) for each in arguments):
                raise CantCalculate(f"a function has at most {_MOST_ARGUMENTS} numbers")
            values = [_value(each) for each in arguments]
            try:
                return _bounded(_FUNCTIONS[name](*values))
            except TypeError as error:
                raise CantCalculate(f"{name} can't be used with {len(values)} such numbers") from error
            except ValueError as error:
                if isinstance(error, CantCalculate):
                    raise
                raise CantCalculate(f"{name} has no value there") from error
        case _:
            raise CantCalculate("only numbers, + - * / // % **, brackets and the known functions can be used")


def _written(number: Number) -> str:
    if isinstance(number, int):
        return str(number)
    if number == number.to_integral_value() and abs(number) < Decimal(10) ** 34:
        return str(int(number))
    return str(number.normalize(_CONTEXT))


def _bounded(number: Number) -> Number:
    if isinstance(number, int) and number.bit_length() > _MOST_BITS:
        raise CantCalculate(f"a number has more than {_MOST_DIGITS:,} digits")
    if isinstance(number, Decimal) and not number.is_finite():
        raise CantCalculate("the result is too large, or is no real number")
    return number


def _decimal(number: Number) -> Decimal:
    return _CONTEXT.create_decimal(number)


def _minus(number: Number) -> Number:
    return -number if isinstance(number, int) else _CONTEXT.minus(number)


def _either(
    whole: Callable[[int, int], int], other: Callable[[Decimal, Decimal], Decimal]
) -> Callable[[Number, Number], Number]:
    def step(left: Number, right: Number) -> Number:
        if isinstance(left, int) and isinstance(right, int):
            return whole(left, right)
        return other(_decimal(left), _decimal(right))

    return step


def _divided(left: Number, right: Number) -> Number:
    if isinstance(left, int) and isinstance(right, int) and right and left % right == 0:
        return left // right
    if not right:
        raise ZeroDivisionError
    return _CONTEXT.divide(_decimal(left), _decimal(right))


def _floor_divided(left: Decimal, right: Decimal) -> Decimal:
    return Decimal(_floor(_CONTEXT.divide(left, right)))


def _rest(left: Decimal, right: Decimal) -> Decimal:
    """With the sign of `right`, as for whole numbers."""
    rest = _CONTEXT.remainder(left, right)
    return _CONTEXT.add(rest, right) if rest and (rest < 0) != (right < 0) else rest


def _power(base: Number, exponent: Number) -> Number:
    if isinstance(base, int) and isinstance(exponent, int) and exponent >= 0:
        if abs(base) > 1 and base.bit_length() * exponent > _MOST_BITS + exponent:
            raise CantCalculate(f"the power has more than {_MOST_DIGITS:,} digits")
        return base**exponent
    if not base and exponent < 0:
        raise ZeroDivisionError
    return _CONTEXT.power(_decimal(base), _decimal(exponent))


_OPERATORS: Mapping[type[ast.operator], Callable[[Number, Number], Number]] = {
    ast.Add: _either(lambda left, right: left + right, _CONTEXT.add),
    ast.Sub: _either(lambda left, right: left - right, _CONTEXT.subtract),
    ast.Mult: _either(lambda left, right: left * right, _CONTEXT.multiply),
    ast.Div: _divided,
    ast.FloorDiv: _either(lambda left, right: left // right, _floor_divided),
    ast.Mod: _either(lambda left, right: left % right, _rest),
    ast.Pow: _power,
}


def _root(number: Number) -> Number:
    if isinstance(number, int) and number >= 0 and (root := math.isqrt(number)) ** 2 == number:
        return root
    return _CONTEXT.sqrt(_decimal(number))


def _floor(number: Number) -> int:
    return number if isinstance(number, int) else _whole(number, math.floor)


def _ceiling(number: Number) -> int:
    return number if isinstance(number, int) else _whole(number, math.ceil)


def _whole(number: Decimal, rounded: Callable[[Decimal], int]) -> int:
    if number.adjusted() > _MOST_DIGITS:
        raise CantCalculate(f"a number has more than {_MOST_DIGITS:,} digits")
    return rounded(number)


def _rounded(number: Number, digits: Number = 0) -> Number:
    if not isinstance(digits, int) or abs(digits) > 30:
        raise CantCalculate("round keeps at most 30 digits")
    if isinstance(number, int):
        return round(number, min(digits, 0))
    if digits <= 0:
        return round(_whole(number, round), digits)
    if number.adjusted() + digits >= 33:
        return number
    return number.quantize(Decimal(1).scaleb(-digits), context=_CONTEXT)


def _logarithm(number: Number, base: Number | None = None) -> Decimal:
    found = _CONTEXT.ln(_decimal(number))
    return found if base is None else _CONTEXT.divide(found, _CONTEXT.ln(_decimal(base)))


def _exponential(number: Number) -> Decimal:
    return _CONTEXT.exp(_decimal(number))


def _decadic(number: Number) -> Decimal:
    return _CONTEXT.log10(_decimal(number))


def _dyadic(number: Number) -> Decimal:
    return _logarithm(number, 2)


def _binary(function: Callable[[float], float]) -> Callable[[Number], Number]:
    """Of the C library, to its 15 digits."""
    return lambda number: Decimal(f"{function(float(number)):.15g}") + 0


def _wholes(function: Callable[..., int]) -> Callable[..., Number]:
    def step(*numbers: Number) -> Number:
        if not all(isinstance(each, int) for each in numbers):
            raise CantCalculate("this function takes whole numbers only")
        return function(*numbers)

    return step


def _factorial(number: int) -> int:
    if not 0 <= number <= _LARGEST_FACTORIAL:
        raise CantCalculate(f"factorials go from 0 to {_LARGEST_FACTORIAL:,}")
    return math.factorial(number)


def _combinations(many: int, few: int) -> int:
    if not 0 <= few <= many <= 10_000:
        raise CantCalculate("comb(n, k) takes 0 to n of at most 10,000")
    return math.comb(many, few)


def _least_multiple(*numbers: int) -> int:
    if sum(number.bit_length() for number in numbers) > _MOST_BITS:
        raise CantCalculate(f"the multiple may have more than {_MOST_DIGITS:,} digits")
    return math.lcm(*numbers)


def _sum(*numbers: Number) -> Number:
    total: Number = 0
    for number in numbers:
        total = _OPERATORS[ast.Add](total, number)
    return total


_FUNCTIONS: Mapping[str, Callable[..., Number]] = {
    "sqrt": _root,
    "exp": _exponential,
    "ln": _logarithm,
    "log": _logarithm,
    "log10": _decadic,
    "log2": _dyadic,
    **{name: _binary(getattr(math, name)) for name in ("sin", "cos", "tan", "asin", "acos", "atan")},
    "degrees": _binary(math.degrees),
    "radians": _binary(math.radians),
    "abs": abs,
    "round": _rounded,
    "floor": _floor,
    "ceil": _ceiling,
    "min": lambda *numbers: min(numbers),
    "max": lambda *numbers: max(numbers),
    "sum": _sum,
    "gcd": _wholes(math.gcd),
    "lcm": _wholes(_least_multiple),
    "factorial": _wholes(_factorial),
    "comb": _wholes(_combinations),
}
