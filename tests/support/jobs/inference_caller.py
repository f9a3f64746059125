"""A caller of models, without a worker, a job or a row."""

import base64
from typing import Any, Final, cast

from schema.accounts.vault import Secret, Vault
from schema.db.database import Database
from schema.hub.url_fetcher import Fetcher
from schema.settings import Settings
from schema.specs.inference import InferenceSpec
from workers.executor import ExecutorDeps, Outcome, ReportProgress
from workers.hub.client import HubJobsClient
from workers.inference.call import InferenceCaller

_UNUSED_SETTINGS: Final = {
    "HOLDFAST_DATABASE_URL": "postgresql://nowhere.example/none",
    "HOLDFAST_REDIS_URL": "redis://nowhere.example",
    "vault_keys": f"k1:{base64.b64encode(bytes(32)).decode()}",
}


class ModelCaller:
    """Makes calls with one token."""

    def __init__(
        self,
        gateway: HubJobsClient,
        token: Secret,
        fetcher: Fetcher | None = None,
        **setting_overrides: Any,
    ) -> None:
        # Neither rows nor secrets are known to a call, so there need be none.
        settings = Settings.model_validate(_UNUSED_SETTINGS | setting_overrides)
        means = ExecutorDeps(gateway, cast("Database", None), settings, cast("Vault", None))
        self._inference = InferenceCaller(means, fetcher)
        self.token = token

    async def call_model(self, report: ReportProgress | None = None, **spec_fields: Any) -> Outcome:
        """Make a call."""
        spec = InferenceSpec.model_validate(spec_fields)
        return await self._inference.call(spec, self.token, report_progress=report)
