from __future__ import annotations

import gzip
import json

import pytest

from wandb_tl.local import bodies
from wandb_tl.local.bodies import LARGEST
from wandb_tl.local.errors import RequestError
from wandb_tl.local.records.patient_json import MOST_CONTAINERS, PARSED_AT_ONCE


def test_a_long_body_is_parsed_as_a_short_one_is() -> None:
    body = {"é\ud800": [1, -2.5e300, None, True, {"a": ["\n", {}]}], "lines": ["x" * 10] * PARSED_AT_ONCE}
    text = json.dumps(body).encode()
    assert bodies.parse(text) == bodies.parse(gzip.compress(text), is_packed=True) == body
    assert bodies.parse(b"") == {}
    rows = {"rows": ["ü", 1.5, None, {"a": []}]}
    assert bodies.rendered(rows) == '{"rows":["ü",1.5,null,{"a":[]}]}'.encode()


@pytest.mark.parametrize(
    ("body", "is_packed", "status"),
    [
        (gzip.compress(b"{" + b" " * LARGEST + b"}"), True, 413),
        (b'{"a": [' + b"{}," * MOST_CONTAINERS + b"1]}", False, 413),
        (gzip.compress(b'{"a": 1}')[:-9], True, 400),
        (b"[" * 100_000, False, 400),
        (b'{"a":' * 30_000, False, 400),
    ],
    ids=["packed", "containers", "cut off", "nested at once", "nested"],
)
def test_what_is_too_large_or_broken_is_refused(body: bytes, is_packed: bool, status: int) -> None:
    with pytest.raises(RequestError) as refused:
        bodies.parse(body, is_packed)
    assert refused.value.status == status and "\n" not in str(refused.value)
