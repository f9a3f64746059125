"""Request bodies: their base models, and refusals that name the field."""

from http import HTTPStatus
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.alias_generators import to_camel
from starlette.requests import Request

from service.local.hub_emulator.errors import HubApiError

ModelT = TypeVar("ModelT", bound=BaseModel)


class RequestModel(BaseModel):
    """Base of a request body, with the field names that the Hub uses."""

    # The Hub ignores fields that it does not know.
    model_config = ConfigDict(
        alias_generator=to_camel, extra="ignore", frozen=True, hide_input_in_errors=True
    )


class StrictRequestModel(RequestModel):
    """Base of a request body whose values the Hub does not convert to the field's type."""

    model_config = ConfigDict(strict=True)


async def read_body(request: Request, model: type[ModelT]) -> ModelT:
    """Read and validate the body of a request.

    Raises:
        HubApiError: the Hub would answer 400.
    """
    try:
        body: Any = await request.json()
    except ValueError:
        raise HubApiError(HTTPStatus.BAD_REQUEST, "body: not JSON") from None
    try:
        return model.model_validate(body)
    except ValidationError as error:
        location, message = get_first_error(error)
        message = message.removeprefix("Value error, ")
        raise HubApiError(HTTPStatus.BAD_REQUEST, f"{location or 'body'}: {message}") from None


def get_first_error(error: ValidationError) -> tuple[str, str]:
    """Return the location and the message of the first error; the whole body has no location."""
    first = error.errors(include_url=False, include_input=False)[0]
    return ".".join(map(str, first["loc"])), first["msg"]
