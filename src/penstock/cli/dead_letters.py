"""`penstock dead-letters`, `replay` and `discard`."""

from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from penstock.cli.failures import LANDED, print_json
from penstock.cli.options import ServerOption
from penstock.cli.session import Session
from penstock.cli.terminal import plural
from penstock.errors import InvalidOptionError

if TYPE_CHECKING:  # msgspec is not needed for --help
    from penstock.cli.service import Letter

AsJson = Annotated[bool, typer.Option("--json", help="JSON on standard output, and nothing else.")]
ProductOption = Annotated[str | None, typer.Option("--product", metavar="ID", help="Only of this product.", show_default=False)]
Code = Literal["invalid_event", "refused_by_database", "retries_exhausted"]
CodeOption = Annotated[Code | None, typer.Option(help="Only those that died of this.", show_default=False)]
LetterArgument = Annotated[str, typer.Argument(metavar="ID", help="The dead letter's id.")]


def dead_letters(  # noqa: PLR0917 - Typer passes them by name
    ctx: typer.Context,
    product: ProductOption = None,
    code: CodeOption = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="At most so many.")] = 20,
    as_json: AsJson = False,
    server: ServerOption = None,  # noqa: ARG001 - its callback has told the session; likewise below
) -> int:
    """List product events that could not be applied, the newest first, with the reason."""
    session: Session = ctx.obj
    with session.letters() as letters:
        found = letters.newest(limit, product_id=product, code=code)
    if as_json:
        print_json({"items": [_as_json(letter) for letter in found]})
        return LANDED
    from penstock.cli.summary import print_letters  # noqa: PLC0415 - Rich's tables are not needed for --help

    if found:
        print_letters(session.out, found)
    else:
        session.out.print("No dead letters." if (product, code) == (None, None) else "No such dead letters.")
    return LANDED


def replay(  # noqa: PLR0917 - Typer passes them by name
    ctx: typer.Context,
    letter: Annotated[str | None, typer.Argument(metavar="ID", help="The dead letter's id.", show_default=False)] = None,
    every: Annotated[bool, typer.Option("--all", help="All of them, or those of --product and --code.")] = False,
    product: ProductOption = None,
    code: CodeOption = None,
    as_json: AsJson = False,
    server: ServerOption = None,  # noqa: ARG001
) -> int:
    """Send a dead letter, or all, into the log again, to be applied by a worker. Mend the cause first."""
    session: Session = ctx.obj
    if (letter is None) is not every:
        raise InvalidOptionError("give the id of one dead letter, or --all")
    if letter is not None and (product, code) != (None, None):
        raise InvalidOptionError("--product and --code pick some of --all; a dead letter's id stands alone")
    with session.letters() as letters:
        if letter is None:
            count = letters.replay_all(product_id=product, code=code)
        else:
            letters.replay(letter)
            count = 1
    if as_json:
        print_json({"replayed": count})
    else:
        session.out.print(f"{plural(count, 'dead letter')} sent into the log again.")
    return LANDED


def discard(
    ctx: typer.Context,
    letter: LetterArgument,
    as_json: AsJson = False,
    server: ServerOption = None,  # noqa: ARG001
) -> int:
    """Forget a dead letter: its event is never applied."""
    session: Session = ctx.obj
    with session.letters() as letters:
        letters.discard(letter)
    if as_json:
        print_json({"discarded": 1})
    else:
        session.out.print("1 dead letter discarded.")
    return LANDED


def _as_json(letter: "Letter") -> dict[str, Any]:
    import msgspec  # noqa: PLC0415 - not needed for --help

    shown = {name: getattr(letter, name) for name in _SHOWN}
    # A number, as the API has it; by itself it would come as a text.
    return shown | {"price": None if letter.price is None else msgspec.Raw(format(letter.price, "f").encode())}


_SHOWN = (
    *("dead_letter_id", "product_id", "price", "stock", "occurred_at", "event_id", "accepted_at"),
    *("raw", "code", "reason", "attempts", "died_at"),
)
