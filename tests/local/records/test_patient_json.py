from __future__ import annotations

import json
import sys
import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wandb_tl.local.errors import RequestError
from wandb_tl.local.records import patient_json
from wandb_tl.local.records.patient_json import PARSED_AT_ONCE

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@settings(max_examples=30, deadline=None)
@given(VALUES)
def test_a_long_text_has_the_same_value(value: object) -> None:
    padded = json.dumps(value) + " " * PARSED_AT_ONCE
    assert patient_json.loads(padded) == json.loads(padded) == value


@given(st.text('[]{}:,"\\nul01.eE- \n'))
def test_a_long_text_is_refused_like_a_short_one(text: str) -> None:
    def result(given: str) -> object:
        try:
            return patient_json.loads(given)
        except ValueError:
            return ValueError

    padded = text + " " * PARSED_AT_ONCE
    assert result(padded) == result(text)


def test_a_deep_text_is_refused() -> None:
    with pytest.raises(RecursionError):
        patient_json.loads("[" * PARSED_AT_ONCE)


def test_other_threads_run_while_a_long_text_is_parsed() -> None:
    text, parsed, ticks = json.dumps([[number] for number in range(200_000)]), threading.Event(), []

    def tick() -> None:
        while not parsed.is_set():
            ticks.append(None)
            time.sleep(0.001)

    thread = threading.Thread(target=tick)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(0.001)
    try:
        thread.start()
        before = len(ticks)
        patient_json.loads(text)
        during = len(ticks) - before
    finally:
        parsed.set()
        thread.join()
        sys.setswitchinterval(interval)
    # json.loads lets it run at the beginning and at the end.
    assert during > 5


def test_a_text_with_too_many_lists_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patient_json, "MOST_CONTAINERS", 3)
    patient_json.check(b'[{}, "x", []]', "the body")
    with pytest.raises(RequestError, match="the body has more than 3 objects and lists") as refused:
        patient_json.check(b"[{}, [], []]", "the body")
    assert refused.value.status == 413
