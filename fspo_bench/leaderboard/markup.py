"""HTML in which every text is escaped unless it was made here."""

from __future__ import annotations

import html

VOID = ("img", "link", "meta")


class Html(str):
    """A text that is HTML already."""


def tag(name: str, /, *content: str, **attributes: object) -> Html:
    """An element; `aria_label` gives `aria-label`, `class_` gives `class`, and None leaves one out."""
    given = "".join(
        f' {key.strip("_").replace("_", "-")}="{html.escape(str(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    opened = f"<{name}{given}>"
    return Html(opened if name in VOID else f"{opened}{joined(*content)}</{name}>")


def joined(*content: str) -> Html:
    """Parts one after another."""
    return Html("".join(c if isinstance(c, Html) else html.escape(c) for c in content))
