"""The errors a caller can meet: one tree, each class with one HTTP status and one exit code.

::

    PenstockError
    ├── UsageError              the request itself is wrong
    │   ├── InvalidOptionError
    │   ├── InvalidSourceError
    │   ├── InvalidResourceError
    │   ├── UnknownResourceError
    │   └── SettingsError
    ├── FileFaultError          the file as a whole cannot be imported
    │   ├── EmptyFileError
    │   ├── UnknownFormatError
    │   ├── MissingColumnsError
    │   ├── DuplicateColumnsError
    │   ├── TruncatedFileError
    │   └── FileChangedError
    ├── ImportStoppedError      the import ended early, as its options asked
    │   ├── TooManyErrorsError
    │   └── RejectedRecordsError
    ├── CancelledError          somebody asked the job to stop
    ├── JobNotFoundError
    ├── InvalidStateError       the job is not in a state that allows this
    ├── LeaseLostError          another attempt owns the job now; this one must drop its work
    ├── DatabaseError
    │   ├── DatabaseUnavailableError
    │   └── DatabaseRefusedError
    └── UnbalancedBooksError    read != imported + updated + rejected: a defect, never hidden
"""

from typing import Any, ClassVar


class PenstockError(Exception):
    """The root. `message` tells a person what to do; `details` holds the facts for a machine."""

    code: ClassVar[str] = "internal_error"
    http_status: ClassVar[int] = 500
    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, **details: Any) -> None:
        super().__init__(message)
        self.message = message
        self.details = details


class UsageError(PenstockError):
    code = "invalid_request"
    http_status = 400
    exit_code = 2


class InvalidOptionError(UsageError):
    code = "invalid_option"


class InvalidSourceError(UsageError):
    code = "invalid_source"


class InvalidResourceError(UsageError):
    """A resource declaration breaks its own rules."""

    code = "invalid_resource"


class UnknownResourceError(UsageError):
    code = "unknown_resource"
    http_status = 404


class SettingsError(UsageError):
    code = "invalid_settings"


class FileFaultError(PenstockError):
    code = "invalid_file"
    http_status = 422


class EmptyFileError(FileFaultError):
    code = "empty_file"


class UnknownFormatError(FileFaultError):
    code = "unknown_format"
    http_status = 415


class MissingColumnsError(FileFaultError):
    code = "missing_columns"


class DuplicateColumnsError(FileFaultError):
    code = "duplicate_columns"


class TruncatedFileError(FileFaultError):
    code = "truncated_file"


class FileChangedError(FileFaultError):
    code = "file_changed"


class ImportStoppedError(PenstockError):
    code = "import_stopped"
    http_status = 422


class TooManyErrorsError(ImportStoppedError):
    code = "too_many_errors"


class RejectedRecordsError(ImportStoppedError):
    """`on_error=abort` or `atomic=true` met a bad record."""

    code = "rejected_records"


class CancelledError(PenstockError):
    code = "cancelled"
    http_status = 409


class JobNotFoundError(PenstockError):
    code = "job_not_found"
    http_status = 404


class InvalidStateError(PenstockError):
    code = "invalid_state"
    http_status = 409


class LeaseLostError(PenstockError):
    code = "lease_lost"
    http_status = 409


class DatabaseError(PenstockError):
    code = "database_error"


class DatabaseUnavailableError(DatabaseError):
    code = "database_unavailable"
    http_status = 503


class DatabaseRefusedError(DatabaseError):
    """PostgreSQL refused a statement for good: a right, a type, a full disk."""

    code = "database_refused"


class UnbalancedBooksError(PenstockError):
    code = "unbalanced_books"
