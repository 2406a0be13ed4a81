"""When two texts are one."""


def plain(text: str) -> str:
    """A text without upper case and spacing: what leaks, duplicates and ties are compared by."""
    return " ".join(text.lower().split())
