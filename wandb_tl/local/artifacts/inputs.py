"""What clients send about artifacts: the inputs of schema/artifacts.graphql that this folder works with.

Keys are as in the schema. A key of a field that may be null can be missing, too.
"""

from __future__ import annotations

from typing import Any, NotRequired, TypedDict


class ArtifactAliasInput(TypedDict):
    artifactCollectionName: str
    alias: str


class TagInput(TypedDict):
    tagName: str


class CreateArtifactInput(TypedDict):
    """clientID, sequenceClientID: ids that the client invented, see the table client_id."""

    entityName: NotRequired[str | None]
    projectName: NotRequired[str | None]
    runName: NotRequired[str | None]
    artifactTypeName: str
    artifactCollectionName: NotRequired[str | None]
    artifactCollectionNames: NotRequired[list[str] | None]
    digest: str
    digestAlgorithm: NotRequired[str | None]
    description: NotRequired[str | None]
    metadata: NotRequired[str | None]
    aliases: NotRequired[list[ArtifactAliasInput] | None]
    tags: NotRequired[list[TagInput] | None]
    historyStep: NotRequired[int | None]
    clientID: NotRequired[str | None]
    sequenceClientID: NotRequired[str | None]
    distributedID: NotRequired[str | None]
    enableDigestDeduplication: NotRequired[bool | None]
    ttlDurationSeconds: NotRequired[int | None]
    storageRegion: NotRequired[str | None]


class UpdateArtifactInput(TypedDict):
    artifactID: str
    description: NotRequired[str | None]
    metadata: NotRequired[str | None]
    ttlDurationSeconds: NotRequired[int | None]
    aliases: NotRequired[list[ArtifactAliasInput] | None]
    tagsToAdd: NotRequired[list[TagInput] | None]
    tagsToDelete: NotRequired[list[TagInput] | None]


class CreateArtifactManifestInput(TypedDict):
    """type is FULL, INCREMENTAL or PATCH; digest is the base64 MD5 of the manifest file."""

    artifactID: str
    baseArtifactID: NotRequired[str | None]
    name: str
    digest: str
    type: NotRequired[str | None]


class ArtifactFileInput(TypedDict):
    """md5 is base64, empty for a large file; digest is how the manifest lists the file."""

    artifactID: str
    name: str
    digest: NotRequired[str | None]
    md5: str


class LinkArtifactInput(TypedDict, total=False):
    """artifactPortfolioID, or the portfolio's entity, project and name."""

    artifactID: str | None
    clientID: str | None
    artifactPortfolioID: str | None
    artifactPortfolioName: str | None
    entityName: str | None
    projectName: str | None
    aliases: list[ArtifactAliasInput] | None


class ManifestEntry(TypedDict, total=False):
    """A file of a manifest. ref is the address of a reference, whose bytes are not stored here."""

    digest: str | None
    size: int | None
    ref: str | None
    birthArtifactID: str
    extra: Any


Contents = dict[str, ManifestEntry]


class Manifest(TypedDict, total=False):
    """A manifest file: JSON that wandb-core writes. contents: path -> entry."""

    version: int
    storagePolicy: str
    storagePolicyConfig: dict[str, Any]
    contents: Contents
