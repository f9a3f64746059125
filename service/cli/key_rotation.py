"""`holdfast vault rotate`: every token and secret sealed again with the first key."""

from rich.console import Console

from schema.accounts.key_rotation import rotate_keys
from schema.accounts.row_security import open_worker_database
from schema.accounts.vault import Vault
from schema.settings import Settings


async def run_rotation(settings: Settings, console: Console) -> int:
    """Seal everything again, and print how much that was.

    Returns:
        0 if all could be opened, 1 if something was sealed with a key that is not there.
    """
    async with open_worker_database(
        str(settings.database_url), application_name="holdfast-vault", pooled=settings.pooled
    ) as database:
        vault = Vault.from_key_ring(settings.vault_keys.get_secret_value())
        counts = await rotate_keys(database, vault)
    console.print(f"{counts.resealed} sealed again, {counts.current} had the first key already.")
    if counts.lost:
        console.print(
            f"{counts.lost} cannot be opened with these keys; the next call of their owner "
            f"replaces them. To save them, put their key back and run this again.",
            style="red",
        )
        return 1
    console.print("Keys other than the first can be taken out of HOLDFAST_VAULT_KEYS now.")
    return 0
