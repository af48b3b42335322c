"""Links through the unmodified client: portfolios, registered models, registries, and how links end."""

from __future__ import annotations

from typing import Any

import pytest
from live_server import Server

SCRIPT = """
import json, pathlib, wandb
answer = {}
pathlib.Path("w.bin").write_bytes(b"weights")

def log(run, content, name="net", **how):
    artifact = wandb.Artifact(name, "model")
    with artifact.new_file("data.txt") as file:
        file.write(content)
    return run.log_artifact(artifact, **how).wait()

def fails(action, *arguments, **how):
    try:
        action(*arguments, **how)
    except Exception as error:
        return str(error)

def links(name):
    return [[a.qualified_name, sorted(a.aliases)] for a in wandb.Api().artifact(name).linked_artifacts]

with wandb.init(project="links", id="maker") as run:
    versions = [log(run, text) for text in ("zero", "one", "two")]
    draft = wandb.Artifact("draft", "model")
    draft.add_file("w.bin")
    linked = run.link_artifact(draft, "shelf", aliases=["first"])
    answer["draft"] = [linked.qualified_name, linked.is_link, linked.source_qualified_name, linked.aliases]
    answer["order"] = [run.link_artifact(versions[number], "shelf").version for number in (2, 0)]
    again = versions[2].link("links/shelf", aliases=["first", "prod"])
    answer["again"] = [again.version, sorted(again.aliases)]
    versions[2].link("other team/far away/shelf", aliases=["there"])
    versions[1].link("local/far/shelf")
    registered = run.link_artifact(versions[1], "wandb-registry-model/best", aliases=["r"])
    answer["registry"] = registered.qualified_name
    answer["foreign registry"] = fails(run.link_artifact, versions[1], "nobody/wandb-registry-model/best")
    model = run.link_model("w.bin", "Registered", name="weights", aliases=["staging"])
    answer["registered"] = model.qualified_name
    answer["twice"] = run.link_model("w.bin", "Registered", name="weights").version
    path = run.use_model("local/model-registry/Registered:staging")
    answer["model"] = pathlib.Path(path).read_bytes().decode()
    answer["to a sequence"] = fails(versions[0].link, "links/net")
    answer["to a version"] = fails(versions[0].link, "links/shelf:v1")
    answer["log to a portfolio"] = fails(log, run, "x", name="shelf")
    other = wandb.Artifact("set", "dataset")
    other.add_file("w.bin")
    answer["of another type"] = fails(run.link_artifact, other, "shelf")

api = wandb.Api()
answer["links"] = links("local/links/net:v2")
found = api.artifact("other team/far away/shelf:there")
answer["found"] = {
    "link": [found.version, found.is_link, found.linked_at is not None],
    "source": [found.source_artifact.qualified_name, found.type, found.source_version],
    "names": [found.collection.name, found.source_collection.name],
    "rest": [found.collection.is_sequence(), pathlib.Path(found.download(root="far"), "data.txt").read_text(),
             pathlib.Path(found.get_entry("data.txt").download(root="far2", skip_cache=True)).read_text()],
}
found.verify("far")
answer["registry read"] = [api.artifact("wandb-registry-model/best:r").source_name,
                           [a.version for a in api.artifacts("model", "wandb-registry-model/best")],
                           [t.name for t in api.artifact_types("wandb-registry-model")],
                           api.artifact_collection("model", "wandb-registry-model/best").name]
found.aliases.append("more")
found.save()
answer["saved"] = [sorted(api.artifact("other team/far away/shelf:v0").aliases),
                   sorted(api.artifact("local/links/net:v2").aliases)]
with wandb.init(project="links", id="user", entity="other team") as run:
    run.use_artifact("other team/far away/shelf:more")
    log(run, "theirs").link("wandb-registry-model/best")
theirs = wandb.Api().artifact("other team/wandb-registry-model/best:latest")
answer["their registry"] = [theirs.qualified_name, theirs.source_qualified_name]
answer["used"] = [a.qualified_name for a in api.run("other team/links/user").used_artifacts()]
shelf = api.artifacts("model", "local/links/shelf")
answer["shelf"] = [[a.version, a.source_name, sorted(a.aliases)] for a in shelf]

answer["aliased"] = fails(api.artifact("local/links/net:v1").delete)
answer["unlink a source"] = fails(api.artifact("local/links/net:v0").unlink)
found.unlink()
answer["unlinked"] = [links("local/links/net:v2"), fails(found.unlink),
                      api.artifact_exists("local/links/net:v2")]
api.artifact("local/links/shelf:v1").delete()
answer["latest"] = api.artifact("local/links/shelf:latest").source_name
api.artifact("local/links/shelf:latest").delete()
answer["deleted link"] = [api.artifact_exists("local/links/net:v0"),
                          api.artifact("local/links/shelf:latest").version]
api.artifact("local/links/net:v1").delete(delete_aliases=True)
answer["deleted source"] = [api.artifact_exists("local/far/shelf:v0"),
                            api.artifact_exists("wandb-registry-model/best:r")]
print(json.dumps(answer))
"""


