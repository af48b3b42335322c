"""Labels: short names that tell the runs of a page apart, made of what differs between their configs."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

from wandb_tl.local.pages.values import Run, is_number

# The number of config values in a label, the keys among which they are chosen, and the length of a value.
PARTS, CONSIDERED = 5, 200
LONGEST_VALUE = 28
# A run outside a sweep keeps a name of this length, unless it was invented for it, such as misty-river-3.
LONGEST_NAME = 32
INVENTED = re.compile(r"[a-z]+-[a-z]+-\d+")

# What a script calls its random seed.
SEEDS = ("seed", "random_seed", "random_state")
# A string that says what it is without its key, such as Adam.
WORD = re.compile(r"[A-Za-z][\w.+-]*")
VAGUE = ("none", "auto", "default", "all", "true", "false", "yes", "no", "on", "off")


def label_runs(runs: list[Run], keys: Sequence[str] | None = None) -> None:
    """Set the labels of runs. keys: the config keys that tell them apart, otherwise those that differ."""
    names = Counter(run.name for run in runs)
    for run, label in zip(runs, texts(runs, differing(runs) if keys is None else keys), strict=True):
        is_named = run.sweep is None and names[run.name] == 1 and len(run.name) <= LONGEST_NAME
        run.label = run.name if not label or (is_named and not INVENTED.fullmatch(run.name)) else label
    labels = Counter(run.label for run in runs)
    for run in runs:
        if labels[run.label] > 1:
            # Runs of one recipe and one seed.
            run.label = f"{run.label} · {run.id}"


def texts(runs: list[Run], keys: Sequence[str]) -> list[str]:
    """What the values of some config keys are called, as "finetuning · Adam"; "" for a run without any."""
    columns = {key: [run.config.get(key) for run in runs] for key in keys[:CONSIDERED]}
    chosen = {key: columns[key] for key in telling(columns)}
    parts = [words(key, column, chosen) for key, column in chosen.items()]
    return [" · ".join(part[number] for part in parts if part[number]) for number in range(len(runs))]


def differing(runs: list[Run]) -> list[str]:
    """The config keys in which the runs differ, in the order of the configs."""
    keys = dict.fromkeys(key for run in runs for key in run.config)
    return [key for key in keys if _differs([run.config.get(key) for run in runs])]


def _differs(values: list[Any]) -> bool:
    """Whether one of the values is written differently; most keys that differ do so early."""
    first, text = values[0], repr(values[0])
    return any(value is not first and repr(value) != text for value in values)


def is_seed(key: str) -> bool:
    return key.rpartition(".")[2] in SEEDS


def telling(columns: dict[str, list[Any]]) -> list[str]:
    """At most PARTS keys, in their order with the seed at the end: those that tell most runs apart."""
    if len(columns) > PARTS:
        written = {key: [repr(value) for value in column] for key, column in columns.items()}
        so_far: list[Any] = [()] * len(next(iter(written.values())))
        chosen: list[str] = []
        while len(chosen) < PARTS:
            apart, key = max(
                ((len(set(zip(so_far, column, strict=True))), key) for key, column in written.items()),
                key=lambda pair: pair[0],
            )
            if apart == len(set(so_far)):
                break
            chosen.append(key)
            so_far = list(zip(so_far, written[key], strict=True))
        columns = {key: columns[key] for key in columns if key in chosen}
    return sorted(columns, key=is_seed)


def words(key: str, column: list[Any], columns: dict[str, list[Any]]) -> list[str]:
    """What a key's values are called in labels: `finetuning`, `not finetuning`, `Adam`, `lr 0.001`."""
    last = key.rpartition(".")[2]
    name = (last if sum(other.rpartition(".")[2] == last for other in columns) == 1 else key).replace(
        "_", " "
    )
    elsewhere = {
        value
        for other, values in columns.items()
        if other != key
        for value in values
        if isinstance(value, str)
    }
    digits = enough_digits(column)
    return [word(name, value, digits, elsewhere) for value in column]


def word(name: str, value: Any, digits: int, elsewhere: set[str]) -> str:
    """What one value is called; "" for a missing one."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return name if value else f"not {name}"
    if is_number(value):
        return f"{name} {value if isinstance(value, int) else f'{value:.{digits}g}'}"
    text = str(value)
    if text == "":
        return f"no {name}"
    short = shortened(text.rstrip("/").rpartition("/")[2] if text.startswith(("/", "~")) else text)
    is_clear = WORD.fullmatch(text) and text.lower() not in VAGUE and text not in elsewhere
    return short if is_clear else f"{name} {short}"


def enough_digits(column: list[Any]) -> int:
    """The significant digits that keep the numbers of a column apart, three at least and six at most."""
    numbers = {value for value in column if isinstance(value, float) and is_number(value)}
    for digits in (3, 4, 5):
        if len({f"{number:.{digits}g}" for number in numbers}) == len(numbers):
            return digits
    return 6


def shortened(text: str, longest: int = LONGEST_VALUE) -> str:
    """A text without its middle if it is long: values often differ at their ends."""
    if len(text) <= longest:
        return text
    half = (longest - 1) // 2
    return f"{text[: longest - 1 - half]}…{text[-half:]}"
