"""What a handle is, and what is told to somebody who holds something else."""

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schema.common import ids
from schema.common.errors import Invalid
from schema.common.ids import HandleKind


@given(st.uuids(), st.sampled_from(HandleKind))
def test_a_handle_reads_back_as_what_it_was_written_from(identity: UUID, kind: HandleKind) -> None:
    """Clients keep handles for months; none may come back as something else."""
    handle = ids.format_handle(kind, identity)

    assert len(handle) == len(kind) + 1 + 26
    assert ids.parse_handle(kind, handle) == identity
    assert ids.parse_handle(kind, f" {handle.upper()} ") == identity


@given(st.text(max_size=40))
def test_what_is_no_handle_is_refused_with_the_form_it_should_have(text: str) -> None:
    """A model that garbles a handle learns how a right one looks."""
    with pytest.raises(Invalid, match=r"job_ and 26 letters and digits"):
        ids.parse_handle(HandleKind.JOB, text)


def test_a_handle_of_the_wrong_kind_is_named_as_what_it_is() -> None:
    """Telling the two apart is most of the repair."""
    workspace = ids.format_handle(HandleKind.WORKSPACE, ids.new_id())

    with pytest.raises(Invalid, match=r"is a workspace handle; a job handle \(job_…\) goes here"):
        ids.parse_handle(HandleKind.JOB, workspace)


def test_a_value_too_large_for_an_id_is_refused() -> None:
    """26 letters hold two bits more than an id; both spellings must not name one job."""
    with pytest.raises(Invalid):
        ids.parse_handle(HandleKind.JOB, "job_" + "z" * 26)


def test_ids_are_of_version_7_and_sort_by_the_time_they_were_made() -> None:
    """Rows made together lie together, and a list ordered by id is ordered by age."""
    made = [ids.new_id() for _ in range(3)]

    assert {identity.version for identity in made} == {7}
    assert [identity.int >> 80 for identity in made] == sorted(i.int >> 80 for i in made)


@given(st.uuids(), st.uuids(), st.sampled_from(HandleKind), st.integers(0, 30))
def test_whatever_begins_like_a_handle_lies_in_its_span_and_nothing_else(
    identity: UUID, other: UUID, kind: HandleKind, letters: int
) -> None:
    """Half a handle finds by an index what it could become."""
    beginning = ids.format_handle(kind, identity)[:letters]

    span = ids.prefix_range(kind, beginning)

    assert span is not None
    assert span[0] <= identity <= span[1]
    assert (span[0] <= other <= span[1]) is ids.format_handle(kind, other).startswith(beginning)


@pytest.mark.parametrize("beginning", ["ws_", "x", "job-", "job_8", "job_u", "job_!", "job_ä"])
def test_what_no_handle_begins_with_has_no_span(beginning: str) -> None:
    """Somebody is still typing; that is no error, there is only nothing to offer."""
    assert ids.prefix_range(HandleKind.JOB, beginning) is None
    assert ids.prefix_range(HandleKind.JOB, "job_" + "0" * 27) is None