@pytest.fixture(scope="module")
def answer(server: Server) -> dict[str, Any]:
    return server.run(SCRIPT)


@pytest.mark.slow
def test_portfolios_come_into_being_with_versions_of_their_own(answer: dict[str, Any]) -> None:
    name, is_link, source, aliases = answer["draft"]
    assert (name, is_link, source) == ("local/links/shelf:v0", True, "local/links/draft:v0")
    assert sorted(aliases) == ["first", "latest"] and answer["order"] == ["v1", "v2"]


def test_linking_again_moves_aliases_only(answer: dict[str, Any]) -> None:
    assert answer["again"] == ["v1", ["first", "latest", "prod"]]
    assert answer["shelf"] == [
        ["v2", "net:v0", []],
        ["v1", "net:v2", ["first", "latest", "prod"]],
        ["v0", "draft:v0", []],
    ]


def test_links_lead_to_other_projects_and_name_spaces(answer: dict[str, Any]) -> None:
    assert answer["links"] == [
        ["local/links/shelf:v1", ["first", "latest", "prod", "v1"]],
        ["other team/far away/shelf:v0", ["latest", "there", "v0"]],
    ]
    of_link, of_source, names, rest = (answer["found"][part] for part in ("link", "source", "names", "rest"))
    assert of_link == ["v0", True, True] and of_source == ["local/links/net:v2", "model", "v2"]
    assert names == ["shelf", "net"] and rest == [False, "two", "two"]
    assert answer["used"] == ["local/links/net:v2"]


def test_registries_are_projects_of_their_name(answer: dict[str, Any]) -> None:
    assert answer["registry"] == "local/wandb-registry-model/best:v0"
    assert answer["registry read"] == ["net:v1", ["v0"], ["model"], "best"]
    assert answer["their registry"] == [
        "other team/wandb-registry-model/best:latest",
        "other team/links/net:v0",
    ]
    # What the client says of an organization that does not exist.
    assert "cannot be linked/fetched with 'nobody'" in answer["foreign registry"]


def test_registered_models(answer: dict[str, Any]) -> None:
    assert answer["registered"] == "local/model-registry/Registered:v0" and answer["twice"] == "v0"
    assert answer["model"] == "weights"


def test_what_cannot_be_linked_says_why(answer: dict[str, Any]) -> None:
    assert "net is a collection that versions are logged to" in answer["to a sequence"]
    assert "'shelf:v1' is not a valid collection name" in answer["to a version"]
    assert "shelf is a collection of links" in answer["log to a portfolio"]
    assert "shelf is of type model; it cannot also be of type dataset" in answer["of another type"]


def test_aliases_of_a_link_are_its_own(answer: dict[str, Any]) -> None:
    assert answer["saved"] == [["latest", "more", "there"], ["latest"]]


def test_unlinking_keeps_the_version(answer: dict[str, Any]) -> None:
    left, twice, exists = answer["unlinked"]
    assert [name for name, _ in left] == ["local/links/shelf:v1"] and exists
    assert "the version is not linked to that collection" in twice
    assert "is not a linked artifact" in answer["unlink a source"]


def test_deletion(answer: dict[str, Any]) -> None:
    assert answer["latest"] == "net:v0" and answer["deleted link"] == [True, "v0"]
    assert "still has the aliases" in answer["aliased"] and answer["deleted source"] == [False, False]
