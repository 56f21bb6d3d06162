"""What can be done with messages on the page, and with the conversations that a browser keeps."""

import contextlib
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.live_server import NAME, ScriptedEngine, live
from system.test_web_page import (
    DESK,
    PHONE,
    Page,
    browser,
    engine,
    expect,
    send,
    server,
    visit,
)
from tonnage.core.errors import ContextLengthError, NoChatTemplateError
from tonnage.core.sampling import SamplingOptions
from tonnage.server.http.page import assets

__all__ = ["browser", "engine", "server"]
ANSWER = ["Hello", " **there**", "."]
AXE = "axe-core@4.10.3"


@contextlib.contextmanager
def chatting(browser, engine, **options: object) -> Iterator[Page]:
    with (
        live(engine, ScriptedEngine(ANSWER)) as server,
        visit(browser, server.url, **options) as page,
    ):
        yield page


def answers(page: Page):
    return page.get_by_role("article", name="Model")


def test_a_message_is_copied_edited_and_answered_again(browser, engine):
    permissions = ["clipboard-read", "clipboard-write"]
    with chatting(browser, engine, permissions=permissions) as page:
        for text in ("One", "Two"):
            send(page, text)
            expect(page.get_by_role("button", name="Send")).to_be_visible()
        expect(answers(page)).to_have_count(2)
        answers(page).last.get_by_role("button", name="Copy").click()
        assert page.evaluate("navigator.clipboard.readText()") == "".join(ANSWER)
        answers(page).last.get_by_role("button", name="Regenerate").click()
        expect(answers(page)).to_have_count(2)
        expect(answers(page).last).to_contain_text("there")
        page.get_by_role("article", name="You").first.get_by_role("button", name="Edit").click()
        box = page.get_by_label("Your message")
        expect(box).to_have_value("One")
        expect(box).to_be_focused()
        expect(answers(page)).to_have_count(0)
        box.fill("Uno")
        page.keyboard.press("Enter")
        expect(page.get_by_role("article", name="You")).to_contain_text(["Uno"])
        expect(answers(page)).to_have_count(1)


def test_arrows_recall_what_was_asked(browser, engine):
    with chatting(browser, engine) as page:
        for text in ("One", "Two"):
            send(page, text)
            expect(page.get_by_role("button", name="Send")).to_be_visible()
        box = page.get_by_label("Your message")
        for key, shown in (
            ("Up", "Two"),
            ("Up", "One"),
            ("Up", "One"),
            ("Down", "Two"),
            ("Down", ""),
        ):
            page.keyboard.press(f"Arrow{key}")
            expect(box).to_have_value(shown)
        box.fill("A draft")
        page.keyboard.press("ArrowUp")
        expect(box).to_have_value("A draft")


def test_conversations_stay_in_this_browser_until_they_are_deleted(browser, engine):
    with chatting(browser, engine) as page:
        send(page, "First")
        expect(answers(page)).to_contain_text("there")
        page.get_by_role("button", name="New").click()
        expect(answers(page)).to_have_count(0)
        send(page, "Second")
        expect(answers(page)).to_contain_text("there")
        page.reload()
        page.get_by_role("button", name="Conversations").click()
        dialog = page.get_by_role("dialog", name="Conversations")
        expect(dialog.locator(".title")).to_have_text(["Second", "First"])
        with page.expect_download() as download:
            dialog.get_by_role("button", name="Export First").click()
        told = json.loads(Path(download.value.path()).read_text("utf-8"))
        assert [one["role"] for one in told["messages"]] == ["user", "assistant"]
        assert told["messages"][1]["content"] == "".join(ANSWER)
        dialog.get_by_role("button", name="Delete Second").click()
        dialog.get_by_role("button", name="First", exact=True).click()
        expect(page.get_by_role("article", name="You")).to_contain_text("First")
        page.get_by_role("button", name="Conversations").click()
        dialog.get_by_role("button", name="Delete all").click()
        expect(dialog).to_contain_text("None is kept")
        assert page.evaluate("localStorage.getItem('tonnage.conversations')") == "[]"


