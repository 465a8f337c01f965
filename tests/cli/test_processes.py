"""What only a process of its own can show: terminals, signals, start-up, closed pipes."""

import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PATIENCE_SECONDS = 30


def command(behaviour: str, *arguments: object) -> list[str]:
    return [sys.executable, "-m", "tests.cli.with_fake", behaviour, *map(str, arguments)]


def environment(folder: Path, **more: str) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "FORCE_COLOR", "COLUMNS")}
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    return inherited | {"PENSTOCK_DATA_DIR": str(folder / "data"), "PYTHONPATH": path, "TERM": "xterm-256color"} | more


class Terminal:
    """A process on a terminal of its own, and everything it wrote there."""

    def __init__(self, arguments: list[str], folder: Path, **more: str) -> None:
        self._main, side = pty.openpty()
        self.process = subprocess.Popen(
            arguments, stdin=side, stdout=side, stderr=side, cwd=folder, env=environment(folder, **more), start_new_session=True
        )
        os.close(side)
        self.text = ""

    def read_until(self, sign: str) -> str:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while sign not in self.text and time.monotonic() < deadline:
            if not self._read():
                break
        assert sign in self.text, self.text
        return self.text

    def wait(self) -> int:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while self._read() and time.monotonic() < deadline:
            pass
        return self.process.wait(PATIENCE_SECONDS)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(PATIENCE_SECONDS)
        os.close(self._main)

    def _read(self) -> bool:
        """False at the end."""
        if not select.select([self._main], [], [], 0.5)[0]:
            return self.process.poll() is None
        try:
            data = os.read(self._main, 65536)
        except OSError:  # how Linux tells that the other side is closed
            return False
        self.text += data.decode("utf-8", "replace")
        return bool(data)


@contextmanager
def terminal(arguments: list[str], folder: Path, **more: str) -> Iterator[Terminal]:
    opened = Terminal(arguments, folder, **more)
    try:
        yield opened
    finally:
        opened.close()


@pytest.fixture
def users_csv(tmp_path: Path) -> Path:
    path = tmp_path / "users.csv"
    path.write_text("email,name\na@example.com,A\n")
    return path


def test_a_terminal_gets_a_bar_that_goes_away(users_csv: Path, tmp_path: Path) -> None:
    """A bar in place (the cursor is hidden and comes back), then the summary; the status is that of the import."""
    with terminal(command("rejecting", "import", "users", users_csv), tmp_path) as screen:
        assert screen.wait() == 3
        assert "\x1b[?25l" in screen.text
        assert screen.text.rindex("\x1b[?25h") < screen.text.index("with 2 rejected records")
        assert "━" in screen.text


@pytest.mark.parametrize("more", [{"TERM": "dumb"}, {"NO_COLOR": "1", "TERM": "dumb"}])
def test_a_terminal_that_cannot_draw_gets_lines(users_csv: Path, tmp_path: Path, more: dict[str, str]) -> None:
    """Not one escape sequence."""
    with terminal(command("good", "import", "users", users_csv), tmp_path, **more) as screen:
        assert screen.wait() == 0
        assert "\x1b" not in screen.text
        assert "into users: completed" in screen.text


def test_a_pipe_gets_plain_text(users_csv: Path, tmp_path: Path) -> None:
    """Neither colours nor bars, and no line folded at 80 columns."""
    done = subprocess.run(
        command("rejecting", "import", "users", users_csv),
        capture_output=True,
        cwd=tmp_path,
        env=environment(tmp_path),
        check=False,
        timeout=PATIENCE_SECONDS,
    )
    assert done.returncode == 3
    assert b"\x1b" not in done.stdout + done.stderr
    assert b"rejected-users.csv\n" in done.stdout


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_first_signal_stops_cleanly(users_csv: Path, tmp_path: Path, number: signal.Signals) -> None:
    """The service is asked to stop, its job is shown as cancelled with the way to go on, later files are not started; status 130."""
    with terminal(command("patient", "import", "users", users_csv, users_csv), tmp_path) as screen:
        screen.read_until("9 rows")
        screen.process.send_signal(number)
        assert screen.wait() == 130
        assert "cancelled" in screen.text
        assert "penstock import --resume" in screen.text
        assert "Not started" in screen.text


