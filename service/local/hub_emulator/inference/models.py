"""Which stand-ins there are for models, what each does, and who offers it: the Hub's own form."""

from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from service.local.hub_emulator.errors import Refusal

_OPENAI: Final = ("together", "deepinfra")


@dataclass(frozen=True, slots=True)
class StandIn:
    """A model that is none."""

    task: str
    providers: tuple[str, ...]

    def described(self, name: str) -> dict[str, Any]:
        """Describe it as the Hub describes a model."""
        return {
            "id": name,
            "pipeline_tag": self.task,
            "tags": ["holdfast-local-hub", self.task],
            "inferenceProviderMapping": [
                {
                    "provider": provider,
                    "providerId": name if provider == "hf-inference" else f"stand-in/{name}",
                    "status": "live",
                    "task": "conversational" if name in _CHATS else self.task,
                }
                for provider in self.providers
            ],
        }


_CHATS: Final = frozenset({"local/echo"})
STAND_INS: Final = {
    "local/echo": StandIn("text-generation", ("together",)),
    "local/words": StandIn("text-generation", ("hf-inference", *_OPENAI)),
    "local/vectors": StandIn("feature-extraction", ("hf-inference", *_OPENAI, "scaleway")),
    "local/painter": StandIn(
        "text-to-image", ("hf-inference", "fal-ai", "together", "replicate", "nscale")
    ),
    "local/retoucher": StandIn(
        "image-to-image", ("fal-ai", "hf-inference", "together", "replicate")
    ),
    "local/filmer": StandIn("text-to-video", ("fal-ai", "together", "replicate")),
    "local/spoiler": StandIn("text-to-video", ("fal-ai", "together")),
    "local/animator": StandIn("image-to-video", ("fal-ai", "together")),
    "local/speaker": StandIn("text-to-speech", ("hf-inference", "fal-ai", *_OPENAI, "replicate")),
    "local/listener": StandIn(
        "automatic-speech-recognition", ("hf-inference", "fal-ai", "deepinfra", "replicate")
    ),
    "local/critic": StandIn("text-classification", ("hf-inference",)),
    "local/cold": StandIn("text-classification", ("hf-inference",)),
    "local/sorter": StandIn("zero-shot-classification", ("hf-inference",)),
    "local/editor": StandIn("summarization", ("hf-inference",)),
    "local/translator": StandIn("translation", ("hf-inference",)),
    "local/captioner": StandIn("image-to-text", ("hf-inference",)),
    "local/labeller": StandIn("image-classification", ("hf-inference",)),
    "local/unoffered": StandIn("text-to-image", ()),
}
"""Of these `local/spoiler` fails after a while, and `local/cold` is not loaded when first asked."""


async def model(request: Request) -> Response:
    """Describe a model to anybody: what it is, or else what `expand` names."""
    name = f"{request.path_params['owner']}/{request.path_params['name']}"
    if (stand_in := STAND_INS.get(name)) is None:
        raise Refusal(HTTPStatus.NOT_FOUND, "Repository not found", code="RepoNotFound")
    described = stand_in.described(name)
    wanted = request.query_params.getlist("expand") or ["pipeline_tag", "tags"]
    return JSONResponse({key: each for key, each in described.items() if key in ("id", *wanted)})
