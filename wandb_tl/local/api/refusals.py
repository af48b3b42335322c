"""The refusal of a document that asks for what this server does not have, in one line."""

from __future__ import annotations

from collections.abc import Iterable

from wandb_tl.local.errors import one_line

# By words in the errors of a document that the client sends for it. The first that is found counts.
NOT_HERE = {
    "createCustomChart": "custom charts: the pages of this server do not draw Vega",
    "Trigger": "automations: this server starts none",
    "'integrations'": "integrations: this server sends nothing to Slack or to webhooks",
    "RunQueue": "launch: this server has no queues",
    "createDefaultResourceConfig": "launch: this server has no queues",
}


def reason(errors: Iterable[str]) -> str:
    """What is not supported, by the errors that the check of a document has found; at least one."""
    messages = [one_line(error) for error in errors]
    for word, words in NOT_HERE.items():
        if any(word in message for message in messages):
            return words
    first, *others = messages
    return f"{first} ({len(others)} more like it)" if others else first
