"""The filter of the table of runs: `lr>0.01 optimizer=Adam or created>2026-11-01`.

Terms with blanks between them must all hold; `or` separates alternatives. A term is a condition on a field,
or a string that occurs in the names, tags or config of a run. Quotes keep blanks together. A link can hold
any filter: reading one takes time in proportion to its length, which is limited.
"""

from __future__ import annotations

import datetime
import difflib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from wandb_tl.local.pages.values import Run, is_number
from wandb_tl.local.records.run_states import RunState

# Of a filter, and of terms in it.
LONGEST = 1000
MOST_TERMS = 50
# Similar names are searched among this many.
MOST_NAMES = 2000

BLANKS = " \t\r\n"
OPERATORS = ("!=", ">=", "<=", "=", ">", "<")
COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "=": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
}
# Fields that every run may have, whether or not a run of the table has a value.
TEXT_FIELDS = ("name", "id", "state", "group", "job_type", "sweep")
UNITS = {"s": 1, "min": 60, "h": 3600, "d": 86_400}
DAY = datetime.timedelta(days=1)

Test = Callable[[Run], bool]


class FilterError(Exception):
    """A filter that cannot be used; the message says why, for the reader of the page."""


@dataclass
class Token:
    """A word or an operator of a filter. quoted: a word in quotes is never `or`, and may be empty."""

    text: str
    is_operator: bool = False
    quoted: bool = False


def matching(runs: list[Run], text: str) -> tuple[list[Run], str | None]:
    """The runs that meet a filter. For one that cannot be used: all runs, and a line that says why."""
    try:
        alternatives = parse(text, runs)
    except FilterError as error:
        return runs, str(error)
    if not alternatives:
        return runs, None
    return [run for run in runs if any(all(test(run) for test in tests) for tests in alternatives)], None


def parse(text: str, runs: list[Run]) -> list[list[Test]]:
    """The alternatives of a filter, each a list of tests. runs: those whose fields the filter may name.

    Raises FilterError for a filter that is too long, that is incomplete, or that no run can answer.
    """
    if len(text) > LONGEST:
        raise FilterError(f"a filter can have {LONGEST:,} characters, not {len(text):,}")
    alternatives: list[list[Test]] = []
    tests: list[Test] = []
    texts: dict[str, str] = {}
    tokens = tokens_of(text)
    place = terms = 0
    while place < len(tokens):
        token = tokens[place]
        if token.text.lower() == "or" and not token.quoted and not token.is_operator:
            if not tests or place + 1 == len(tokens):
                raise FilterError("a condition is missing before or after “or”")
            alternatives.append(tests)
            tests, place = [], place + 1
            continue
        terms += 1
        if terms > MOST_TERMS:
            raise FilterError(f"a filter can have {MOST_TERMS} conditions")
        if token.is_operator:
            raise FilterError(f"the name of a field is missing before {token.text}")
        if place + 1 < len(tokens) and tokens[place + 1].is_operator:
            operator = tokens[place + 1].text
            if place + 2 == len(tokens) or tokens[place + 2].is_operator:
                raise FilterError(
                    value_is_missing(token.text, [one.text for one in tokens[place + 1 : place + 3]])
                )
            tests.append(condition(token.text, operator, tokens[place + 2].text, runs))
            place += 3
        else:
            tests.append(contains(token.text.lower(), texts))
            place += 1
    return [*alternatives, tests] if tests else alternatives


def value_is_missing(name: str, operators: list[str]) -> str:
    """What is wrong with a condition without a value. operators: one, or two in a row."""
    if len(operators) < 2:
        return f"a value is missing after {name}{operators[0]}"
    return f"{''.join(operators)} after {name} is not an operator; the operators are {' '.join(OPERATORS)}"


def tokens_of(text: str) -> list[Token]:
    """The words and operators of a filter, read once from left to right."""
    tokens: list[Token] = []
    word, quoted, quote = "", False, ""
    place = 0

    def end_word() -> None:
        nonlocal word, quoted
        if word or quoted:
            tokens.append(Token(word, quoted=quoted))
        word, quoted = "", False

    while place < len(text):
        character = text[place]
        operator = next((each for each in OPERATORS if text.startswith(each, place)), "")
        if quote:
            quote, word = ("", word) if character == quote else (quote, word + character)
        elif character in "\"'":
            quote, quoted = character, True
        elif operator:
            end_word()
            tokens.append(Token(operator, is_operator=True))
            place += len(operator) - 1
        elif character in BLANKS:
            end_word()
        else:
            word += character
        place += 1
    if quote:
        raise FilterError("a quote in the filter is not closed")
    end_word()
    return tokens


