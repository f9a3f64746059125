"""Everything Bob can try with what is Ada's where there is no tool: resources, prompts, hints."""

import json
from dataclasses import dataclass
from typing import Any, Final, Self

import pytest

from schema.common import ids
from schema.common.ids import Kind
from schema.db.database import Database
from tests.conftest import JobFactory
from tests.service.attack import BOBS, Answer, Way, send
from tests.service.lives import LIVES, Worker, lived
from tests.service.stand_in import ADAS, post, shown

TEMPLATES: Final = {
    "job://{id}": Kind.JOB,
    "job://{id}/logs": Kind.JOB,
    "workspace://{id}": Kind.WORKSPACE,
}
"""What can be read, and what its address names."""
HANDLES: Final = {"job_id": Kind.JOB, "job_ids": Kind.JOB, "workspace_id": Kind.WORKSPACE}
"""Arguments of prompts that name something of somebody's."""
NAMES_NOTHING: Final = {"task", "flavor", "state"}
BESIDES: Final = {"task": "Print 1."}
"""What a prompt cannot do without."""


@dataclass(frozen=True)
class Surface:
    """What the service lists to whoever may see it all."""

    templates: list[str]
    prompts: dict[str, dict[str, bool]]

    @classmethod
    async def of(cls, url: str) -> Self:
        """Read the lists."""
        listed = (await post(url, "resources/templates/list")).json()["result"]
        prompts = (await post(url, "prompts/list")).json()["result"]["prompts"]
        return cls(
            [template["uriTemplate"] for template in listed["resourceTemplates"]],
            {
                prompt["name"]: {each["name"]: each["required"] for each in prompt["arguments"]}
                for prompt in prompts
            },
        )

    def asking(self, kind: Kind, handle: str) -> list[tuple[str, dict[str, Any]]]:
        """Return every request that asks for a handle of that kind."""
        reads: list[tuple[str, dict[str, Any]]] = [
            ("resources/read", {"uri": template.replace("{id}", handle)})
            for template in self.templates
            if TEMPLATES[template] is kind
        ]
        gets: list[tuple[str, dict[str, Any]]] = [
            ("prompts/get", {"name": name, "arguments": self._given(arguments, place, handle)})
            for name, arguments in self.prompts.items()
            for place in arguments
            if HANDLES.get(place) is kind
        ]
        assert reads
        assert gets
        return reads + gets

    def _given(self, arguments: dict[str, bool], place: str, handle: str) -> dict[str, str]:
        needed = {name: BESIDES[name] for name in arguments if name in BESIDES}
        return {**needed, place: handle}


@pytest.fixture
async def surface(service: str) -> Surface:
    """All there is to attack."""
    return await Surface.of(service)


def not_there(answer: Answer) -> bool:
    """Whether that is what is said of something that does not exist."""
    said = b'"Unknown resource: ', b'{"holdfast/error":{"code":"NotFound"}}'
    return b'"code":-32602' in answer.body and any(each in answer.body for each in said)


async def test_whoever_adds_one_says_what_it_names(surface: Surface) -> None:
    """An address or an argument nobody thought about would be the one that is not attacked."""
    arguments = {name for each in surface.prompts.values() for name in each}

    assert sorted(surface.templates) == sorted(TEMPLATES)
    assert arguments - HANDLES.keys() - NAMES_NOTHING == set()


@pytest.mark.parametrize("life", LIVES)
async def test_a_foreign_job_is_not_told_from_none(
    service: str, surface: Surface, database: Database, make_job: JobFactory, life: str
) -> None:
    """Whatever became of it: neither its address nor a prompt about it tells that it is there."""
    foreign = ids.write(Kind.JOB, (await lived(Worker(database), make_job, life)).id)
    nobodys = ids.write(Kind.JOB, ids.new_id())

    for (method, theirs), (_, none) in zip(
        surface.asking(Kind.JOB, foreign), surface.asking(Kind.JOB, nobodys), strict=True
    ):
        for way in (Way.LEGACY, Way.MODERN):
            hidden = await send(service, way, method, theirs, BOBS)
            absent = await send(service, way, method, none, BOBS)
            assert hidden.about(foreign) == absent.about(nobodys), f"{theirs}, {way}"
            assert not_there(absent), f"{none}: {absent.body!r}"
        hers = await send(service, Way.MODERN, method, theirs, ADAS)
        assert not not_there(hers), f"{theirs}: nothing was attacked"


