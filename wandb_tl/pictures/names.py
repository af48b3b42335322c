"""Names as people give them to classes and splits, and as tables and messages show them."""

from __future__ import annotations

import unicodedata

from wandb_tl.errors import InputError, printable

SPLIT_OF_WORD = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "test": "test",
    "testing": "test",
}


def split_named(word: str) -> str | None:
    """The split "train", "val" or "test" that a word names, in any case; None if it names none."""
    return SPLIT_OF_WORD.get(word.strip().lower())


def class_name(text: str) -> str:
    """The name of a class: in Unicode NFC, because systems spell the same name in different bytes."""
    return printable(unicodedata.normalize("NFC", text))


def refusal(message: str) -> InputError:
    """The error for a data_dir that cannot be used, on one line although names may contain line breaks."""
    return InputError("data_dir: " + " ".join(printable(message).split()))
