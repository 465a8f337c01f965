"""The stream that keeps events, and its consumer: made where they are absent, and refused where they would lose events."""

from datetime import UTC, datetime
from typing import Any, NamedTuple

import msgspec

from penstock.errors import EventLogUnavailableError, SettingsError
from penstock.events.nats.link import Link
from penstock.logs import get_logger

CONSUMER = "penstock"
_NANOSECONDS = 1_000_000_000
_ACK_WAIT_SECONDS = 30
_DUPLICATE_WINDOW_SECONDS = 120
# Entries that are delivered and not settled, all processes together. Those that wait to be tried again count too, so it is far above what
# is under way.
_LEAST_UNSETTLED = 100_000
_NO_STREAM, _NO_CONSUMER = 10059, 10014
# How much room a lower bound must leave: JetStream removes what is above a bound, and more may come while we set it.
_LEAST_ROOM = 1000


class State(NamedTuple):
    """What a stream holds."""

    waiting: int
    oldest: datetime | None
    settled: int  # since the stream was made


class Stream:
    """By its name; `subject` is where its events are published."""

    def __init__(self, link: Link, name: str, *, queue_size: int, under_way: int) -> None:
        self.name = name
        self.subject = f"{name}.product"
        self._link = link
        self._queue_size = queue_size
        self._unsettled = max(_LEAST_UNSETTLED, under_way)

    async def prepare(self) -> float:
        """Make what is absent; seconds after which the consumer hands what is not settled to another.

        Raises SettingsError where what is there would lose events; EventLogUnavailableError.
        """
        found = await self._link.ask(f"STREAM.INFO.{self.name}")
        if _code(found) == _NO_STREAM:
            made = await self._link.ask(f"STREAM.CREATE.{self.name}", self._config())
            found = await self._link.ask(f"STREAM.INFO.{self.name}")  # it is there too where another process was quicker
            if _code(found) == _NO_STREAM:
                found = made
        config = _checked(found, f"stream {self.name}")["config"]
        self._refuse(f"stream {self.name}", _faults_of_stream(config, self.subject))
        await self._follow_queue_size(config, found["state"]["messages"])
        return await self._prepare_consumer()

    async def state(self) -> State:
        """Raises EventLogUnavailableError."""
        found = _checked(await self._link.ask(f"STREAM.INFO.{self.name}"), f"stream {self.name}")["state"]
        waiting: int = found["messages"]
        oldest = msgspec.convert(found["first_ts"], datetime, strict=False).astimezone(UTC) if waiting else None
        return State(waiting, oldest, found["last_seq"] - waiting)

    def _config(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "subjects": [self.subject],
            "retention": "workqueue",
            "storage": "file",
            "discard": "new",
            "max_msgs": self._queue_size,
            "max_bytes": -1,
            "max_age": 0,
            "max_msgs_per_subject": -1,
            "max_consumers": -1,
            "num_replicas": 1,
            "duplicate_window": _DUPLICATE_WINDOW_SECONDS * _NANOSECONDS,
        }

    async def _follow_queue_size(self, config: dict[str, Any], messages: int) -> None:
        bound = config["max_msgs"]
        if bound == self._queue_size:
            return
        lower = bound < 0 or self._queue_size < bound
        if lower and self._queue_size - messages < max(_LEAST_ROOM, self._queue_size // 2):
            get_logger(__name__).warning(
                "QUEUE_SIZE is below the bound of the stream, which stays: JetStream would remove events to get there",
                stream=self.name,
                queue_size=self._queue_size,
                max_msgs=bound,
                waiting=messages,
            )
            return
        _checked(await self._link.ask(f"STREAM.UPDATE.{self.name}", {**config, "max_msgs": self._queue_size}), f"stream {self.name}")

    async def _prepare_consumer(self) -> float:
        what = f"consumer {CONSUMER} of stream {self.name}"
        found = await self._link.ask(f"CONSUMER.INFO.{self.name}.{CONSUMER}")
        if _code(found) == _NO_CONSUMER:
            found = await self._set_consumer(
                {
                    "durable_name": CONSUMER,
                    "ack_policy": "explicit",
                    "deliver_policy": "all",
                    "replay_policy": "instant",
                    "ack_wait": _ACK_WAIT_SECONDS * _NANOSECONDS,
                    "max_deliver": -1,
                    "max_ack_pending": self._unsettled,
                }
            )
        config = _checked(found, what)["config"]
        self._refuse(what, _faults_of_consumer(config, self.subject))
        if 0 <= config.get("max_ack_pending", -1) < self._unsettled:
            _checked(await self._set_consumer({**config, "max_ack_pending": self._unsettled}), what)
        ack_wait: int = config["ack_wait"]
        return ack_wait / _NANOSECONDS

    async def _set_consumer(self, config: dict[str, Any]) -> dict[str, Any]:
        asked = {"stream_name": self.name, "config": config}
        return await self._link.ask(f"CONSUMER.DURABLE.CREATE.{self.name}.{CONSUMER}", asked)

    def _refuse(self, what: str, faults: list[str]) -> None:
        if faults:
            raise SettingsError(
                f"The {what} at NATS would lose or hold back events: {'; '.join(faults)}. Change it, or set NATS_STREAM to another.",
                faults=faults,
            )


def _faults_of_stream(config: dict[str, Any], subject: str) -> list[str]:
    wanted = {"retention": "workqueue", "storage": "file", "discard": "new"}
    faults = [f"{name} is {config.get(name)!r} and must be {value!r}" for name, value in wanted.items() if config.get(name) != value]
    if config.get("max_age", 0) > 0:
        faults.append("max_age is set and must not be")
    if config.get("subjects") != [subject]:
        faults.append(f"its subjects must be {subject} alone")
    if config.get("max_msgs_per_subject", -1) > 0:
        faults.append("max_msgs_per_subject is set and must not be")
    if config.get("no_ack"):
        faults.append("no_ack is set and must not be")
    if config.get("sealed"):
        faults.append("it is sealed")
    if config.get("persist_mode") == "async":
        faults.append("persist_mode is 'async' and must not be")
    if config.get("mirror") or config.get("sources"):
        faults.append("it is a copy of another stream")
    return faults


def _faults_of_consumer(config: dict[str, Any], subject: str) -> list[str]:
    faults = []
    if config.get("ack_policy") != "explicit":
        faults.append(f"ack_policy is {config.get('ack_policy')!r} and must be 'explicit'")
    if config.get("max_deliver", -1) > 0:
        faults.append("max_deliver is set and must not be")
    if config.get("deliver_subject"):
        faults.append("it pushes, and must be pulled from")
    if config.get("filter_subject") not in (None, "", subject):
        faults.append("filter_subject leaves events out")
    if config.get("headers_only"):
        faults.append("headers_only is set and must not be")
    if config.get("backoff"):
        faults.append("backoff is set and must not be")
    return faults


def _code(answer: dict[str, Any]) -> int | None:
    code = answer.get("error", {}).get("err_code")
    assert code is None or isinstance(code, int)
    return code


def _checked(answer: dict[str, Any], what: str) -> dict[str, Any]:
    if error := answer.get("error"):
        raise EventLogUnavailableError(f"NATS refuses the {what}: {error.get('description')}.", error_code=error.get("err_code"))
    return answer
