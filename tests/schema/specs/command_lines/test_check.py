"""Command lines of hf jobs and uv in the place of a command or a script, and what was meant."""

import json
from typing import Any, Final

import pytest
from pydantic import TypeAdapter, ValidationError

from schema.specs.command import Command
from schema.specs.hub_job import HubJobSpec
from schema.specs.image import UV_IMAGE
from schema.specs.uv.script import ScriptText

COMMAND: Final[TypeAdapter[list[str]]] = TypeAdapter(Command)
SCRIPT: Final[TypeAdapter[str]] = TypeAdapter(ScriptText)
URL: Final = "https://example.com/sft.py"
JOB_LINES: Final[list[tuple[str, dict[str, Any]]]] = [
    ("hf jobs run python:3.12 python -V", {"image": "python:3.12", "command": ["python", "-V"]}),
    (
        (
            "hf jobs run --flavor=a10g-small -e A=1 -eB=2 --timeout 2h -v hf://datasets/a/b:/data "
            "-d --name sft --label team=x --expose 8000 --ssh --attempts 2 --namespace ada img "
            "python -c \"print('a b')\""
        ),
        {
            "image": "img",
            "command": ["python", "-c", "print('a b')"],
            "flavor": "a10g-small",
            "timeout": "2h",
            "env": {"A": "1", "B": "2"},
            "volumes": ["hf://datasets/a/b:/data"],
            "name": "sft",
            "labels": {"team": "x"},
            "expose": [8000],
            "ssh": True,
            "attempts": 2,
            "namespace": "ada",
        },
    ),
    (
        f"hf jobs uv run --with trl,peft -p 3.12 --timeout 300 {URL} --lr 1 --flavor t4-small",
        {
            "script": URL,
            "script_args": ["--lr", "1"],
            "dependencies": ["trl", "peft"],
            "python": "3.12",
            "flavor": "t4-small",
            "timeout": 300,
        },
    ),
    ("hf jobs uv run --image my/uv " + URL, {"script": URL, "image": "my/uv"}),
    (
        "hf jobs uv run --with lighteval lighteval endpoint",
        {"image": UV_IMAGE, "command": ["uv", "run", "--with=lighteval", "lighteval", "endpoint"]},
    ),
    ("hf jobs run img 'python x.py'", {"image": "img", "command": ["python", "x.py"]}),
    ("hf jobs run img echo $HOME", {"image": "img", "command": ["sh", "-c", "echo $HOME"]}),
    ("hf jobs run img cmd && hf jobs ps | cat > log", {"image": "img", "command": ["cmd"]}),
    ("hf jobs run img -- cmd --name x", {"image": "img", "command": ["cmd", "--name", "x"]}),
    ("hf jobs run img bash -lc 'a | b'", {"image": "img", "command": ["bash", "-lc", "a | b"]}),
    *(
        (line, {"image": "img", "command": ["cmd"]})
        for line in (
            *("huggingface-cli jobs run img cmd", "$ hf jobs run img cmd", "!hf jobs run img cmd"),
            *("sudo /usr/bin/hf jobs run img cmd", "A=1 hf jobs run img cmd"),
            *("uvx hf jobs run img cmd", "uvx --from huggingface_hub hf jobs run img cmd"),
            *("uv run --with huggingface_hub hf jobs run img cmd", "hf  jobs  run  img  cmd"),
            *(
                "uv tool run hf@latest jobs run img cmd",
                "python3 -m huggingface_hub.cli.hf jobs run img cmd",
            ),
            *("pip install -U huggingface_hub && hf jobs run img cmd", "cd x; hf jobs run img cmd"),
            *("```bash\nhf jobs run \\\n  img \\ \n  cmd\n```", "# train\n\nhf jobs run img cmd\n"),
        )
    ),
]
UV_LINES: Final[list[tuple[str, dict[str, Any]]]] = [
    (f"uv run {URL}", {"script": URL}),
    (
        f"uv run --with 'torch>=2,<3' -w trl[peft,vllm] --python 3.12 {URL} --with x",
        {
            "script": URL,
            "script_args": ["--with", "x"],
            "python": "3.12",
            "dependencies": ["torch>=2,<3", "trl[peft,vllm]"],
        },
    ),
    ("uv run python -c 'print(1)'", {"script": "print(1)"}),
    ("uv run -m pytest", {"image": UV_IMAGE, "command": ["uv", "run", "-m", "pytest"]}),
    (
        f"uv run --extra gpu {URL}",
        {"image": UV_IMAGE, "command": ["uv", "run", "--extra", "gpu", URL]},
    ),
    ("uvx ruff check", {"image": UV_IMAGE, "command": ["uvx", "ruff", "check"]}),
]


