"""The articles of articles.ndjson. Their authors are users of users.csv, named by id or by e-mail."""

from functools import lru_cache

from penstock.samples import words
from penstock.samples.dice import Dice, uuid_for
from penstock.samples.schedule import Fault, Record, drawn, earlier, is_spoiled
from penstock.samples.spoiling import BAD_TIMESTAMPS, BROKEN_JSON, CUT_JSON, NOT_AN_OBJECT, change, drop, latin, put, too_deep, unknown
from penstock.samples.users import TWO_YEARS, email, has_id, is_user, moment, user_id

NAME = "articles.ndjson"
SENTENCES = 600  # in the stock that texts are put together from: drawing each one anew took most of the time


@lru_cache(maxsize=1)
def sentences() -> tuple[str, ...]:
    return tuple(_sentence(Dice("sentence", n)) for n in range(SENTENCES))


def _sentence(dice: Dice) -> str:
    text = f"{dice.pick(words.SUBJECTS)} {dice.pick(words.VERBS)} {dice.pick(words.OBJECTS)} {dice.pick(words.ENDINGS)}."
    return text[0].upper() + text[1:]


def article_has_id(number: int) -> bool:
    """One article in twelve comes without an id, and is known by its slug."""
    return number % 12 > 0


def is_article(number: int) -> bool:
    return not is_spoiled(number, NAME)


def article_id(number: int) -> str:
    return uuid_for(NAME, number)


def slug(number: int) -> str:
    return f"{_title(Dice(NAME, number)).lower().replace(' ', '-')}-{number}"


def _title(dice: Dice) -> str:
    return f"{dice.pick(words.TITLE_STARTS)} {dice.pick(words.TITLE_ENDS)}"


def article(number: int, users: int) -> Record:
    """`users` is how many records users.csv has."""
    title = _title(Dice(NAME, number))
    dice = Dice(NAME, number, "more")
    record: Record = {"id": article_id(number)} if article_has_id(number) else {}
    record |= {"slug": slug(number), "title": title}
    if dice.percent(70):
        record["description"] = dice.pick(sentences())
    record["body"] = _body(dice)
    record |= _author(dice, users)
    if dice.percent(80):
        record["tags"] = sorted({dice.pick(words.TAGS) for _ in range(dice.between(1, 4))})
    created = dice.below(TWO_YEARS)
    record["status"] = dice.pick(("published", "published", "published", "published", "draft", "archived"))
    if record["status"] != "draft":
        record["published_at"] = moment(created + dice.below(500_000))
    record |= {"created_at": moment(created), "updated_at": moment(created + dice.below(5_000_000))}
    return record


def _body(dice: Dice) -> str:
    paragraphs = (" ".join(dice.pick(sentences()) for _ in range(dice.between(2, 4))) for _ in range(dice.between(1, 3)))
    return "\n\n".join(paragraphs)


def _author(dice: Dice, users: int) -> Record:
    """Mostly by id, one in seven by e-mail, a few by both."""
    author = drawn(users, dice, is_user)
    if dice.percent(14) or not has_id(author):
        return {"author_email": email(author)}
    return {"author_id": user_id(author)} | ({"author_email": email(author).upper()} if dice.percent(2) else {})


def _taken(_record: Record, dice: Dice, number: int) -> Record:
    """The id of one earlier article with the slug of another."""
    one = earlier(number, dice, lambda n: is_article(n) and article_has_id(n))
    other = earlier(number, dice, lambda n: is_article(n) and article_has_id(n) and n != one)
    return {"id": article_id(one), "slug": slug(other)}


def _no_author(record: Record, _dice: Dice, _number: int) -> Record:
    return {name: value for name, value in record.items() if name not in ("author_id", "author_email")}


def _bad_author(record: Record, dice: Dice, number: int) -> Record:
    return _no_author(record, dice, number) | {"author_id": dice.pick(("abc", "17", "anonymous"))}


def _stranger(record: Record, dice: Dice, number: int) -> Record:
    return _no_author(record, dice, number) | {"author_email": f"nobody{number}@example.com"}


def _two_authors(record: Record, dice: Dice, number: int) -> Record:
    """An id and an e-mail that belong to different users."""
    one = drawn(2 * 20, dice, lambda n: is_user(n) and has_id(n))
    other = drawn(2 * 20, dice, lambda n: is_user(n) and n != one)
    return _no_author(record, dice, number) | {"author_id": user_id(one), "author_email": email(other)}


def _hopeless(record: Record, _dice: Dice, _number: int) -> Record:
    return {k: v for k, v in record.items() if k != "title"} | {"slug": "Three Problems!", "status": "finished"}


FAULTS = (
    drop("slug", "slug_required"),
    put("slug", ("Not A Slug", "double--hyphen", "-leading", "trailing-", "snake_case", "café-central"), "invalid_slug_format"),
    change("duplicate_slug", _taken),
    drop("title", "title_required"),
    drop("body", "body_required"),
    put("body", ("",), "body_required"),
    Fault(("author_id_required",), _no_author),
    Fault(("invalid_author_id",), _bad_author),
    unknown("author_id", "invalid_author_id", "author_email"),
    Fault(("invalid_author_id",), _stranger),
    Fault(("invalid_author_id",), _two_authors),
    put("status", ("live", "PUBLISHED", "deleted"), "invalid_status"),
    change("draft_cannot_have_published_at", lambda _r, _d, n: {"status": "draft", "published_at": moment(n)}),
    put("tags", ("news, travel", [1, 2], {"main": "city"}), "invalid_tags"),
    change("invalid_published_at", lambda _r, d, _n: {"status": "published", "published_at": d.pick(BAD_TIMESTAMPS)}),
    Fault(("invalid_slug_format", "title_required", "invalid_status"), _hopeless),
    BROKEN_JSON,
    CUT_JSON,
    NOT_AN_OBJECT,
    latin("title"),
    too_deep("tags"),
)
