"""Those who send product events to a service that comes to harm, and the books that they keep of what they were answered."""

import json
import random
import threading
import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import httpx

BEGIN = datetime(2024, 5, 1, tzinfo=UTC)
State = tuple[datetime, Decimal, int]  # by which the greatest event of a product is found
Parcel = Sequence["Sent"]  # what goes into one request


@dataclass(frozen=True, slots=True)
class Sent:
    product_id: str
    state: State
    event_id: str | None = None

    @property
    def json(self) -> dict[str, Any]:
        occurred_at, price, stock = self.state
        found = {"product_id": self.product_id, "price": float(price), "stock": stock, "occurred_at": occurred_at.isoformat()}
        return found if self.event_id is None else {**found, "event_id": self.event_id}


def events(count: int, products: int, dice: random.Random, *, name: str = "p") -> list[Sent]:
    """In random order, several of a product at the same moment; two in three have an id."""
    made = []
    for n in range(count):
        moment = BEGIN + timedelta(seconds=dice.randrange(count // products + 1))
        state = (moment, Decimal(dice.randrange(100_000)) / 100, dice.randrange(1000))
        made.append(Sent(f"{name}{n % products}", state, None if n % 3 == 0 else f"{name} event {n}"))
    dice.shuffle(made)
    return made


def parcels(sent: Iterable[Sent], dice: random.Random, *, single: float, most: int) -> list[Parcel]:
    """Requests: so many of them hold one event, the others up to `most`."""
    left: deque[Sent] = deque(sent)
    packed: list[Parcel] = []
    while left:
        size = 1 if dice.random() < single else dice.randint(2, most)
        packed.append([left.popleft() for _ in range(min(size, len(left)))])
    return packed


@dataclass
class Book:
    """`accepted` holds what was answered so, as often as it was; `unknown` what had no such answer, though it may be stored."""

    accepted: list[Sent] = field(default_factory=list)
    duplicates: list[Sent] = field(default_factory=list)
    unknown: list[Sent] = field(default_factory=list)
    codes: Counter[str] = field(default_factory=Counter)  # of refusals
    wrong: list[str] = field(default_factory=list)  # answers that no server should give
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, parcel: Parcel, answer: httpx.Response | None) -> list[Sent]:
        """What should be sent again."""
        with self._lock:
            if answer is None:
                self.codes["(no answer)"] += 1
            elif answer.status_code == httpx.codes.ACCEPTED:
                return self._taken(parcel, answer.json())
            else:
                self._refused(answer)
            self.unknown += parcel
            return list(parcel)

    def _taken(self, parcel: Parcel, answer: dict[str, Any]) -> list[Sent]:
        results = answer.get("results", [answer])
        again = []
        for event, result in zip(parcel, results, strict=True):
            match result["status"]:
                case "accepted":
                    self.accepted.append(event)
                case "duplicate":
                    self.duplicates.append(event)
                case "not_stored":
                    again.append(event)
                case _:
                    self.wrong.append(str(result))
        return again

    def _refused(self, answer: httpx.Response) -> None:
        code = answer.json()["error"]["code"]
        self.codes[code] += 1
        if answer.status_code != httpx.codes.SERVICE_UNAVAILABLE or int(answer.headers.get("Retry-After", 0)) < 1:
            self.wrong.append(f"{answer.status_code} {code} {dict(answer.headers)}")


class Senders:
    """Threads that send parcels to `url`, which may change. With `again` whatever was not taken is sent until it is."""

    def __init__(self, url: str, book: Book, *, again: bool) -> None:
        self.url = url
        self.book = book
        self.waiting: deque[Parcel] = deque()
        self._again = again
        self._under_way = 0
        self._lock = threading.Lock()
        self._ended = threading.Event()

    @property
    def done(self) -> bool:
        with self._lock:
            return not self.waiting and not self._under_way

    def work(self) -> None:
        with httpx.Client(timeout=30, trust_env=False) as http:
            while not self._ended.is_set():
                with self._lock:
                    parcel = self.waiting.popleft() if self.waiting else None
                    self._under_way += parcel is not None
                if parcel is None:
                    time.sleep(0.01)
                    continue
                left = self.book.note(parcel, _answer(http, self.url, parcel))
                with self._lock:
                    self._under_way -= 1
                    if left and self._again:
                        self.waiting.append(left)
                if left:
                    time.sleep(0.05)

    def end(self) -> None:
        self._ended.set()


@contextmanager
def sending(url: str, book: Book, sent: Iterable[Parcel], *, threads: int = 8, again: bool = False) -> Iterator[Senders]:
    """Until the end; what is under way then is waited for."""
    senders = Senders(url, book, again=again)
    senders.waiting.extend(sent)
    running = [threading.Thread(target=senders.work, name=f"sender-{n}") for n in range(threads)]
    for thread in running:
        thread.start()
    try:
        yield senders
    finally:
        senders.end()
        for thread in running:
            thread.join(60)
            assert not thread.is_alive()


def _answer(http: httpx.Client, url: str, parcel: Parcel) -> httpx.Response | None:
    """None where there was no answer that can be read."""
    try:
        if len(parcel) == 1:
            return http.post(f"{url}/v1/events", json=parcel[0].json)
        if len(parcel) % 2:
            return http.post(f"{url}/v1/events/batch", json=[event.json for event in parcel])
        lines = "".join(json.dumps(event.json) + "\n" for event in parcel)
        return http.post(f"{url}/v1/events/batch", content=lines, headers={"Content-Type": "application/x-ndjson"})
    except httpx.TransportError:
        return None
