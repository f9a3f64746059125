"""Chat completions without a model: the answer says so, and is the same for the same prompt."""

import asyncio
import json
import re
from collections.abc import AsyncGenerator
from http import HTTPStatus
from typing import Annotated, Any, Final

from pydantic import BaseModel, Field
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from service.local.hub_emulator.errors import HubApiError
from service.local.hub_emulator.request_body import read_body
from service.local.hub_emulator.users import LocalUser, Permission

_SLOW_MODEL: Final = re.compile(r"local/slow-(\d{1,4})s")
"""A model that answers after some seconds, so that a test can cancel the call before."""
_PROVIDER_HEADERS: Final = {"x-inference-provider": "local-stand-in"}


class _ChatMessage(BaseModel):
    role: str
    content: str | list[dict[str, Any]] | None = None

    @property
    def text(self) -> str:
        if isinstance(self.content, list):
            return " ".join(str(part.get("text", "")) for part in self.content)
        return self.content or ""


class _ChatRequest(BaseModel):
    model: Annotated[str, Field(min_length=1)]
    messages: Annotated[list[_ChatMessage], Field(min_length=1)]
    stream: bool = False

    @property
    def prompt(self) -> str:
        """The last message of the user."""
        texts = [message.text for message in self.messages if message.role == "user"]
        return texts[-1] if texts else ""


def require_inference_access(request: Request, user: LocalUser) -> None:
    """Check that a user may call models, and that the user or the billed organisation pays.

    Raises:
        HubApiError: as the real router refuses.
    """
    if not user.has_permission(Permission.CALL_MODELS):
        raise HubApiError(
            HTTPStatus.FORBIDDEN,
            "This authentication method does not have sufficient permissions to call Inference "
            f"Providers on behalf of user {user.name}",
        )
    payer = request.headers.get("x-hf-bill-to")
    if payer is not None and payer not in user.orgs:
        raise HubApiError(
            HTTPStatus.FORBIDDEN, f"You are not allowed to bill your requests to {payer}"
        )
    if payer is None and not user.pays:
        raise HubApiError(
            HTTPStatus.PAYMENT_REQUIRED,
            "You have depleted your monthly included credits. Purchase pre-paid credits to "
            "continue using Inference Providers.",
        )


async def complete_chat(request: Request, user: LocalUser) -> Response:
    """Answer a chat completion request."""
    require_inference_access(request, user)
    body = await read_body(request, _ChatRequest)
    # After a colon comes the provider, or the policy to choose one.
    model = body.model.split(":")[0]
    if model.startswith("missing/"):
        return JSONResponse(
            {"error": _model_not_found_error(model)}, status_code=HTTPStatus.BAD_REQUEST
        )
    if slow := _SLOW_MODEL.fullmatch(model):
        await asyncio.sleep(int(slow[1]))
    text = f"[local stand-in for {model}; no model was run] You said: {body.prompt}"
    if body.stream:
        return StreamingResponse(
            _stream_completion(model, text),
            media_type="text/event-stream",
            headers=_PROVIDER_HEADERS,
        )
    return JSONResponse(_build_completion(model, body.prompt, text), headers=_PROVIDER_HEADERS)


def _build_completion(model: str, prompt: str, text: str) -> dict[str, Any]:
    completion_tokens, prompt_tokens = len(text.split()), len(prompt.split())
    message = {"role": "assistant", "content": text}
    return {
        "id": "local",
        "object": "chat.completion",
        "created": 0,
        "model": model,
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": {
            "prompt_tokens": prompt_tokens,
            "completion_tokens": completion_tokens,
            "total_tokens": prompt_tokens + completion_tokens,
        },
    }


async def _stream_completion(model: str, text: str) -> AsyncGenerator[str]:
    chunk = {"id": "local", "object": "chat.completion.chunk", "created": 0, "model": model}
    deltas = [
        ({"role": "assistant", "content": word}, None) for word in re.findall(r"\s*\S+", text)
    ]
    for delta, reason in [*deltas, ({}, "stop")]:
        choice = {"index": 0, "delta": delta, "finish_reason": reason}
        yield f"data: {json.dumps(chunk | {'choices': [choice]})}\n\n"
    yield "data: [DONE]\n\n"


def _model_not_found_error(model: str) -> dict[str, Any]:
    return {
        "message": f"The requested model '{model}' does not exist",
        "type": "invalid_request_error",
        "param": "model",
        "code": "model_not_found",
    }
