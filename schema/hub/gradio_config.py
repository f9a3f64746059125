"""How is it read what a Gradio app says of itself?

    /config           the functions, their numbers, and the components they take and give
    /gradio_api/info  the same for people: names, types and defaults of what a caller passes

Nothing an app says becomes part of an address, but one of the two paths that Gradio itself knows:
a token goes along with every request, and is for the host that the Hub has named.
"""

from collections.abc import Mapping
from typing import Final

from pydantic import ValidationError

from schema.common.text import truncate
from schema.hub.gradio_api import (
    Endpoint,
    GradioApi,
    GradioModel,
    InvalidCall,
    Parameter,
    ReturnValue,
)

_API_PREFIXES: Final = frozenset({"", "/gradio_api"})
"""Where Gradio serves its API: before version 5 at the root."""
_PROTOCOLS: Final = frozenset({"sse_v1", "sse_v2", "sse_v2.1", "sse_v3"})
"""Ways to be told how a call goes that begin with `queue/join`; the others ended in 2023."""
_STATE_COMPONENT: Final = "state"
_MAX_ENDPOINTS: Final = 40
"""Endpoints of one app that are described."""
_MAX_DESCRIPTION_CHARS: Final = 400


class _Component(GradioModel):
    id: int
    type: str = ""
    skip_api: bool | None = None

    @property
    def is_hidden(self) -> bool:
        """Whether callers neither pass nor get its value."""
        return self.type == _STATE_COMPONENT if self.skip_api is None else self.skip_api


class _Function(GradioModel):
    id: int | None = None
    inputs: tuple[int, ...] = ()
    outputs: tuple[int, ...] = ()
    api_name: str | bool | None = None


class _EndpointDescription(GradioModel):
    parameters: tuple[Parameter, ...] = ()
    returns: tuple[ReturnValue, ...] = ()
    description: str | None = None


class _ApiDescription(GradioModel):
    named_endpoints: dict[str, _EndpointDescription]


class AppConfig(GradioModel):
    """The functions of an app, as it runs."""

    api_prefix: str = ""
    """The path that the API is under."""
    protocol: str = "ws"
    dependencies: list[_Function]
    components: list[_Component]

    def build_api(self, description: bytes) -> GradioApi:
        """Say what can be called by name.

        Raises:
            Mismatch: the description cannot be read.
        """
        try:
            said = _ApiDescription.model_validate_json(description).named_endpoints
        except ValidationError:
            raise InvalidCall("describes its endpoints in a way that cannot be read.") from None
        hidden = {each.id: each.is_hidden for each in self.components}
        functions = {
            f"/{each.api_name}": (number if each.id is None else each.id, each)
            for number, each in enumerate(self.dependencies)
            if isinstance(each.api_name, str)
        }
        known = [
            _build_endpoint(name, *functions[name], described, hidden)
            for name, described in said.items()
            if name in functions
        ]
        # Of a function that takes something else than is described, no call could be made up.
        usable = [each for each in known if sum(each.exposed_inputs) == len(each.parameters)]
        return GradioApi(self.api_prefix, {each.name: each for each in usable[:_MAX_ENDPOINTS]})


def parse_config(config: bytes) -> AppConfig:
    """Read how an app is to be called.

    Raises:
        Mismatch: it is not a Gradio app, or none that can be called from here.
    """
    try:
        app = AppConfig.model_validate_json(config)
    except ValidationError:
        raise InvalidCall("is not a Gradio app, or does not say how it is called.") from None
    if app.protocol not in _PROTOCOLS or app.api_prefix not in _API_PREFIXES:
        raise InvalidCall("speaks a protocol of Gradio's that is not spoken here.")
    return app


def _build_endpoint(
    name: str,
    fn_index: int,
    function: _Function,
    description: _EndpointDescription,
    hidden: Mapping[int, bool],
) -> Endpoint:
    return Endpoint(
        name=name,
        fn_index=fn_index,
        parameters=description.parameters,
        returns=description.returns,
        description=truncate(description.description or "", _MAX_DESCRIPTION_CHARS),
        exposed_inputs=tuple(not hidden.get(each, False) for each in function.inputs),
        exposed_outputs=tuple(not hidden.get(each, False) for each in function.outputs),
    )
