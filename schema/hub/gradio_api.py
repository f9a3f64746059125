"""Endpoints of a Gradio app, and the check of a call against them.

Only certain mistakes are refused here. The app itself says what is wrong with anything else.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from schema.common.name_matching import did_you_mean
from schema.common.text import format_count, quote_value, truncate
from schema.hub.gradio_shapes import ValueShape

_DEFAULT_ENDPOINT: Final = "/predict"
_MAX_TEXT_CHARS: Final = 400
_MAX_VALUE_CHARS: Final = 80


class InvalidCall(ValueError):
    """The call does not fit the app; the text says what would."""


class GradioModel(BaseModel):
    """A part of what an app says about itself; unknown fields are ignored."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class _PythonType(GradioModel):
    type: str = ""


class Parameter(GradioModel):
    """One value that a caller passes."""

    name: str = Field(alias="parameter_name", default="")
    label: str = ""
    component: str = ""
    optional: bool = Field(alias="parameter_has_default", default=False)
    default: Any = Field(alias="parameter_default", default=None)
    shape: dict[str, Any] = Field(alias="type", default={})
    python_type: _PythonType = _PythonType()
    example: Any = Field(alias="example_input", default=None)

    @property
    def takes_files(self) -> bool:
        """Whether its value is a file, or contains one."""
        return self._shape.has_files

    @property
    def _shape(self) -> ValueShape:
        return ValueShape(self.shape)

    @property
    def type_label(self) -> str:
        """The type to pass, in a few words."""
        if self._shape.is_file:
            return "file"
        if self._shape.is_list_of_files:
            return "list of files"
        return truncate(
            self.python_type.type or str(self.shape.get("type") or "any"), _MAX_VALUE_CHARS
        )

    @property
    def example_value(self) -> Any:
        """A value that fits."""
        return self._shape.show_file_arguments(self.example)

    def parse_files(self, value: JsonValue) -> Any:
        """Return a value with each file in it as a `FileArgument`.

        Raises:
            ValueError: where a file has to be is something else.
        """
        return self._shape.parse_files(value)

    @property
    def signature(self) -> str:
        """The parameter as in a signature."""
        default = (
            f" = {truncate(json.dumps(self.default), _MAX_VALUE_CHARS)}" if self.optional else ""
        )
        return f"{self.name}: {self.type_label}{default}"


