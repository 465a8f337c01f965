"""What a command has at hand: the settings, the application behind it, and two consoles."""

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from rich.console import Console

from penstock.cli.hints import Hints
from penstock.cli.terminal import make_console

if TYPE_CHECKING:  # these import Polars and psycopg, which --help must not wait for
    from penstock.bootstrap import Application
    from penstock.cli.service import ExportService, ImportService, LetterService
    from penstock.client import Server
    from penstock.resources.describing import ResourceDescription
    from penstock.resources.registry import Registry
    from penstock.settings import Settings


def _open(settings: "Settings") -> "AbstractContextManager[Application]":
    from penstock.bootstrap import application  # noqa: PLC0415 - costly; see the package's docstring

    return application(settings)


@dataclass
class Session:
    """One run of the command line. `open_application` is where a test puts another application."""

    open_application: Callable[["Settings"], "AbstractContextManager[Application]"] = _open
    server: str | None = None  # the URL that the command asks in place of the database; None: the database
    log_level: str | None = None  # from --log-level; None: LOG_LEVEL, else warnings only, which do not disturb a progress bar
    as_json: bool = False  # the command was asked for JSON, so errors are JSON too
    data_on_out: bool = False  # standard output holds an export: whatever else there is to say goes to standard error, JSON too
    interrupted: bool = False  # a signal ended the command: Typer makes a silent status of KeyboardInterrupt
    _overrides: dict[str, str] = field(default_factory=dict)

    @cached_property
    def out(self) -> Console:
        return make_console()

    @cached_property
    def err(self) -> Console:
        return make_console(stderr=True)

    @property
    def wants_traceback(self) -> bool:
        return os.environ.get("PENSTOCK_TRACEBACK", "") not in ("", "0") or (self.log_level or "").upper() == "DEBUG"

    def override(self, variable: str, value: str) -> None:
        """Use `value` unless the environment or .env says otherwise."""
        self._overrides[variable] = value

    @property
    def overridden(self) -> set[str]:
        """The variables whose value is the command's own."""
        return {name for name, value in self._overrides.items() if str(getattr(self.settings, name.lower())) == value}

    @cached_property
    def settings(self) -> "Settings":
        """Raises SettingsError. Logging is configured with the first look."""
        from penstock.logs import configure_logs  # noqa: PLC0415 - costly
        from penstock.settings import LogLevel, load_settings  # noqa: PLC0415 - costly

        settings = load_settings()
        missing = {name: value for name, value in self._overrides.items() if name.lower() not in settings.model_fields_set}
        if missing:
            settings = load_settings(os.environ | missing)
        asked = LogLevel(self.log_level.upper()) if self.log_level else None
        default = settings.log_level if "log_level" in settings.model_fields_set else LogLevel.WARNING
        configure_logs(asked or default, settings.log_format)
        return settings

    @property
    def hints(self) -> Hints:
        return Hints(self.server)

    def registry(self) -> "Registry":
        """The resources alone, without a database."""
        from penstock.resources.registry import Registry  # noqa: PLC0415 - costly

        return Registry.load(*self.settings.penstock_resources)

    @contextmanager
    def application(self) -> "Iterator[Application]":
        with self.open_application(self.settings) as application:
            yield application

    @contextmanager
    def connected(self) -> "Iterator[Server]":
        """The server that `server` names. Raises InvalidOptionError for what is no URL."""
        from penstock.client import Server  # noqa: PLC0415 - httpx, which the database's commands must not wait for
        from penstock.logs import configure_logs  # noqa: PLC0415 - costly
        from penstock.settings import LogLevel  # noqa: PLC0415 - costly

        assert self.server is not None
        # This machine's settings are of no concern to the server, and may be wrong.
        configure_logs(LogLevel((self.log_level or "warning").upper()))
        # What is tried again and comes through is of interest to nobody who has not asked for the log.
        logging.getLogger("stamina").setLevel(logging.NOTSET if self.log_level else logging.ERROR)
        with Server(self.server) as server:
            yield server

    @contextmanager
    def imports(self) -> "Iterator[ImportService]":
        """Imports where the command is to ask for them: on the server, else in this process."""
        if self.server is not None:
            from penstock.cli.remote import RemoteImports  # noqa: PLC0415 - costly

            with self.connected() as server:
                yield RemoteImports(server)
        else:
            from penstock.cli.local import LocalImports  # noqa: PLC0415 - costly

            with self.application() as application:
                yield LocalImports(application)

    @contextmanager
    def exports(self) -> "Iterator[ExportService]":
        """Likewise."""
        if self.server is not None:
            from penstock.cli.remote import RemoteExports  # noqa: PLC0415 - costly

            with self.connected() as server:
                yield RemoteExports(server)
        else:
            from penstock.cli.local import LocalExports  # noqa: PLC0415 - costly

            with self.application() as application:
                yield LocalExports(application)

    @contextmanager
    def letters(self) -> "Iterator[LetterService]":
        """Likewise."""
        if self.server is not None:
            from penstock.cli.remote import RemoteLetters  # noqa: PLC0415 - costly

            with self.connected() as server:
                yield RemoteLetters(server)
        else:
            from penstock.cli.local import LocalLetters  # noqa: PLC0415 - costly

            with self.application() as application:
                yield LocalLetters(application)

    def resources(self, name: str | None) -> "Sequence[ResourceDescription]":
        """All that can be imported, parents first, or the one. Raises UnknownResourceError."""
        if self.server is not None:
            with self.connected() as server:
                return server.resources() if name is None else (server.resource(name),)
        from penstock.resources.describing import described  # noqa: PLC0415 - costly

        registry = self.registry()
        return tuple(described(resource) for resource in (registry if name is None else [registry.get(name)]))
