"""The embedded PostgreSQL, brought up again when it dies under a process that goes on."""

from pathlib import Path

from penstock.database.embedded import EmbeddedPostgres
from penstock.logs import get_logger


def keep_up(data_dir: Path) -> bool:
    """Start the server of `data_dir` anew if it has died; whether it had. For a process that holds a share in it.

    Takes as long as PostgreSQL needs to recover. Raises DatabaseUnavailableError, DatabaseRefusedError.
    """
    share = EmbeddedPostgres(data_dir)
    if share.runs:
        return False
    log = get_logger(__name__)
    log.error("the embedded PostgreSQL has died; it is started again", folder=str(data_dir))
    with share:  # giving it back stops nothing: this process has another
        log.warning("the embedded PostgreSQL runs again", folder=str(data_dir))
    return True
