"""The people whom the tests act for: their subject ids, and the tokens they call with."""

from typing import Final

ADA_ID: Final = "5e9ecfc04957053f60648a3e"
"""The subject most tests act for."""
ADA_TOKEN: Final = "hf_ada"
"""The token that calls unless another is named."""
BOB_ID: Final = "5e9ecfc04957053f60648a3f"
BOB_TOKEN: Final = "hf_bob"
EVE_ID: Final = "5e9ecfc04957053f60648a40"
"""A subject with no row anywhere."""
