"""What a new row gets where its record says nothing."""

import json
from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from typing import Any

import polars as pl

from penstock.imports.copying import new_ids
from penstock.resources.model import NOW, Field, FieldType, Resource

_TYPED: dict[FieldType, Callable[[str], Any]] = {
    FieldType.BOOLEAN: lambda text: text == "true",
    FieldType.INTEGER: int,
    FieldType.NUMBER: Decimal,
    FieldType.STRINGS: json.loads,
}


def typed_default(field: Field, now: datetime) -> Any:
    """The default as a value of the field's type, None where it has none. `now` is the database's time of this unit of work."""
    if field.default is None:
        return None
    if field.default == NOW:
        return now
    return _TYPED.get(field.type, str)(field.default)


def as_new(resource: Resource, frame: pl.DataFrame, now: datetime) -> pl.DataFrame:
    """The records as rows to insert: defaults filled, primary keys made where they are absent and the resource makes them."""
    fills = [
        pl.col(field.name).fill_null(pl.lit(value, dtype=frame.schema[field.name]))
        for field in resource.fields
        if (value := typed_default(field, now)) is not None and frame[field.name].null_count()
    ]
    frame = frame.with_columns(fills) if fills else frame
    primary = frame[resource.primary_key]
    if not resource.generates_key or not primary.null_count():
        return frame
    made = new_ids(frame.height).alias(resource.primary_key)
    return frame.with_columns(primary.fill_null(made))
