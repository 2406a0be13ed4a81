"""What mkdocs cannot do by itself: pages that lie elsewhere in the repository, and text made from code.

- The tasks' data cards and the leaderboards' README become pages of the site.
- `<!-- methods -->` and `<!-- baselines -->` become the docstrings of those files.
- A link to a file that is no page is shown as the name of the file.
"""

from __future__ import annotations

import os
import re
from pathlib import Path, PurePosixPath

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from fspo_bench.packs import docstring, find_methods, packs

ROOT = Path(__file__).parents[1]
CARDS = {f"tasks/{file.parent.name}.md": file for file in sorted(ROOT.glob("tasks/*/README.md"))}
ELSEWHERE = {**CARDS, "leaderboards.md": ROOT / "leaderboards" / "README.md"}
"""Pages by their place on the site."""

LINK = re.compile(r"\[([^\]]+)\]\((?!https?://|#|mailto:)([^)\s#]+)(#[^)\s]*)?\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that lie elsewhere."""
    for place, file in ELSEWHERE.items():
        text = file.read_text(encoding="utf-8").replace("<details>", "<details markdown>")
        files.append(File.generated(config, place, content=text))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Fill in the docstrings, and turn links as the repository has them into links of the site."""
    for kind in ("methods", "baselines"):
        markdown = markdown.replace(f"<!-- {kind} -->", _described(kind))
    place = page.file.src_uri
    source = ELSEWHERE.get(place, ROOT / "docs" / place)

    def link(found: re.Match[str]) -> str:
        text, target, anchor = found[1], (source.parent / found[2]).resolve(), found[3] or ""
        to = _place_of(target)
        if to is None:
            return text if text.startswith("`") else f"`{text}`"
        return f"[{text}]({os.path.relpath(to, PurePosixPath(place).parent)}{anchor})"

    return LINK.sub(link, markdown)


def _described(kind: str) -> str:
    """A section for each file, with its docstring: its indented lines are Markdown's code already."""
    found = [f for f in find_methods(packs()[:1]) if f"{f.kind}s" == kind]
    return "\n\n".join(f"### `{f.name}`\n\n{docstring(f)}" for f in found)


def _place_of(target: Path) -> str | None:
    """Where a file of the repository is on the site; None where it is not."""
    for place, file in ELSEWHERE.items():
        if target == file:
            return place
    inside = target.is_file() and target.is_relative_to(ROOT / "docs")
    return target.relative_to(ROOT / "docs").as_posix() if inside else None
