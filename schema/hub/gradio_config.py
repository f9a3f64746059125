"""Parser of what a Gradio app says about itself.

    /config           the functions, their numbers, their input and output components
    /gradio_api/info  the same for people: names, types and defaults of the parameters

Nothing that an app says becomes part of a URL, except one of the two path prefixes that Gradio
itself knows: every request carries a token, which is for the host that the Hub has named.
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
"""Protocols for the progress of a call that begin with `queue/join`; the others ended in 2023."""
_WHOLE_VALUES_PROTOCOL: Final = "sse_v1"
"""Of Gradio 4.0: each partial result comes whole."""
_STATE_COMPONENT: Final = "state"
_MAX_ENDPOINTS: Final = 40
"""Endpoints of one app that are kept."""
_MAX_DESCRIPTION_CHARS: Final = 400


class _Component(GradioModel):
    id: int
    type: str = ""
    skip_api: bool | None = None

    @property
    def is_hidden(self) -> bool:
        """Whether its value is neither passed nor received by callers."""
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
        """Combine the configuration with the description of the endpoints.

        Raises:
            InvalidCall: the description cannot be read.
        """
        try:
            descriptions = _ApiDescription.model_validate_json(description).named_endpoints
        except ValidationError:
            raise InvalidCall("describes its endpoints in a way that cannot be read.") from None
        hidden = {component.id: component.is_hidden for component in self.components}
        functions = {
            f"/{function.api_name}": (number if function.id is None else function.id, function)
            for number, function in enumerate(self.dependencies)
            if isinstance(function.api_name, str)
        }
        endpoints = [
            _build_endpoint(name, *functions[name], description, hidden)
            for name, description in descriptions.items()
            if name in functions
        ]
        # No call can be built for a function whose inputs differ from its description.
        usable = [
            endpoint
            for endpoint in endpoints
            if sum(endpoint.exposed_inputs) == len(endpoint.parameters)
        ]
        return GradioApi(
            self.api_prefix,
            {endpoint.name: endpoint for endpoint in usable[:_MAX_ENDPOINTS]},
            sends_edits=self.protocol != _WHOLE_VALUES_PROTOCOL,
        )


def parse_config(config: bytes) -> AppConfig:
    """Parse the configuration of an app.

    Raises:
        InvalidCall: it is not a Gradio app, or not one that this client can call.
    """
    try:
        app = AppConfig.model_validate_json(config)
    except ValidationError:
        raise InvalidCall("is not a Gradio app, or does not say how it is called.") from None
    if app.protocol not in _PROTOCOLS or app.api_prefix not in _API_PREFIXES:
        raise InvalidCall("uses a protocol of Gradio that is not supported here.")
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
        exposed_inputs=tuple(
            not hidden.get(component_id, False) for component_id in function.inputs
        ),
        exposed_outputs=tuple(
            not hidden.get(component_id, False) for component_id in function.outputs
        ),
    )
