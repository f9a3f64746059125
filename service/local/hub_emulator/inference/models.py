"""Which stand-ins there are for models, what each does, and who offers it: the Hub's own form."""

from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from service.local.hub_emulator.errors import HubApiError

_OPENAI_COMPATIBLE: Final = ("together", "deepinfra")


@dataclass(frozen=True, slots=True)
class FakeModel:
    """A model that is none."""

    task: str
    providers: tuple[str, ...]

    def to_dict(self, name: str) -> dict[str, Any]:
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
                    "task": "conversational" if name in _CHAT_MODELS else self.task,
                }
                for provider in self.providers
            ],
        }


_CHAT_MODELS: Final = frozenset({"local/echo"})
FAKE_MODELS: Final = {
    "local/echo": FakeModel("text-generation", ("together",)),
    "local/words": FakeModel("text-generation", ("hf-inference", *_OPENAI_COMPATIBLE)),
    "local/vectors": FakeModel(
        "feature-extraction", ("hf-inference", *_OPENAI_COMPATIBLE, "scaleway")
    ),
    "local/painter": FakeModel(
        "text-to-image", ("hf-inference", "fal-ai", "together", "replicate", "nscale")
    ),
    "local/retoucher": FakeModel(
        "image-to-image", ("fal-ai", "hf-inference", "together", "replicate")
    ),
    "local/filmer": FakeModel("text-to-video", ("fal-ai", "together", "replicate")),
    "local/spoiler": FakeModel("text-to-video", ("fal-ai", "together")),
    "local/animator": FakeModel("image-to-video", ("fal-ai", "together")),
    "local/speaker": FakeModel(
        "text-to-speech", ("hf-inference", "fal-ai", *_OPENAI_COMPATIBLE, "replicate")
    ),
    "local/listener": FakeModel(
        "automatic-speech-recognition", ("hf-inference", "fal-ai", "deepinfra", "replicate")
    ),
    "local/critic": FakeModel("text-classification", ("hf-inference",)),
    "local/cold": FakeModel("text-classification", ("hf-inference",)),
    "local/sorter": FakeModel("zero-shot-classification", ("hf-inference",)),
    "local/editor": FakeModel("summarization", ("hf-inference",)),
    "local/translator": FakeModel("translation", ("hf-inference",)),
    "local/captioner": FakeModel("image-to-text", ("hf-inference",)),
    "local/labeller": FakeModel("image-classification", ("hf-inference",)),
    "local/unoffered": FakeModel("text-to-image", ()),
}
"""Of these `local/spoiler` fails after a while, and `local/cold` is not loaded when first asked."""


async def describe_model(request: Request) -> Response:
    """Describe a model to anybody: what it is, or else what `expand` names."""
    name = f"{request.path_params['owner']}/{request.path_params['name']}"
    if (stand_in := FAKE_MODELS.get(name)) is None:
        raise HubApiError(HTTPStatus.NOT_FOUND, "Repository not found", code="RepoNotFound")
    described = stand_in.to_dict(name)
    wanted = request.query_params.getlist("expand") or ["pipeline_tag", "tags"]
    return JSONResponse({key: each for key, each in described.items() if key in ("id", *wanted)})
