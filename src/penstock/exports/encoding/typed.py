"""A batch from the driver as the Arrow types that a resource's fields have, exactly: what does not fit is refused, never rounded."""

from collections.abc import Callable

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import json as arrow_json

from penstock.errors import UnexportableValueError
from penstock.exports.columns import Column
from penstock.exports.encoding.moments import EARLIEST, odd_text
from penstock.exports.encoding.texts import bytes_of
from penstock.resources.arrow import ArrowArray
from penstock.resources.datetimes import datetime_reader
from penstock.resources.model import Field, FieldType

_MOST_DIGITS = 38  # that a decimal holds, and a NUMBER that declares no precision
_MOMENT = pa.timestamp("us", "UTC")
_TYPES: dict[FieldType, pa.DataType] = {
    FieldType.STRING: pa.string(),
    FieldType.UUID: pa.uuid(),
    FieldType.INTEGER: pa.int32(),
    FieldType.BOOLEAN: pa.bool_(),
    FieldType.DATETIME: _MOMENT,
    FieldType.STRINGS: pa.list_(pa.string()),
}


def array_type(column: Column) -> pa.DataType:
    return _field_type(column.field) if column.field else _list_of(column, _field_type)


def typed(batch: pa.RecordBatch, column: Column) -> pa.Array:
    """The column with its `array_type`. Raises UnexportableValueError."""
    values = batch.column(column.name)
    if column.child:
        return _children(values, column)
    assert column.field
    match column.field.type:
        case FieldType.STRINGS:
            return _from_json(values, array_type(column), column.name)
        case FieldType.DATETIME:
            return _moments(values, column.name)
        case FieldType.NUMBER:
            return _numbers(values, array_type(column), column.name)
        case _:
            return _from_text(values, column.field, column.name)


def _field_type(field: Field) -> pa.DataType:
    return pa.decimal128(field.precision or _MOST_DIGITS, field.scale) if field.type is FieldType.NUMBER else _TYPES[field.type]


def _json_type(field: Field) -> pa.DataType:
    """What the JSON reader makes of a child's field; ids and times are text there."""
    return pa.string() if field.type in (FieldType.UUID, FieldType.DATETIME) else _field_type(field)


def _list_of(column: Column, type_of: Callable[[Field], pa.DataType]) -> pa.DataType:
    assert column.child
    return pa.list_(pa.struct([(field.name, type_of(field)) for field in column.child.fields]))


def _children(texts: pa.Array, column: Column) -> pa.Array:
    assert column.child
    lists = _from_json(texts, _list_of(column, _json_type), column.name)
    records = lists.flatten()
    fields = [
        _from_text(values, field, f"{column.name}.{field.name}")
        for field, values in zip(column.child.fields, records.flatten(), strict=True)
    ]
    kind = array_type(column)
    structs = pa.StructArray.from_arrays(fields, fields=list(kind.value_type), mask=records.is_null())
    # Counted anew: the offsets of a list that is null or sliced need not fit what `flatten` leaves.
    lengths = pc.fill_null(pc.list_value_length(lists), 0)
    offsets = pa.concat_arrays([pa.array([0], pa.int32()), pc.cumulative_sum(lengths).cast(pa.int32())])
    return pa.ListArray.from_arrays(offsets, structs, type=kind, mask=lists.is_null())


def _from_json(texts: pa.Array, kind: pa.DataType, name: str) -> pa.Array:
    """Arrow's reader, because it alone keeps every digit of a decimal."""
    if not len(texts):
        return pa.array([], kind)
    values = pl.Series(ArrowArray(texts)).fill_null("null")
    data = bytes_of(pl.select(pl.concat_str(pl.lit('{"":'), values, pl.lit("}\n"))).to_series())
    try:
        table = arrow_json.read_json(
            pa.BufferReader(pa.py_buffer(data)),
            read_options=arrow_json.ReadOptions(use_threads=False, block_size=len(data) + 1),
            parse_options=arrow_json.ParseOptions(explicit_schema=pa.schema([("", kind)]), unexpected_field_behavior="error"),
        )
    except pa.ArrowInvalid as fault:
        raise _unexportable(name, str(fault).partition("\n")[0]) from fault
    return table.column(0).combine_chunks()


def _from_text(values: pa.Array, field: Field, name: str) -> pa.Array:
    match field.type:
        case FieldType.UUID:
            digits = pl.Series(ArrowArray(values)).str.replace_all("-", "", literal=True).str.decode("hex")
            return pa.ExtensionArray.from_storage(pa.uuid(), digits.to_arrow().cast(pa.binary(16)))
        case FieldType.DATETIME:
            texts = pl.Series(ArrowArray(values))
            moments = datetime_reader(None, None).read(texts)["value"]
            if len(wrong := texts.filter(moments.is_null() & texts.is_not_null())):
                raise _unexportable(name, f"it holds {wrong[0]}")
            return moments.to_arrow().cast(_MOMENT)
        case _:
            return values.cast(_field_type(field))


def _moments(moments: pa.Array, name: str) -> pa.Array:
    earliest = pc.min(moments.view(pa.int64())).as_py()
    if earliest is not None and earliest < EARLIEST:
        raise _unexportable(name, f"it holds {odd_text(earliest)}")
    return moments.cast(_MOMENT)


def _numbers(digits: pa.Array, kind: pa.DataType, name: str) -> pa.Array:
    try:
        return digits.cast(kind)
    except pa.ArrowInvalid as fault:
        raise _unexportable(name, str(fault)) from fault


def _unexportable(name: str, why: str) -> UnexportableValueError:
    return UnexportableValueError(
        f"{name} has a value that its type in Parquet does not hold ({why}): leave the field out, or export as CSV, NDJSON or JSON",
        field=name,
    )
