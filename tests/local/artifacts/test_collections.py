"""Collections and their versions through the unmodified client: lists, filters, orders, changes."""

from __future__ import annotations

from typing import Any

import pytest
from live_server import Server
from version_lab import Lab

from wandb_tl.local.artifacts import collections
from wandb_tl.local.errors import RequestError
from wandb_tl.local.records import filters

SCRIPT = """
import json, wandb
from wandb.apis.public.artifacts import Artifacts
answer = {}

def log(run, name, content, kind="model", **how):
    artifact = wandb.Artifact(name, kind, metadata={"score": len(content), "net": {"depth": 18}})
    with artifact.new_file("data.txt") as file:
        file.write(content)
    return run.log_artifact(artifact, **how).wait()

def fails(action, *arguments, **how):
    try:
        action(*arguments, **how)
    except Exception as error:
        return str(error)

with wandb.init(project="shelves", id="maker") as run:
    log(run, "beta", "a", tags=["good", "old"])
    log(run, "beta", "bb", tags=["good"])
    log(run, "beta", "ccc", aliases=["best"])
    log(run, "alpha", "x")
    log(run, "gamma", "x")
    log(run, "images", "y", kind="dataset")
    log(run, "beta", "a", tags=["again"])
    api = wandb.Api()
    api.artifact("local/shelves/alpha:v0").link("local/shelves/links")

api = wandb.Api()
project = api.project("shelves", "local")
kind = api.artifact_type("model", "local/shelves")
names = lambda **how: [c.name for c in kind.collections(**how)]
answer["types"] = sorted(t.name for t in project.artifacts_types(per_page=1))
answer["names"] = names()
answer["orders"] = [names(order=order) for order in ("name", "-name", "-created_at", "+createdAt")]
answer["filters"] = [names(filters={"name": "beta"}),
                     names(filters={"name": {"$regex": "a$"}}, order="+name"),
                     names(filters={"$or": [{"name": "alpha"}, {"aliases": "best"}]}, order="+name")]
answer["pages"] = [names(per_page=1), names(per_page=3, order="name")]
answer["count"] = [len(kind.collections()), len(kind.collections(filters={"name": "beta"})),
                   len(api.artifact_collections("local/shelves", "model", order="name")),
                   len(project.collections()), len(project.collections(filters={"type": "dataset"}))]
first = kind.collections(per_page=2, order="name")
answer["resumed"] = [[next(first).name, next(first).name], names(order="name", start=first.cursor)]
answer["strange"] = fails(lambda: list(kind.collections(filters={"colour": 1})))

versions = lambda **how: [a.version for a in api.artifacts("model", "local/shelves/beta", **how)]
answer["versions"] = [versions(), versions(order="+version_index"), versions(order="created_at"),
                      versions(per_page=2), versions(tags="good"), versions(tags=["good", "old"]),
                      versions(order="-size")]
beta = api.artifact_collection("model", "local/shelves/beta")
answer["len"] = [len(api.artifacts("model", "local/shelves/beta")), len(beta.artifacts())]
of_beta = [api._service_api, "local", "shelves", "beta", "model"]
chosen = lambda filters: [a.version for a in Artifacts(*of_beta, filters=filters)]
answer["chosen"] = [chosen({"metadata.score": {"$gte": 2}}), chosen({"tags": {"$in": ["old", "again"]}}),
                    chosen({"state": "PENDING"}), chosen({"aliases": "best", "metadata.net.depth": 18})]
answer["deprecated"] = [a.version for a in api.artifact_versions("model", "local/shelves/beta")]
version = api.artifact("local/shelves/beta:v0")
answer["tags"] = sorted(version.tags)
version.tags = ["good", "edited"]
version.save()
answer["edited"] = [sorted(api.artifact("local/shelves/beta:v0").tags), versions(tags="old"),
                    versions(tags="edited")]
answer["exists"] = [api.artifact_collection_exists("local/shelves/beta", "model"),
                    api.artifact_collection_exists("local/shelves/beta", "dataset"),
                    api.artifact_collection_exists("local/shelves/nothing", "model")]

answer["aliases"] = sorted(beta.aliases)
beta.name, beta.description, beta.tags = "delta", "what it is", ["one", "two words"]
beta.save()
again = api.artifact_collection("model", "local/shelves/delta")
answer["saved"] = [again.name, again.description, sorted(again.tags), again.id == beta.id,
                   names(filters={"tags": "one"})]
again.tags = ["one"]
again.save()
answer["untagged"] = api.artifact_collection("model", "local/shelves/delta").tags
answer["renamed"] = [api.artifact("local/shelves/delta:best").version,
                     api.artifact_exists("local/shelves/beta:best")]
again.name = "alpha"
answer["taken"] = fails(again.save)
gamma = api.artifact_collection("model", "local/shelves/gamma")
gamma.change_type("weights")
answer["moved"] = [api.artifact("local/shelves/gamma:v0").type, names(order="name")]
gamma = api.artifact_collection("weights", "local/shelves/gamma")
gamma.type = "model"
gamma.save()
answer["moved back"] = api.artifact("local/shelves/gamma:v0").type
alpha = api.artifact_collection("model", "local/shelves/alpha")
alpha.type = "weights"
answer["linked"] = fails(alpha.save)
links = api.artifact_collection("model", "local/shelves/links")
answer["portfolio"] = [links.is_sequence(), fails(links.change_type, "weights")]
links.description = "chosen"
links.tags = ["t"]
links.save()
links = api.artifact_collection("model", "local/shelves/links")
answer["portfolio saved"] = [links.description, links.tags]
links.delete()
answer["portfolio gone"] = [api.artifact_exists(f"local/shelves/{name}:v0") for name in ("links", "alpha")]
again.delete()
answer["gone"] = [names(order="name"), api.artifact_exists("local/shelves/delta:v0"), fails(again.delete)]
with wandb.init(project="shelves") as run:
    answer["begun anew"] = log(run, "delta", "a").version
print(json.dumps(answer))
"""


