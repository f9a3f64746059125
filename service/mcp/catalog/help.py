"""The help page: what this is, and how to sign in; a resource that needs nobody."""

from collections.abc import Collection
from typing import Final

from mcp.server import MCPServer

from service.auth.caller import Scope
from service.runtime.context import HELP_URI, App
from service.runtime.toolsets import describe_toolsets

SCOPE_USES: Final = {
    Scope.JOBS: "run, schedule and cancel Hugging Face Jobs",
    Scope.INFERENCE: "call models and Spaces",
    Scope.CONTRIBUTE_REPOS: "keep the outputs of jobs in a bucket of yours, and write to volumes",
    Scope.READ_REPOS: "read private volumes, and the items of a batch from private files",
}

_PAGE: Final = """\
Holdfast carries long work out on Hugging Face: jobs on its hardware, calls of models, calls of \
Spaces. A launch answers at once with a handle, and any client of the same person can follow it by \
that handle later. The work runs in the person's own account, which pays for it.

Without a sign-in
  You can list the tools, and call {public_tools}. Every other tool needs somebody.

To sign in
  A client with OAuth signs in by itself, at the first call that needs somebody. One that can sign \
in only when it connects takes the URL {endpoint}?login.
  {token_advice}

Scopes
{scopes}
  A call that lacks one asks for it. The tool whoami shows what you have.

Fewer tools
  {toolsets_advice} The URL {endpoint}/readonly, or the header X-MCP-Readonly: true, has only \
tools that read.
"""
_HUB_ADVICE: Final = (
    "Any other client sends the header Authorization: Bearer hf_…, with a token from "
    "https://huggingface.co/settings/tokens: one with the role write, or a fine-grained one with "
    "job.write and inference.serverless.write. X-HF-Authorization takes it too, where a proxy "
    "keeps Authorization for itself."
)
_EXTERNAL_ADVICE: Final = (
    "Any other client sends the header Authorization: Bearer …, with a token of {issuer}. Every "
    "client also sends X-HF-Authorization: Bearer hf_…, with a token from "
    "https://huggingface.co/settings/tokens, because the work runs in that account."
)

_CONNECT_ADVICE: Final = (
    "Any other client sends the header Authorization: Bearer …, with a token of {issuer}. The work "
    "runs in the person's own account at Hugging Face. They connect it once, in a browser: "
    "{public_url}/connect. A client that sends X-HF-Authorization: Bearer hf_… needs no such "
    "account."
)


def build_help_page(
    public_url: str,
    *,
    external_issuer: str | None,
    public_tools: Collection[str],
    can_connect: bool = False,
) -> str:
    """Write the page.

    Args:
        public_url: the address of the service, without a trailing slash.
        external_issuer: who signs people in, if not Hugging Face.
        public_tools: the names of the tools that need nobody.
        can_connect: whether people can connect their account at Hugging Face.
    """
    advice = _HUB_ADVICE
    if external_issuer is not None:
        advice = _CONNECT_ADVICE if can_connect else _EXTERNAL_ADVICE
    return _PAGE.format(
        public_tools=" and ".join(public_tools) or "none of them",
        endpoint=f"{public_url}/mcp",
        toolsets_advice=describe_toolsets(),
        token_advice=advice.format(issuer=external_issuer, public_url=public_url),
        scopes="\n".join(f"  {scope}: to {use}" for scope, use in SCOPE_USES.items()),
    )


def register_help(server: MCPServer[App], page: str) -> None:
    """Publish the page as a resource."""

    def read_help() -> str:
        return page

    server.resource(
        HELP_URI,
        name="help",
        title="Help",
        description="What Holdfast is, and how to sign in.",
        mime_type="text/plain",
    )(read_help)