def read_refusal(adapter: TypeAdapter[Any], written: object) -> str:
    with pytest.raises(ValidationError) as refused:
        adapter.validate_python(written)
    return str(refused.value.errors()[0]["msg"])


def read_form(message: str, tool: str = "launch_job") -> Any:
    text = message.split(f"call {tool} with ", 1)[1]
    return json.JSONDecoder().raw_decode(text)[0]


@pytest.mark.parametrize(("line", "arguments"), JOB_LINES)
@pytest.mark.parametrize("adapter", [COMMAND, SCRIPT])
def test_a_line_of_hf_jobs_is_refused_with_the_arguments_that_do_the_same(
    adapter: TypeAdapter[Any], line: str, arguments: dict[str, Any]
) -> None:
    """In a container it would find no `hf`, and as Python it is an error, after it was paid for."""
    assert read_form(read_refusal(adapter, line)) == arguments


@pytest.mark.parametrize(
    "words",
    [
        ["hf", "jobs", "run", "img", "cmd"],
        ["hf jobs run img cmd"],
        ["pip install huggingface_hub", "hf jobs run img cmd"],
        ["hf", "jobs", "run", "img", "cmd", "&&", "echo", "x"],
        '["hf", "jobs", "run", "img", "cmd"]',
    ],
)
def test_a_line_of_hf_jobs_is_seen_in_a_list_too(words: object) -> None:
    """However a client writes the words of a command."""
    assert read_form(read_refusal(COMMAND, words)) == {"image": "img", "command": ["cmd"]}


@pytest.mark.parametrize(
    ("line", "is_told"),
    [
        ("hf jobs run img cmd && hf jobs run img other", True),
        ("hf jobs run img cmd\nhf jobs ps", True),
        ("cd x && hf jobs run img cmd", False),
        ("hf jobs run img cmd > log 2>&1", False),
        ("hf jobs run img cmd &", False),
        ("```bash\nhf jobs run img cmd\n```", False),
        (["hf", "jobs", "run", "img", "cmd", "&&", "echo", "x"], True),
        (["hf", "jobs", "run", "img", "cmd", ">", "log"], False),
        (f"uv run {URL} && echo done", True),
        (f"uv run {URL}", False),
    ],
)
def test_commands_behind_it_are_named_as_left_out(line: str | list[str], *, is_told: bool) -> None:
    """Whoever copies the call would believe that it does them all."""
    adapter = COMMAND if "hf" in line else SCRIPT

    assert ("; the commands behind it are left out" in read_refusal(adapter, line)) is is_told


@pytest.mark.parametrize(("line", "arguments"), UV_LINES)
def test_a_line_of_uv_is_no_script(line: str, arguments: dict[str, Any]) -> None:
    """Python would not read it."""
    assert read_form(read_refusal(SCRIPT, line)) == arguments


@pytest.mark.parametrize(("line", "arguments"), UV_LINES)
def test_a_command_of_uv_needs_an_image_that_has_it(line: str, arguments: dict[str, Any]) -> None:
    """The image of a command that names none has no uv; whoever names one knows."""
    command = COMMAND.validate_python(line)

    with pytest.raises(ValidationError, match=r"python:3\.12.* has no uv; give image=") as refused:
        HubJobSpec.model_validate({"command": command})
    assert read_form(str(refused.value.errors()[0]["msg"])) == arguments
    for image in (UV_IMAGE, "my/image"):
        assert HubJobSpec.model_validate({"image": image, "command": command}).command == command


@pytest.mark.parametrize(
    ("script", "is_refused"),
    [
        ("uv run x.py", True),
        ("set -e; cd /app && uv run x.py", True),
        ("hf jobs run img cmd", True),
        ("pip install uv && uv run x.py", False),
        ("curl -LsSf https://astral.sh/uv/install.sh | sh; uv run x.py", False),
        ("echo 'oops", False),
    ],
)
def test_a_shell_in_the_default_image_finds_uv_only_if_it_installs_it(
    script: str, *, is_refused: bool
) -> None:
    """A line that installs it first is right."""
    fields = {"command": ["sh", "-c", script]}

    if is_refused:
        with pytest.raises(ValidationError, match="call launch_job with"):
            HubJobSpec.model_validate(fields)
    else:
        assert HubJobSpec.model_validate(fields).command == fields["command"]
    assert HubJobSpec.model_validate({**fields, "image": "my/image"})


