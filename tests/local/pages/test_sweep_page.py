"""A sweep's page in a browser: its buttons, run_cap, agents, alerts, and the command that starts an agent."""

from __future__ import annotations

import json

import pytest
from browser_tab import Tab, needs_chromium
from live_server import Server, wait_for
from run_writer import write_run, write_sweep

from wandb_tl.local.access import Session

pytestmark = needs_chromium

GRID = {
    "method": "grid",
    "program": "train.py",
    "metric": {"name": "acc", "goal": "maximize"},
    "parameters": {"lr": {"values": [0.1, 0.2, 0.3]}},
}
CREATE = """mutation ($sweep: String!, $host: String!) {
    createAgent(input: {sweep: $sweep, host: $host, projectName: "acts"}) { agent { id name } } }"""
BEAT = """mutation ($id: ID!, $state: JSONString) {
    agentHeartbeat(input: {id: $id, runState: $state}) { commands } }"""


def test_a_sweep_without_agents_says_how_to_start_one(tab: Tab, server: Server) -> None:
    sweep = write_sweep(server, "acts", GRID)
    tab.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page = tab.open(f"/local/acts/sweeps/{sweep}")
    command = page.locator("#first-agent pre").inner_text()
    assert command.splitlines() == [
        f'eval "$(python -m wandb_tl.local env --root {server.root})"',
        f"wandb agent local/acts/{sweep}",
    ]
    page.locator("#first-agent").get_by_role("button", name="Copy the command").click()
    wait_for(lambda: page.evaluate("navigator.clipboard.readText()") == command)


def test_agents_are_shown_with_what_they_work_on(tab: Tab, server: Server) -> None:
    sweep = write_sweep(server, "acts", GRID)
    agent = server.query(CREATE, sweep=sweep, host="node-7")["createAgent"]["agent"]
    [command] = json.loads(server.query(BEAT, id=agent["id"], state="{}")["agentHeartbeat"]["commands"])
    page = tab.open(f"/local/acts/sweeps/{sweep}")
    # Its run is pending: it has not ended.
    assert "0 of 3 runs ended (1 pending)" in page.locator("#state").inner_text()
    assert "1 agent at work" in page.locator("#state").inner_text()
    assert page.locator("#first-agent").inner_text() == ""
    page.locator("#agents summary").click()
    cells = page.locator("#agents tbody tr > *").all_inner_texts()
    assert cells[:2] == [agent["name"], "node-7"] and cells[3].endswith(" s ago")
    link = page.locator("#agents tbody a")
    assert link.get_attribute("href").endswith(f"/runs/{command['run_id']}")


def test_a_metric_that_no_run_logs_is_told(tab: Tab, server: Server) -> None:
    sweep = write_sweep(server, "acts", GRID)
    write_run(server, "acts", "other", {"lr": 0.1}, [{"epoch": 1, "accuracy": 0.5}], sweep)
    page = tab.open(f"/local/acts/sweeps/{sweep}")
    assert page.locator("#best").inner_text().startswith("No run has a finite value of acc yet")
    page.get_by_label("Metric").select_option("accuracy")
    wait_for(lambda: page.locator("#best").inner_text().startswith("Best so far by accuracy"))
    assert tab.charts("curves") == [1]
    told = "No finished run has logged acc, the metric of this sweep"
    assert page.locator("#unlogged").inner_text() == f"{told}."
    parameters = {"lr": {"min": 0.1, "max": 0.3}}
    search = write_sweep(server, "acts", GRID | {"method": "bayes", "parameters": parameters})
    page = tab.open(f"/local/acts/sweeps/{search}")
    assert page.locator("#unlogged").inner_text() == ""
    write_run(server, "acts", "blind", {"lr": 0.1}, [{"epoch": 1, "accuracy": 0.5}], search)
    page = tab.open(f"/local/acts/sweeps/{search}")
    assert (
        page.locator("#unlogged").inner_text() == f"{told}: its Bayesian search draws the points at random."
    )
    write_run(server, "acts", "seen", {"lr": 0.2}, [{"epoch": 1, "acc": 0.5}], search)
    page = tab.open(f"/local/acts/sweeps/{search}")
    assert page.locator("#unlogged").inner_text() == ""


