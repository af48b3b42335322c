"""What the client's user reads when this server does not have what a document asks for."""

from __future__ import annotations

import pytest
from live_server import Server

from wandb_tl.local.api import refusals

ASK = """
import json, sys
import wandb
api = wandb.Api()
wandb.init(project="asked").finish()
def automation():
    from wandb.automations import DoNothing, OnRunMetric, RunEvent
    event = OnRunMetric(scope=api.project("asked", entity="local"), filter=RunEvent.metric("loss") > 1)
    return api.create_automation(event >> DoNothing(), name="a")
chart = {"name": "c", "display_name": "c", "spec_type": "vega2", "access": "private", "spec": {}}
calls = {
    "chart": lambda: api.create_custom_chart(entity="local", **chart),
    "automations": lambda: list(api.automations()),
    "automation": automation,
    "integrations": lambda: list(api.integrations()),
    "slack": lambda: list(api.slack_integrations()),
    "queue": lambda: api.create_run_queue(name="q", type="local-process"),
    "queue again": lambda: api.upsert_run_queue(name="q", resource_config={}, resource_type="local-process"),
}
found = {}
for name, call in calls.items():
    try:
        call()
    except Exception as error:
        found[name] = str(error)
print(json.dumps(found))
"""


def test_the_client_says_in_one_line_what_there_is_not(server: Server) -> None:
    found = server.run(ASK)
    what = {
        "chart": "custom charts",
        "automations": "automations",
        "automation": "automations",
        "integrations": "integrations",
        "slack": "integrations",
        "queue": "launch",
        "queue again": "launch",
    }
    assert set(found) == set(what)
    for name, message in found.items():
        assert "\n" not in message.strip() and f"not supported here: {what[name]}: " in message


@pytest.mark.parametrize(
    ("errors", "words"),
    [
        (["Cannot query field 'a'."], "Cannot query field 'a'."),
        (["Cannot query field 'a'.", "Unknown\ntype", "b"], "Cannot query field 'a'. (2 more like it)"),
        (["Unknown type 'SlackIntegration'.", "Unknown type 'Trigger'."], refusals.NOT_HERE["Trigger"]),
    ],
)
def test_others_are_counted(errors: list[str], words: str) -> None:
    assert refusals.reason(errors) == words
