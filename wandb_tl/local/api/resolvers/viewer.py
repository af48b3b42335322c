"""Who asks, and what the server can do."""

from __future__ import annotations

from wandb_tl.local.api.context import Info, Payload, Resolvers
from wandb_tl.local.errors import RequestError
from wandb_tl.local.records.names import DEFAULT_ENTITY, encode_id, user_name

# The client's names of what this server implements.
FEATURES = (
    "ARTIFACT_COLLECTIONS_FILTERING_SORTING",
    "ARTIFACT_COLLECTION_MEMBERSHIP_FILES",
    "ARTIFACT_COLLECTION_MEMBERSHIP_FILE_DOWNLOAD_HANDLER",
    "ARTIFACT_DIGEST_ALGORITHM",
    "ARTIFACT_MEMBERSHIP_IN_LINK_ARTIFACT_RESPONSE",
    "ARTIFACT_REGISTRY_SEARCH",
    "ARTIFACT_TAGS",
    "ARTIFACT_V2_DOWNLOAD_HANDLER_SUPPORTS_ARTIFACT_ID",
    "CLIENT_IDS",
    "FILESTREAM_GZIP",
    "INCLUDE_ARTIFACT_TYPES_IN_REGISTRY_CREATION",
    "LARGE_FILENAMES",
    "MARK_RUN_FILES_UPLOADED",
    "PROJECT_ARTIFACT_COLLECTION_MEMBERSHIP",
    "STRUCTURED_CONSOLE_LOGS",
    "SWEEPS_LOCAL_SCHEDULER",
    "SWEEPS_QUERY_FILTERING",
    "TOTAL_COUNT_IN_FILE_CONNECTION",
    "UPDATE_RUN_STATE",
    "USE_ARTIFACT_WITH_ENTITY_AND_PROJECT_INFORMATION",
)

# The releases of the wandb client that this server supports; `wandb verify` compares its own.
CLI_VERSIONS = {"min_cli_version": "0.28.0", "max_cli_version": "0.31.0"}


def user(*_: object, **__: object) -> Payload:
    """The only user: the holder of the key."""
    name = user_name()
    return {
        "kind": "User",
        "id": encode_id("User", 1),
        "name": name,
        "username": name,
        "email": "",
        "entity": DEFAULT_ENTITY,
        "admin": True,
        "flags": "{}",
        # W&B counts a user's own entity as a team of one member; scripts look there for an entity to use.
        "teams": {"edges": [{"node": {"name": DEFAULT_ENTITY}}]},
        "api_keys": {"edges": []},
        "organizations": [],
    }


def users(_row: object, _info: Info, query: str | None = None) -> Payload:
    return {"edges": [] if query and query != user_name() else [{"node": user()}]}


def server_info(*_: object) -> Payload:
    features = [{"name": name, "is_enabled": True} for name in FEATURES]
    return {"features": features, "cli_version_info": CLI_VERSIONS}


def entity(_row: object, info: Info, name: str | None = None) -> Payload:
    name = name or DEFAULT_ENTITY
    return {
        "id": encode_id(f"Entity:{name}", 0),
        "name": name,
        "entity_type": "organization",
        "user": user() | {"organizations": lambda: _organizations(info)},
        "available": False,
        "read_only": False,
        "read_only_admin": False,
        "is_team": False,
        "private_only": True,
        "storage_bytes": lambda: info.context.db.value("SELECT coalesce(sum(size), 0) FROM blob"),
        "code_saving_enabled": True,
        "default_access": "PRIVATE",
        "is_paid": False,
        # Registry paths ([ORGANIZATION/]wandb-registry-NAME/COLLECTION) lead to the projects of an
        # organization: here every entity is one.
        "organization": _organization(info, name),
        "xxhash_digests_enabled": True,
    }


def organization(_row: object, info: Info, name: str) -> Payload | None:
    """The entity as an organization, if it is the user's own or has projects."""
    used = info.context.db.value("SELECT 1 FROM project WHERE entity = ?", name)
    return _organization(info, name) if used or name == DEFAULT_ENTITY else None


def members(row: Payload, _info: Info) -> list[Payload]:
    """The user, of the user's own entity. Raises RequestError for the others: they are not teams."""
    if row["name"] == DEFAULT_ENTITY:
        return [user() | {"account_type": "USER"}]
    raise RequestError(f"team {row['name']} not found: this server has one user, and no teams")


def _organization(info: Info, name: str) -> Payload:
    identity = encode_id(f"Organization:{name}", 0)
    return {"id": identity, "name": name, "org_entity": lambda: entity(None, info, name)}


def _organizations(info: Info) -> list[Payload]:
    rows = info.context.db.all("SELECT DISTINCT entity FROM project")
    return [_organization(info, row["entity"]) for row in rows]


RESOLVERS: Resolvers = {
    "Query": {
        "viewer": user,
        "users": users,
        "serverInfo": server_info,
        "entity": entity,
        "organization": organization,
    },
    "Entity": {"members": members},
}
