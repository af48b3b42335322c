"""The inputs of mutations, as in schema/*.graphql. artifacts/inputs.py has those that artifacts work with.

A key of a field that may be null can be missing, too.
"""

from __future__ import annotations

from typing import NotRequired, TypedDict

from wandb_tl.local.artifacts.inputs import ArtifactFileInput, TagInput


class IdInput(TypedDict):
    """DeleteViewInput, DeleteModelInput and RunIdInput."""

    id: str


class ArtifactTypeInput(TypedDict):
    name: str


class UpsertModelInput(TypedDict):
    entityName: NotRequired[str | None]
    name: NotRequired[str | None]
    description: NotRequired[str | None]
    access: NotRequired[str | None]
    allowAllArtifactTypesInRegistry: NotRequired[bool | None]
    artifactTypes: NotRequired[list[ArtifactTypeInput] | None]


class RenameProjectInput(TypedDict):
    entityName: str
    oldProjectName: str
    newProjectName: str


class UpsertViewInput(TypedDict):
    """spec is the JSON of an object."""

    id: NotRequired[str | None]
    entityName: NotRequired[str | None]
    projectName: NotRequired[str | None]
    type: NotRequired[str | None]
    name: NotRequired[str | None]
    displayName: NotRequired[str | None]
    description: NotRequired[str | None]
    spec: NotRequired[str | None]


# ---- runs ------------------------------------------------------------------------------------------------


class UpsertBucketInput(TypedDict):
    """A run to create, start, resume or change. config and summaryMetrics are the JSON of objects."""

    id: NotRequired[str | None]
    name: NotRequired[str | None]
    modelName: NotRequired[str | None]
    entityName: NotRequired[str | None]
    groupName: NotRequired[str | None]
    jobType: NotRequired[str | None]
    displayName: NotRequired[str | None]
    description: NotRequired[str | None]
    notes: NotRequired[str | None]
    commit: NotRequired[str | None]
    tags: NotRequired[list[str] | None]
    config: NotRequired[str | None]
    summaryMetrics: NotRequired[str | None]
    state: NotRequired[str | None]
    host: NotRequired[str | None]
    jobProgram: NotRequired[str | None]
    jobRepo: NotRequired[str | None]
    sweep: NotRequired[str | None]


class DeleteRunInput(TypedDict):
    id: str
    deleteArtifacts: NotRequired[bool | None]


class UpdateRunStateInput(TypedDict):
    id: str
    state: str


class RunNameInput(TypedDict):
    """The fields by which several inputs name a run."""

    entityName: NotRequired[str | None]
    projectName: NotRequired[str | None]
    runName: str


class RunFilesInput(RunNameInput):
    """CreateRunFilesInput and MarkRunFilesUploadedInput."""

    files: list[str]


class DeleteFilesInput(TypedDict):
    files: list[str]


class RewindRunInput(RunNameInput):
    metricName: str
    metricValue: float


class AlertInput(RunNameInput):
    """NotifyScriptableRunAlertInput."""

    title: str
    text: str
    severity: str
    waitDuration: NotRequired[int | None]


# ---- sweeps ----------------------------------------------------------------------------------------------


class UpsertSweepInput(TypedDict):
    """config is YAML; priorRunsFilters is a filter of runs in JSON: they join the sweep."""

    id: NotRequired[str | None]
    config: NotRequired[str | None]
    description: NotRequired[str | None]
    displayName: NotRequired[str | None]
    entityName: NotRequired[str | None]
    projectName: NotRequired[str | None]
    state: NotRequired[str | None]
    controller: NotRequired[str | None]
    scheduler: NotRequired[str | None]
    priorRunsFilters: NotRequired[str | None]


class EnqueueSweepRunInput(TypedDict):
    """config is JSON: {parameter: {value: ...}}."""

    id: str
    config: str
    displayName: NotRequired[str | None]


class CreateAgentInput(TypedDict):
    host: str
    projectName: NotRequired[str | None]
    entityName: NotRequired[str | None]
    sweep: str


class AgentHeartbeatInput(TypedDict):
    """runState is JSON: {run name: whether its process is alive}."""

    id: str
    runState: NotRequired[str | None]


# ---- artifacts -------------------------------------------------------------------------------------------


class ArtifactIdInput(TypedDict):
    artifactID: str


class DeleteArtifactInput(ArtifactIdInput):
    deleteAliases: NotRequired[bool | None]


class UseArtifactInput(RunNameInput):
    artifactID: str


class UnlinkArtifactInput(ArtifactIdInput):
    artifactPortfolioID: str


class CollectionNameInput(TypedDict):
    """The fields by which several inputs name a collection."""

    entityName: NotRequired[str | None]
    projectName: NotRequired[str | None]
    artifactCollectionName: str


class ArtifactCollectionAliasInput(CollectionNameInput):
    alias: str


class AliasesInput(ArtifactIdInput):
    """AddAliasesInput and DeleteAliasesInput."""

    aliases: list[ArtifactCollectionAliasInput]


class CollectionTagsInput(CollectionNameInput):
    """CreateArtifactCollectionTagAssignmentsInput and DeleteArtifactCollectionTagAssignmentsInput."""

    tags: list[TagInput]


class MoveArtifactSequenceInput(TypedDict):
    artifactSequenceID: str
    destinationArtifactTypeName: str


class CreateArtifactFilesInput(TypedDict):
    artifactFiles: list[ArtifactFileInput]


class UpdateArtifactManifestInput(TypedDict):
    artifactManifestID: str
    digest: NotRequired[str | None]
    baseArtifactID: NotRequired[str | None]


class ManifestEntryInput(TypedDict):
    """ArtifactManifestEntryInput."""

    name: NotRequired[str | None]
    digest: NotRequired[str | None]
