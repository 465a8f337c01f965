"""What a command has at hand: the settings, the application behind it, and two consoles."""

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from rich.console import Console

from penstock.cli.terminal import make_console

if TYPE_CHECKING:  # these import Polars and psycopg, which --help must not wait for
    from penstock.bootstrap import Application
    from penstock.resources.registry import Registry
    from penstock.settings import Settings


def _open(settings: "Settings") -> "AbstractContextManager[Application]":
    from penstock.bootstrap import application  # noqa: PLC0415 - costly; see the package's docstring

    return application(settings)


@dataclass
class Session:
    """One run of the command line. `open_application` is where a test puts another application."""

    open_application: Callable[["Settings"], "AbstractContextManager[Application]"] = _open
    log_level: str | None = None  # from --log-level; None: LOG_LEVEL, else warnings only, which do not disturb a progress bar
    as_json: bool = False  # the command was asked for JSON, so errors are JSON too
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

    def registry(self) -> "Registry":
        """The resources alone, without a database."""
        from penstock.resources.registry import Registry  # noqa: PLC0415 - costly

        return Registry.load(*self.settings.penstock_resources)

    @contextmanager
    def application(self) -> "Iterator[Application]":
        with self.open_application(self.settings) as application:
            yield application
