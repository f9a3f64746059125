"""The fake models: the task and the providers of each, and the endpoint that describes them."""

from dataclasses import dataclass
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from service.local.hub_emulator.errors import repository_not_found_error

_OPENAI_COMPATIBLE: Final = ("together", "deepinfra")


@dataclass(frozen=True, slots=True)
class FakeModel:
    """The task of a fake model, and the providers that offer it."""

    task: str
    providers: tuple[str, ...]

    def to_dict(self, name: str) -> dict[str, Any]:
        """Describe the model as the Hub does."""
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
"""Of these `local/spoiler` fails in the queue, and `local/cold` is not loaded at the first call."""


async def describe_model(request: Request) -> Response:
    """Describe a model: its task and tags, or the fields that `expand` names."""
    name = f"{request.path_params['owner']}/{request.path_params['name']}"
    if (model := FAKE_MODELS.get(name)) is None:
        raise repository_not_found_error()
    fields = ["id", *(request.query_params.getlist("expand") or ["pipeline_tag", "tags"])]
    description = model.to_dict(name)
    return JSONResponse({field: description[field] for field in description if field in fields})