async def test_a_foreign_workspace_is_not_told_from_none(service: str, surface: Surface) -> None:
    """Nor is the name of a piece of work, or what happens in it."""
    foreign = (await shown(service, "create_workspace", name="hers"))["workspace_id"]
    nobodys = ids.write(Kind.WORKSPACE, ids.new_id())

    for (method, theirs), (_, none) in zip(
        surface.asking(Kind.WORKSPACE, foreign),
        surface.asking(Kind.WORKSPACE, nobodys),
        strict=True,
    ):
        for way in (Way.LEGACY, Way.MODERN):
            hidden = await send(service, way, method, theirs, BOBS)
            absent = await send(service, way, method, none, BOBS)
            assert hidden.about(foreign) == absent.about(nobodys), f"{theirs}, {way}"
            assert not_there(absent), f"{none}: {absent.body!r}"
        hers = await send(service, Way.MODERN, method, theirs, ADAS)
        assert not not_there(hers), f"{theirs}: nothing was attacked"


@pytest.mark.parametrize(
    "uri",
    [
        *("job://", "job://x", "job://job_", "job:///logs", "job://%00", "job://..%2F..%2Fetc"),
        *("job://{id}", "workspace://job_{id}", "file:///etc/passwd", "job://ws_{id}/logs", "x"),
        *("job://job_{id}/logs/", "job://job_{id}?x=1", "job://job_{id}#x", "JOB://job_{id}"),
    ],
)
async def test_an_address_that_never_was_is_answered_like_a_foreign_one(
    service: str, uri: str, make_job: JobFactory
) -> None:
    """One answer for all that cannot be read leaves nothing to compare."""
    handle = ids.write(Kind.JOB, (await make_job()).id)
    given = uri.replace("job_{id}", handle)

    for way in (Way.LEGACY, Way.MODERN):
        odd = await send(service, way, "resources/read", {"uri": given}, ADAS)
        foreign = await send(service, way, "resources/read", {"uri": f"job://{handle}"}, BOBS)
        told = [odd.about(given), foreign.about(f"job://{handle}")]
        assert told[0].body == told[1].body, way
        assert told[0].status == told[1].status


async def test_nobody_is_offered_what_is_anothers(
    service: str, surface: Surface, make_job: JobFactory
) -> None:
    """A hint after one letter would be a list of everything."""
    job = ids.write(Kind.JOB, (await make_job()).id)
    workspace = (await shown(service, "create_workspace", name="hers"))["workspace_id"]
    foreign = {Kind.JOB: job, Kind.WORKSPACE: workspace}
    places = [
        ({"type": "ref/resource", "uri": uri}, "id", foreign[TEMPLATES[uri]]) for uri in TEMPLATES
    ]
    places += [
        ({"type": "ref/prompt", "name": prompt}, name, foreign[HANDLES[name]])
        for prompt, arguments in surface.prompts.items()
        for name in arguments.keys() & HANDLES.keys()
    ]

    for ref, name, handle in places:
        for begun in ("", handle[:5], handle):
            params = {"ref": ref, "argument": {"name": name, "value": begun}}
            for way in (Way.LEGACY, Way.MODERN):
                offered = await send(service, way, "completion/complete", params, BOBS)
                assert json.loads(offered.body)["result"]["completion"]["values"] == []
        hers = await send(service, Way.LEGACY, "completion/complete", params, ADAS)
        assert json.loads(hers.body)["result"]["completion"]["values"] == [handle]


async def test_nothing_of_anybody_elses_is_listed(service: str, make_job: JobFactory) -> None:
    """The list is the caller's own, and says that nobody else may be shown it."""
    handle = ids.write(Kind.JOB, (await make_job()).id)

    for way in (Way.LEGACY, Way.MODERN):
        theirs = json.loads((await send(service, way, "resources/list", {}, BOBS)).body)["result"]
        hers = json.loads((await send(service, way, "resources/list", {}, ADAS)).body)["result"]
        assert theirs["resources"] == []
        assert [each["uri"] for each in hers["resources"]] == [f"job://{handle}"]


async def test_a_foreign_job_among_ones_own_is_not_compared(
    service: str, make_job: JobFactory
) -> None:
    """One's own jobs are no ticket to another's."""
    own = (await shown(service, "launch_job", by=BOBS, image="i", command="c"))["job_id"]
    await shown(service, "cancel_job", by=BOBS, job_id=own)
    foreign = ids.write(Kind.JOB, (await make_job()).id)
    nobodys = ids.write(Kind.JOB, ids.new_id())

    for way in (Way.LEGACY, Way.MODERN):
        answers = [
            await send(
                service,
                way,
                "prompts/get",
                {"name": "compare_runs", "arguments": {"job_ids": f"{own},{handle}"}},
                BOBS,
            )
            for handle in (foreign, nobodys)
        ]
        assert answers[0].about(foreign) == answers[1].about(nobodys)
        assert not_there(answers[0])
