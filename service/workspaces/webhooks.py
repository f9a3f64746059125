"""Webhooks as callers name them: by their URL."""

from typing import Final

from schema.common.errors import Invalid, NotFound
from schema.specs.inputs.webhook_url import WebhookUrl
from schema.workspaces import webhooks
from schema.workspaces.webhooks import NewTarget
from service.auth.caller import Caller
from service.runtime.context import App

NO_URL: Final = "off"
"""Takes the webhook of a workspace away."""


def parse_webhook_url(app: App, url: str) -> WebhookUrl:
    """Parse the URL of a webhook.

    Raises:
        Invalid: nothing is sent there.
    """
    try:
        return WebhookUrl.parse(url, app.webhook_origins)
    except ValueError as error:
        raise Invalid(f"webhook_url: {error}.") from None


def new_target(app: App, url: str | None) -> NewTarget | None:
    """Make what a call may need for a URL; None for None.

    Raises:
        Invalid: nothing is sent there.
    """
    return None if url is None else NewTarget.create(parse_webhook_url(app, url))


async def rotate_secret(app: App, caller: Caller, url: str) -> str:
    """Make a new secret for a URL, and return it; it cannot be read again.

    Raises:
        Invalid: nothing is sent there.
        NotFound: the caller has named no such URL.
    """
    webhook_url = parse_webhook_url(app, url)
    secret = webhooks.make_secret()
    async with app.transaction(caller) as tx:
        if not await webhooks.rotate_secret(tx, app.vault, caller.subject_id, webhook_url, secret):
            raise NotFound("webhook", str(webhook_url))
    return secret.reveal()
