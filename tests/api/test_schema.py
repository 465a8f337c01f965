"""The document and the server agree: requests made from the document get answers that it tells of, and never a 5xx."""

import threading
from typing import Any

import httpx
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import APIOperation, BaseSchema, Case, GenerationMode
from schemathesis.core.failures import FailureGroup
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from penstock.bootstrap import Application
from penstock.exports.wishes import wishes_of_query
from tests.api.conftest import MakeJob
from tests.support.serving import Served

CHECKS = [
    schemathesis.checks.not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    negative_data_rejection,
    unsupported_method,
]
Operation = APIOperation[Any, Any, Any, Any]
STREAMS = ("/v1/jobs/{job_id}/events",)  # ends with its job, and is tested by itself


@pytest.fixture(scope="module")
def document(served: Served) -> BaseSchema:
    return schemathesis.openapi.from_url(f"{served.url}/openapi.json")


@pytest.fixture(scope="module")
def session() -> requests.Session:
    return requests.Session()


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=["valid", "invalid"])
def test_answers_are_those_of_the_document(document: BaseSchema, session: requests.Session, mode: GenerationMode) -> None:
    """Whatever is asked of any operation: an answer of a documented status, type and shape; what breaks the document is refused."""
    failures = []
    for operation in _operations(document):
        if operation.path in STREAMS:
            continue
        try:
            _ask(operation, session, mode)
        except (FailureGroup, BaseExceptionGroup) as group:
            failures.append(f"{operation.label}: {group.exceptions}")
    assert failures == []


def _operations(document: BaseSchema) -> list[Operation]:
    return [found.ok() for found in document.get_all_operations() if isinstance(found, Ok)]


def _ask(operation: Operation, session: requests.Session, mode: GenerationMode) -> None:
    try:
        cases = operation.as_strategy(generation_mode=mode)

        @settings(max_examples=8, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck))
        @given(cases)
        def ask(case: Case[Any]) -> None:
            case.validate_response(case.call(session=session, timeout=20), checks=CHECKS)

        ask()
    except Unsatisfiable:
        pass  # nothing can be wrong with a request that takes nothing


def test_what_is_there_is_as_documented(
    document: BaseSchema, session: requests.Session, here: Application, make_job: MakeJob, http: httpx.Client
) -> None:
    """Jobs in every state, reports, records: each answer has the documented shape."""
    done = make_job("good@example.com,Good", "bad,Bad")
    failed = make_job("x@example.com", header="email")
    waiting = make_job("waiting@example.com,W", run=False)
    make_job("abc123,49.99,100", resource="products", header="id,price,stock")
    exported, ordered = (here.exports.create(wishes_of_query(here.registry, [("resource", "users")])) for _ in range(2))
    here.exports.run(exported.job_id, cancel=threading.Event())
    with here.database.connection() as connection:
        ((user,),) = connection.execute("SELECT id FROM users WHERE email = 'good@example.com'").fetchall()
        connection.execute("INSERT INTO penstock.dead_letters (raw, code, reason, attempts) VALUES ('x', 'invalid_event', 'no event', 1)")
        ((raw,),) = connection.execute("SELECT dead_letter_id::text FROM penstock.dead_letters").fetchall()
    asked: list[tuple[str, dict[str, Any]]] = [
        *(("/v1/imports/{job_id}", {"job_id": job.job_id}) for job in (done, failed, waiting)),
        *((f"/v1/imports/{{job_id}}/{part}", {"job_id": job.job_id}) for part in ("errors", "rejected") for job in (done, failed, waiting)),
        *(("/v1/jobs/{job_id}", {"job_id": job.job_id}) for job in (done, exported, ordered)),
        *(("/v1/exports/{job_id}", {"job_id": job.job_id}) for job in (exported, ordered)),
        *(("/v1/exports/{resource}/stream", {"resource": resource.name}) for resource in here.registry),
        *(("/v1/resources/{name}", {"name": resource.name}) for resource in here.registry),
        ("/v1/users/{record_id}", {"record_id": str(user)}),
        ("/{user_id}", {"user_id": str(user)}),
        ("/v1/products/{record_id}", {"record_id": "abc123"}),
        ("/v1/dead-letters/{dead_letter_id}", {"dead_letter_id": raw}),
    ]
    for path, parameters in asked:
        case = document[path]["GET"].Case(path_parameters=parameters)
        response = case.call(session=session, timeout=20)
        assert response.status_code == 200
        case.validate_response(response, checks=CHECKS)
    assert http.get("/v1/imports").json()["items"]
    for path in ("/v1/jobs", "/v1/imports", "/v1/dead-letters", "/metrics"):
        assert document[path]["GET"].Case().call_and_validate(session=session, checks=CHECKS).status_code == 200
    for kind, job in (("imports", waiting), ("exports", ordered)):
        change = document[f"/v1/{kind}/{{job_id}}/cancel"]["POST"].Case(path_parameters={"job_id": job.job_id})
        assert [change.call_and_validate(session=session, checks=CHECKS).status_code for _ in range(2)] == [200, 409]
        again = document[f"/v1/{kind}/{{job_id}}/retry"]["POST"].Case(path_parameters={"job_id": job.job_id})
        assert again.call_and_validate(session=session, checks=CHECKS).status_code == 202
    event: dict[str, Any] = {"product_id": "abc123", "price": 49.99, "stock": 100, "event_id": None}
    bodies: list[tuple[str, Any]] = [("/v1/events", event), ("/v1/events/batch", [event, {}])]
    for path, body in bodies:
        sent = document[path]["POST"].Case(body=body, media_type="application/json")
        assert sent.call_and_validate(session=session, checks=CHECKS).status_code == 202
    for path, method, status in (("/v1/dead-letters/replay", "POST", 202), ("/v1/dead-letters/{dead_letter_id}", "DELETE", 204)):
        case = document[path][method].Case(path_parameters={"dead_letter_id": raw} if "{" in path else {})
        assert case.call_and_validate(session=session, checks=CHECKS).status_code == status
    redirect = document["/v1/exports/{job_id}/download"]["GET"].Case(path_parameters={"job_id": exported.job_id})
    assert redirect.call_and_validate(session=session, checks=CHECKS, allow_redirects=False).status_code == 307