def test_what_destroys_asks_first(tab: Tab, server: Server) -> None:
    sweep = write_sweep(server, "acts", GRID)
    write_run(server, "acts", "going", {"lr": 0.1}, [{"acc": 0.5}], sweep, finished=False)
    page = tab.open(f"/local/acts/sweeps/{sweep}")
    state = page.locator("#state .state").first
    assert page.get_by_role("button", name="Cancel the sweep").count() == 0
    page.locator("summary", has_text="Stop").click()
    assert "Lets the running runs end" in page.locator("details.confirm[open]").inner_text()
    page.locator("summary", has_text="Cancel").click()
    asked = page.locator("details.confirm", has_text="Cancel").inner_text()
    assert "Stops the 1 run at work now" in asked and "cannot be undone" in asked
    assert state.inner_text() != "cancelled"
    form = {"state": "CANCELED", "token": Session(server.key).form_token}
    answer = page.request.post(page.url, form=form, headers={"Origin": tab.url})
    assert answer.status == 400 and "was not confirmed" in answer.text()
    page.get_by_role("button", name="Cancel the sweep").click()
    wait_for(lambda: state.inner_text() == "cancelled")
    page = tab.open("/local/acts/runs/going")
    wait_for(lambda: page.get_by_role("button", name="Stopping").is_visible())


def test_a_cancelled_sweep_has_no_time_left(tab: Tab, server: Server) -> None:
    sweep = write_sweep(server, "ends", GRID)
    agent = server.query(CREATE.replace("acts", "ends"), sweep=sweep, host="h")["createAgent"]["agent"]
    server.query(BEAT, id=agent["id"], state="{}")
    write_run(server, "ends", "ended", {"lr": 0.1}, [{"acc": 0.5}, {"acc": 0.6}], sweep)
    page = tab.open(f"/local/ends/sweeps/{sweep}")
    assert "left" in page.locator("#state").inner_text()
    page.locator("summary", has_text="Cancel").click()
    page.get_by_role("button", name="Cancel the sweep").click()
    wait_for(lambda: page.locator("#state .state").first.inner_text() == "cancelled")
    assert "left" not in page.locator("#state").inner_text()


def test_a_sweep_without_a_finished_run_is_not_green_and_says_why(tab: Tab, server: Server) -> None:
    sweep = write_sweep(server, "fails", GRID)
    lines = ["Traceback (most recent call last):", "ValueError: no images in <data>", "wandb: bye"]
    write_run(server, "fails", "bad", {"lr": 0.1}, [{"acc": 0.5}], sweep, exit_code=1, console=lines)
    page = tab.open(f"/local/fails/sweeps/{sweep}")
    page.locator("summary", has_text="Stop").click()
    page.get_by_role("button", name="Stop the sweep").click()
    state = page.locator("#state .state").first
    wait_for(lambda: state.inner_text() == "finished")
    assert state.get_attribute("class") == "state failed"
    failure = page.locator("#failures li")
    assert failure.locator("code").inner_text() == "ValueError: no images in <data>"
    failure.get_by_role("link", name="The console of").click()
    page.wait_for_url("**/runs/bad#console")
    assert "Traceback" in page.locator("#console .log").inner_text()
    page = tab.open("/local/fails")
    assert page.locator("#sweeps .state").get_attribute("class") == "state failed"
    # One that has a result is green again.
    write_run(server, "fails", "good", {"lr": 0.2}, [{"acc": 0.5}], sweep)
    page = tab.open(f"/local/fails/sweeps/{sweep}")
    assert page.locator("#state .state").first.get_attribute("class") == "state finished"
    assert page.locator("#failures li").count() == 1


