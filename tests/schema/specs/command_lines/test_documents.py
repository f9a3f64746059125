"""JSON, YAML and Python in the place of a command are refused with where they go."""

import pytest
from pydantic import TypeAdapter, ValidationError

from schema.specs.command import Command

COMMAND: TypeAdapter[list[str]] = TypeAdapter(Command)
KUBERNETES_JOB = """apiVersion: batch/v1
kind: Job
spec:
  template:
    spec:
      containers:
      - image: python:3.12
        env:
        - {name: API, value: sk-secret}
        command: ["python", "-c", "print(1)"]
"""


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (KUBERNETES_JOB, "that is YAML"),
        (f"\n---\n{KUBERNETES_JOB}", "that is YAML"),
        ("- image: python:3.12\n  command: [python, -c, sk-secret]", "that is YAML"),
        ("image: sk-secret", "that is YAML"),
        ('{"image": "python:3.12", "command": ["echo", "sk-secret"]}', "that is a JSON object"),
        (' {\n  "env": {"API": "sk-secret"}\n}\n', "that is a JSON object"),
        ("from huggingface_hub import run_job\nrun_job('sk-secret')", "give it as script"),
        ("import os, sys\nprint('sk-secret')", "give it as script"),
        ("import torch; print('sk-secret')", "give it as script"),
    ],
)
def test_a_document_is_refused_with_where_its_content_goes(text: str, says: str) -> None:
    """The advice to give it to a shell led to a job that failed. A secret is not repeated."""
    with pytest.raises(ValidationError) as refused:
        COMMAND.validate_python(text)

    [error] = refused.value.errors()
    assert says in error["msg"]
    assert "sk-secret" not in error["msg"]
    assert '"sh", "-c"' not in error["msg"]


@pytest.mark.parametrize(
    "line",
    [
        *("import -window root a.png", "import x.png", "from x", "train --map a: b"),
        *("python x.py '{\"a\": 1}'", "C:/tools/x.exe", "a:b", "ns::tool x"),
    ],
)
def test_a_line_that_only_looks_like_one_is_a_command(line: str) -> None:
    """A program may be called anything."""
    assert COMMAND.validate_python(line)
