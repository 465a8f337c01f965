"""The errors a caller can meet: one tree, each class with one HTTP status and one exit code.

::

    PenstockError
    ├── UsageError              the request itself is wrong
    │   ├── InvalidOptionError
    │   ├── InvalidFilterError      a filter of an export
    │   ├── InvalidSourceError
    │   ├── InvalidResourceError
    │   ├── UnknownResourceError
    │   ├── SettingsError
    │   ├── InvalidIdError
    │   ├── ForbiddenUrlError       `file_url` leads where the server must not go
    │   ├── CrossSiteError          a page of another site made a browser send this
    │   ├── UnknownHostError        the request was meant for a server of another name
    │   ├── MalformedMultipartError
    │   ├── IncompleteBodyError     the body ended before it was whole
    │   ├── BodyTimeoutError        the body did not come in time
    │   ├── PayloadTooLargeError
    │   ├── UnsupportedMediaTypeError
    │   ├── RouteNotFoundError
    │   ├── MethodNotAllowedError
    │   ├── HttpVersionError        an answer of this length needs HTTP/1.1
    │   └── InvalidEventError       what was sent is no product event
    ├── IdempotencyError        an Idempotency-Key says that this was asked before
    │   ├── IdempotencyInProgressError
    │   └── IdempotencyKeyReusedError
    ├── FileFaultError          the file as a whole cannot be imported
    │   ├── EmptyFileError
    │   ├── UnknownFormatError
    │   ├── MissingColumnsError
    │   ├── DuplicateColumnsError
    │   ├── TruncatedFileError
    │   ├── FileChangedError
    │   └── DownloadFailedError     `file_url` could not be fetched
    ├── ImportStoppedError      the import ended early, as its options asked
    │   ├── TooManyErrorsError
    │   └── RejectedRecordsError
    ├── CancelledError          somebody asked the job to stop
    ├── JobNotFoundError
    ├── RecordNotFoundError
    ├── UnexportableValueError  a stored value that the format asked for cannot hold
    ├── UploadNotFoundError     no such upload, or its file has not arrived
    ├── ExportExpiredError      the file of an export was removed after its time
    ├── ExportTimeoutError      the export took longer than EXPORT_TOTAL_SECONDS
    ├── ClientStalledError      whoever an export goes to has taken nothing for too long
    ├── TooManyAttemptsError    every attempt at the job ended without a word: it is set aside
    ├── HandedOverError         this process stops; the job waits for another attempt
    ├── InvalidStateError       the job is not in a state that allows this
    ├── LeaseLostError          another attempt owns the job now; this one must drop its work
    ├── QueueFullError          as many events wait as may wait
    ├── DeadLetterNotFoundError
    ├── EventLogUnavailableError    NATS is away or refuses
    ├── DatabaseError
    │   ├── DatabaseUnavailableError
    │   │   └── CircuitOpenError        it was away several times in a row: nothing is tried for a while
    │   └── DatabaseRefusedError
    ├── StorageError
    │   ├── ObjectNotFoundError
    │   ├── StorageUnavailableError
    │   └── InvalidLinkError        a signed link was altered, or is for something else, or has expired
    ├── ServerError             the Penstock server that a command talks to
    │   ├── ServerUnreachableError
    │   └── ServerRefusedError
    ├── OverloadedError         the server is at a limit of its own; try again
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


class InvalidFilterError(UsageError):
    code = "invalid_filter"


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


class InvalidIdError(UsageError):
    code = "invalid_id"


class ForbiddenUrlError(UsageError):
    code = "forbidden_url"


class CrossSiteError(UsageError):
    code = "cross_site_request"
    http_status = 403


class UnknownHostError(UsageError):
    code = "unknown_host"
    http_status = 421


class MalformedMultipartError(UsageError):
    code = "malformed_multipart"


class IncompleteBodyError(UsageError):
    code = "incomplete_body"


class BodyTimeoutError(UsageError):
    code = "body_timeout"
    http_status = 408


class PayloadTooLargeError(UsageError):
    code = "payload_too_large"
    http_status = 413


class UnsupportedMediaTypeError(UsageError):
    code = "unsupported_media_type"
    http_status = 415


class RouteNotFoundError(UsageError):
    code = "route_not_found"
    http_status = 404


class MethodNotAllowedError(UsageError):
    code = "method_not_allowed"
    http_status = 405


class HttpVersionError(UsageError):
    code = "http_version_not_supported"
    http_status = 505


class InvalidEventError(UsageError):
    code = "invalid_event"


class IdempotencyError(PenstockError):
    code = "idempotency_conflict"
    http_status = 409


class IdempotencyInProgressError(IdempotencyError):
    code = "idempotency_in_progress"


class IdempotencyKeyReusedError(IdempotencyError):
    code = "idempotency_key_reused"
    http_status = 422


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


class DownloadFailedError(FileFaultError):
    code = "download_failed"


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


class RecordNotFoundError(PenstockError):
    code = "record_not_found"
    http_status = 404


class UnexportableValueError(PenstockError):
    """`details["field"]` says where; another format can hold it."""

    code = "unexportable_value"
    http_status = 409


class UploadNotFoundError(PenstockError):
    code = "upload_not_found"
    http_status = 404


class ExportExpiredError(PenstockError):
    code = "export_expired"
    http_status = 410


class ExportTimeoutError(PenstockError):
    code = "export_timeout"
    http_status = 504


class ClientStalledError(PenstockError):
    """Nobody is told but the log: whoever could be told does not listen."""

    code = "client_stalled"
    http_status = 408


class TooManyAttemptsError(PenstockError):
    """The last error of the attempts stands in `details`."""

    code = "too_many_attempts"


class HandedOverError(PenstockError):
    code = "handed_over"
    http_status = 503


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


class CircuitOpenError(DatabaseUnavailableError):
    """`details` holds `retry_after_seconds`, a whole number."""

    code = "circuit_open"


class DatabaseRefusedError(DatabaseError):
    """PostgreSQL refused a statement for good: a right, a type, a full disk."""

    code = "database_refused"


class StorageError(PenstockError):
    code = "storage_error"


class ObjectNotFoundError(StorageError):
    code = "object_not_found"
    http_status = 404


class StorageUnavailableError(StorageError):
    code = "storage_unavailable"
    http_status = 503


class InvalidLinkError(StorageError):
    code = "invalid_link"
    http_status = 403


class ServerError(PenstockError):
    code = "server_error"
    http_status = 502


class ServerUnreachableError(ServerError):
    code = "server_unreachable"


class ServerRefusedError(ServerError):
    """The server answered with an error; its code, status and message are carried over where it gave them."""

    code = "server_refused"


class OverloadedError(PenstockError):
    code = "overloaded"
    http_status = 503


class UnbalancedBooksError(PenstockError):
    code = "unbalanced_books"


class QueueFullError(PenstockError):
    code = "queue_full"
    http_status = 503


class DeadLetterNotFoundError(PenstockError):
    code = "dead_letter_not_found"
    http_status = 404


class EventLogUnavailableError(PenstockError):
    code = "event_log_unavailable"
    http_status = 503
