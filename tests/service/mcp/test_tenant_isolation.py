"""Everything Bob can try with what is Ada's where there is no tool: resources, prompts, hints."""

import json
from dataclasses import dataclass
from typing import Any, Final, Self

import pytest

from schema.artifacts import files
from schema.artifacts.files import NewJobFile
from schema.common import ids
from schema.common.ids import HandleKind
from schema.db.database import Database
from service.runtime.context import HELP_URI
from tests.support.factories import JobFactory
from tests.support.jobs.handles import job_handle
from tests.support.jobs.job_states import JOB_HISTORIES, RunDriver, make_job_with_history
from tests.support.mcp.client import call_for_result, post_message
from tests.support.mcp.observed_answers import ObservedAnswer, ProtocolVariant, send_message
from tests.support.subjects import ADA_TOKEN, BOB_TOKEN

RESOURCE_TEMPLATES: Final = {
    "job://{id}": HandleKind.JOB,
    "job://{id}/logs": HandleKind.JOB,
    "job://{id}/items": HandleKind.JOB,
    "job://{id}/files/{+name}": HandleKind.JOB,
    "workspace://{id}": HandleKind.WORKSPACE,
}
"""What can be read, and what its address names."""
HANDLE_ARGUMENTS: Final = {
    "job_id": HandleKind.JOB,
    "job_ids": HandleKind.JOB,
    "workspace_id": HandleKind.WORKSPACE,
}
"""Arguments of prompts that name something of somebody's."""
HARMLESS_ARGUMENTS: Final = {"task", "flavor", "state"}
REQUIRED_ARGUMENTS: Final = {"task": "Print 1."}
"""What a prompt cannot do without."""


@dataclass(frozen=True)
class ReadSurface:
    """What the service lists to whoever may see it all."""

    templates: list[str]
    prompts: dict[str, dict[str, bool]]

    @classmethod
    async def from_service(cls, url: str) -> Self:
        """Read the lists."""
        listed = (await post_message(url, "resources/templates/list")).json()["result"]
        prompts = (await post_message(url, "prompts/list")).json()["result"]["prompts"]
        return cls(
            [template["uriTemplate"] for template in listed["resourceTemplates"]],
            {
                prompt["name"]: {each["name"]: each["required"] for each in prompt["arguments"]}
                for prompt in prompts
            },
        )

    def requests_for(self, kind: HandleKind, handle: str) -> list[tuple[str, dict[str, Any]]]:
        """Return every request that asks for a handle of that kind."""
        reads: list[tuple[str, dict[str, Any]]] = [
            (
                "resources/read",
                {"uri": template.replace("{id}", handle).replace("{+name}", "a.txt")},
            )
            for template in self.templates
            if RESOURCE_TEMPLATES[template] is kind
        ]
        gets: list[tuple[str, dict[str, Any]]] = [
            (
                "prompts/get",
                {"name": name, "arguments": self._build_arguments(arguments, place, handle)},
            )
            for name, arguments in self.prompts.items()
            for place in arguments
            if HANDLE_ARGUMENTS.get(place) is kind
        ]
        assert reads
        assert gets
        return reads + gets

    def _build_arguments(
        self, arguments: dict[str, bool], place: str, handle: str
    ) -> dict[str, str]:
        needed = {
            name: REQUIRED_ARGUMENTS[name] for name in arguments if name in REQUIRED_ARGUMENTS
        }
        return {**needed, place: handle}


@pytest.fixture
async def read_surface(service_url: str) -> ReadSurface:
    """All there is to attack."""
    return await ReadSurface.from_service(service_url)


def is_not_found(answer: ObservedAnswer) -> bool:
    """Whether that is what is said of something that does not exist."""
    fragments = b'"Unknown resource: ', b'{"holdfast/error":{"code":"NotFound"}}'
    return b'"code":-32602' in answer.body and any(each in answer.body for each in fragments)


async def test_every_resource_and_prompt_argument_says_what_it_names(
    read_surface: ReadSurface,
) -> None:
    """An address or an argument nobody thought about would be the one that is not attacked."""
    arguments = {name for each in read_surface.prompts.values() for name in each}

    assert sorted(read_surface.templates) == sorted(RESOURCE_TEMPLATES)
    assert arguments - HANDLE_ARGUMENTS.keys() - HARMLESS_ARGUMENTS == set()


@pytest.mark.parametrize("life", JOB_HISTORIES)
async def test_a_foreign_job_is_not_told_from_none(
    service_url: str, read_surface: ReadSurface, database: Database, make_job: JobFactory, life: str
) -> None:
    """Whatever became of it: neither its address nor a prompt about it tells that it is there."""
    job = await make_job_with_history(RunDriver(database), make_job, life)
    async with database.transaction() as tx:
        await files.save_files(tx, job.id, [NewJobFile.from_content("a.txt", b"mine", None)])
    foreign = job_handle(job.id)
    nobodys = job_handle(ids.new_id())

    for (method, theirs), (_, none) in zip(
        read_surface.requests_for(HandleKind.JOB, foreign),
        read_surface.requests_for(HandleKind.JOB, nobodys),
        strict=True,
    ):
        for way in (ProtocolVariant.LEGACY, ProtocolVariant.MODERN):
            hidden = await send_message(service_url, way, method, theirs, BOB_TOKEN)
            absent = await send_message(service_url, way, method, none, BOB_TOKEN)
            assert hidden.without_handle(foreign) == absent.without_handle(nobodys), (
                f"{theirs}, {way}"
            )
            assert is_not_found(absent), f"{none}: {absent.body!r}"
        hers = await send_message(service_url, ProtocolVariant.MODERN, method, theirs, ADA_TOKEN)
        assert not is_not_found(hers), f"{theirs}: nothing was attacked"


