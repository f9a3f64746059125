"""A clone on a bare Python: `python3 -m service` installs what it needs, once, and runs.

Each test has a clone of its own, made of the real bootstrap, a stub of the command line, and a
lock that names one tiny wheel (the larger locks: two and three), so that no network is needed and
hashes are still enforced.
"""

import os
import shutil
import subprocess
import sys
from hashlib import sha256
from pathlib import Path
from zipfile import ZipFile

import pytest

import service
from service import __main__ as bootstrap
from service.cli import main as cli_main
from service.local.processes.os_account import OsAccount
from tests.support.paths import REPOSITORY

BARE_PYTHON = Path(sys.base_prefix) / "bin" / f"python3.{sys.version_info.minor}"
CLI_SOURCE = """
import sys, tiny
def main() -> int:
    print(tiny.VERSION, *sys.argv[1:], sys.prefix)
    return 7
"""


class Clone:
    """A folder that looks like a fresh clone, and a machine that has what the lock needs."""

    def __init__(self, root: Path) -> None:
        self.root = root / "clone"
        self.wheels = root / "wheels"
        self.home = root / "home"
        command_line = self.root / Path(cli_main.__file__).relative_to(REPOSITORY)
        for folder in (command_line.parent, self.wheels, self.home):
            folder.mkdir(parents=True)
        for path in (Path(bootstrap.__file__), Path(service.__file__)):
            shutil.copy(path, self.root / path.relative_to(REPOSITORY))
        command_line.write_text(CLI_SOURCE)
        self.lock("1")

    @property
    def venv(self) -> Path:
        return self.root / ".venv"

    def lock(self, version: str) -> None:
        """Require `tiny` in this version, `space` for the Hub and `tool` for tests, from wheels."""
        packages = ""
        for lock, name in zip(bootstrap.LOCKS, ("tiny", "space", "tool"), strict=True):
            packages += self._make_wheel(name, version)
            (self.root / lock.name).write_text(packages)

    def _make_wheel(self, name: str, version: str) -> str:
        wheel = self.wheels / f"{name}-{version}-py3-none-any.whl"
        about = f"{name}-{version}.dist-info"
        with ZipFile(wheel, "w") as archive:
            archive.writestr(f"{name}.py", f"VERSION = '{name} {version}'")
            # As the lock says what is installed, nobody looks for what a package says it needs.
            metadata = f"Name: {name}\nVersion: {version}\nRequires-Dist: not-in-the-lock\n"
            archive.writestr(f"{about}/METADATA", metadata)
            archive.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
            archive.writestr(f"{about}/RECORD", "")
        digest = sha256(wheel.read_bytes()).hexdigest()
        return f"{name}=={version} --hash=sha256:{digest}\n"

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        bare = {
            "PATH": os.defpath,
            "HOME": str(self.home),
            "PIP_NO_INDEX": "1",
            "PIP_FIND_LINKS": str(self.wheels),
        }
        return subprocess.Popen(
            [BARE_PYTHON, "-m", "service", *arguments],
            cwd=self.root,
            env=bare | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str, **environment: str) -> "BootstrapRun":
        with self.start(*arguments, **environment) as process:
            return BootstrapRun(process)


