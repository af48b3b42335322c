"""The answer of a sweep in a real browser: it appears on an open page, and its commands can be copied."""

from __future__ import annotations

from browser_tab import Tab, needs_chromium
from live_server import Server, wait_for

pytestmark = needs_chromium

NEW_SWEEP = """
import json, wandb
parameters = {"lr": {"values": [1, 2]}}
name = wandb.sweep({"method": "grid", "parameters": parameters}, project="lab")
print(json.dumps(f"{wandb.Api().default_entity}/lab/{name}"))
"""
COMMAND = "python train.py --note '<b>' --lr 1"
ANSWER = {
    "sentences": ["Use `lr=<script>`.", "It is best."],
    "commands": [{"label": "to train it again", "line": COMMAND}],
    "tables": [{"title": "Recipes", "columns": ["lr"], "rows": [["1"]]}],
    "runs": 0,
    "finished": 0,
}


def test_an_answer_appears_on_an_open_page_and_its_command_can_be_copied(server: Server, tab: Tab) -> None:
    entity, project, name = server.run(NEW_SWEEP).split("/")
    tab.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page = tab.open(f"/{entity}/{project}/sweeps/{name}")
    answer = page.locator("#answer")
    assert not answer.is_visible()
    assert server.request(f"/-/answer/{entity}/{project}/{name}", ANSWER, method="PUT")[0] == 204
    wait_for(answer.is_visible)
    assert answer.locator(".winner").inner_text() == "Use lr=<script>."
    button = answer.get_by_role("button", name="Copy the command: to train it again")
    wait_for(button.is_visible)
    button.click()
    wait_for(lambda: button.inner_text() == "Copied")
    assert page.evaluate("navigator.clipboard.readText()") == COMMAND
