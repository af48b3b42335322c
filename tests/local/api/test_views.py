"""Reports and saved workspaces: kept for the library that writes them, and shown without being trusted."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlsplit

import pytest
from live_server import Server

# A project with a run, a report with many kinds of blocks, and a workspace; each is changed and read back.
SCRIPT = """
import json, wandb
import wandb_workspaces.reports.v2 as wr
import wandb_workspaces.workspaces as ws

with wandb.init(project="shown", id="maker") as run:
    run.log({"loss": 1})

api = wandb.Api()
answer = {}

def blocks(heading):
    link, code = wr.Link("there", "https://example.org/"), wr.CodeBlock("x = 1")
    panels = [wr.LinePlot(title="Curve", x="epoch", y=["loss"]), wr.MediaBrowser(media_keys=["picture"])]
    runset = wr.Runset("local", "shown", filters="Config('lr') = 0.1")
    return [wr.H1(heading), wr.P(["See ", link, "."]), wr.MarkdownBlock("| a |\\n\\ntext"), code,
            wr.UnorderedList(["one", "two"]), wr.PanelGrid(runsets=[runset], panels=panels), wr.P("last")]

report = wr.Report("shown", "local", title="First", description="of all", blocks=blocks("Old")).save()
answer["draft"] = wr.Report("shown", "local", title="Unfinished").save(draft=True).url
loaded = wr.Report.from_url(report.url)
loaded.title, loaded.blocks = "Second", blocks("New")
answer["same"] = loaded.save().id == report.id
again = wr.Report.from_url(report.url)
grid = next(block for block in again.blocks if isinstance(block, wr.PanelGrid))
answer["again"] = [again.title, again.description, again.blocks[0].text, len(again.blocks)]
answer["grid"] = [grid.runsets[0].project, grid.panels[0].y[0].name, grid.panels[1].media_keys]
listed = list(api.reports("local/shown", per_page=1))
answer["listed"] = [[each.display_name, each.description, len(each.spec["blocks"])] for each in listed]
answer["report"] = listed[0].url
gone = wr.Report("shown", "local", title="Gone").save()
answer["gone"] = [gone.url, gone.delete()]

losses = ws.Section("Losses", panels=[wr.LinePlot(y=["loss"])])
finished = ws.RunsetSettings(filters="State = 'finished'")
view = ws.Workspace("local", "shown", name="Mine", sections=[losses], runset_settings=finished).save()
answer["workspace"] = view.url
view = ws.Workspace.from_url(view.url)
view.name = "Ours"
answer["kept"] = view.save().url == answer["workspace"]
view = ws.Workspace.from_url(answer["workspace"])
section = view.sections[0]
answer["view"] = [view.name, section.name, section.panels[0].y[0].name, view.runset_settings.filters]
answer["other"] = view.save_as_new_view().url != answer["workspace"]
try:
    ws.Workspace.from_url(answer["workspace"] + "nothing")
except ValueError as error:
    answer["missing"] = str(error)
