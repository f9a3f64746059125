"""What can be called in a Gradio app, and does a call fit?

An app is whatever its author made of it. Only what can be nothing but a mistake is refused here;
what an app makes of the rest it says itself.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from schema.common.name_matching import did_you_mean
from schema.common.text import quote_value, truncate
from schema.specs.inputs.file_argument import FILE_ARGUMENT_EXAMPLES, parse_file_argument

_DEFAULT_ENDPOINT: Final = "/predict"
_MAX_TEXT_CHARS: Final = 400
_MAX_VALUE_CHARS: Final = 80


class InvalidCall(ValueError):
    """The call does not fit the app; the text says what would."""


class GradioModel(BaseModel):
    """Something an app says of itself; more than is known here is left out."""

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
        """Whether a file is meant, somewhere in its value."""
        return "gradio.FileData" in json.dumps(self.shape)

    @property
    def type_label(self) -> str:
        """What to pass, in a few words."""
        if self.takes_files:
            return "file" if self.shape.get("type") != "array" else "list of files"
        return truncate(
            self.python_type.type or str(self.shape.get("type") or "any"), _MAX_VALUE_CHARS
        )

    @property
    def example_value(self) -> Any:
        """A value that fits."""
        if not self.takes_files:
            return self.example
        return (
            [FILE_ARGUMENT_EXAMPLES[0]]
            if self.shape.get("type") == "array"
            else FILE_ARGUMENT_EXAMPLES[0]
        )

    @property
    def signature(self) -> str:
        """The parameter as in a signature."""
        default = (
            f" = {truncate(json.dumps(self.default), _MAX_VALUE_CHARS)}" if self.optional else ""
        )
        return f"{self.name}: {self.type_label}{default}"


class ReturnValue(GradioModel):
    """One value that a caller gets."""

    label: str = ""
    component: str = ""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A function that can be called by name."""

    name: str
    fn_index: int
    """What the app calls it by."""
    parameters: tuple[Parameter, ...]
    returns: tuple[ReturnValue, ...]
    description: str
    exposed_inputs: tuple[bool, ...]
    """Of each value the function takes: whether a caller passes it."""
    exposed_outputs: tuple[bool, ...]
    """Of each value it returns: whether a caller gets it."""

    @property
    def signature(self) -> str:
        """The endpoint as a signature, and what it gives."""
        taken = ", ".join(each.signature for each in self.parameters)
        given = ", ".join(each.label or each.component for each in self.returns)
        return truncate(f"{self.name}({taken}){f' -> {given}' if given else ''}", _MAX_TEXT_CHARS)

    @property
    def example_arguments(self) -> dict[str, Any]:
        """The shortest arguments that fit."""
        return {each.name: each.example_value for each in self.parameters if not each.optional}

    def bind_arguments(self, arguments: Mapping[str, Any] | Sequence[Any]) -> list[Any]:
        """Put the arguments in the order the function takes them, files as `GivenFile`.

        Raises:
            Mismatch: they do not fit.
        """
        given = iter(self._bound_values(_name_arguments(self.parameters, arguments)))
        return [next(given) if passed else None for passed in self.exposed_inputs]

    def label_results(self, values: Sequence[Any]) -> list[tuple[ReturnValue, Any]]:
        """Name the values that a caller gets."""
        shown = [value for value, got in zip(values, self.exposed_outputs, strict=False) if got]
        # An app whose functions are not annotated says of fewer values what they are.
        known = [*self.returns, *[ReturnValue()] * (len(shown) - len(self.returns))]
        return list(zip(known, shown, strict=False))

    def _bound_values(self, arguments: Mapping[str, Any]) -> Iterable[Any]:
        unknown = [
            name for name in arguments if name not in {each.name for each in self.parameters}
        ]
        if unknown:
            near = did_you_mean(unknown[0], [each.name for each in self.parameters])
            raise InvalidCall(
                f"has no parameter {quote_value(unknown[0], _MAX_VALUE_CHARS)}. {near}".strip()
            )
        missing = [p.name for p in self.parameters if not p.optional and p.name not in arguments]
        if missing:
            raise InvalidCall(f"needs {' and '.join(missing)} too.")
        for each in self.parameters:
            if each.name not in arguments:
                yield each.default
            elif each.takes_files:
                yield _parse_files(each, arguments[each.name])
            else:
                yield _expect_type(each, arguments[each.name])


@dataclass(frozen=True, slots=True)
class GradioApi:
    """Everything that can be called in an app."""

    api_prefix: str
    """The path that the API is under."""
    endpoints: dict[str, Endpoint]

    def choose_endpoint(self, name: str | None) -> Endpoint:
        """Choose an endpoint; the only one, or the usual one, if none is named.

        Raises:
            Mismatch: there is no such endpoint, or one has to be chosen.
        """
        if name is None and len(self.endpoints) == 1:
            return next(iter(self.endpoints.values()))
        found = self.endpoints.get(name or _DEFAULT_ENDPOINT)
        if found is not None:
            return found
        if name is None:
            raise InvalidCall("has several endpoints; name one in api_name.")
        near = did_you_mean(name, self.endpoints)
        raise InvalidCall(f"has no endpoint {name}. {near}".strip())

    @property
    def description(self) -> str:
        """Every endpoint with what it takes, and one that is called."""
        if not self.endpoints:
            return "No endpoint of it can be called by name."
        lines = [f"  {each.signature}" for each in self.endpoints.values()]
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
        raise InvalidCall(f"takes {len(parameters)} arguments, not {len(arguments)}.")
    return {each.name: value for each, value in zip(parameters, arguments, strict=False)}


def _parse_files(parameter: Parameter, value: JsonValue) -> Any:
    """Replace what stands for a file, wherever it is."""
    try:
        file = parse_file_argument(value)
    except ValueError as error:
        raise InvalidCall(f"cannot take {parameter.name}: {error}") from None
    if file is not None:
        return file
    if isinstance(value, list):
        return [_parse_files(parameter, each) for each in value]
    if isinstance(value, dict):
        return {name: _parse_files(parameter, each) for name, each in value.items()}
    return value


def _expect_type(parameter: Parameter, value: JsonValue) -> JsonValue:
    wanted = parameter.shape.get("type")
    fits = {
        "string": not isinstance(value, list | dict),
        "number": _is_number(value),
        "integer": _is_number(value),
        "boolean": isinstance(value, bool),
        "array": isinstance(value, list),
    }
    if value is not None and isinstance(wanted, str) and not fits.get(wanted, True):
        given = truncate(json.dumps(value), _MAX_VALUE_CHARS)
        raise InvalidCall(f"takes a {wanted} as {parameter.name}, not {given}.")
    return value


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