def test_nothing_is_kept_where_that_is_not_wanted(browser, engine):
    with chatting(browser, engine) as page:
        page.get_by_role("button", name="Settings").click()
        page.get_by_label("Keep conversations in this browser").uncheck()
        page.get_by_role("button", name="Apply").click()
        send(page, "Secret")
        expect(answers(page)).to_contain_text("there")
        assert page.evaluate("localStorage.getItem('tonnage.conversations')") in (None, "[]")


def test_the_header_of_a_phone_is_one_row(browser, engine):
    for width in (320, PHONE["width"]):
        with chatting(browser, engine, viewport={"width": width, "height": 700}) as page:
            expect(page.get_by_role("combobox", name="Model")).to_be_visible()
            assert page.locator("header").bounding_box()["height"] <= 48
            assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_the_page_samples_as_the_command_line_does():
    source = assets()["/static/app/store.js"].body.decode()
    defaults = dict(re.findall(r"^  (\w+): ([\d.]+),", source, re.MULTILINE))
    usual = SamplingOptions()
    assert float(defaults["temperature"]) == usual.temperature
    assert float(defaults["topP"]) == usual.top_p


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ContextLengthError("The prompt has 9 tokens."), "longer than the model can read"),
        (NoChatTemplateError("No template (--raw)."), f"{NAME} is a base model"),
        (ValueError("the secret"), "The server has failed at this"),
    ],
)
def test_errors_are_told_in_the_words_of_the_page(browser, engine, error, words):
    with (
        live(engine, ScriptedEngine(error=error)) as server,
        visit(browser, server.url, errors=1) as page,
    ):
        send(page, "Hello")
        problem = answers(page).get_by_role("alert")
        expect(problem).to_contain_text(words)
        assert "--" not in problem.inner_text()


def test_the_chart_begins_with_marks_that_differ_and_are_whole(browser, server):
    with visit(browser, server.url) as page:
        chart = page.get_by_label("Speed over time").locator(".uplot")
        expect(chart).to_be_visible(timeout=15_000)
        labels, right = page.evaluate(
            """() => {
              const over = document.querySelector(".u-over").getBoundingClientRect();
              const place = document.querySelector(".uplot").getBoundingClientRect();
              const wide = document.createElement("canvas").getContext("2d");
              wide.font = '12px system-ui, -apple-system, "Segoe UI", Roboto, Helvetica, Arial';
              return [wide.measureText("100%").width, place.right - over.right];
            }"""
        )
        # The gap and the ticks of the axis, as uPlot has them: 5 and 10 pixels.
        assert right >= labels + 15


@pytest.fixture(scope="module")
def axe(tmp_path_factory) -> str:
    """Return the source of axe-core, from npm."""
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("there is no npm on this machine")
    folder = tmp_path_factory.mktemp("axe")
    command = [npm, "install", "--no-audit", "--no-fund", "--prefix", str(folder), AXE]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    if done.returncode != 0:
        pytest.skip(f"npm could not fetch {AXE}")
    return (folder / "node_modules/axe-core/axe.min.js").read_text("utf-8")


LEVELS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [DESK, PHONE], ids=["desk", "phone"])
@pytest.mark.parametrize("place", ["chat", "memory", "Settings", "Conversations"])
def test_axe_finds_nothing(browser, engine, axe, scheme, size, place):
    with chatting(browser, engine, viewport=size, color_scheme=scheme) as page:
        send(page, "Hello")
        expect(answers(page)).to_contain_text("there")
        if place == "memory" and size == PHONE:
            page.get_by_role("button", name="Memory").click()
        if place[0].isupper():
            page.get_by_role("button", name=place).click()
            expect(page.get_by_role("dialog", name=place)).to_be_visible()
        page.evaluate(f"() => {{ {axe} }}")
        found = page.evaluate(
            "async (values) => (await axe.run({ runOnly: { type: 'tag', values } })).violations"
            ".map((one) => [one.id, one.nodes.map((node) => [node.target, node.failureSummary])])",
            LEVELS,
        )
        assert found == []
