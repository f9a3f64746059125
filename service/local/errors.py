"""What does a person read when the local stack cannot run here?"""

from schema.common.errors import HoldfastError


class CannotStart(HoldfastError):
    """Something on this machine keeps the stack from starting; the text says what to do."""
