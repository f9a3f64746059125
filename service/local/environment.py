"""The environment of the local stack's children.

It says where the servers are, and has no token of the person who owns this shell: a service acts
for its callers, so the owner's own Hugging Face token must not reach it.
"""

import os
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from pathlib import Path
from secrets import token_bytes
from typing import Final

from service.local.data_dir import read_or_create_private_file
from service.local.hub_emulator.oauth.clients import PAGES_CLIENT_ID

_UNINHERITED_VARIABLES: Final = {"HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "DATABASE_URL", "REDIS_URL"}


def child_environment(folder: Path, environ: Mapping[str, str]) -> dict[str, str]:
    """Return `environ` without the owner's token, and with a Hugging Face home inside `folder`."""
    return {
        name: value for name, value in environ.items() if name not in _UNINHERITED_VARIABLES
    } | {
        "HF_HOME": str(folder / "huggingface"),
        "HF_HUB_DISABLE_IMPLICIT_TOKEN": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HOLDFAST_DATA_DIR": str(folder),
    }


def service_environment(
    folder: Path,
    environ: Mapping[str, str],
    *,
    database_url: str,
    redis_url: str,
    hub_url: str,
    hub_is_local: bool,
    public_url: str,
) -> dict[str, str]:
    """Return all settings of a service or worker; a setting in `environ` keeps its value."""
    settings = {
        "HOLDFAST_PUBLIC_URL": public_url,
        "HOLDFAST_VAULT_KEYS": read_or_create_private_file(folder / "vault.keys", _new_key_ring),
    }
    if hub_is_local:
        # Nobody else calls it, so the worker may poll it often; a slower sweep would decide.
        settings |= {
            "HOLDFAST_ROUTER_URL": hub_url,
            "HOLDFAST_SPACES_URL": f"{hub_url}/_emulator/spaces/{{subdomain}}",
            "HOLDFAST_OBSERVE_MIN": "0.5s",
            "HOLDFAST_SWEEP": "0.5s",
        }
        if environ.get("HOLDFAST_AUTH", "huggingface") == "huggingface":
            settings["HOLDFAST_HF_OAUTH_CLIENT_ID"] = PAGES_CLIENT_ID
    servers = {
        "HOLDFAST_DATABASE_URL": database_url,
        "HOLDFAST_REDIS_URL": redis_url,
        "HOLDFAST_HUB_URL": hub_url,
    }
    return settings | child_environment(folder, environ) | servers


def running_environment(
    folder: Path, servers: Mapping[str, str], *, hub_is_local: bool, public_url: str
) -> dict[str, str]:
    """Return the settings of the stack that runs on `folder`, with these servers."""
    return service_environment(
        folder,
        os.environ,
        database_url=servers["HOLDFAST_DATABASE_URL"],
        redis_url=servers["HOLDFAST_REDIS_URL"],
        hub_url=servers["HOLDFAST_HUB_URL"],
        hub_is_local=hub_is_local,
        public_url=public_url,
    )


def _new_key_ring() -> str:
    return f"1:{urlsafe_b64encode(token_bytes(32)).decode()}"
