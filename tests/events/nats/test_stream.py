"""The stream and its consumer: refused where they would lose events, else left as they are; and what stands in them."""

from decimal import Decimal
from typing import Any

import nats
import pytest

from penstock.errors import EventLogUnavailableError, SettingsError
from penstock.events.model import Event, Unreadable
from penstock.events.nats.messages import packed, unpacked
from tests.events.nats.kit import ACCEPTED, DUPLICATE, NOW, SECOND, Taken, ask, event, eventually, make_consumer, opened, run, take


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"discard": "old"}, "discard"),
        ({"storage": "memory"}, "storage"),
        ({"retention": "limits"}, "retention"),
        ({"retention": "interest"}, "retention"),
        ({"max_age": 3600 * SECOND}, "max_age"),
        ({"max_msgs_per_subject": 5}, "max_msgs_per_subject"),
        ({"no_ack": True}, "no_ack"),
        ({"subjects": ["{stream}.other"]}, "subjects"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_a_stream_that_would_lose_events_is_refused(url: str, stream: str, change: dict[str, Any], said: str) -> None:
    config = {"name": stream, "subjects": [f"{stream}.product"], "retention": "workqueue", "discard": "new", "max_msgs": 10, **change}
    config["subjects"] = [subject.format(stream=stream) for subject in config["subjects"]]

    async def test() -> None:
        await ask(url, f"STREAM.CREATE.{stream}", config)
        async with opened(url, stream) as log:
            with pytest.raises(SettingsError, match=said):
                await log.check()
            with pytest.raises(EventLogUnavailableError, match=said):  # whoever sends events has done nothing wrong
                await log.append([event()])
            assert (await ask(url, f"STREAM.INFO.{stream}"))["state"]["messages"] == 0

    run(test())


@pytest.mark.parametrize(("change", "said"), [({"max_deliver": 5}, "max_deliver"), ({"filter_subject": "{stream}.x"}, "filter_subject")])
def test_a_consumer_that_would_hold_back_events_is_refused(url: str, stream: str, change: dict[str, Any], said: str) -> None:
    async def test() -> None:
        subjects = [f"{stream}.product"]
        await ask(url, f"STREAM.CREATE.{stream}", {"name": stream, "subjects": subjects, "retention": "workqueue", "discard": "new"})
        if "filter_subject" in change:
            await ask(
                url,
                f"STREAM.UPDATE.{stream}",
                {"name": stream, "subjects": [*subjects, f"{stream}.x"], "retention": "workqueue", "discard": "new"},
            )
        await make_consumer(
            url, stream, **{name: value.format(stream=stream) if isinstance(value, str) else value for name, value in change.items()}
        )
        if "filter_subject" in change:
            await ask(url, f"STREAM.UPDATE.{stream}", {"name": stream, "subjects": subjects, "retention": "workqueue", "discard": "new"})
        async with opened(url, stream) as log:
            with pytest.raises(SettingsError, match=said):
                await log.check()

    run(test())


def test_what_an_operator_chose_stays_and_the_bound_follows(url: str, stream: str) -> None:
    async def test() -> None:
        async with opened(url, stream, QUEUE_SIZE="5000") as log:
            await log.check()
        config = (await ask(url, f"STREAM.INFO.{stream}"))["config"]
        assert (config["max_msgs"], config["storage"], config["discard"], config["retention"]) == (5000, "file", "new", "workqueue")
        await ask(url, f"STREAM.UPDATE.{stream}", {**config, "duplicate_window": 60 * SECOND, "description": "ours"})
        await make_consumer(url, stream, ack_wait=7 * SECOND, max_ack_pending=100_000)
        async with opened(url, stream, QUEUE_SIZE="9000") as log:
            await log.check()
        config = (await ask(url, f"STREAM.INFO.{stream}"))["config"]
        assert (config["max_msgs"], config["duplicate_window"], config["description"]) == (9000, 60 * SECOND, "ours")
        consumer = (await ask(url, f"CONSUMER.INFO.{stream}.penstock"))["config"]
        assert consumer["ack_wait"] == 7 * SECOND

    run(test())


def test_a_lower_bound_removes_nothing_that_was_accepted(url: str, stream: str) -> None:
    async def test() -> None:
        async with opened(url, stream, QUEUE_SIZE="5000") as log:
            assert await log.append([event(number) for number in range(20)]) == [ACCEPTED] * 20
        async with opened(url, stream, QUEUE_SIZE="10") as log:
            await log.check()
            assert (await log.backlog()).waiting == 20
        async with opened(url, stream, QUEUE_SIZE="2000") as log:
            await log.check()
            assert (await log.backlog()).waiting == 20
            assert (await ask(url, f"STREAM.INFO.{stream}"))["config"]["max_msgs"] == 2000

    run(test())


def test_a_stream_that_was_deleted_is_made_again(url: str, stream: str, database: str) -> None:
    async def test() -> None:
        async with opened(url, stream, database, CIRCUIT_BREAKER_TIMEOUT="10ms") as log:
            await log.append([event()])
            await ask(url, f"STREAM.DELETE.{stream}")
            with pytest.raises(EventLogUnavailableError):
                await log.append([event(2)])
            assert await eventually(lambda: log.append([event(3)])) == [ACCEPTED]
            await ask(url, f"CONSUMER.DELETE.{stream}.penstock")
            taken = Taken()
            await eventually(lambda: take(log, taken, 1))
            assert taken.stocks == [3]

    run(test())


def test_ids_that_a_header_cannot_hold_stay_apart(url: str, stream: str) -> None:
    ids = ["a", " a", "a ", "a\r\nNats-Msg-Id: b", "b", "a\n", "ä", "%C3%A4", "a:b", "😀", "a%0A"]

    async def test() -> None:
        async with opened(url, stream) as log:
            assert await log.append([event(event_id=name) for name in ids]) == [ACCEPTED] * len(ids)
            assert await log.append([event(event_id=name) for name in ids]) == [DUPLICATE] * len(ids)
            assert await log.append([event(event_id=name) for name in ids], again=True) == [ACCEPTED] * len(ids)

    run(test())


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "no event"),
        (b"\xff\xfe", "no event"),
        (b"{}", "no event"),
        (b'{"v":2,"event":{"new":1}}', "version is 2"),
        (packed(event()).replace(b'"stock":1', b'"stock":2147483648'), "stock"),
        (packed(event()).replace(b"49.99", b"49.999"), "price"),
        (packed(event()).replace(b"49.99", b"NaN"), "price"),
        (packed(event()).replace(b"49.99", b"1E+99"), "price"),
        (packed(event()).replace(b'"p"', rb'"\u0000"'), "NUL"),
        (packed(event()).replace(b"123456Z", b"123456"), "zone"),
    ],
    ids=["empty", "binary", "empty-object", "version", "stock", "price", "nan", "huge", "nul", "zone"],
)
def test_what_is_no_event_is_delivered_as_unreadable(body: bytes, said: str, url: str, stream: str, database: str) -> None:
    async def test() -> None:
        async with opened(url, stream, database) as log:
            await log.append([event(1)])
            client = await nats.connect(url)
            await client.jetstream().publish(f"{stream}.product", body)
            await client.close()
            await log.append([event(2)])
            taken = Taken()
            await take(log, taken, 3)
            assert taken.stocks == [1, 2]
            unreadable = taken.entries[1].content
            assert isinstance(unreadable, Unreadable)
            assert unreadable.raw == body
            assert said in unreadable.reason
            assert (await eventually(log.backlog)).waiting == 0

    run(test())


@pytest.mark.parametrize("price", ["0", "0.00", "-1.5", "9999999999.99", "0.1"])
def test_an_event_survives_the_way_exactly(price: str) -> None:
    sent = Event(product_id='\t"\\😀\n', price=Decimal(price), stock=-(2**31), occurred_at=NOW, accepted_at=NOW, event_id="\\N")
    got = unpacked(packed(sent))
    assert got == sent
    assert isinstance(got, Event)
    assert str(got.price) == price
