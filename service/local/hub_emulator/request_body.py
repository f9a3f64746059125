"""service.local.hub_emulator.request_body."""

from http import HTTPStatus
from typing import Any, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    ValidationError,
)
from pydantic.alias_generators import to_camel
from starlette.requests import Request

from service.local.hub_emulator.errors import HubApiError

ModelT = TypeVar("ModelT", bound=BaseModel)


class RequestModel(BaseModel):
    """The body of a request, in the names that the Hub uses."""

    # What the Hub does not know, it ignores; what it knows, it does not convert.
    model_config = ConfigDict(
        alias_generator=to_camel,
        extra="ignore",
        frozen=True,
        strict=True,
        hide_input_in_errors=True,
    )


async def read_body(request: Request, model: type[ModelT]) -> ModelT:
    """Read the body of a request.

    Raises:
        Refusal: the Hub would answer 400.
    """
    try:
        body: Any = await request.json()
    except ValueError:
        raise HubApiError(HTTPStatus.BAD_REQUEST, "body: not JSON") from None
    try:
        return model.model_validate(body)
    except ValidationError as error:
        wrong = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in wrong["loc"]) or "body"
        message = wrong["msg"].removeprefix("Value error, ")
        raise HubApiError(HTTPStatus.BAD_REQUEST, f"{where}: {message}") from None