print(json.dumps(answer))
"""

UPSERT = """
mutation ($id: ID, $type: String = "runs", $name: String, $displayName: String, $spec: String) {
  upsertView(input: {id: $id, entityName: "local", projectName: "shown", type: $type, name: $name,
                     displayName: $displayName, spec: $spec, createdUsing: WANDB_SDK}) {
    view { id name displayName description spec createdAt updatedAt project { name } user { username } }
    inserted
  }
}"""
WORKSPACES = """{ project(name: "shown", entityName: "local") {
  allViews(viewType: "project-view") { edges { node { id } } } } }"""
VIEW = "query ($id: ID!) { view(id: $id) { id type displayName spec } }"
DELETE = "mutation ($id: ID!) { deleteView(input: {id: $id, deleteDrafts: true}) { success pendingDrafts } }"


@pytest.fixture(scope="module")
def answer(server: Server) -> dict[str, Any]:
    return server.run(SCRIPT)


def page(server: Server, address: str, key: str | None = "") -> tuple[int, str]:
    status, content = server.request(address, key=key)
    return status, content.decode()


def save(server: Server, **given: str) -> dict[str, Any]:
    return server.query(UPSERT, **given)["upsertView"]


def refusal(server: Server, document: str, **given: str) -> str:
    _, found = server.request("/graphql", {"query": document, "variables": given})
    return found["errors"][0]["message"]


@pytest.mark.slow
def test_a_report_is_written_changed_listed_and_deleted(answer: dict[str, Any]) -> None:
    assert answer["same"] and answer["again"] == ["Second", "of all", "New", 7]
    assert answer["grid"] == ["shown", "loss", ["picture"]]
    # Drafts and workspaces are no reports.
    assert [each[:2] for each in answer["listed"]] == [["Second", "of all"]]
    assert answer["gone"][1] is True


def test_a_workspace_is_saved_and_changed(answer: dict[str, Any]) -> None:
    assert answer["kept"] and answer["other"]
    assert answer["view"] == ["Ours", "Losses", "loss", "Metric(\"State\") == 'finished'"]
    assert "not found" in answer["missing"]


def test_the_page_of_a_report(server: Server, answer: dict[str, Any]) -> None:
    status, html = page(server, answer["report"])
    assert status == 200
    shown = [
        "<h1>Second</h1>",
        "of all",
        "<h2>New</h2>",
        '<p>See <a href="https://example.org/">there</a>.</p>',
        "<p>| a |</p>\n<p>text</p>",
        "<li>one</li><li>two</li>",
        '<pre tabindex="0">x = 1</pre>',
        "<h3>Curve</h3>",
        "<h3>Media Browser</h3>",
    ]
    assert [text for text in shown if text not in html] == []
    status, html = page(server, answer["draft"])
    assert status == 200 and "Draft." in html
    status, html = page(server, answer["report"], key=None)
    assert status == 401 and "of all" not in html


def test_addresses_that_lead_to_no_report(server: Server, answer: dict[str, Any]) -> None:
    saved = server.query(WORKSPACES)["project"]["allViews"]["edges"]
    of_another_kind = saved[0]["node"]["id"]
    server.query('mutation { upsertModel(input: {entityName: "local", name: "elsewhere"}) { inserted } }')
    in_another_project = answer["report"].replace("/shown/", "/elsewhere/")
    wrong = [answer["gone"][0], in_another_project, f"/local/shown/reports/x--{of_another_kind}"]
    for address in [*wrong, "/local/shown/reports/x--%C3%A4", "/local/shown/reports/nothing"]:
        assert page(server, address)[0] == 404, address


def test_the_project_shows_its_reports_and_a_saved_workspace(server: Server, answer: dict[str, Any]) -> None:
    status, html = page(server, answer["workspace"])
    assert status == 200 and "Saved view: Ours" in html and "<h3>Losses</h3>" in html
    assert f'{urlsplit(answer["report"]).path.lstrip("/")}"' in html and "Unfinished" not in html
    assert "Saved view" not in page(server, "/local/shown?nw=nwuserme")[1]


def test_nothing_in_a_report_acts(server: Server, answer: dict[str, Any]) -> None:
    evil = "<script>alert(1)</script>"
    link = {"type": "link", "url": "javascript:alert(1)", "children": [{"text": evil}]}
    node = {"type": "paragraph", "children": [link, {"text": evil}]}
    config = {"chartTitle": evil, "metrics": [evil, {"accessor": evil}], "targetKey": evil}
    grid = {
        "panelBankSectionConfig": {"panels": [{"viewType": evil, "config": config}]},
        "runSets": [
            {"name": evil, "filters": {"filters": [{"key": {"name": "sweep"}, "op": "=", "value": evil}]}}
        ],
    }
    blocks = [
        {"type": "heading", "children": [{"text": evil}], "collapsedChildren": [node]},
        {"type": "markdown-block", "content": evil},
        {"type": "list", "children": [node]},
        {"type": "twitter", "html": evil},
        {"type": "panel-grid", "metadata": grid},
    ]
    spec = json.dumps({"blocks": blocks})
    made = save(server, name="evil", displayName=evil, spec=spec)["view"]
    status, html = page(server, f"/local/shown/reports/x--{made['id']}")
    assert status == 200 and "<script>" not in html and "javascript:" not in html
    assert html.count("&lt;script&gt;alert(1)") >= 9
    section = {"panelBankConfig": {"sections": [{"name": evil, "panels": [{"viewType": evil}]}]}}
    save(
        server, type="project-view", name="nw-evil-v", displayName=evil, spec=json.dumps({"section": section})
    )
    status, html = page(server, "/local/shown?nw=evil")
    assert status == 200 and f"Saved view: {evil}".replace("<", "&lt;").replace(">", "&gt;") in html
    assert "<script>" not in html
    server.query(DELETE, id=made["id"])


@pytest.mark.parametrize(
    "spec",
    [
        {},
        {"blocks": 3},
        {"blocks": [None, 7, {}, {"type": []}, {"type": "heading", "children": {"text": "x"}}]},
        {
            "blocks": [
                {"type": "panel-grid", "metadata": [1]},
                {"type": "list", "children": [{"text": 5}, "x"]},
            ]
        },
        {
            "blocks": [
                {
                    "type": "panel-grid",
                    "metadata": {
                        "runSets": [{"filters": {"filters": [{"key": "sweep", "op": "=", "value": {}}]}}],
                        "panelBankSectionConfig": {
                            "panels": [{"config": []}, {"config": {"metrics": [None, 1, {"accessor": 1}]}}]
                        },
                    },
                }
            ]
        },
    ],
)
def test_a_spec_of_a_strange_shape_is_shown_as_far_as_it_goes(
    server: Server, answer: dict[str, Any], spec: dict[str, Any]
) -> None:
    made = save(server, name="strange", displayName="Strange", spec=json.dumps(spec))["view"]
    status, html = page(server, f"/local/shown/reports/Strange--{made['id']}")
    assert status == 200 and "<h1>Strange</h1>" in html
    server.query(DELETE, id=made["id"])


def test_a_name_is_one_view(server: Server, answer: dict[str, Any]) -> None:
    first = save(server, name="mine", displayName="A", spec='{"blocks": []}')
    second = save(server, name="mine", displayName="B", spec='{"blocks": [1]}')
    assert (first["inserted"], second["inserted"]) == (True, False)
    assert second["view"]["id"] == first["view"]["id"] and second["view"]["displayName"] == "B"
    assert second["view"]["createdAt"] == first["view"]["createdAt"] < second["view"]["updatedAt"]
    # What is not given stays.
    third = save(server, id=first["view"]["id"], type="runs/draft", displayName="C")["view"]
    assert third["spec"] == '{"blocks": [1]}' and third["name"] == "mine"
    other = save(server, name="yours", spec="{}")["view"]
    taken = refusal(server, UPSERT, id=other["id"], type="runs/draft", name="mine")
    assert taken == "the project has another view named mine"
    for made in (first["view"], other):
        assert server.query(DELETE, id=made["id"])["deleteView"] == {"success": True, "pendingDrafts": None}


def test_what_cannot_be_is_refused(server: Server, answer: dict[str, Any]) -> None:
    for spec in ("", "{", "[]", "7", "[" * 100_000):
        assert "not a valid JSON object" in refusal(server, UPSERT, name="n", spec=spec)
    assert "no views of type table" in refusal(server, UPSERT, type="table", name="n", spec="{}")
    assert "needs a type, a name and a spec" in refusal(server, UPSERT, spec="{}")
    assert "needs a type, a name and a spec" in refusal(server, UPSERT, name="n")
    made = save(server, name="n", spec="{}")["view"]
    server.query(DELETE, id=made["id"])
    assert "may have been deleted" in refusal(server, DELETE, id=made["id"])
    assert "may have been deleted" in refusal(server, UPSERT, id=made["id"], spec="{}")
    assert server.query(VIEW, id=made["id"])["view"] is None
    assert server.query(VIEW, id="nonsense")["view"] is None


def test_views_survive_a_kill(server: Server, answer: dict[str, Any]) -> None:
    made = save(server, name="lasting", displayName="Lasting", spec='{"blocks": [2]}')["view"]
    server.process.kill()
    server.process.wait(timeout=100)
    server.process.stdout.close()
    server.start()
    kept = {"id": made["id"], "type": "runs", "displayName": "Lasting", "spec": '{"blocks": [2]}'}
    assert server.query(VIEW, id=made["id"])["view"] == kept
