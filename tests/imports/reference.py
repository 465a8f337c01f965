"""The specification: what an import does, one record after the other, on dictionaries. Slow, and meant to be read."""

from dataclasses import dataclass, field
from typing import Any

Record = dict[str, Any]
DEFAULTS = {"state": "draft"}
COLUMNS = ("code", "title", "note", "state", "released_at", "owner_id", "changed_at", "parts")
NOW = "now"  # of the import; every moment that the tests give is earlier


@dataclass
class Reference:
    """`stored` maps ids to rows. Ids that the import makes are ("made", n)."""

    stored: dict[Any, Record]
    owners: dict[str, str]  # e-mail -> id
    counts: dict[str, int] = field(default_factory=lambda: {"imported": 0, "updated": 0, "unchanged": 0, "failed": 0})
    codes: list[tuple[int, str]] = field(default_factory=list)
    made: int = 0

    def apply(self, row: int, record: Record, mode: str, empty: str) -> None:
        problems = self._problems(dict(record), mode, empty)
        if problems:
            self.counts["failed"] += 1
            self.codes += [(row, code) for code in problems]

    def _problems(self, record: Record, mode: str, empty: str) -> list[str]:  # noqa: C901, PLR0911  # the specification in one piece
        problems = self._own_problems(record, mode, empty)
        if problems:
            return problems
        if email := record.pop("owner_email", None):
            if email.lower() not in self.owners:
                return ["invalid_owner_id"]
            if record.get("owner_id") not in (None, self.owners[email.lower()]):
                return ["invalid_owner_id"]
            record["owner_id"] = self.owners[email.lower()]
        elif record.get("owner_id") and record["owner_id"] not in self.owners.values():
            return ["invalid_owner_id"]
        by_id = record.get("id") if record.get("id") in self.stored else None
        by_key = next((k for k, v in self.stored.items() if record.get("code") and v["code"] == record["code"]), None)
        if mode == "insert" and (by_id or by_key):
            return [code for code, hit in (("duplicate_id", by_id), ("duplicate_code", by_key)) if hit]
        if by_id and by_key and by_id != by_key:
            return ["duplicate_code"]
        target = by_id or by_key
        if target is None and mode == "update":
            return ["not_found"]
        old = self.stored[target] if target else None
        new = {name: self._value(name, record, old, empty) for name in COLUMNS}
        if old is not None and new != old and record.get("changed_at") is None:
            new["changed_at"] = NOW
        if new["state"] == "draft" and new["released_at"] is not None:
            return ["draft_is_not_released"]
        if old is None:
            self.made += 1
            self.stored[record.get("id") or ("made", self.made)] = new
            self.counts["imported"] += 1
        else:
            self.stored[target] = new
            self.counts["updated"] += 1
            self.counts["unchanged"] += new == old
        return []

    @staticmethod
    def _own_problems(record: Record, mode: str, empty: str) -> list[str]:
        """What is wrong whatever is stored."""
        partial = mode == "update" and empty == "keep"
        problems = [f"{name}_required" for name in ("code", "title") if not partial and not record.get(name)]
        if partial and not record.get("code") and not record.get("id"):
            problems.append("code_required")
        state = record.get("state") or ("draft" if mode == "insert" or empty == "clear" else None)
        if state == "draft" and record.get("released_at"):
            problems.append("draft_is_not_released")
        return problems

    @staticmethod
    def _value(name: str, record: Record, old: Record | None, empty: str) -> Any:
        given = record.get(name)
        if name == "parts":
            return given if given is not None else (old["parts"] if old else [])
        if name == "changed_at":
            return given or (old["changed_at"] if old else NOW)
        if old is None or empty == "clear":
            return DEFAULTS.get(name) if given is None else given
        return old[name] if given in (None, "") else given
