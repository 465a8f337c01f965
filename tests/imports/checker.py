"""One checker for every test that breaks things: nothing lost, nothing doubled, books that balance, each rejected record on file once."""

from tests.imports.world import World

BAD_EVERY, RENAME_EVERY = 20, 50


def thing(number: int) -> dict[str, object]:
    """The nth record of a file in which every 20th is bad and every 50th comes twice, so that records are tied."""
    if number % BAD_EVERY == 0:
        return {"code": letters(number), "title": "much too long a title"}
    twin = number - 1 if number % RENAME_EVERY == 1 and number > 1 and (number - 1) % BAD_EVERY else number
    return {"code": letters(twin), "title": f"t{number}", "note": "n" * 40, "parts": [{"label": "p"}]}


def letters(number: int) -> str:
    """A code of the pattern that things ask for."""
    return "".join(chr(ord("a") + int(digit)) for digit in f"{number:05d}")


def expected(count: int) -> dict[str, str]:
    """Titles by code, once all records have landed."""
    return {str(r["code"]): str(r["title"]) for n in range(1, count + 1) if len(str((r := thing(n))["title"])) <= 9}


def check(world: World, job_id: str, count: int) -> None:
    """The table is what the file says; receipts cover every record once; every bad one is on file once."""
    rows = world.rows("SELECT code, title, (SELECT count(*) FROM parts WHERE thing_id = t.id) AS parts FROM things t")
    assert {r["code"]: r["title"] for r in rows} == expected(count)
    assert all(r["parts"] == 1 for r in rows)
    bad = [n for n in range(1, count + 1) if n % BAD_EVERY == 0]
    assert [r["row"] for r in world.rows(f"SELECT row FROM penstock.rejected WHERE job_id = '{job_id}' ORDER BY row")] == bad
    (job,) = world.rows(f"SELECT * FROM penstock.jobs WHERE job_id = '{job_id}'")
    assert job["status"] == "COMPLETED", job["failure"]
    assert (job["total_rows"], job["processed_rows"], job["failed_rows"]) == (count, count, len(bad))
    assert job["imported_rows"] + job["updated_rows"] == count - len(bad)
    (sums,) = world.rows(f"SELECT sum(records) AS records, sum(rejected) AS rejected FROM penstock.receipts WHERE job_id = '{job_id}'")
    assert (sums["records"], sums["rejected"]) == (count, len(bad))