class ReturnValue(GradioModel):
    """One value that a caller receives."""

    label: str = ""
    component: str = ""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A function that can be called by name."""

    name: str
    fn_index: int
    """The number that the app calls it by."""
    parameters: tuple[Parameter, ...]
    returns: tuple[ReturnValue, ...]
    description: str
    exposed_inputs: tuple[bool, ...]
    """For each input of the function: whether a caller passes it."""
    exposed_outputs: tuple[bool, ...]
    """For each output of the function: whether a caller receives it."""

    @property
    def signature(self) -> str:
        """The endpoint as a signature, with what it returns."""
        parameters = ", ".join(parameter.signature for parameter in self.parameters)
        outputs = ", ".join(output.label or output.component for output in self.returns)
        arrow = f" -> {outputs}" if outputs else ""
        return truncate(f"{self.name}({parameters}){arrow}", _MAX_TEXT_CHARS)

    @property
    def example_arguments(self) -> dict[str, Any]:
        """The shortest arguments that fit."""
        return {
            parameter.name: parameter.example_value
            for parameter in self.parameters
            if not parameter.optional
        }

    def bind_arguments(self, arguments: Mapping[str, Any] | Sequence[Any]) -> list[Any]:
        """Put the arguments in the order of the function's inputs, with files parsed.

        Raises:
            InvalidCall: they do not fit.
        """
        values = iter(self._bound_values(_name_arguments(self.parameters, arguments)))
        return [next(values) if exposed else None for exposed in self.exposed_inputs]

    def label_results(self, values: Sequence[Any]) -> list[tuple[ReturnValue, Any]]:
        """Pair the values that a caller receives with their descriptions."""
        results = [
            value for value, exposed in zip(values, self.exposed_outputs, strict=False) if exposed
        ]
        # An app whose functions are not annotated describes fewer values than it returns.
        unlabelled = [ReturnValue()] * (len(results) - len(self.returns))
        return list(zip([*self.returns, *unlabelled], results, strict=False))

    def _bound_values(self, arguments: Mapping[str, Any]) -> Iterable[Any]:
        names = [parameter.name for parameter in self.parameters]
        unknown = [name for name in arguments if name not in names]
        if unknown:
            suggestion = did_you_mean(unknown[0], names)
            raise InvalidCall(
                f"has no parameter {quote_value(unknown[0], _MAX_VALUE_CHARS)}. "
                f"{suggestion}".strip()
            )
        missing = [
            parameter.name
            for parameter in self.parameters
            if not parameter.optional and parameter.name not in arguments
        ]
        if missing:
            raise InvalidCall(f"needs {' and '.join(missing)} too.")
        for parameter in self.parameters:
            if parameter.name not in arguments:
                yield parameter.default
            elif parameter.takes_files:
                yield _parse_files(parameter, arguments[parameter.name])
            else:
                yield _expect_type(parameter, arguments[parameter.name])


@dataclass(frozen=True, slots=True)
class GradioApi:
    """Everything that can be called in an app."""

    api_prefix: str
    """The path that the API is under."""
    endpoints: dict[str, Endpoint]
    sends_edits: bool
    """Whether the partial results of a call, after the first, are edits of the one before."""

    def choose_endpoint(self, name: str | None) -> Endpoint:
        """Choose an endpoint; without a name, the only one or the default one.

        Raises:
            InvalidCall: there is no such endpoint, or the caller has to name one.
        """
        if name is None and len(self.endpoints) == 1:
            return next(iter(self.endpoints.values()))
        endpoint = self.endpoints.get(name or _DEFAULT_ENDPOINT)
        if endpoint is not None:
            return endpoint
        if name is None:
            raise InvalidCall("has several endpoints; name one in api_name.")
        suggestion = did_you_mean(name, self.endpoints)
        raise InvalidCall(f"has no endpoint {name}. {suggestion}".strip())

    @property
    def description(self) -> str:
        """Every endpoint with its parameters, and an example of a call."""
        if not self.endpoints:
            return "No endpoint of it can be called by name."
        lines = [f"  {endpoint.signature}" for endpoint in self.endpoints.values()]
        first = next(iter(self.endpoints.values()))
        example = (
            f"api_name={json.dumps(first.name)}, arguments={json.dumps(first.example_arguments)}"
        )
        return "\n".join(
            ["Its endpoints:", *lines, f"For example: {truncate(example, _MAX_TEXT_CHARS)}"]
        )


def _name_arguments(
    parameters: Sequence[Parameter], arguments: Mapping[str, Any] | Sequence[Any]
) -> Mapping[str, Any]:
    if isinstance(arguments, Mapping):
        return arguments
    if len(arguments) > len(parameters):
        raise InvalidCall(
            f"takes {format_count(len(parameters), 'argument')}, not {len(arguments)}."
        )
    return {parameter.name: value for parameter, value in zip(parameters, arguments, strict=False)}


def _parse_files(parameter: Parameter, value: JsonValue) -> Any:
    try:
        return parameter.parse_files(value)
    except ValueError as error:
        raise InvalidCall(f"cannot take {parameter.name}: {error}") from None


def _expect_type(parameter: Parameter, value: JsonValue) -> JsonValue:
    expected = parameter.shape.get("type")
    fits = {
        "string": not isinstance(value, list | dict),
        "number": _is_number(value),
        "integer": _is_number(value),
        "boolean": isinstance(value, bool),
        "array": isinstance(value, list),
    }
    if value is not None and isinstance(expected, str) and not fits.get(expected, True):
        shown = truncate(json.dumps(value), _MAX_VALUE_CHARS)
        raise InvalidCall(f"takes a {expected} as {parameter.name}, not {shown}.")
    return value


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
