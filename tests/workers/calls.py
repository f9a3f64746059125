"""A caller of models, without a worker, a job or a row."""

import base64
from typing import Any, Final, cast

from schema.accounts.vault import Secret, Vault
from schema.db.database import Database
from schema.settings import Settings
from schema.specs.inference import InferenceSpec
from workers.executor import Means, Outcome, Report
from workers.hub.client import Hub
from workers.inference.call import Inference
from workers.inputs.url_fetcher import Fetcher

_NOWHERE: Final = {
    "HOLDFAST_DATABASE_URL": "postgresql://nowhere.example/none",
    "HOLDFAST_REDIS_URL": "redis://nowhere.example",
    "vault_keys": f"k1:{base64.b64encode(bytes(32)).decode()}",
}


class Asker:
    """Makes calls with one token."""

    def __init__(
        self, gateway: Hub, token: Secret, fetcher: Fetcher | None = None, **more: Any
    ) -> None:
        # Neither rows nor secrets are known to a call, so there need be none.
        settings = Settings.model_validate(_NOWHERE | more)
        means = Means(gateway, cast("Database", None), settings, cast("Vault", None))
        self._inference = Inference(means, fetcher)
        self.token = token

    async def ask(self, report: Report | None = None, **asked: Any) -> Outcome:
        """Make a call."""
        spec = InferenceSpec.model_validate(asked)
        return await self._inference.answer(spec, self.token, report=report)
