"""Registries through the unmodified client: made, changed, listed and searched, and their links' pages."""

from __future__ import annotations

from typing import Any

import pytest
from live_server import Server
from version_lab import Lab

from wandb_tl.local.artifacts import collections, registries
from wandb_tl.local.errors import RequestError
from wandb_tl.local.records.names import ensure_project

SCRIPT = """
import json, wandb
answer = {}
api = wandb.Api()

def fails(action, *arguments, **how):
    try:
        action(*arguments, **how)
    except Exception as error:
        return f"{error} {error.__cause__}"

def shown(r):
    types = sorted(r.artifact_types)
    return [r.name, r.organization, r.description, r.visibility, r.allow_all_artifact_types, types]

made = api.create_registry("zoo", visibility="organization", description="animals")
answer["made"] = shown(made)
made.description, made.allow_all_artifact_types = "all animals", False
made.artifact_types.append("model")
made.save()
answer["changed"] = shown(api.registry("zoo"))
answer["again"] = fails(api.create_registry, "zoo", visibility="organization")
answer["restricted"] = fails(api.create_registry, "secret", visibility="restricted")
made.name = "ark"
made.save()
answer["renamed"] = [shown(api.registry("ark")), api.registry("ark").id == made.id,
                     fails(api.registry, "zoo")]

with wandb.init(project="source") as run:
    nets = [run.log_artifact(wandb.Artifact(f"net{number}", "model")).wait() for number in range(3)]
    images = run.log_artifact(wandb.Artifact("images", "dataset")).wait()
answer["another type"] = fails(images.link, "wandb-registry-ark/images")
for number, net in enumerate(nets):
    linked = net.link(f"wandb-registry-ark/best{number}", aliases=[f"a{number}"])
images.link("wandb-registry-data/images")
answer["link"] = linked.url

names = lambda found: [one.name for one in found]
some = api.registries(filter={"name": "ark"})
answer["lists"] = [names(api.registries(per_page=1)), names(api.registries(order="name")),
                   names(api.registries(filter={"name": {"$contains": "dat"}}))]
answer["collections"] = [names(api.registries().collections(order="name", per_page=2)),
                         names(made.collections(order="-name")),
                         names(some.collections(filter={"name": {"$regex": "[12]$"}}, order="name"))]
answer["versions"] = [[v.qualified_name, v.source_name] for v in made.versions(per_page=2)]
answer["aliases"] = [sorted(v.aliases) for v in some.versions(filter={"alias": "a1"})]
answer["chained"] = names(some.collections(filter={"name": "best0"}).versions())
first = api.registries(per_page=1)
answer["resumed"] = [next(first).name, names(api.registries(per_page=1, start=first.cursor))]
answer["others"] = fails(api._service_api.execute_graphql,
    'mutation { deleteModel(input: {id: "%s"}) { success } }' % api.project("source").id)

made.delete()
answer["deleted"] = [fails(made.load), fails(made.delete), nets[0].linked_artifacts,
                     api.artifact_exists("source/net0:v0"), names(api.registries())]
print(json.dumps(answer))
"""


@pytest.fixture(scope="module")
def answer(server: Server) -> dict[str, Any]:
    return server.run(SCRIPT)


@pytest.mark.slow
def test_registries_are_made_and_changed(answer: dict[str, Any]) -> None:
    assert answer["made"] == ["zoo", "local", "animals", "organization", True, []]
    assert answer["changed"] == ["zoo", "local", "all animals", "organization", False, ["model"]]
    assert "already exists" in answer["again"] and "cannot be restricted" in answer["restricted"]
    renamed, is_same, gone = answer["renamed"]
    assert (
        renamed[0] == "ark" and renamed[1:] == answer["changed"][1:] and is_same and "Failed to load" in gone
    )


@pytest.mark.slow
def test_lists(answer: dict[str, Any]) -> None:
    assert answer["lists"] == [["data", "ark"], ["ark", "data"], ["data"]]
    assert answer["collections"] == [
        ["best0", "best1", "best2", "images"],
        ["best2", "best1", "best0"],
        ["best1", "best2"],
    ]
    place = "local/wandb-registry-ark/best"
    assert answer["versions"] == [[f"{place}{number}:v0", f"net{number}:v0"] for number in (2, 1, 0)]
    assert answer["aliases"] == [["a1", "latest"]] and answer["chained"] == ["best0:v0"]
    assert answer["resumed"] == ["data", ["ark"]]


@pytest.mark.slow
def test_a_registry_accepts_the_types_it_names(answer: dict[str, Any]) -> None:
    assert "accepts artifacts of type model, not dataset" in answer["another type"]


@pytest.mark.slow
def test_deleted_registries_leave_the_versions(answer: dict[str, Any]) -> None:
    reload, again, links, exists, left = answer["deleted"]
    assert "Failed to load" in reload and "no such registry" in again
    assert links == [] and exists and left == ["data"]
    assert "source is not a registry" in answer["others"]


@pytest.mark.slow
def test_the_clients_link_leads_to_the_page_of_the_version(answer: dict[str, Any], server: Server) -> None:
    assert answer["link"].startswith(f"{server.url}/orgs/local/registry/ark?selectionPath=")
    left = answer["link"].replace("ark", "data").replace("best2", "images")
    status, page = server.request(left)
    assert status == 200 and b"<title>images:v0" in page
    for place in ("local%2Fwandb-registry-data%2Fnone", "none"):
        assert server.request(f"/local/registry/model?selectionPath={place}")[0] == 404


def test_what_a_registry_refuses(lab: Lab) -> None:
    registry = ensure_project(lab.db, None, "wandb-registry-r")
    ensure_project(lab.db, None, "wandb-registry-s")
    for name, reason in (("r", "not a valid name"), ("wandb-registry-s", "already a registry s")):
        with pytest.raises(RequestError, match=reason):
            registries.rename(lab.db, registry, name)
    registries.restrict(lab.db, registry, False, ["a", "b"])
    registry = registries.listed(lab.db, "local", '{"name": "wandb-registry-r"}', None, 1, None)["edges"][0][
        "node"
    ]
    collections.ensure(lab.db, registry, collections.PORTFOLIO, "b", "c")
    with pytest.raises(RequestError, match="accepts artifacts of type a, b, not d"):
        collections.ensure(lab.db, registry, collections.PORTFOLIO, "d", "e")
    lab.db.insert(
        "run", project_id=registry["id"], name="x", display_name="x", state="finished", created_at=0
    )
    with pytest.raises(RequestError, match="has runs"):
        registries.delete(lab.db, registry)
