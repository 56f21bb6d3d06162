"""The web page before a server of several models: which one answers, and what each takes."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.live_server import write_chat_model
from system.test_cli_serve import serving
from system.test_serve_models import several
from system.test_web_page import Browser, browser, expect, send, visit

__all__ = ["browser"]


@pytest.fixture(scope="module")
def url(tmp_path_factory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("models")
    sizes = {"hidden_size": 512, "intermediate_size": 1536, "num_hidden_layers": 4}
    models = [write_chat_model(folder / name, **sizes) for name in ("one", "two", "kept")]
    args = several(models, "--pin", "kept", memory=200 << 20)
    with serving(Path(folder), *args) as (_, url):
        yield url


def option(page, name: str):
    return page.locator("header option").filter(has_text=name)


def test_the_chooser_tells_where_models_are_and_moves_them(browser: Browser, url: str):
    with visit(browser, url) as page:
        chooser = page.get_by_role("combobox", name="Model")
        expect(chooser).to_have_value("one")
        expect(option(page, "one")).to_have_text("one · unloaded")
        expect(option(page, "kept")).to_have_text("kept · loaded")
        page.get_by_role("button", name="Load", exact=True).click()
        expect(option(page, "one")).to_have_text("one · loaded")
        chooser.select_option("two")
        page.get_by_role("button", name="Settings").click()
        page.get_by_label("Most tokens of an answer").fill("8")
        page.get_by_role("button", name="Apply").click()
        send(page, "Hello")
        expect(page.get_by_role("article", name="Model")).to_contain_text(re.compile(r"\d+ out"))
        expect(option(page, "two")).to_have_text("two · loaded")
        expect(option(page, "one")).to_have_text("one · unloaded")  # two needed its bytes
        page.get_by_role("button", name="Unload").focus()
        page.keyboard.press("Enter")
        expect(option(page, "two")).to_have_text("two · unloaded")
        chooser.select_option("kept")
        expect(page.get_by_text("pinned", exact=True)).to_be_visible()
        expect(page.get_by_role("button", name=re.compile("oad"))).to_have_count(0)


def test_one_bar_shows_every_models_items(browser: Browser, url: str):
    with visit(browser, url) as page:
        page.get_by_role("combobox", name="Model").select_option("two")
        page.get_by_role("button", name="Load", exact=True).click()
        memory = page.get_by_label("Memory", exact=True)
        places = memory.get_by_role("region", name="Models").locator("li")
        expect(places).to_have_text(
            [
                re.compile(r"one unloaded, \d"),
                re.compile(r"two loaded, \d"),
                re.compile(r"kept pinned"),
            ]
        )
        bar = memory.get_by_role("img", name=re.compile("^now:"))
        expect(bar).to_have_attribute("aria-label", re.compile(r"two: weights.*kept: weights"))
        rows = memory.get_by_role("region", name="Items").locator("tbody th")
        names = [text.strip() for text in rows.all_inner_texts()]
        assert names[:2] == ["interpreter and libraries", "server"]
        assert {"two: weights", "two: kv pages", "kept: weights"} < set(names)
        assert not [name for name in names if name.startswith("one")]
        expect(memory.get_by_label("Pages", exact=True)).to_contain_text("32 pages of")
    with visit(browser, url, viewport={"width": 390, "height": 844}, has_touch=True) as page:
        expect(option(page, "two")).to_have_text("two · loaded")
        assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_a_refusal_to_unload_is_told(browser: Browser, url: str):
    with visit(browser, url, errors=1) as page:
        page.get_by_role("combobox", name="Model").select_option("two")
        expect(option(page, "two")).to_have_text(re.compile("loaded"))
        page.route(
            "**/models/*load",
            lambda route: route.fulfill(
                status=503, json={"error": {"message": "two is still in use."}}
            ),
        )
        page.get_by_role("button", name=re.compile("oad")).click()
        expect(page.get_by_role("alert")).to_have_text("two is still in use.")