async def test_a_foreign_workspace_is_not_told_from_none(
    service_url: str, read_surface: ReadSurface
) -> None:
    """Nor is the name of a piece of work, or what happens in it."""
    foreign = (await call_for_result(service_url, "create_workspace", name="hers"))["workspace_id"]
    nobodys = ids.format_handle(HandleKind.WORKSPACE, ids.new_id())

    for (method, theirs), (_, none) in zip(
        read_surface.requests_for(HandleKind.WORKSPACE, foreign),
        read_surface.requests_for(HandleKind.WORKSPACE, nobodys),
        strict=True,
    ):
        for way in (ProtocolVariant.LEGACY, ProtocolVariant.MODERN):
            hidden = await send_message(service_url, way, method, theirs, BOB_TOKEN)
            absent = await send_message(service_url, way, method, none, BOB_TOKEN)
            assert hidden.without_handle(foreign) == absent.without_handle(nobodys), (
                f"{theirs}, {way}"
            )
            assert is_not_found(absent), f"{none}: {absent.body!r}"
        hers = await send_message(service_url, ProtocolVariant.MODERN, method, theirs, ADA_TOKEN)
        assert not is_not_found(hers), f"{theirs}: nothing was attacked"


@pytest.mark.parametrize(
    "uri",
    [
        *("job://", "job://x", "job://job_", "job:///logs", "job://%00", "job://..%2F..%2Fetc"),
        *("job://{id}", "workspace://job_{id}", "file:///etc/passwd", "job://ws_{id}/logs", "x"),
        *("job://job_{id}/logs/", "job://job_{id}?x=1", "job://job_{id}#x", "JOB://job_{id}"),
    ],
)
async def test_an_address_that_never_was_is_answered_like_a_foreign_one(
    service_url: str, uri: str, make_job: JobFactory
) -> None:
    """One answer for all that cannot be read leaves nothing to compare."""
    handle = job_handle((await make_job()).id)
    odd_uri = uri.replace("job_{id}", handle)

    for way in (ProtocolVariant.LEGACY, ProtocolVariant.MODERN):
        odd = await send_message(service_url, way, "resources/read", {"uri": odd_uri}, ADA_TOKEN)
        foreign = await send_message(
            service_url, way, "resources/read", {"uri": f"job://{handle}"}, BOB_TOKEN
        )
        answers = [odd.without_handle(odd_uri), foreign.without_handle(f"job://{handle}")]
        assert answers[0].body == answers[1].body, way
        assert answers[0].status == answers[1].status


async def test_nobody_is_offered_what_is_anothers(
    service_url: str, read_surface: ReadSurface, make_job: JobFactory
) -> None:
    """A hint after one letter would be a list of everything."""
    job = job_handle((await make_job()).id)
    workspace = (await call_for_result(service_url, "create_workspace", name="hers"))[
        "workspace_id"
    ]
    foreign = {HandleKind.JOB: job, HandleKind.WORKSPACE: workspace}
    places = [
        ({"type": "ref/resource", "uri": uri}, "id", foreign[RESOURCE_TEMPLATES[uri]])
        for uri in RESOURCE_TEMPLATES
    ]
    places += [
        ({"type": "ref/prompt", "name": prompt}, name, foreign[HANDLE_ARGUMENTS[name]])
        for prompt, arguments in read_surface.prompts.items()
        for name in arguments.keys() & HANDLE_ARGUMENTS.keys()
    ]

    for ref, name, handle in places:
        for begun in ("", handle[:5], handle):
            params = {"ref": ref, "argument": {"name": name, "value": begun}}
            for way in (ProtocolVariant.LEGACY, ProtocolVariant.MODERN):
                offered = await send_message(
                    service_url, way, "completion/complete", params, BOB_TOKEN
                )
                assert json.loads(offered.body)["result"]["completion"]["values"] == []
        hers = await send_message(
            service_url, ProtocolVariant.LEGACY, "completion/complete", params, ADA_TOKEN
        )
        assert json.loads(hers.body)["result"]["completion"]["values"] == [handle]


async def test_nothing_of_anybody_elses_is_listed(service_url: str, make_job: JobFactory) -> None:
    """The list is the caller's own, and the help page, which is everybody's."""
    handle = job_handle((await make_job()).id)

    for way in (ProtocolVariant.LEGACY, ProtocolVariant.MODERN):
        theirs = json.loads(
            (await send_message(service_url, way, "resources/list", {}, BOB_TOKEN)).body
        )["result"]
        hers = json.loads(
            (await send_message(service_url, way, "resources/list", {}, ADA_TOKEN)).body
        )["result"]
        assert [each["uri"] for each in theirs["resources"]] == [HELP_URI]
        assert [each["uri"] for each in hers["resources"]] == [f"job://{handle}", HELP_URI]


async def test_a_foreign_job_among_ones_own_is_not_compared(
    service_url: str, make_job: JobFactory
) -> None:
    """One's own jobs are no ticket to another's."""
    own = (
        await call_for_result(
            service_url, "launch_job", caller_token=BOB_TOKEN, image="i", command="c"
        )
    )["job_id"]
    await call_for_result(service_url, "cancel_job", caller_token=BOB_TOKEN, job_id=own)
    foreign = job_handle((await make_job()).id)
    nobodys = job_handle(ids.new_id())

    for way in (ProtocolVariant.LEGACY, ProtocolVariant.MODERN):
        answers = [
            await send_message(
                service_url,
                way,
                "prompts/get",
                {"name": "compare_runs", "arguments": {"job_ids": f"{own},{handle}"}},
                BOB_TOKEN,
            )
            for handle in (foreign, nobodys)
        ]
        assert answers[0].without_handle(foreign) == answers[1].without_handle(nobodys)
        assert is_not_found(answers[0])
