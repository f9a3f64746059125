"""The scopes that a launch needs, by what its request reads and writes at the Hub.

They are asked for before anything is made, so that no job fails for want of one. Arguments are read
leniently here: what is wrong with them the tool itself says.
"""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final, cast

import pydantic_core
from pydantic import TypeAdapter, ValidationError

from schema.common.errors import HoldfastError
from schema.specs.image import Image, image_source
from schema.specs.inference import accepted_media_types
from schema.specs.inputs.hub_uri import HubUri
from schema.specs.space import SpaceName
from schema.specs.volumes import Volume, Volumes, parse_volume
from service.auth.caller import Caller, Scope
from service.jobs import operations
from service.runtime.context import App
from service.views.job_kinds import describe_kind

_VOLUMES: Final[TypeAdapter[list[str]]] = TypeAdapter(Volumes)
_IMAGE: Final[TypeAdapter[str]] = TypeAdapter(Image)
_SPACE: Final[TypeAdapter[str]] = TypeAdapter(SpaceName)


async def find_job_scopes(
    app: App, caller: Caller, arguments: Mapping[str, Any]
) -> frozenset[Scope]:
    """Find the scopes that launch_job needs."""
    return await _find_scopes(app, caller, Scope.JOBS, arguments)


async def find_call_scopes(
    app: App, caller: Caller, arguments: Mapping[str, Any]
) -> frozenset[Scope]:
    """Find the scopes that launch_inference or launch_space_call needs."""
    return await _find_scopes(app, caller, Scope.INFERENCE, arguments)


async def find_retry_scopes(
    app: App, caller: Caller, arguments: Mapping[str, Any]
) -> frozenset[Scope]:
    """Find the scopes that retry_job needs: those of the earlier request, with its overrides."""
    try:
        async with app.transaction(caller) as tx:
            earlier = await operations.find_job(tx, caller, str(arguments.get("job_id")))
    except HoldfastError:
        return frozenset()  # the tool says what is wrong
    overrides = _unpack(arguments.get("overrides"))
    fields = dict(earlier.spec)
    if isinstance(overrides, dict):
        fields |= cast("dict[str, Any]", overrides)
    return await _find_scopes(app, caller, describe_kind(earlier.kind).scope, fields)


async def find_schedule_scopes(
    app: App, caller: Caller, arguments: Mapping[str, Any]
) -> frozenset[Scope]:
    """Find the scopes that create_schedule needs: those of what it launches."""
    for name, scope in (
        ("job", Scope.JOBS),
        ("inference", Scope.INFERENCE),
        ("space", Scope.INFERENCE),
    ):
        fields = _unpack(arguments.get(name))
        if isinstance(fields, dict):
            return await _find_scopes(app, caller, scope, cast("dict[str, Any]", fields))
    return frozenset()


async def _find_scopes(
    app: App, caller: Caller, scope: Scope, fields: Mapping[str, Any]
) -> frozenset[Scope]:
    volumes = _read_volumes(_unpack(fields.get("volumes")))
    sources = {(f"{volume.kind}s", volume.source) for volume in volumes if volume.read_only}
    sources |= _read_spaces(fields)
    sources |= _read_files(fields.get("items_from"), is_uri=True)
    sources |= _read_files(fields.get("script"), is_uri=True)
    sources |= _read_files(fields.get("inputs"), is_uri=_takes_bytes(fields))
    sources |= _read_files(_unpack(fields.get("items")), is_uri=_takes_bytes(fields))
    sources |= _read_files(_unpack(fields.get("arguments")), is_uri=True)
    scopes = {scope}
    if _unpack(fields.get("outputs")) or any(not volume.read_only for volume in volumes):
        scopes.add(Scope.CONTRIBUTE_REPOS)
    if sources and (
        Scope.READ_REPOS in caller.scopes or not await _can_read_all(app, caller, sources)
    ):
        scopes.add(Scope.READ_REPOS)
    return frozenset(scopes)


async def _can_read_all(app: App, caller: Caller, sources: set[tuple[str, str]]) -> bool:
    """Ask the Hub whether the token sees everything: what is public needs no scope."""
    for kind, name in sorted(sources):
        if not await app.token_verifier.can_read(caller, kind, name):
            return False
    return True


def _unpack(value: Any) -> Any:
    """Unpack JSON that a client wrote into a string, as the tool does."""
    if isinstance(value, str) and value.lstrip()[:1] in {"[", "{"}:
        with suppress(ValueError):
            return pydantic_core.from_json(value)
    return value


def _read_volumes(value: Any) -> list[Volume]:
    try:
        return [parse_volume(text) for text in _VOLUMES.validate_python(value)]
    except ValidationError:
        return []


def _read_spaces(fields: Mapping[str, Any]) -> set[tuple[str, str]]:
    names: list[str] = []
    with suppress(ValidationError):
        names += [image_source(_IMAGE.validate_python(fields.get("image"))).get("spaceId", "")]
    with suppress(ValidationError):
        names += [_SPACE.validate_python(fields.get("space"))]
    return {("spaces", name) for name in names if name}


def _takes_bytes(fields: Mapping[str, Any]) -> bool:
    """Say whether a task works on bytes: a text is the address of a file then."""
    return bool(accepted_media_types(str(fields.get("task"))))


def _read_files(value: Any, *, is_uri: bool = False) -> set[tuple[str, str]]:
    """Return the repositories of all files of the Hub in an input: `{"url": "hf://…"}`.

    Args:
        value: an input, with all that is in it.
        is_uri: whether a text in it may be the URI of a file, and not only below `url`.
    """
    match value:
        case str() if is_uri:
            with suppress(ValueError):
                uri = HubUri.parse(value.strip())
                return {(uri.kind, uri.repo)}
            return set()
        case dict():
            parts = [
                _read_files(part, is_uri=is_uri or name == "url")
                for name, part in cast("dict[str, Any]", value).items()
            ]
        case [*members]:
            parts = [_read_files(member, is_uri=is_uri) for member in members]
        case _:
            return set()
    return set[tuple[str, str]]().union(*parts)
