"""`penstock serve`: the API and a worker in one process."""

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from penstock.cli.session import Session
from penstock.errors import SettingsError
from penstock.memory import give_back_early

if TYPE_CHECKING:  # it imports pydantic
    from penstock.settings import Settings


def serve(
    ctx: typer.Context,
    host: Annotated[
        str | None, typer.Option(help="Address to listen at.", show_default="HTTP_SERVER_HOST, else 127.0.0.1", metavar="HOST")
    ] = None,
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="TCP port.", show_default="HTTP_SERVER_PORT, else 8080")] = None,
    no_worker: Annotated[bool, typer.Option("--no-worker", help="The API alone; workers run elsewhere (`penstock worker`).")] = False,
    log_level: Annotated[
        str | None, typer.Option(metavar="LEVEL", help="debug, info, warning or error.", show_default="LOG_LEVEL, else info")
    ] = None,
) -> int:
    """Serve the HTTP API, with a worker, until SIGTERM or Ctrl-C.

    Stopping takes SHUTDOWN_GRACE_SECONDS at most: requests under way end, jobs are handed over, events that
    wait are applied. A second signal ends at once.
    """
    session: Session = ctx.obj
    settings = _settings(session, host, port, log_level)
    address = _loopback(settings.http_server_host)
    from penstock.api.serving import Serving  # noqa: PLC0415 - imports Litestar and Granian, which --help must not wait for

    give_back_early()
    with session.open_application(settings) as application:
        application.check_storage()
        return Serving(
            application=application,
            host=address,
            port=settings.http_server_port,
            with_worker=not no_worker,
            announce=lambda url: _announce(session, settings, url),
        ).run()


def _settings(session: Session, host: str | None, port: int | None, log_level: str | None) -> "Settings":
    """With the options in place of the variables. Requests are logged unless less was asked for."""
    from penstock.logs import configure_logs  # noqa: PLC0415 - costly
    from penstock.settings import LogLevel  # noqa: PLC0415 - costly

    settings = session.settings
    asked = log_level or session.log_level
    if asked is not None and asked.upper() not in LogLevel.__members__:
        raise typer.BadParameter(f"must be one of {', '.join(level.lower() for level in LogLevel.__members__)}", param_hint="--log-level")
    configure_logs(LogLevel(asked.upper()) if asked else settings.log_level, settings.log_format)
    given = {"http_server_host": host, "http_server_port": port}
    return settings.model_copy(update={name: value for name, value in given.items() if value is not None})


def _loopback(host: str) -> str:
    """The address behind the name, which must be the machine's own. Raises SettingsError."""
    import socket  # noqa: PLC0415 - not needed for --help
    from ipaddress import ip_address  # noqa: PLC0415

    try:
        found = [str(info[4][0]) for info in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)]
    except OSError as error:
        raise SettingsError(f"HTTP_SERVER_HOST: {host} is no address of this machine ({error.strerror}).") from error
    if not all(ip_address(address.partition("%")[0]).is_loopback for address in found):
        raise SettingsError(
            f"HTTP_SERVER_HOST: {host} can be reached by other machines, and no sign-in is configured: whoever reaches the server could "
            "read and change everything. Listen at 127.0.0.1, and let a proxy that signs people in pass requests on."
        )
    return found[0]


def _announce(session: Session, settings: "Settings", url: str) -> None:
    where = settings.public_url or url
    if sys.stderr.isatty():
        session.err.print(f"Penstock listens at {where}/v1 - read about it at {where}/docs - Ctrl-C stops it", soft_wrap=True)
        return
    from penstock.logs import get_logger  # noqa: PLC0415 - costly

    get_logger(__name__).info("listening", api=f"{where}/v1", docs=f"{where}/docs", address=url)
