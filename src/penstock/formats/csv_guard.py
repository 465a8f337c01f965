"""CSV that is safe to open in a spreadsheet: text that would be taken for a formula has an apostrophe in front.

`guarded` and `unguarded` are each other's inverse on every text: one more apostrophe, one fewer. A file says that its text is guarded by a
column named `_spreadsheet`, which other files do not have.
"""

import polars as pl

SPREADSHEET_COLUMN = "_spreadsheet"
_FORMULA = r"[=+\-@\t\r\n＝＋－＠]"  # noqa: RUF001 - spreadsheets take the full-width forms too


def guarded(text: pl.Expr) -> pl.Expr:
    return pl.when(text.str.contains(rf"^'*{_FORMULA}")).then(pl.lit("'") + text).otherwise(text).name.keep()


def unguarded(text: pl.Expr) -> pl.Expr:
    return pl.when(text.str.contains(rf"^'+{_FORMULA}")).then(text.str.strip_prefix("'")).otherwise(text)
