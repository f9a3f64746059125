"""Values of examples that hypothesis writes in short."""

import json
from dataclasses import asdict

from hypothesis.vendor.pretty import RepresentationPrinter

from schema.common.text import truncate


class BriefValue:
    """A value of an example, which hypothesis writes down when it fails.

    Of a dataclass, hypothesis 6 writes all fields, whatever its `__repr__` says. A long text there
    is a warning, and hides the failure.
    """

    def _repr_pretty_(self, printer: RepresentationPrinter, cycle: bool) -> None:  # noqa: FBT001  # its name and its arguments are those of hypothesis
        printer.text("…" if cycle else truncate(json.dumps(asdict(self)), 2000))  # type: ignore[call-overload]
