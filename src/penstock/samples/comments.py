"""The comments of comments.ndjson, on articles of articles.ndjson (by id or by slug), by users of users.csv (by id or by e-mail)."""

from penstock.samples import words
from penstock.samples.articles import article_has_id, article_id, is_article, slug
from penstock.samples.dice import Dice, uuid_for
from penstock.samples.schedule import Fault, Record, drawn
from penstock.samples.spoiling import BAD_TIMESTAMPS, BAD_UUIDS, BROKEN_JSON, CUT_JSON, NOT_AN_OBJECT, drop, latin, put, unknown
from penstock.samples.users import TWO_YEARS, email, has_id, is_user, moment, user_id

NAME = "comments.ndjson"


def comment(number: int, users: int, articles: int) -> Record:
    """`users` and `articles` are how many records their files have."""
    dice = Dice(NAME, number)
    record: Record = {"id": uuid_for(NAME, number)}
    record |= _article(dice, articles) | _user(dice, users)
    record["body"] = " ".join(dice.pick(words.REMARKS) for _ in range(dice.between(1, 5)))
    record["created_at"] = moment(dice.below(TWO_YEARS))
    return record


def _article(dice: Dice, articles: int) -> Record:
    n = drawn(articles, dice, is_article)
    return {"article_slug": slug(n)} if dice.percent(12) or not article_has_id(n) else {"article_id": article_id(n)}


def _user(dice: Dice, users: int) -> Record:
    n = drawn(users, dice, is_user)
    return {"user_email": email(n)} if dice.percent(5) or not has_id(n) else {"user_id": user_id(n)}


def _without(record: Record, *names: str) -> Record:
    return {name: value for name, value in record.items() if name not in names}


def _no_article(record: Record, _dice: Dice, _number: int) -> Record:
    return _without(record, "article_id", "article_slug")


def _no_user(record: Record, _dice: Dice, _number: int) -> Record:
    return _without(record, "user_id", "user_email")


def _bad_article(record: Record, dice: Dice, number: int) -> Record:
    return _no_article(record, dice, number) | {"article_id": dice.pick(BAD_UUIDS)}


def _bad_user(record: Record, dice: Dice, number: int) -> Record:
    return _no_user(record, dice, number) | {"user_id": dice.pick(BAD_UUIDS)}


def _lost_slug(record: Record, dice: Dice, number: int) -> Record:
    return _no_article(record, dice, number) | {"article_slug": f"never-written-{number}"}


def _lost_user(record: Record, dice: Dice, number: int) -> Record:
    return _no_user(record, dice, number) | {"user_email": f"nobody{number}@example.com"}


def _rambling(record: Record, dice: Dice, _number: int) -> Record:
    return record | {"body": "and so on " * dice.between(167, 200)}  # 501 to 600 words, far from 10,000 characters


def _shouting(record: Record, dice: Dice, _number: int) -> Record:
    return record | {"body": "ha" * dice.between(5_001, 5_400)}  # one word of more than 10,000 characters


FAULTS = (
    drop("body", "body_required"),
    put("body", ("",), "body_required"),
    Fault(("body_exceeds_500_words",), _rambling),
    Fault(("body_too_long",), _shouting),
    Fault(("article_id_required",), _no_article),
    Fault(("invalid_article_id",), _bad_article),
    unknown("article_id", "invalid_article_id", "article_slug"),
    Fault(("invalid_article_id",), _lost_slug),
    Fault(("user_id_required",), _no_user),
    Fault(("invalid_user_id",), _bad_user),
    unknown("user_id", "invalid_user_id", "user_email"),
    Fault(("invalid_user_id",), _lost_user),
    put("id", BAD_UUIDS, "invalid_id"),
    put("created_at", BAD_TIMESTAMPS, "invalid_created_at"),
    Fault(("article_id_required", "user_id_required", "body_required"), lambda r, _d, _n: {"id": r["id"]}),
    BROKEN_JSON,
    CUT_JSON,
    NOT_AN_OBJECT,
    latin("body"),
)