def test_a_refused_button_says_why(tab: Tab, server: Server) -> None:
    sweep = write_sweep(server, "acts", GRID)
    page = tab.open(f"/local/acts/sweeps/{sweep}")
    page.evaluate("document.querySelectorAll('[name=token]').forEach((field) => (field.value = 'old'))")
    page.get_by_role("button", name="Pause").click()
    alert = page.locator("#refusal")
    wait_for(lambda: "reload the page" in alert.inner_text())
    assert page.locator("#state .state").first.inner_text() == "pending"
    tab.problems.clear()
    page.reload()
    page.get_by_role("button", name="Pause").click()
    wait_for(lambda: page.locator("#state .state").first.inner_text() == "paused")
    assert alert.inner_text() == ""
    page.get_by_role("button", name="Resume").click()
    wait_for(lambda: page.locator("#state .state").first.inner_text() == "running")


def test_the_number_of_runs_is_changed(tab: Tab, server: Server) -> None:
    sweep = write_sweep(server, "acts", GRID)
    page = tab.open(f"/local/acts/sweeps/{sweep}")
    page.locator("summary", has_text="Number of runs").click()
    page.get_by_label("run_cap").fill("2")
    page.get_by_role("button", name="Save").click()
    wait_for(lambda: "0 of 2 runs ended" in page.locator("#state").inner_text())
    page.locator("summary", has_text="Definition").click()
    assert "run_cap: 2" in page.locator("#definition").inner_text()
    page.locator("summary", has_text="Number of runs").click()
    page.get_by_label("run_cap").fill("none")
    page.get_by_role("button", name="Save").click()
    page.get_by_text("run_cap is the number of runs, 1 or more, not none").wait_for()
    tab.problems.clear()
    page.get_by_label("run_cap").fill("")
    page.get_by_role("button", name="Save").click()
    wait_for(lambda: "0 of 3 runs ended" in page.locator("#state").inner_text())


@pytest.mark.slow
def test_alerts_of_the_client_are_on_the_pages_of_the_run_and_the_sweep(tab: Tab, server: Server) -> None:
    sweep, run = server.run("""
        import json, wandb
        definition = {"method": "grid", "parameters": {"lr": {"values": [1]}}}
        sweep = wandb.sweep(definition, project="acts")
        def train():
            with wandb.init() as run:
                run.log({"acc": 1})
                run.alert("Low <b>accuracy</b>", "It is 1.\\nIt was 2.", level=wandb.AlertLevel.ERROR)
                # Within the least time between two of one title, which is a minute.
                run.alert("Low <b>accuracy</b>", "again")
                run.alert("Another", "")
                ids.append(run.id)
        ids = []
        wandb.agent(sweep, function=train, project="acts", count=1)
        print(json.dumps([sweep, ids[0]]))
    """)
    for address in (f"/local/acts/runs/{run}", f"/local/acts/sweeps/{sweep}"):
        page = tab.open(address)
        said = page.locator("#alerts li").all_inner_texts()
        assert len(said) == 2 and said[0].startswith("info: Another")
        assert said[1].startswith("error: Low <b>accuracy</b>") and said[1].endswith("It is 1.\nIt was 2.")
        assert ("run " in said[1]) == ("/sweeps/" in address)


def test_the_deletion_of_a_point_says_that_it_is_handed_out_again(tab: Tab, server: Server) -> None:
    sweep = write_sweep(server, "acts", GRID)
    agent = server.query(CREATE, sweep=sweep, host="h")["createAgent"]["agent"]
    [command] = json.loads(server.query(BEAT, id=agent["id"], state="{}")["agentHeartbeat"]["commands"])
    write_run(server, "acts", command["run_id"], {"lr": 0.1}, [{"acc": 0.5}], sweep)
    page = tab.open(f"/local/acts/runs/{command['run_id']}")
    page.locator(".forms summary").click()
    deletion = page.locator("#deletion")
    assert "hands this point out again" in deletion.inner_text()
    deletion.get_by_label("delete ").check()
    deletion.get_by_role("button", name="Delete").click()
    page.wait_for_url(f"**/sweeps/{sweep}")
    [again] = json.loads(server.query(BEAT, id=agent["id"], state="{}")["agentHeartbeat"]["commands"])
    assert again["args"] == command["args"] and again["run_id"] != command["run_id"]