@pytest.fixture(scope="module")
def answer(server: Server) -> dict[str, Any]:
    return server.run(SCRIPT)


def test_lists_orders_and_pages(answer: dict[str, Any]) -> None:
    assert answer["types"] == ["dataset", "model"] and answer["names"] == ["links", "gamma", "alpha", "beta"]
    by_name = ["alpha", "beta", "gamma", "links"]
    newest = ["links", "gamma", "alpha", "beta"]
    assert answer["orders"] == [by_name, by_name[::-1], newest, newest[::-1]]
    assert answer["pages"] == [newest, by_name] and answer["resumed"] == [by_name[:2], by_name[2:]]


def test_filters_and_counts(answer: dict[str, Any]) -> None:
    assert answer["filters"] == [["beta"], ["alpha", "beta", "gamma"], ["alpha", "beta"]]
    assert answer["count"] == [4, 1, 4, 5, 1]
    assert "artifact collections cannot be filtered or ordered by colour" in answer["strange"]
    assert answer["exists"] == [True, False, False] and answer["aliases"] == ["best", "latest"]


def test_versions_are_ordered_counted_and_chosen(answer: dict[str, Any]) -> None:
    down = ["v2", "v1", "v0"]
    everything, up, by_age, paged, good, both, by_size = answer["versions"]
    assert everything == paged == by_size == answer["deprecated"] == down and up == by_age == down[::-1]
    assert (good, both) == (["v1", "v0"], ["v0"]) and answer["len"] == [3, 3]
    assert answer["chosen"] == [["v2", "v1"], ["v0"], [], ["v2"]]


def test_tags_on_saving_again_and_edited(answer: dict[str, Any]) -> None:
    assert answer["tags"] == ["again", "good", "old"]
    assert answer["edited"] == [["edited", "good"], [], ["v0"]]


def test_collections_are_renamed_described_and_tagged(answer: dict[str, Any]) -> None:
    assert answer["saved"] == ["delta", "what it is", ["one", "two words"], True, ["delta"]]
    assert answer["untagged"] == ["one"] and answer["renamed"] == ["v2", False]
    assert "already has a collection alpha" in answer["taken"]
    assert answer["portfolio saved"] == ["chosen", ["t"]]


def test_sequences_change_their_type(answer: dict[str, Any]) -> None:
    assert answer["moved"] == ["weights", ["alpha", "delta", "links"]] and answer["moved back"] == "model"
    assert "versions of alpha are linked to links; unlink them first" in answer["linked"]
    is_sequence, refused = answer["portfolio"]
    assert not is_sequence and "needs to be a sequence" in refused


def test_collections_are_deleted(answer: dict[str, Any]) -> None:
    assert answer["portfolio gone"] == [False, True]
    names, exists, twice = answer["gone"]
    assert names == ["alpha", "gamma"] and not exists and "may have been deleted" in twice
    assert answer["begun anew"] == "v0"


# ---- the rules, without a client -------------------------------------------------------------------------


def test_who_leaves_hands_latest_on(lab: Lab) -> None:
    db, made = lab.db, [lab.make(str(number), {"f": str(number)}) for number in range(3)]
    shelf = db.get("collection", made[0]["sequence_id"])
    collections.add_aliases(db, made[2], shelf, ["latest", "v7"])
    assert collections.latest(db, shelf["id"]) == made[2] and db.value("SELECT count(*) FROM alias") == 1
    collections.leave(db, shelf["id"], made[0])
    collections.leave(db, shelf["id"], made[2])
    assert collections.latest(db, shelf["id"]) == made[1]
    assert collections.join(db, shelf, made[0])["version_index"] == 3


def test_names_that_would_read_as_something_else_are_refused(lab: Lab) -> None:
    shelf = lab.db.get("collection", lab.create("d")["sequence_id"])
    for name in ("", "a:b", "a/b"):
        with pytest.raises(RequestError, match="is not a valid collection name"):
            collections.change(lab.db, shelf, name, None)


def test_versions_cannot_be_asked_for_what_they_do_not_have() -> None:
    with pytest.raises(RequestError, match="artifact versions cannot be filtered or ordered by metadata"):
        filters.where('{"metadata": 1}', collections.VERSIONS)
