"""Where exports go, under the hands of several threads."""

import threading
from pathlib import Path

import pytest

from penstock.cli.targets import NewFile


def test_a_signal_may_discard_while_its_thread_discards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second Ctrl-C comes to the main thread in the middle of what it does after the first; it must not wait for itself."""
    target = NewFile(tmp_path / "users.csv", force=False)
    unlink, again = Path.unlink, [target.discard]

    def interrupted(path: Path, missing_ok: bool = False) -> None:
        if again:
            again.pop()()
        unlink(path, missing_ok=missing_ok)

    monkeypatch.setattr(Path, "unlink", interrupted)
    discarding = threading.Thread(target=target.discard, daemon=True)
    discarding.start()
    discarding.join(10)
    assert not discarding.is_alive()
    with pytest.raises(InterruptedError), target:
        pass
    assert list(tmp_path.iterdir()) == []