@pytest.mark.parametrize(
    "command",
    [
        ["docker", "run", "--rm", "-e", "KEY=sesame", "python:3.12", "python", "x.py"],
        ["sudo", "podman", "container", "run", "img"],
        ["sh", "-c", "docker run -e KEY=sesame -v $PWD:/w img python x.py"],
        ["bash", "-lc", "  nerdctl run img"],
    ],
)
def test_a_container_is_not_started_in_the_default_image(command: list[str]) -> None:
    """There is no such program in it, and the job would fail at the caller's cost."""
    with pytest.raises(ValidationError) as refused:
        HubJobSpec.model_validate({"command": command})

    [error] = refused.value.errors()
    assert "run as image, and the words behind it as command" in error["msg"]
    assert "sesame" not in error["msg"]
    assert HubJobSpec.model_validate({"command": command, "image": "docker:cli"})


@pytest.mark.parametrize(
    "script", ["apt install docker.io && docker run img", "docker --version", "echo docker run x"]
)
def test_a_script_that_does_more_with_containers_is_taken(script: str) -> None:
    """Whoever installs it first knows what they do."""
    assert HubJobSpec.model_validate({"command": ["sh", "-c", script]})


@pytest.mark.parametrize(
    ("command", "is_there"),
    [
        *((program.split(), False) for program in ("sbatch x.sh", "srun -n 4 x", "kubectl apply")),
        *((program.split(), False) for program in ("helm install x", "docker build .", "py x.py")),
        *((program.split(), False) for program in ("conda run x", "sudo x", "time x", "tmux new")),
        *((program.split(), False) for program in ("cmd /c x", "pwsh -c ls", "nohup sudo x")),
        (["sh", "-c", "sudo apt-get install x && y"], False),
        (["sh", "-c", "A=1 conda activate x | y"], False),
        (["sh", "-c", "sudo x; y"], True),
        (["sh", "-c", "sudo x || y"], True),
        (["bash", "-c", "time x"], True),
        (["sh", "-c", "apt-get install sudo && sudo x"], True),
        (["cmd", "x"], True),
        (["echo", "sudo", "x"], True),
    ],
)
def test_a_program_that_is_not_in_the_default_image_is_refused(
    command: list[str], *, is_there: bool
) -> None:
    """Nothing else would run. Whoever names an image knows what is in it."""
    if is_there:
        assert HubJobSpec.model_validate({"command": command})
    else:
        with pytest.raises(ValidationError, match="the image of a command that names none, has no"):
            HubJobSpec.model_validate({"command": command})
    assert HubJobSpec.model_validate({"command": command, "image": "my/image"})


@pytest.mark.parametrize(
    "line", ["uv run train.py --lr 1", "hf jobs uv run ./jobs/train.py --lr 1"]
)
def test_the_text_of_a_local_script_is_left_to_the_caller(line: str) -> None:
    """Files of a caller cannot be read here."""
    message = read_refusal(SCRIPT, line)

    assert read_form(message) == {"script": "…", "script_args": ["--lr", "1"]}
    assert "train.py, whole, or its https URL" in message


@pytest.mark.parametrize(
    "line",
    [
        "hf jobs run -s KEY=sesame img cmd",
        "hf jobs run -sKEY=sesame img cmd",
        "hf jobs run --secrets=KEY=sesame --token sesame img cmd",
        "hf jobs run --secret KEY=sesame img cmd",
        "hf jobs run img cmd --secrets KEY=sesame --token=sesame",
        "hf jobs run img cmd -s KEY=sesame",
        "hf jobs uv run x.py --secrets KEY=sesame",
        "hf jobs run -e API_KEY=sesame img cmd",
        "hf jobs run -e DB=postgres://ada:sesame@host/x img cmd",
        "hf jobs run -s KEY=sesame img python -c 'use(\"sesame\")'",
        "hf jobs run img cmd --api-key sesame",
        "hf jobs run img sh -c 'curl https://ada:sesame@host/x'",
        "hf jobs run --api-key sesame --other x=sesame img cmd",
        "KEY=sesame hf jobs run -s KEY img cmd",
        "hf jobs scheduled run @daily -s KEY=sesame img cmd",
        "uv run x.py --token sesame",
        "uv run x.py --api-key=sesame",
        "KEY=sesame uv run x.py",
        "hf jobs run -s KEY=sesame 'oops",
    ],
)
def test_no_refusal_repeats_a_secret(line: str) -> None:
    """A refusal is kept in transcripts. Names are enough to give the values anew."""
    assert "sesame" not in read_refusal(SCRIPT, line)


