"""The bound on requests under way, on the wrapper alone."""

import asyncio

import httpx
from litestar.types import Receive, Scope, Send

from penstock.api.conventions import Conventions


def test_one_request_too_many_is_refused() -> None:
    """503 overloaded with Retry-After, as a problem; when one has ended the next is let in."""
    entered, leave = asyncio.Event(), asyncio.Event()

    async def slow(_scope: Scope, _receive: Receive, send: Send) -> None:
        entered.set()
        await leave.wait()
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def ask() -> None:
        bounded = Conventions(slow, most_requests=1, route_of=lambda _: "/slow", stopping=asyncio.Event())
        transport = httpx.ASGITransport(bounded)  # type: ignore[arg-type] # the same protocol by other names
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
            first = asyncio.create_task(http.get("/slow"))
            await asyncio.wait_for(entered.wait(), 10)
            refused = await http.get("/slow", headers={"X-Request-ID": "second"})
            assert (refused.status_code, refused.headers["retry-after"]) == (503, "2")
            assert refused.json()["error"]["code"] == "overloaded"
            assert refused.headers["x-request-id"] == refused.json()["request_id"] == "second"
            leave.set()
            assert (await first).status_code == 204
            assert (await http.get("/slow")).status_code == 204

    asyncio.run(ask())
