"""What a handle is, and what is told to somebody who holds something else."""

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schema import handles
from schema.errors import Invalid
from schema.handles import Kind


@given(st.uuids(), st.sampled_from(Kind))
def test_a_handle_reads_back_as_what_it_was_written_from(identity: UUID, kind: Kind) -> None:
    """Clients keep handles for months; none may come back as something else."""
    handle = handles.write(kind, identity)

    assert len(handle) == len(kind) + 1 + 26
    assert handles.read(kind, handle) == identity
    assert handles.read(kind, f" {handle.upper()} ") == identity


@given(st.text(max_size=40))
def test_what_is_no_handle_is_refused_with_the_form_it_should_have(text: str) -> None:
    """A model that garbles a handle learns how a right one looks."""
    with pytest.raises(Invalid, match=r"job_ and 26 letters and digits"):
        handles.read(Kind.JOB, text)


def test_a_handle_of_the_wrong_kind_is_named_as_what_it_is() -> None:
    """Telling the two apart is most of the repair."""
    workspace = handles.write(Kind.WORKSPACE, handles.new_id())

    with pytest.raises(Invalid, match=r"is a workspace handle; a job handle \(job_…\) goes here"):
        handles.read(Kind.JOB, workspace)


def test_a_value_too_large_for_an_id_is_refused() -> None:
    """26 letters hold two bits more than an id; both spellings must not name one job."""
    with pytest.raises(Invalid):
        handles.read(Kind.JOB, "job_" + "z" * 26)


def test_ids_are_of_version_7_and_sort_by_the_time_they_were_made() -> None:
    """Rows made together lie together, and a list ordered by id is ordered by age."""
    made = [handles.new_id() for _ in range(3)]

    assert {identity.version for identity in made} == {7}
    assert [identity.int >> 80 for identity in made] == sorted(i.int >> 80 for i in made)
