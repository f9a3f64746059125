"""The workspace tools, over HTTP."""

from schema.common import ids
from schema.common.ids import HandleKind
from tests.support.mcp.client import answer_text, call_for_result, call_tool, read_refusal


async def test_asking_for_a_name_twice_gives_the_same_workspace(service_url: str) -> None:
    """A model that repeats itself does not litter."""
    first = await call_for_result(service_url, "create_workspace", name="  llama ")
    again = await call_for_result(service_url, "create_workspace", name="llama")

    assert (first["created"], again["created"]) == (True, False)
    assert first["workspace_id"] == again["workspace_id"]


async def test_a_workspace_counts_and_lists_its_jobs(service_url: str) -> None:
    """A group is there to be looked at as one."""
    workspace = (await call_for_result(service_url, "create_workspace", name="llama"))[
        "workspace_id"
    ]
    job = await call_for_result(
        service_url, "launch_job", image="python:3.12", command="true", workspace_id=workspace
    )
    await call_for_result(service_url, "launch_job", image="python:3.12", command="true")

    [listed] = (await call_for_result(service_url, "list_workspaces"))["workspaces"]
    [inside] = (await call_for_result(service_url, "list_jobs", workspace_id=workspace))["jobs"]

    assert (listed["jobs"], listed["open_jobs"]) == (1, 1)
    assert (inside["job_id"], inside["workspace_id"]) == (job["job_id"], workspace)


async def test_a_foreign_workspace_is_not_told_from_one_that_does_not_exist(
    service_url: str,
) -> None:
    """Nothing is launched into, or listed from, what is somebody else's."""
    foreign = (await call_for_result(service_url, "create_workspace", name="llama"))["workspace_id"]
    nobodys = ids.format_handle(HandleKind.WORKSPACE, ids.new_id())
    request = {"image": "python:3.12", "command": "true"}

    for tool, arguments in (("launch_job", request), ("list_jobs", {})):
        answers = [
            await call_tool(
                service_url, tool, caller_token="hf_bob", **arguments, workspace_id=each
            )
            for each in (foreign, nobodys)
        ]
        assert read_refusal(answers[0])["code"] == "NotFound"
        assert answer_text(answers[0]).replace(foreign, nobodys) == answer_text(answers[1])
    assert (await call_for_result(service_url, "list_workspaces", caller_token="hf_bob"))[
        "workspaces"
    ] == []


async def test_workspaces_are_listed_page_by_page(service_url: str) -> None:
    """Every workspace is on exactly one page."""
    made = [
        await call_for_result(service_url, "create_workspace", name=name)
        for name in ("a", "b", "c")
    ]

    first = await call_for_result(service_url, "list_workspaces", limit=2)
    rest = await call_for_result(
        service_url, "list_workspaces", limit=2, cursor=first["next_cursor"]
    )

    listed = [each["workspace_id"] for each in first["workspaces"] + rest["workspaces"]]
    assert listed == sorted((each["workspace_id"] for each in made), reverse=True)
    assert rest["next_cursor"] is None
