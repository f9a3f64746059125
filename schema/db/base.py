"""What all tables share: names of constraints, column types, and reading a row."""

import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Final, Self

from sqlalchemy import ARRAY, BigInteger, CheckConstraint, DateTime, Text, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import declared_attr
from sqlmodel import SQLModel

SQLModel.metadata.naming_convention = {
    "ix": "ix_%(column_0_N_label)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}

# SQLModel wants classes here and takes instances as well; Any keeps the checkers out of it.
TIMESTAMP: Any = DateTime(timezone=True)
"""`timestamptz`: every point in time is stored as one."""
TEXT: Any = Text
TEXT_ARRAY: Any = ARRAY(Text)
BIGINT: Any = BigInteger
JSON: Any = JSONB

DEFAULT_NOW: Final = {"server_default": text("now()")}
"""A column whose first value is the time of the database."""


def with_server_default(value: str) -> dict[str, Any]:
    """Set a default in the database, so that an INSERT can leave the column out."""
    return {"server_default": text(value)}


def check_in_enum(column: str, enum_class: type[StrEnum]) -> CheckConstraint:
    """Allow only the values of `enum_class` in `column`.

    Not a Postgres enum: Alembic neither notices a new member nor drops the type on the way down.
    """
    values = ", ".join(f"'{member}'" for member in enum_class)
    return CheckConstraint(f"{column} IN ({values})", name=f"{column}_known")


def check_identifier(column: str) -> CheckConstraint:
    """Allow only identifiers in `column`, where the list of names is open."""
    return CheckConstraint(f"{column} ~ '^[a-z][a-z_]{{1,39}}$'", name=f"{column}_word")


class Record(SQLModel):
    """A row as the code holds it; its table with the constraints is another class (`JobTable`)."""

    @declared_attr.directive
    def __tablename__(cls) -> str:  # pyright: ignore[reportIncompatibleVariableOverride]  # SQLModel types it as a plain declared_attr
        """Name the table: `JobEventTable` is `job_event`."""
        words = cls.__name__.removesuffix("Table")
        return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", words).lower()

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Self:
        """Read a row; columns that this record does not have are ignored."""
        return cls.model_validate(dict(row))