def test_a_secret_is_named_and_its_value_left_to_the_caller() -> None:
    """So that it is given where it is sealed."""
    message = read_refusal(
        SCRIPT, "hf jobs run --token x -s HF_TOKEN -e WANDB_API_KEY=x -e TOKENIZERS=1 img cmd"
    )

    form = read_form(message)
    assert form["secrets"] == {"HF_TOKEN": "…", "WANDB_API_KEY": "…"}
    assert form["env"] == {"TOKENIZERS": "1"}
    assert 'in secrets, give the value of HF_TOKEN, WANDB_API_KEY in place of "…"' in message
    assert "leave out --token" in message


def test_what_has_no_argument_is_named() -> None:
    """Nothing of a line is passed over in silence."""
    message = read_refusal(
        COMMAND, "hf jobs run --network-group g -v ./data:/data --env-file .env --odd img cmd"
    )

    assert "there is nothing for --network-group, --odd" in message
    assert "folders of yours cannot be read here" in message
    assert "give what stands in the file of --env-file in env" in message


def test_other_commands_of_hf_jobs_are_tools() -> None:
    """A schedule is another tool's, with the arguments of a launch in it."""
    schedule = read_refusal(COMMAND, 'hf jobs scheduled run "0 9 * * *" --flavor t4-small img cmd')

    job = {"image": "img", "command": ["cmd"], "flavor": "t4-small"}
    assert read_form(schedule, "create_schedule") == {"cron": "0 9 * * *", "job": job}
    assert read_refusal(COMMAND, "hf jobs ps -a").endswith("call list_jobs")
    assert read_refusal(COMMAND, "hf jobs logs 123").endswith("call job_logs")
    assert read_refusal(COMMAND, "hf jobs scheduled ps").endswith("call list_schedules")


def test_a_long_line_is_not_repeated_in_part() -> None:
    """What is cut looks whole to whoever copies it."""
    message = read_refusal(COMMAND, ["hf", "jobs", "run", "img", "python", "-c", "x" * 20_000])

    assert read_form(message)["command"] == ["python", "-c", "…"]
    assert "something long of yours, to be given whole" in message


@pytest.mark.parametrize(
    "options",
    [
        "--lr " * 9_000,
        "-" * 90_000,
        "".join(f"-e A{number}=1 " for number in range(9_000)),
        "-e " + "A" * 90_000 + "=1",
    ],
)
def test_a_refusal_is_of_bounded_length(options: str) -> None:
    """Whatever is long in a line."""
    assert len(read_refusal(COMMAND, f"hf jobs run {options} img {options}")) < 20_000


@pytest.mark.parametrize(
    "script",
    [
        *("uv = 1\nprint(uv)", "uv - 1", "uv in x", "hf = HfApi()\nhf.jobs", "time = 1", "set - e"),
        "# uv run train.py\nimport os\n",
        '"""Trains.\n\nUsage:\n    uv run train.py\n    hf jobs uv run train.py\n"""\nimport os\n',
        "# don't\nimport os\nHELP = '''\nuv run x.py\n'''\n",
        "env = 2\ntext = '''\nuv run x.py\n'''",
        "#!/usr/bin/env -S uv run --script\n# /// script\n# dependencies = []\n# ///\nprint(1)",
        "import subprocess\nsubprocess.run(['hf', 'jobs', 'run', 'img', 'cmd'])",
    ],
)
def test_python_that_only_mentions_such_a_line_is_a_script(script: str) -> None:
    """A comment, a docstring or a name is no command."""
    assert SCRIPT.validate_python(script) == script


@pytest.mark.parametrize(
    "command",
    [
        ["python", "-c", "hf jobs run img cmd"],
        ["grep", "uv run", "README.md"],
        ["hf", "download", "ada/model"],
        ["echo", "hf", "jobs", "run"],
        ["python", "hf", "jobs"],
    ],
)
def test_a_command_that_only_mentions_such_a_line_is_a_command(command: list[str]) -> None:
    """Its program is another."""
    assert COMMAND.validate_python(command) == command
    assert HubJobSpec.model_validate({"command": command}).command == command
