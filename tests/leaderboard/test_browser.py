"""The page in a real browser, opened from the disk and full of hostile texts."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fspo_bench.leaderboard.boards import boards
from fspo_bench.leaderboard.page import write_page
from fspo_bench.leaderboard.paper import read_table, table_names
from tests.leaderboard.made_boards import HOSTILE, a_task, entries, hostile

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        pytest.fail("these tests need playwright: pip install 'fspo-bench[browser]'")
    if not (chromium := shutil.which("chromium")):
        pytest.fail("these tests need `chromium` on PATH: apt-get install chromium")
    as_root = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=as_root)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page of two boards, one of them hostile."""
    root = tmp_path_factory.mktemp("site")
    good, bad = a_task(root / "good"), a_task(root / "bad")
    papers = [read_table(name) for name in table_names()]
    of = boards([*entries(good), *hostile(bad)])
    return write_page(of, papers, [], {"good": good, "bad": bad}, root / "page")


@pytest.fixture(params=["light", "dark", "phone"])
def page(browser: Browser, index: Path, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Page]:
    """The page as opened from the disk; afterwards nothing was logged, run or asked for."""
    phone = request.param == "phone"
    context = browser.new_context(
        viewport={"width": 360, "height": 740} if phone else {"width": 1280, "height": 900},
        color_scheme="dark" if request.param == "dark" else "light",
    )
    page, faults, asked = context.new_page(), [], []
    page.on("console", lambda message: faults.append(message.text))
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(index.as_uri())
    yield page
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "scrolls sideways"
    assert page.evaluate("window.pwned === undefined"), "a text ran"
    page.screenshot(path=tmp_path / f"{request.param}.png", full_page=True)
    assert (tmp_path / f"{request.param}.png").stat().st_size > 10_000
    assert faults == []
    assert all(url.startswith(index.parent.as_uri()) for url in asked)
    context.close()


def column(page: Page, number: int) -> list[float]:
    """What the first board's rows sort by, from above."""
    cells = page.locator("table.sorts").first.locator(f"tbody tr:first-child > :nth-child({number})")
    return [float(x) for x in cells.evaluate_all("cells => cells.map((c) => c.dataset.sort ?? 'NaN')")]


def test_a_table_sorts_by_click_and_by_keyboard(page: Page) -> None:
    table = page.locator("table.sorts").first
    rates = column(page, 3)
    assert rates == sorted(rates, reverse=True)
    head = table.get_by_role("columnheader", name="preference acc.")
    head.get_by_role("button").click()
    assert head.get_attribute("aria-sort") == "descending"
    assert column(page, 7) == sorted(column(page, 7), reverse=True) != column(page, 3)
    head.get_by_role("button").focus()
    page.keyboard.press("Enter")
    assert head.get_attribute("aria-sort") == "ascending"
    assert column(page, 7) == sorted(column(page, 7))
    page.keyboard.press("Space")
    assert head.get_attribute("aria-sort") == "descending"
    assert table.locator("[aria-sort=descending]").count() == 1


def test_what_is_unknown_sorts_last_either_way(page: Page) -> None:
    button = page.locator("table.sorts").first.get_by_role("button", name="personal gain")
    for _ in range(2):
        button.click()
        gains = column(page, 5)
        unknown = [isnan(gain) for gain in gains]
        assert any(unknown) and unknown == sorted(unknown)


def test_a_command_unfolds_below_its_row_and_is_copied(page: Page) -> None:
    button = page.locator(".more").first
    row = page.locator(f"[id='{button.get_attribute('aria-controls')}']")
    assert not row.is_visible()
    button.click()
    assert row.is_visible() and button.get_attribute("aria-expanded") == "true"
    assert HOSTILE in row.inner_text()  # the board called `bad` comes first
    page.locator("table.sorts").first.get_by_role("button", name="copied").click()
    assert row.is_visible()
    row.get_by_role("button").first.click()
    page.locator(".copy", has_text=re.compile("Copied|Selected")).wait_for()


def test_answers_open_by_keyboard_and_hostile_ones_are_text(page: Page) -> None:
    page.locator(".answers summary").first.focus()
    page.keyboard.press("Enter")
    page.wait_for_selector(".reading")
    for text in page.locator(".reading .said").all_text_contents():
        assert text == HOSTILE
    assert page.locator("blockquote").first.text_content() == HOSTILE
    page.get_by_label("Method").first.select_option(label=f"bad{HOSTILE}")
    page.locator(".reply:first-child h5", has_text="bad").wait_for()
    assert page.locator(".reading img, .reading script").count() == 0


def test_methods_users_and_questions_are_chosen(page: Page) -> None:
    box = page.locator(".answers").nth(1)
    box.locator("summary").first.click()
    box.locator(".reading").wait_for()
    assert box.locator(".shots li").count() == 4
    assert box.locator(".reply").count() == 3  # two methods and base
    user, question = (box.get_by_label(name) for name in ("User", "Question"))
    user.select_option(index=1)
    box.locator("h4", has_text=f"User {user.locator('option').nth(1).text_content()}").wait_for()
    question.select_option(index=2)
    box.locator(".question", has_text=question.locator("option").nth(2).text_content() or "").wait_for()
    box.get_by_label("Beside it").select_option(label="fspo (shots=2)")
    box.get_by_text("fspo (shots=2) ran with the first 2.").wait_for()
    assert box.get_by_label("Beside it").evaluate("select => select === document.activeElement")
    assert "wins" in (box.locator(".verdict").first.get_attribute("class") or "")
    assert box.get_by_text("Written on the way").first.is_visible()


def test_a_missing_file_is_told(browser: Browser, index: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(index.parent, tmp_path / "page")
    page = browser.new_page()
    page.goto((folder / "index.html").as_uri())
    (users,) = folder.glob("data/good*/users.js")
    users.unlink()
    page.locator(".answers summary").nth(1).click()
    page.get_by_text(f"data/{users.parent.name}/users.js is missing").wait_for()
    page.close()


def test_the_first_tab_skips_to_the_tables(page: Page) -> None:
    page.keyboard.press("Tab")
    skip = page.get_by_role("link", name="Skip to the tables")
    box = skip.bounding_box()
    assert box and box["x"] >= 0
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "boards"


def test_without_scripts_commands_are_shown(browser: Browser, index: Path) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(index.as_uri())
    assert page.locator("tr.commands").first.is_visible()
    assert not page.locator(".more").first.is_visible()
    page.locator(".answers summary").first.click()
    assert page.get_by_text("The answers need JavaScript.").first.is_visible()
    context.close()
