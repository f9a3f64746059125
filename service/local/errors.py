"""The error of the local stack, for the person who has started it."""

from schema.common.errors import HoldfastError


class CannotStart(HoldfastError):
    """Something on this machine prevents the start; the text says what to do."""


class AlreadyRunning(CannotStart):
    """Another supervisor uses the data folder."""
