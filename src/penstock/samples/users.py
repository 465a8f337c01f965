"""The users of users.csv and, with addresses, of users-with-addresses.json."""

from datetime import UTC, datetime

from penstock.samples import words
from penstock.samples.dice import Dice, uuid_for
from penstock.samples.schedule import Fault, Record, completes, earlier, is_completed_later, is_spoiled
from penstock.samples.spoiling import BAD_EMAILS, BAD_TIMESTAMPS, BAD_UUIDS, BROKEN_JSON, NOT_AN_OBJECT, change, drop, latin, put

CSV_NAME = "users.csv"
JSON_NAME = "users-with-addresses.json"
COLUMNS = ("id", "email", "name", "phone_number", "role", "active", "created_at", "updated_at", "newsletter")
FIRST_MOMENT = int(datetime(2022, 1, 3, tzinfo=UTC).timestamp())
TWO_YEARS = 2 * 365 * 24 * 3600


def moment(seconds: int, offset: str = "Z") -> str:
    """ISO 8601, `seconds` after the first moment of all samples."""
    return datetime.fromtimestamp(FIRST_MOMENT + seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S") + offset


def has_id(number: int) -> bool:
    """One user in ten comes without an id, and gets one from the import."""
    return number % 10 > 0


def is_user(number: int) -> bool:
    """The record of users.csv brings a user, rather than a problem or a completion."""
    return not is_spoiled(number, CSV_NAME) and completes(number, CSV_NAME) is None


def user_id(number: int, name: str = CSV_NAME) -> str:
    return uuid_for(name, number)


def email(number: int, name: str = CSV_NAME) -> str:
    """The address that `user` gives this record."""
    dice = Dice(name, number)
    given, family = dice.pick(words.GIVEN_NAMES), dice.pick(words.FAMILY_NAMES)
    tail = str(number) if name == CSV_NAME else f"{number}a"
    return f"{given[1]}.{family[1]}{tail}@{dice.pick(words.MAIL_DOMAINS)}"


def user(number: int, name: str = CSV_NAME) -> Record:
    dice = Dice(name, number)
    given, family = dice.pick(words.GIVEN_NAMES), dice.pick(words.FAMILY_NAMES)
    created, seen = dice.below(TWO_YEARS), dice.below(3_000_000)
    dice = Dice(name, number, "more")
    record: Record = {"id": user_id(number, name)} if has_id(number) else {}
    record |= {"email": email(number, name), "name": _full_name(given[0], family[0], dice)}
    if dice.percent(75):
        record["phone_number"] = f"+1-{dice.between(201, 989)}-555-01{dice.below(100):02}"
    record["role"] = dice.pick(words.ROLES)
    record["active"] = not dice.percent(12)
    record["created_at"] = moment(created)
    record["updated_at"] = moment(created + seen, dice.pick(("Z", "Z", "Z", "+02:00", "-05:00")))
    return record


def _full_name(given: str, family: str, dice: Dice) -> str:
    form = dice.below(25)
    if form == 0:
        return f"{family}, {given}"  # needs quotes in CSV
    if form == 1:
        return f'{given} "{given[:3]}" {family}'  # needs doubled quotes
    return f"{given} {family}"


def csv_user(number: int) -> Record:
    """A record of users.csv before it is spoiled: a user, or the completion of an earlier one, with the phone number that was missing."""
    completed = completes(number, CSV_NAME)
    record = user(number if completed is None else completed)
    if is_completed_later(number, CSV_NAME):
        record.pop("phone_number", None)
    if completed is not None:
        record["phone_number"] = f"+1-212-555-{number % 10_000:04}"
    record["newsletter"] = "weekly"
    return record


def json_user(number: int) -> Record:
    dice = Dice(JSON_NAME, number, "addresses")
    return user(number, JSON_NAME) | {"addresses": [_address(dice) for _ in range(dice.between(1, 3))]}


def _address(dice: Dice) -> Record:
    city, state, zip_code, country = dice.pick(words.PLACES)
    street = f"{dice.between(1, 240)} {dice.pick(words.STREETS)}"
    return {"street": street, "city": city, "state": state, "zip_code": zip_code, "country": country}


def csv_line(record: Record) -> str:
    """The record as a row, quoted where RFC 4180 asks for it. Booleans are written in several of the ways that are read."""
    row = record | {"active": _written(record.get("active"), record["email"])}
    return ",".join(_cell(str(row.get(column, ""))) for column in COLUMNS)


def _written(active: bool | str | None, mail: str) -> str:
    if not isinstance(active, bool):
        return active or ""
    return ("false", "0", "FALSE")[len(mail) % 3] if not active else ("true", "true", "1", "yes")[len(mail) % 4]


def _cell(text: str) -> str:
    return '"' + text.replace('"', '""') + '"' if any(c in text for c in ',"\r\n') else text


def _taken(name: str) -> Fault:
    """The id of one earlier user with the e-mail of another: neither of the two may be overwritten."""

    def by(_record: Record, dice: Dice, number: int) -> Record:
        def usable(n: int) -> bool:
            return has_id(n) and not is_spoiled(n, name) and (name != CSV_NAME or is_user(n))

        one = earlier(number, dice, usable)
        other = earlier(number, dice, lambda n: usable(n) and n != one)
        return {"id": user_id(one, name), "email": email(other, name)}

    return change("duplicate_email", by)


def _row(change_row: str) -> Fault:
    """A row that is not well-formed."""

    def spoil(record: Record, _dice: Dice, _number: int) -> bytes:
        plain = record | {"name": "Robin Vale"}
        line = csv_line(plain)
        spoiled = {
            "short": ",".join(line.split(",")[:5]),
            "long": line.replace("Robin Vale", "Vale, Robin"),
            "quoting": line.replace("Robin Vale", 'Robin "Rob" Vale'),
        }[change_row]
        return spoiled.encode()

    return Fault(("malformed_row",), spoil)


def _latin_row(record: Record, _dice: Dice, _number: int) -> bytes:
    return csv_line(record | {"name": "Caf@ Central"}).encode().replace(b"Caf@", b"Caf\xe9")


def _hopeless(record: Record, _dice: Dice, _number: int) -> Record:
    return record | {"email": "someone at example.com", "name": "", "role": "boss"}


_RULES = (
    put("email", BAD_EMAILS, "invalid_email_format"),
    drop("name", "name_required"),
    put("role", ("superuser", "owner", "Administrator", "guest"), "invalid_role"),
    put("id", BAD_UUIDS, "invalid_id"),
    put("active", ("maybe", "enabled", "2"), "invalid_active"),
    put("created_at", BAD_TIMESTAMPS, "invalid_created_at"),
    put("name", ("Anna " * 60 + "Berg",), "name_too_long"),
    put("phone_number", ("+1-212-555-0100 extension 4711 after six",), "phone_number_too_long"),
    Fault(("invalid_email_format", "name_required", "invalid_role"), _hopeless),
)
CSV_FAULTS = (
    *_RULES,
    put("email", ("",), "email_required"),
    _taken(CSV_NAME),
    _row("short"),
    _row("long"),
    _row("quoting"),
    Fault(("invalid_encoding",), _latin_row),
)


def _spoiled_address(field: str, value: str | None, code: str) -> Fault:
    def by(record: Record, _dice: Dice, _number: int) -> Record:
        first, *others = record["addresses"]
        spoiled = {k: v for k, v in (first | {field: value}).items() if v is not None}
        return {"addresses": [*others, spoiled]}

    return change(code, by)


JSON_FAULTS = (
    *_RULES,
    drop("email", "email_required"),
    put("name", (42, True, ["Anna", "Berg"]), "invalid_name"),
    _taken(JSON_NAME),
    _spoiled_address("street", None, "street_required"),
    _spoiled_address("street", "", "street_required"),
    _spoiled_address("zip_code", "12345-67890-12345-67890", "zip_code_too_long"),
    put("addresses", ("12 Mill Lane, Leeds",), "invalid_addresses"),
    BROKEN_JSON,
    NOT_AN_OBJECT,
    latin("name"),
)
