"""All servers and workers of a database keep their files in one storage."""

from pathlib import Path

from tests.support.commands import Penstock
from tests.support.serving import serving


def environment(database: str, folder: Path) -> dict[str, str]:
    return {"DATABASE_URL": database, "PENSTOCK_DATA_DIR": str(folder)}


def test_another_folder_is_refused_until_it_is_adopted(database: str, run_penstock: Penstock, tmp_path: Path) -> None:
    """A worker that would not find what the server stored does not start, and says what to set; a storage that moved is adopted once."""
    with serving(run_penstock, "--no-worker", env=environment(database, tmp_path / "a")):
        refused = run_penstock("worker", env=environment(database, tmp_path / "b"))
        assert refused.returncode == 2
        assert "PENSTOCK_DATA_DIR" in refused.stderr
        assert str(tmp_path / "a") in refused.stderr
    adopted = run_penstock("migrate", "--adopt-storage", env=environment(database, tmp_path / "b"))
    assert adopted.returncode == 0, adopted.stderr
    with serving(run_penstock, env=environment(database, tmp_path / "b")) as served:
        assert served.http.get("/ready").is_success


def test_another_folder_for_exports_is_refused_until_it_is_adopted(database: str, run_penstock: Penstock, tmp_path: Path) -> None:
    """What one worker exports, every server must find: EXPORT_DIR is part of the storage that all of them have."""
    common = environment(database, tmp_path / "a")
    with_folder = {**common, "EXPORT_DIR": str(tmp_path / "exported")}
    with serving(run_penstock, "--no-worker", env=common):
        refused = run_penstock("worker", env=with_folder)
        assert refused.returncode == 2
        assert "EXPORT_DIR" in refused.stderr
        assert str(tmp_path / "exported") in refused.stderr
    assert run_penstock("migrate", "--adopt-storage", env=with_folder).returncode == 0
    with serving(run_penstock, env=with_folder) as served:
        assert served.http.get("/ready").is_success
        refused = run_penstock("worker", env=common)
        assert refused.returncode == 2
