"""Commands run inside this process, in a folder of their own."""

import io
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest

from penstock.cli.main import run
from penstock.logs import configure_logs
from penstock.settings import LogLevel
from tests.cli.fakes import FakeImports, session_with


@dataclass(frozen=True)
class Outcome:
    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return msgspec.json.decode(self.out)

    @property
    def lines(self) -> list[Any]:
        return [msgspec.json.decode(line) for line in self.out.split("\n") if line]


Command = Callable[..., Outcome]


@pytest.fixture
def imports() -> FakeImports:
    return FakeImports()


@pytest.fixture
def penstock(imports: FakeImports, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Iterator[Command]:
    """Run a command on `imports`; the working folder is `tmp_path`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PENSTOCK_DATA_DIR", str(tmp_path / "data"))

    def command(*arguments: object, stdin: bytes | None = None) -> Outcome:
        if stdin is not None:
            monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        capfd.readouterr()
        status = run([str(argument) for argument in arguments], session_with(imports))
        return Outcome(status, *capfd.readouterr())

    yield command
    configure_logs(LogLevel.INFO)


@pytest.fixture
def users_csv(tmp_path: Path) -> Path:
    path = tmp_path / "users.csv"
    path.write_text("email,name\na@example.com,A\n")
    return path
