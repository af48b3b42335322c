"""The parts of another W&B server's answers that push and pull read, and the check that an answer has them.

No answer is trusted: a field of another type, or a number beyond SQLite's, is an error of one line.
"""

from __future__ import annotations

import itertools
import re
import typing
from types import NoneType, UnionType
from typing import Any, TypedDict, TypeVar

from wandb_tl.local.errors import RemoteError

Answer = TypeVar("Answer")

MOST_LINES = 2**53
# JSON can have halves of a character, which no address and no file can.
HALVES = re.compile("[\ud800-\udfff]")


class Viewer(TypedDict):
    entity: str


class Feature(TypedDict):
    name: str
    isEnabled: bool


class ServerInfo(TypedDict):
    features: list[Feature]


class Who(TypedDict):
    """The user of the key, None if the server does not know the key."""

    viewer: Viewer | None
    serverInfo: ServerInfo


class SweepThere(TypedDict):
    """A sweep of the other server."""

    id: str
    name: str


class SweepParent(TypedDict):
    sweep: SweepThere | None


class SweepFound(TypedDict):
    project: SweepParent | None


class SweepMade(TypedDict):
    sweep: SweepThere


class UpsertSweep(TypedDict):
    upsertSweep: SweepMade


class RunThere(TypedDict):
    """A run as the other server describes it."""

    id: str
    state: str
    sweepName: str | None
    historyLineCount: int
    eventsLineCount: int
    logLineCount: int


class RunParent(TypedDict):
    bucket: RunThere | None


class RunFound(TypedDict):
    model: RunParent | None


class FileThere(TypedDict):
    name: str
    md5: str | None


class Edge(TypedDict):
    node: dict[str, Any]


class PageInfo(TypedDict):
    endCursor: str | None
    hasNextPage: bool


class Page(TypedDict):
    """A page of a connection, whose nodes are yet to be checked."""

    edges: list[Edge]
    pageInfo: PageInfo


class UploadedFile(TypedDict):
    name: str
    uploadUrl: str


class RunFiles(TypedDict):
    uploadHeaders: list[str] | None
    files: list[UploadedFile]


class CreateRunFiles(TypedDict):
    createRunFiles: RunFiles


class VersionThere(TypedDict):
    """A version of an artifact on the other server."""

    id: str
    state: str


class VersionParent(TypedDict):
    artifact: VersionThere


class CreateArtifact(TypedDict):
    createArtifact: VersionParent


class ManifestThere(TypedDict):
    id: str


class ManifestParent(TypedDict):
    artifactManifest: ManifestThere


class CreateManifest(TypedDict):
    createArtifactManifest: ManifestParent


class Upload(TypedDict):
    """Where to upload a file; None for a file that the other server has."""

    uploadUrl: str | None
    uploadHeaders: list[str] | None


class NewFile(TypedDict):
    uploadUrl: str
    uploadHeaders: list[str] | None


class ManifestUpload(TypedDict):
    file: NewFile


class ManifestUploadParent(TypedDict):
    artifactManifest: ManifestUpload


class UploadManifest(TypedDict):
    createArtifactManifest: ManifestUploadParent


class UploadEdge(TypedDict):
    node: Upload


class UploadPage(TypedDict):
    edges: list[UploadEdge]


class UploadsParent(TypedDict):
    files: UploadPage


class CreateArtifactFiles(TypedDict):
    createArtifactFiles: UploadsParent


# ---- what a pull reads -----------------------------------------------------------------------------------


class SweepPulled(TypedDict):
    config: str
    displayName: str | None
    description: str | None


class SweepPulledParent(TypedDict):
    sweep: SweepPulled | None


class SweepToPull(TypedDict):
    project: SweepPulledParent | None


class RunPulled(TypedDict):
    name: str
    displayName: str | None
    state: str
    config: str | None
    summaryMetrics: str | None
    tags: list[str] | None
    group: str | None
    jobType: str | None
    description: str | None
    notes: str | None
    commit: str | None
    host: str | None
    sweepName: str | None
    eventsLineCount: int | None
    historyKeys: dict[str, Any] | None


class RunLines(TypedDict):
    """Lines of a run's history or events."""

    lines: list[str]


class RunLinesParent(TypedDict):
    run: RunLines


class LinesPulled(TypedDict):
    project: RunLinesParent


class ConsoleLine(TypedDict):
    number: int
    timestamp: str | None
    level: str | None
    label: str | None
    line: str


class FilePulled(TypedDict):
    """A file of an artifact."""

    name: str
    directUrl: str


class RunFilePulled(FilePulled):
    md5: str | None
    sizeBytes: int | None


class Named(TypedDict):
    name: str


class AliasPulled(TypedDict):
    alias: str
    artifactCollection: Named


class ManifestFile(TypedDict):
    directUrl: str


class ManifestPulled(TypedDict):
    file: ManifestFile


class VersionState(TypedDict):
    state: str


class VersionPulled(TypedDict):
    """A complete version."""

    id: str
    digest: str
    digestAlgorithm: str | None
    description: str | None
    metadata: str | None
    historyStep: int | None
    ttlDurationSeconds: Any  # a number below 0 stands for none
    versionIndex: int | None
    tags: list[Named]
    aliases: list[AliasPulled]
    artifactSequence: Named
    artifactType: Named
    currentManifest: ManifestPulled


class ClientId(TypedDict):
    serverID: str


class ClientIdFound(TypedDict):
    clientIDMapping: ClientId | None


def checked(value: Any, kind: type[Answer], server: str, place: str = "data") -> Answer:
    """The value, if it has the form of this TypedDict. RemoteError otherwise, which names the place."""
    if problem := _misfit(value, kind, place):
        raise RemoteError(f"{server} answers as no W&B server does: {problem}")
    return typing.cast(Answer, value)


def _misfit(value: Any, kind: Any, place: str) -> str:
    """What is wrong with a value; empty if it is of this kind."""
    if kind is Any:
        return ""
    if typing.is_typeddict(kind):
        if not isinstance(value, dict):
            return f"{place} is not an object"
        hints = typing.get_type_hints(kind)
        problems = (
            _misfit(value[key], hint, f"{place}.{key}") for key, hint in hints.items() if key in value
        )
        missing = (f"{place} has no {key}" for key in hints if key not in value)
        return next(filter(None, itertools.chain(problems, missing)), "")
    if typing.get_origin(kind) is dict:
        return "" if isinstance(value, dict) else f"{place} is not an object"
    if typing.get_origin(kind) is list:
        if not isinstance(value, list):
            return f"{place} is not a list"
        [item] = typing.get_args(kind)
        return next(filter(None, (_misfit(one, item, place) for one in value)), "")
    if typing.get_origin(kind) in (UnionType, typing.Union):
        # None, and one other kind.
        [other] = [one for one in typing.get_args(kind) if one is not NoneType]
        return "" if value is None else _misfit(value, other, place)
    fits = type(value) is kind
    if kind is int:
        fits = fits and 0 <= value < MOST_LINES
    elif kind is str:
        fits = fits and not HALVES.search(value)
    return "" if fits else f"{place} is not a valid {kind.__name__}"
