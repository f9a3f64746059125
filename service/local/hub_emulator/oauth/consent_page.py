"""The page that asks the user for consent."""

from html import escape
from typing import Final
from urllib.parse import urlsplit

from service.local.hub_emulator.oauth.grants import AuthorizationRequest
from service.local.hub_emulator.oauth.scopes import SCOPES

FORM_TOKEN: Final = "form_token"  # noqa: S105  # a field's name
DECISION: Final = "decision"
ALLOW: Final = "allow"
DENY: Final = "deny"
SECURITY_HEADERS: Final = {
    "cache-control": "no-store",
    "referrer-policy": "no-referrer",
    # No scripts, and no frame around the page that could misdirect a click. No form-action either:
    # browsers would apply it also to the redirect to the client.
    "content-security-policy": "default-src 'none'; base-uri 'none'; frame-ancestors 'none'",
    "x-frame-options": "DENY",
}


def render_consent_page(
    client_name: str, authorization: AuthorizationRequest, form_token: str
) -> str:
    """Render the page, which names the client, the user and the scopes."""
    target = urlsplit(authorization.redirect_uri)
    scopes = "".join(
        f"<li><code>{scope}</code>: {SCOPES[scope]}</li>" for scope in authorization.scopes
    )
    orgs = "".join(f"<li>in the organisation {escape(org)}</li>" for org in authorization.orgs)
    return f"""<!DOCTYPE html>
<html lang="en">
<head><meta charset="utf-8"><title>Local Hub: allow access?</title></head>
<body>
<h1>Local Hub</h1>
<p>This is an emulator on this machine, not huggingface.co.</p>
<p><strong>{escape(client_name)}</strong> (a name it gave itself) at
<code>{escape(f"{target.scheme}://{target.netloc}")}</code>
asks <strong>{escape(authorization.user.name)}</strong> to let it:</p>
<ul>{scopes}{orgs}</ul>
<form method="post" action="/oauth/authorize">
<input type="hidden" name="{FORM_TOKEN}" value="{form_token}">
<button name="{DECISION}" value="{ALLOW}">Allow</button>
<button name="{DECISION}" value="{DENY}">Deny</button>
</form>
</body>
</html>
"""