class BootstrapRun:
    """What one run of the command said, and how it ended."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.out, self.err = process.communicate(timeout=40)
        self.code = process.returncode


@pytest.fixture
def clone(tmp_path: Path) -> Clone:
    return Clone(tmp_path)


def test_the_first_run_sets_up_and_then_does_what_was_asked(clone: Clone) -> None:
    """One command is all the README asks of a newcomer; it must say what takes so long."""
    run = clone.run("demo", "--once")

    assert run.code == 7, run.err
    assert run.out == f"tiny 1 demo --once {clone.venv}\n"
    assert "This happens once" in run.err
    assert "Ready after" in run.err


def test_the_second_run_installs_nothing(clone: Clone) -> None:
    """On a train, without network and even without pip, it starts at once."""
    clone.run("demo")
    shutil.rmtree(clone.wheels)

    run = clone.run("demo", PYTHONPATH=str(_folder_without(clone.home, "pip", "ensurepip", "venv")))

    assert (run.code, run.err) == (7, "")
    assert run.out.startswith("tiny 1")


def test_a_command_installs_what_it_needs_and_no_more(clone: Clone) -> None:
    """A newcomer waits for the product, and whoever runs the tests for their tools as well."""
    installed = clone.venv / "lib" / BARE_PYTHON.name / "site-packages"

    def run(command: str) -> tuple[str, list[str]]:
        run = clone.run(command)
        assert run.code == 7, run.err
        return run.err, sorted(module.stem for module in installed.glob("*.py"))

    errors, modules = run("demo")
    assert modules == ["tiny"]
    assert "Installing 1 packages." in errors
    errors, modules = run("up")
    assert modules == ["space", "tiny"]
    assert "Installing 2 packages." in errors
    assert run("hub")[0] == run("demo")[0] == ""
    errors, modules = run("test")
    assert modules == ["space", "tiny", "tool"]
    assert "Installing 3 packages." in errors
    assert run("up")[0] == run("demo")[0] == ""


def test_a_first_set_up_installs_side_by_side_and_a_later_one_does_not(clone: Clone) -> None:
    """Most of the wait is work of one core; two installers that change packages could collide."""
    log = clone.home / "installed"
    write_packages = f"""for each; do last="$each"; done
