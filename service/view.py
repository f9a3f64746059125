"""What is everything shown to clients made of?"""

from pydantic import BaseModel, ConfigDict


class View(BaseModel):
    """Base of everything shown."""

    model_config = ConfigDict(frozen=True)