def test_the_second_signal_ends_at_once(users_csv: Path, tmp_path: Path) -> None:
    """Although the service does not answer; the terminal gets its cursor back."""
    with terminal(command("stubborn", "import", "users", users_csv), tmp_path) as screen:
        screen.read_until("9 rows")
        screen.process.send_signal(signal.SIGINT)
        screen.read_until("Ctrl-C again ends at once")
        screen.process.send_signal(signal.SIGINT)
        assert screen.wait() == 130
        assert screen.text.rstrip().endswith("\x1b[?25h")


def test_a_signal_while_standard_input_is_received_leaves_nothing(tmp_path: Path) -> None:
    """Nothing was started, so there is nothing to go on with: status 130 and no file in the spool."""
    with subprocess.Popen(
        command("good", "import", "users", "-"), stdin=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tmp_path, env=environment(tmp_path)
    ) as process:
        assert process.stdin
        process.stdin.write(b"email\n")
        process.stdin.flush()
        folder = tmp_path / "data" / "spool"
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not (folder.is_dir() and list(folder.iterdir())) and time.monotonic() < deadline:
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 130
    assert b"interrupted" in err
    assert list(folder.iterdir()) == []


def test_an_encoding_without_the_letters_does_not_end_the_command(tmp_path: Path) -> None:
    """In a terminal that knows ASCII only a name with other letters comes out escaped."""
    path = tmp_path / "Łódź.csv"
    path.write_text("email\n")
    done = subprocess.run(
        command("rejecting", "import", "users", path),
        capture_output=True,
        cwd=tmp_path,
        env=environment(tmp_path, PYTHONIOENCODING="ascii"),
        check=False,
        timeout=PATIENCE_SECONDS,
    )
    assert done.returncode == 3
    assert rb"\u0141\xf3d\u017a.csv" in done.stdout


def test_a_reader_that_goes_away_ends_the_command_quietly(tmp_path: Path) -> None:
    """`penstock ... | head`: no traceback, no message of the interpreter."""
    with subprocess.Popen(
        command("good", "resources", "--json"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tmp_path, env=environment(tmp_path)
    ) as process:
        assert process.stdout
        assert process.stderr
        process.stdout.close()
        err = process.stderr.read()
        process.wait(PATIENCE_SECONDS)
    assert process.returncode == 1
    assert err == b""


def test_help_imports_nothing_costly(tmp_path: Path) -> None:
    """`penstock --help` answers without Polars, pyarrow, psycopg and pydantic; and no command is missing in it."""
    code = (
        "import sys; from penstock.cli.main import run; status = run(['--help']);"
        "print(status, sorted({'polars', 'pyarrow', 'psycopg', 'pydantic', 'rich.markdown'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=True, timeout=PATIENCE_SECONDS)
    assert done.stdout.endswith("0 []\n")
    commands = ("import", "export", "jobs", "job", "errors", "cancel", "resources", "migrate", "doctor", "sample", "demo", "version")
    assert all(f"\n  {name} " in done.stdout for name in commands)


_SERVERS_ONLY = {"litestar", "granian", "procrastinate", "httpx", "obstore", "multipart"}
_EXPORTS_ONLY = {"adbc_driver_manager", "adbc_driver_postgresql"}


@pytest.mark.parametrize(
    "arguments", [["import", "--help"], ["import", "users", "users.csv"], ["jobs"], ["errors", "--help"], ["export", "users", "out.csv"]]
)
def test_what_works_here_imports_nothing_of_servers(users_csv: Path, database: str, tmp_path: Path, arguments: list[str]) -> None:
    """A local import starts in half a second; the libraries of servers and clients would take as long again. Nor does it load what exports
    read with.
    """
    absent = _SERVERS_ONLY if arguments[0] == "export" else _SERVERS_ONLY | _EXPORTS_ONLY
    code = (
        f"import sys; from penstock.cli.main import run; status = run({arguments!r});"
        f"print(status, sorted({absent!r} & {{name.partition('.')[0] for name in sys.modules}}))"
    )
    env = environment(tmp_path, DATABASE_URL=database)
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, env=env, check=True, timeout=PATIENCE_SECONDS
    )
    assert done.stdout.endswith("0 []\n"), done.stdout + done.stderr
