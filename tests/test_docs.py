"""Nothing that a user can meet is undocumented."""

import re
import subprocess
from pathlib import Path

from penstock import errors
from penstock.errors import PenstockError
from penstock.resources.problems import CATALOGUE
from tests.support.commands import PROGRAM

DOCS = Path(__file__).parents[1] / "docs"
IN_ERRORS = (DOCS / "errors.md").read_text("utf-8")


def test_every_error_of_a_job_has_its_line() -> None:
    """Each class of the error tree stands in docs/errors.md with its exit and HTTP status."""
    classes = [c for c in vars(errors).values() if isinstance(c, type) and issubclass(c, PenstockError)]
    missing = [c.code for c in classes if f"| `{c.code}` | {c.exit_code} | {c.http_status} |" not in IN_ERRORS]
    assert missing == []


def test_every_code_of_a_record_has_its_line() -> None:
    """Each template of the catalogue stands in docs/errors.md; `{field}` is written `<field>`."""
    codes = {t.code.replace("{field}", "<field>").replace("_{detail}_", "_<n>_") for t in CATALOGUE.values()} - {"{detail}"}
    missing = [code for code in codes if f"`{code.replace('{detail}', '<field>')}`" not in IN_ERRORS]
    assert missing == []


def test_links_between_documents_hold() -> None:
    """A relative link leads to a file of the project."""
    pages = [*DOCS.rglob("*.md"), DOCS.parent / "README.md", DOCS.parent / "CHANGELOG.md"]
    links = [(page, link) for page in pages for link in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text("utf-8"))]
    broken = [f"{page.name}: {link}" for page, link in links if "://" not in link and not (page.parent / link).exists()]
    assert broken == []


def test_every_command_has_its_line() -> None:
    """Each command of the command line stands in docs/commands.md."""
    help_text = subprocess.run([PROGRAM, "--help"], check=True, capture_output=True, text=True).stdout
    commands = re.findall(r"^  ([a-z-]+) {2,}\S", help_text.partition("Commands:")[2], re.MULTILINE)
    assert len(commands) > 5
    page = (DOCS / "commands.md").read_text("utf-8")
    assert [command for command in commands if f"`penstock {command}" not in page] == []


def test_every_option_of_import_is_explained() -> None:
    """Each option of `penstock import` stands in the documents."""
    help_text = subprocess.run([PROGRAM, "import", "--help"], check=True, capture_output=True, text=True).stdout
    pages = "".join(page.read_text("utf-8") for page in DOCS.glob("*.md"))
    options = set(re.findall(r"^  (?:-\w, )?(--[a-z-]+)", help_text, re.MULTILINE)) - {"--help"}
    assert len(options) > 10
    assert sorted(option for option in options if option not in pages) == []
