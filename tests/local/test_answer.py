"""python -m wandb_tl.local answer: from a file or stdin to a sweep's page, through a real server."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from live_server import REPOSITORY, Server

ANSWER = {
    "sentences": ["Use row 1: `lr=<b>0.1</b>`.", "It is <i>best</i>."],
    "commands": [{"label": "to train & test", "line": "python -m wandb_tl.train --note '<x>'"}],
    "tables": [
        {
            "title": "Recipes",
            "columns": ["Row", "lr", "Test accuracy, %"],
            "rows": [["1", "<u>", "83.10 ± 0.50"], ["2", "", ""]],
            "caption": "All of `them`",
        },
        {"title": "Without rows or a caption", "columns": ["x"], "rows": []},
    ],
    "runs": 1,
    "finished": 1,
}


@pytest.fixture(scope="module")
def sweep(server: Server) -> str:
    """The path of a sweep with one finished run."""
    path: str = server.run(
        """
        import json, os, wandb
        parameters = {"lr": {"values": [1, 2, 3]}}
        name = wandb.sweep({"method": "grid", "parameters": parameters}, project="lab")
        entity = wandb.Api().default_entity
        def train():
            with wandb.init() as run:
                run.log({"acc": 1})
        wandb.agent(name, train, project="lab", count=1)
        print(json.dumps(f"{entity}/lab/{name}"))
        """
    )
    return path


def answer(server: Server, *arguments: str, content: str | None = None) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of the command."""
    done = subprocess.run(
        [sys.executable, "-m", "wandb_tl.local", "answer", *arguments, "--root", str(server.root)],
        cwd=REPOSITORY,
        input=content,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def page(server: Server, path: str) -> str:
    entity, project, sweep = path.rsplit("/", 2)
    status, content = server.request(f"/{entity}/{project}/sweeps/{sweep}")
    assert status == 200
    # When agents were last heard of changes from one second to the next.
    return re.sub(r"\d+ s ago", "… s ago", content.decode())


def test_the_page_shows_the_answer_escaped(server: Server, sweep: str, tmp_path: Path) -> None:
    assert 'class="winner"' not in page(server, sweep)
    (tmp_path / "answer.json").write_text(json.dumps(ANSWER))
    code, out, err = answer(server, sweep, str(tmp_path / "answer.json"))
    assert (code, out, err) == (0, f"{sweep} has its answer\n", "")
    text = page(server, sweep)
    assert "Use row 1: <code>lr=&lt;b&gt;0.1&lt;/b&gt;</code>." in text
    assert "It is &lt;i&gt;best&lt;/i&gt;." in text and "--note &#39;&lt;x&gt;&#39;</pre>" in text
    assert "&lt;u&gt;</td>" in text and "All of <code>them</code>" in text
    assert '<td class="number" title="83.10 ± 0.50">83.10 ± 0.50</td>' in text
    assert "Computed from 1 run on " in text and "since" not in text


def test_the_page_says_that_more_runs_have_finished(server: Server, sweep: str) -> None:
    for finished, said in ((0, "1 more has finished since"), (3, "2 finished runs have been deleted since")):
        code, out, _ = answer(server, sweep, "--json", content=json.dumps({**ANSWER, "finished": finished}))
        assert code == 0 and json.loads(out) == {"sweep": sweep}
        assert said in page(server, sweep)


def refused(server: Server, *arguments: str, content: Any = ANSWER) -> str:
    code, out, err = answer(server, *arguments, content=json.dumps(content))
    assert (code, out, err.count("\n")) == (1, "", 1)
    return err.strip()


def test_refusals_are_one_line(server: Server, sweep: str, tmp_path: Path) -> None:
    before = page(server, sweep)
    assert refused(server, "a/b") == "error: a/b is not a sweep: takes ENTITY/PROJECT/SWEEP"
    assert refused(server, f"{sweep}x") == f"error: there is no sweep {sweep}x"
    assert refused(server, sweep, content=[]) == "error: the request's body is not a JSON object"
    assert refused(server, sweep, content={**ANSWER, "runs": None}).startswith("error: runs is not a whole")
    large = {**ANSWER, "sentences": ["x" * 8000] * 40}
    assert refused(server, sweep, content=large) == "error: the request's body has more than 262,144 bytes"
    missing = tmp_path / "missing.json"
    assert refused(server, sweep, str(missing)) == f"error: cannot read {missing}: No such file or directory"
    assert page(server, sweep) == before


def test_the_address_needs_the_key(server: Server, sweep: str) -> None:
    for key, status in ((None, 401), ("0" * 64, 401), ("", 204)):
        assert server.request(f"/-/answer/{sweep}", ANSWER, key, "PUT")[0] == status


def test_without_a_server(tmp_path: Path) -> None:
    nowhere = Server(tmp_path)
    assert refused(nowhere, "a/b/c") == f"error: there is no folder {tmp_path / 'root'}"
    assert not nowhere.root.exists()