[ -f "$last" ] && echo $(sed 's/==.*//' "$last") >> {log}"""
    pip = _use_another_pip(clone, write_packages)

    first = clone.run("test", **pip)
    side_by_side = sorted(log.read_text().splitlines())
    log.unlink()
    clone.lock("2")
    second = clone.run("test", **pip)

    assert (first.code, second.code) == (7, 7), first.err + second.err
    assert sorted(" ".join(side_by_side).split()) == ["space", "tiny", "tool"]
    assert len(side_by_side) == min(os.cpu_count() or 1, 3)
    assert log.read_text() == "tiny space tool\n"


def test_our_modules_are_compiled_where_python_keeps_nothing_that_it_compiles(clone: Clone) -> None:
    """A start has five processes, and each would compile hundreds of modules again."""
    clone.run("demo", PYTHONDONTWRITEBYTECODE="1")

    command_line = clone.root / Path(cli_main.__file__).relative_to(REPOSITORY)
    assert len(list((command_line.parent / "__pycache__").glob("main.*.pyc"))) == 1


def test_a_changed_lock_is_installed(clone: Clone) -> None:
    """After `git pull` the same command brings the environment up to date."""
    clone.run("demo")
    clone.lock("2")

    run = clone.run("demo")

    assert run.out.startswith("tiny 2"), run.err


def test_a_wheel_with_another_hash_is_refused_in_a_sentence(clone: Clone) -> None:
    """What runs here is what was reviewed, and a failed set-up is not taken for a finished one."""
    lock = clone.root / bootstrap.LOCAL_LOCK.name
    good = lock.read_text()
    lock.write_text(good.replace("sha256:", "sha256:0000")[:-5] + "\n")

    refused = clone.run("demo")
    lock.write_text(good)
    again = clone.run("demo")

    assert refused.code == 1
    assert "The installation failed; the lines above say why." in refused.err
    assert "Traceback" not in refused.err
    assert again.code == 7, again.err


def test_a_set_up_that_was_killed_is_redone(clone: Clone) -> None:
    """Half an environment is worse than none, and its installer may still be at work on it."""
    with clone.start("demo") as process:
        assert process.stderr
        while "Installing" not in process.stderr.readline():
            pass
        process.kill()
    leftover = clone.venv / "half-made"
    leftover.touch()

    run = clone.run("demo")

    assert run.code == 7, run.err
    assert not leftover.exists()


def test_two_first_runs_at_once_both_succeed(clone: Clone) -> None:
    """A person and their editor start it at the same moment; one sets up, the other waits."""
    with clone.start("one") as first, clone.start("two") as second:
        runs = [BootstrapRun(first), BootstrapRun(second)]

    assert [run.code for run in runs] == [7, 7], runs[0].err + runs[1].err
    assert sum("Installing" in run.err for run in runs) == 1
    assert sum("waiting for it" in run.err for run in runs) == 1


def test_a_python_without_venv_and_pip_uses_what_is_on_the_path(clone: Clone) -> None:
    """Distributions strip both; another pip on the machine can still fill our environment."""
    run = clone.run("demo", **_use_another_pip(clone, ""))

    assert run.code == 7, run.err
    assert run.out == f"tiny 1 demo {clone.venv}\n"


def test_a_machine_that_cannot_install_anything_says_what_to_do(clone: Clone) -> None:
    """The one thing we cannot bring ourselves is an installer."""
    stripped = _folder_without(clone.home, "pip", "ensurepip", "venv")

    run = clone.run("demo", PYTHONPATH=str(stripped), PATH="")

    assert run.code == 1
    assert "apt install python3-pip" in run.err
    assert "Traceback" not in run.err


def test_a_clone_of_another_account_says_where_to_set_up(
    clone: Clone, ordinary_account: OsAccount | None
) -> None:
    """A shared clone can be run by everybody, each with an environment of their own."""
    if ordinary_account is None:
        clone.root.chmod(0o555)
    else:
        os.chown(clone.root, 54321, 54321)
    command = [str(BARE_PYTHON), "-m", "service", "demo"]

    refused = subprocess.run(
        ordinary_account.wrap_command(*command) if ordinary_account else command,
        cwd=clone.root,
        env={"PATH": os.defpath},
        capture_output=True,
        text=True,
        check=False,
    )

    assert refused.returncode == 1
    assert f"cannot set itself up in {clone.venv}" in refused.stderr
    assert "HOLDFAST_VENV" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_the_static_checks_say_what_to_run_first(clone: Clone) -> None:
    """Each of them would fail in a fresh clone, and none would say why."""
    (clone.root / ".ci").mkdir()
    shutil.copy(REPOSITORY / ".ci" / "check", clone.root / ".ci")

    run = subprocess.run(
        ["/bin/bash", ".ci/check"], cwd=clone.root, capture_output=True, text=True, check=False
    )

    assert run.returncode == 1
    assert run.stdout == ""
    assert "python3 -m service --help" in run.stderr


def test_an_installed_package_does_not_set_anything_up(clone: Clone) -> None:
    """From a wheel or in a container there is no lock beside the package: just run."""
    for lock in bootstrap.LOCKS:
        (clone.root / lock.name).unlink()
    shutil.copy(_unpacked_versions(clone), clone.root)

    run = clone.run("serve")

    assert (run.code, run.err) == (7, "")
    assert not clone.venv.exists()


def _use_another_pip(clone: Clone, script: str) -> dict[str, str]:
    """Return an environment with no pip but one on the path, which runs a shell script first."""
    programs = clone.home / "bin"
    programs.mkdir()
    pip = programs / "pip"
    pip.write_text(f'#!/bin/sh\nunset PYTHONPATH\n{script}\nexec {BARE_PYTHON} -m pip "$@"\n')
    pip.chmod(0o755)
    stripped = _folder_without(clone.home, "pip", "ensurepip", "venv")
    return {"PYTHONPATH": str(stripped), "PATH": f"{programs}:{os.defpath}"}


def _folder_without(folder: Path, *modules: str) -> Path:
    """Return a folder that, first on the path, makes these modules impossible to import."""
    stripped = folder / "stripped"
    stripped.mkdir()
    for module in modules:
        (stripped / f"{module}.py").write_text(f"raise ImportError('no {module} here')")
    return stripped


def _unpacked_versions(clone: Clone) -> Path:
    with ZipFile(clone.wheels / "tiny-1-py3-none-any.whl") as archive:
        return Path(archive.extract("tiny.py", clone.home))
