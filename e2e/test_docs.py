"""What the documents quote is what the program says."""

import re
from pathlib import Path

TOP = Path(__file__).parent.parent


def sources():
    """The text of all crates, lines of strings joined that go on in the next line."""
    text = "\n".join(file.read_text() for file in sorted((TOP / "crates").rglob("*.rs")))
    return re.sub(r"\\\n\s*", "", text)


def test_every_log_line_of_troubleshooting_is_one_of_ours():
    said = sources()
    document = (TOP / "docs" / "troubleshooting.md").read_text()
    cells = [line.split("|")[1] for line in document.splitlines() if line.startswith("| ")]
    quoted = [part.strip() for cell in cells for quote in re.findall(r"`([^`]+)`", cell) for part in quote.split("…")]
    assert len(quoted) > 15
    assert [part for part in quoted if part and part not in said] == []


def test_links_lead_somewhere():
    for document in [*TOP.glob("*.md"), *(TOP / "docs").glob("*.md")]:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", document.read_text()):
            assert (document.parent / target).exists(), f"{document.name}: {target}"