def contains(word: str, texts: dict[str, str]) -> Test:
    """Whether a word in lower case occurs in a run's names, tags or config. texts: kept between words."""

    def test(run: Run) -> bool:
        if run.id not in texts:
            own = (run.name, run.label, run.id, run.state, run.group or "", run.sweep or "", *run.tags)
            texts[run.id] = "\n".join(map(str, (*own, *run.config.values()))).lower()
        return word in texts[run.id]

    return test


def condition(name: str, operator: str, operand: str, runs: list[Run]) -> Test:
    """The test of one condition. Raises FilterError if the field, or the value for it, makes no sense."""
    if name == "created":
        return date_condition(operator, operand)
    if name == "duration":
        seconds = duration_of(operand)
        return lambda run: COMPARE[operator](run.seconds, seconds)
    if name not in (*TEXT_FIELDS, "tag", "tags"):
        return value_condition(name, operator, operand, runs)
    if operator not in ("=", "!="):
        raise FilterError(f"{name} takes = or !=, not {operator}")
    if name in ("tag", "tags"):
        return lambda run: (operand in run.tags) == (operator == "=")
    word = operand.lower()
    if name == "name":
        # The table shows labels, which may differ from the names.
        return lambda run: (word in (run.name.lower(), run.label.lower())) == (operator == "=")
    if name == "state" and word not in list(RunState):
        raise FilterError(f"a run is not {operand}; it can be {', '.join(RunState)}")
    return lambda run: COMPARE[operator](str(run.value(name) or "").lower(), word)


def date_condition(operator: str, operand: str) -> Test:
    """A day, or a moment such as 2026-11-01T12:30, in this machine's time zone."""
    try:
        moment = datetime.datetime.fromisoformat(operand).astimezone()
        is_day = len(operand) <= len("2026-11-01")
        first, last = moment.timestamp(), (moment + DAY if is_day else moment).timestamp()
    except (ValueError, OverflowError):
        raise FilterError(f"created takes a date such as 2026-11-01, not {operand}") from None
    if operator in ("=", "!="):
        # The moments are written to the minute.
        last = max(last, first + 60)
        return lambda run: (first <= run.created < last) == (operator == "=")
    # After a day means after its end.
    bound = last if operator in (">", "<=") else first
    return lambda run: run.created >= bound if operator in (">", ">=") else run.created < bound


def duration_of(text: str) -> float:
    """Seconds of 90, 90s, 1.5min, 2h or 1d."""
    number = text.rstrip("smindh")
    try:
        seconds = float(number) * UNITS[text[len(number) :] or "s"]
    except (ValueError, KeyError):
        raise FilterError(f"duration takes seconds, or a time such as 10min or 2h, not {text}") from None
    return seconds


def value_condition(name: str, operator: str, operand: str, runs: list[Run]) -> Test:
    """A condition on a value of the config or the summary."""
    values = [value for run in runs if (value := value_of(run, name)) is not None]
    if runs and not values:
        raise FilterError(f"no run has {name}" + _similar(name, runs))
    number = _number(operand)
    numbers = sum(map(_is_numeric, values))
    if operator not in ("=", "!="):
        if number is None:
            raise FilterError(f"{operator} takes a number, not {operand}")
        if runs and not numbers:
            raise FilterError(f"{name} is not a number: use = or !=")
    elif number is None and runs and numbers == len(values):
        raise FilterError(f"{name} is a number, not {operand}")
    elif values and all(isinstance(value, bool) for value in values) and not _is_boolean(operand):
        raise FilterError(f"{name} is true or false, not {operand}")

    def test(run: Run) -> bool:
        value = value_of(run, name)
        return operator == "!=" if value is None else meets(value, operator, operand, number)

    return test


def meets(value: Any, operator: str, operand: str, number: float | None) -> bool:
    """Whether a value meets a condition. number: that of the operand, None if it is none.

    Numbers are compared as numbers. All else is compared as text in lower case, and has no order.
    """
    if number is not None and _is_numeric(value):
        return COMPARE[operator](value, number)
    return operator in ("=", "!=") and COMPARE[operator](str(value).lower(), operand.lower())


def value_of(run: Run, name: str) -> Any:
    """The value of config.NAME or summary.NAME; of a bare name, that of the config comes first."""
    for key in (name, f"config.{name}", f"summary.{name}"):
        if (value := run.value(key)) is not None:
            return value
    return None


def _is_numeric(value: Any) -> bool:
    return isinstance(value, float) or is_number(value)


def _is_boolean(text: str) -> bool:
    return text.lower() in ("true", "false")


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _similar(name: str, runs: list[Run]) -> str:
    """A question with the name that was meant, if a similar one exists."""
    names = dict.fromkeys(key for run in runs for values in (run.config, run.summary) for key in values)
    near = difflib.get_close_matches(name, list(names)[:MOST_NAMES], 1)
    return f"; did you mean {near[0]}?" if near else ""
