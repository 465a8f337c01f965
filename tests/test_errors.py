"""The error tree: one code, one HTTP status and one exit status for each class."""

import inspect

from penstock import errors
from penstock.errors import PenstockError

CLASSES = [c for c in vars(errors).values() if isinstance(c, type) and issubclass(c, PenstockError)]


def test_codes_are_distinct() -> None:
    """No two classes share a code, so a code tells what happened."""
    codes = [c.code for c in CLASSES]
    assert len(set(codes)) == len(codes)


def test_every_class_says_its_own_code() -> None:
    """None borrows its parent's."""
    assert [c.__name__ for c in CLASSES if "code" not in vars(c)] == []


def test_statuses_are_errors() -> None:
    """HTTP statuses are 4xx or 5xx; exit statuses are those that the command line promises."""
    assert all(400 <= c.http_status < 600 for c in CLASSES)
    assert {c.exit_code for c in CLASSES} == {1, 2}


def test_the_tree_is_drawn() -> None:
    """The module's docstring shows every class."""
    tree = inspect.getdoc(errors) or ""
    assert [c.__name__ for c in CLASSES if c.__name__ not in tree] == []
