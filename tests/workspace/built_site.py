"""Checks of the built site (``hatch run docs:build``): nothing is loaded from elsewhere, no link or entry is missing.

Standard library only: the environment ``docs`` has neither pytest nor the packages.
"""

from __future__ import annotations

import re
import sys
from html.parser import HTMLParser
from pathlib import Path

ROOT = Path(__file__).parents[2]
SITE = ROOT / "build/site"
LOADED = {"link": "href", "script": "src", "img": "src", "iframe": "src", "source": "src"}
NOT_LOADED = {"canonical", "next", "prev", "alternate"}  # relations of a link that fetch nothing


class Page(HTMLParser):
    """What a page loads, the places it links to, and the names it can be linked at."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.links: list[str] = []
        self.names: set[str] = set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note one element."""
        values = {name: value or "" for name, value in attrs}
        self.names.add(values.get("id", ""))
        if tag == "a":
            self.links.append(values.get("href", ""))
        if tag in LOADED and values.get("rel") not in NOT_LOADED:
            self.loaded.append(values.get(LOADED[tag], ""))


def faults(pages: dict[Path, Page]) -> list[str]:
    """Everything that is wrong, a line each."""
    found = [f"{path}: loads {url}" for path, page in pages.items() for url in page.loaded if is_foreign(url)]
    found += [
        f"{path}: {link} leads nowhere"
        for path, page in pages.items()
        for link in page.links
        if is_dead(path, link, pages)
    ]
    sources = (path.read_text(encoding="utf-8") for path in (ROOT / "docs/api").glob("*.md"))
    asked = {name for text in sources for name in re.findall(r"^::: (\S+)", text, re.MULTILINE)}
    shown = set().union(*(page.names for page in pages.values()))
    return found + [f"the reference lacks {name}" for name in sorted(asked - shown)]


def is_foreign(url: str) -> bool:
    """True for an address of another server."""
    return bool(re.match(r"(https?:)?//", url))


def is_dead(path: Path, link: str, pages: dict[Path, Page]) -> bool:
    """True for a link to a file or a heading that the site does not have."""
    target, _, heading = link.partition("#")
    if is_foreign(link) or re.match(r"\w+:", link):
        return False
    place = (path.parent / target).resolve() if target else path
    place = place / "index.html" if place.is_dir() else place
    if not place.exists():
        return True
    return bool(heading) and place in pages and heading not in pages[place].names


def main() -> int:
    """Report the faults of all pages; the exit status is 1 if there are any."""
    paths = [path for path in SITE.rglob("*.html") if path.name != "404.html"]
    pages = {path: Page(path) for path in paths}
    found = faults(pages)
    sys.stdout.write("\n".join([*found, f"{len(pages)} pages, {len(found)} faults", ""]))
    return 1 if found or not pages else 0


if __name__ == "__main__":
    sys.exit(main())
