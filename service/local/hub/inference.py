"""What stands in for a model: an answer that says it is none, the same for the same question."""

import asyncio
import json
import re
from collections.abc import AsyncGenerator
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from service.local.hub.answers import Refusal
from service.local.hub.users import LocalUser

_SLOW: Final = re.compile(r"local/slow-(\d+)s")
"""A model that takes its time, so that a cancel can come in between."""
_UNPAID: Final = 402
_FORBIDDEN: Final = 403
_PROVIDER: Final = {"x-inference-provider": "local-stand-in"}


async def chat(request: Request, user: LocalUser) -> Response:
    """Answer a chat completion request."""
    if not user.may_act:
        raise Refusal(
            _FORBIDDEN,
            "This authentication method does not have sufficient permissions to call Inference "
            f"Providers on behalf of user {user.name}",
        )
    if not user.pays:
        raise Refusal(
            _UNPAID,
            "You have depleted your monthly included credits. Purchase pre-paid credits to "
            "continue using Inference Providers.",
        )
    body: dict[str, Any] = await request.json()
    model = str(body.get("model", "")).split(":")[0]
    if not model or model.startswith("missing/"):
        return JSONResponse({"error": _not_found(model)}, status_code=400)
    if slow := _SLOW.fullmatch(model):
        await asyncio.sleep(int(slow[1]))
    asked = str(body["messages"][-1]["content"]) if body.get("messages") else ""
    text = f"[local stand-in for {model}; no model was run] You said: {asked}"
    if body.get("stream"):
        return StreamingResponse(
            _events(model, text), media_type="text/event-stream", headers=_PROVIDER
        )
    return JSONResponse(_completion(model, asked, text), headers=_PROVIDER)


def _completion(model: str, asked: str, text: str) -> dict[str, Any]:
    said, heard = len(text.split()), len(asked.split())
    return {
        "id": "local",
        "object": "chat.completion",
        "created": 0,
        "model": model,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": text},
                "finish_reason": "stop",
            }
        ],
        "usage": {
            "prompt_tokens": heard,
            "completion_tokens": said,
            "total_tokens": heard + said,
        },
    }


async def _events(model: str, text: str) -> AsyncGenerator[str]:
    for word in text.split(" "):
        delta = {"index": 0, "delta": {"role": "assistant", "content": f"{word} "}}
        chunk = {"id": "local", "object": "chat.completion.chunk", "created": 0, "model": model}
        yield f"data: {json.dumps(chunk | {'choices': [delta]})}\n\n"
    yield "data: [DONE]\n\n"


def _not_found(model: str) -> dict[str, Any]:
    return {
        "message": f"The requested model '{model}' does not exist",
        "type": "invalid_request_error",
        "param": "model",
        "code": "model_not_found",
    }
