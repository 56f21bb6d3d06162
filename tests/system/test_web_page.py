"""The web page in a real browser, against a live server with a tiny model."""

import contextlib
import json
import re
import shutil
import urllib.error
import urllib.request
from collections.abc import Iterator
from time import sleep

import pytest

from support.live_server import Live, ScriptedEngine, live, write_chat_model
from tonnage.engine.engine import Engine
from tonnage.server.models.tenants import read_tenants

try:
    from playwright.sync_api import Browser, Page, expect, sync_playwright
except ImportError:  # pragma: no cover
    pytest.skip("playwright is not installed", allow_module_level=True)

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
if CHROMIUM is None:
    pytest.skip("there is no chromium on this machine", allow_module_level=True)

ARGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip
DESK, PHONE = {"width": 1280, "height": 800}, {"width": 390, "height": 844}
KEY = "a-key-of-sixteen-letters"
FINISHED = re.compile(r"\d+ out")


@pytest.fixture(scope="module")
def engine(tmp_path_factory) -> Iterator[Engine]:
    folder = write_chat_model(tmp_path_factory.mktemp("model") / "hf")
    with Engine.open(str(folder), context=16_384, threads=1, concurrency=2) as engine:
        yield engine


@pytest.fixture(scope="module")
def server(engine) -> Iterator[Live]:
    with live(engine) as server:
        yield server


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=ARGS)
        yield browser
        browser.close()


BLOCKED = "Executing inline event handler violates the following Content Security Policy"


@contextlib.contextmanager
def visit(browser: Browser, url: str, errors: int = 0, **options: object) -> Iterator[Page]:
    """Open the page; when done, nothing went elsewhere and the console has `errors` errors."""
    context = browser.new_context(**{"viewport": DESK, **options})
    context.set_default_timeout(10_000)
    page = context.new_page()
    said: list[str] = []
    asked: list[str] = []
    page.on("console", lambda line: said.append(line.text) if line.type == "error" else None)
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(url)
    try:
        yield page
        # Newer browsers report what the policy kept from running; window.ran says that it did not.
        wrong = [line for line in said if not line.startswith(BLOCKED)]
        assert len(wrong) == errors, wrong
        assert f"{url}/static/app/main.js" in asked
        assert [one for one in asked if not one.startswith((url, "data:"))] == []
    finally:
        context.close()


def send(page: Page, text: str) -> None:
    """Write a message and send it with the keyboard."""
    expect(page.get_by_role("dialog")).to_have_count(0)  # closing takes the focus back
    page.get_by_label("Your message").focus()
    page.keyboard.type(text)
    page.keyboard.press("Enter")


def test_a_message_is_answered_by_keyboard_alone(browser, server, engine, monkeypatch):
    monkeypatch.setattr(engine.tokenizer, "eos_ids", frozenset())
    with visit(browser, server.url) as page:
        expect(page.get_by_role("combobox", name="Model")).to_have_value("tiny")
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")  # the link that skips to the prompt
        page.keyboard.type("Hello there")
        page.keyboard.press("Enter")
        answer = page.get_by_role("article", name="Model")
        expect(answer).to_contain_text("tokens/s", timeout=20_000)
        assert len(answer.locator(".markdown").inner_text()) > 20
        expect(answer).to_contain_text("512 out")
        expect(page.get_by_label("Your message")).to_be_focused()


def test_stop_ends_an_answer_and_its_request(browser, server, engine, monkeypatch):
    # So that nothing else ends it, and it lasts for as long as a real one.
    monkeypatch.setattr(engine.tokenizer, "eos_ids", frozenset())
    step = engine.runtime.step
    monkeypatch.setattr(engine.runtime, "step", lambda *given: (sleep(0.01), step(*given))[1])
    settings = json.dumps({"maxTokens": 16_000})
    with visit(browser, server.url) as page:
        page.evaluate("value => localStorage.setItem('tonnage.settings', value)", settings)
        page.reload()
        send(page, "Go on")
        expect(page.get_by_role("article", name="Model").locator(".markdown")).not_to_be_empty()
        expect(page.get_by_label("Memory", exact=True).locator(".sequences")).to_contain_text(
            "writing"
        )
        page.get_by_role("button", name="Stop").click()
        expect(page.get_by_text("stopped")).to_be_visible()
        expect(page.get_by_label("Memory", exact=True).locator(".sequences li")).to_have_count(0)
        expect(page.get_by_role("button", name="Send")).to_be_visible()
        send(page, "Once more")
        page.keyboard.press("Escape")
        expect(page.get_by_text("stopped")).to_have_count(2)


def test_memory_shows_the_budget_and_every_item(browser, server, engine):
    with visit(browser, server.url) as page:
        memory = page.get_by_label("Memory", exact=True)
        budget = memory.get_by_role("region", name="Budget")
        ledger = engine.ledger()
        expect(budget).to_contain_text(re.compile(r"[\d.]+ MiB of [\d.]+ .iB \(\d+ %\)"))
        rows = memory.get_by_role("region", name="Items").locator("tbody tr")
        expect(rows).to_have_count(len(ledger.items))
        names = [text.strip() for text in rows.locator("th").all_inner_texts()]
        assert names == [item.name for item in ledger.items]
        expect(memory.get_by_label("Pages", exact=True)).to_contain_text("512 pages of")
        expect(memory.get_by_label("When memory ran short")).to_contain_text("never short")
        send(page, "What is kept?")
        expect(page.get_by_role("article", name="Model")).to_contain_text(FINISHED)
        expect(memory.get_by_label("Shared prefixes")).to_contain_text(re.compile(r"tokens.*ago"))
        expect(memory.get_by_label("Speed").locator("canvas")).to_have_count(1)


def test_a_phone_has_one_view_at_a_time(browser, server):
    with visit(browser, server.url, viewport=PHONE, has_touch=True) as page:
        chat, memory = page.get_by_label("Your message"), page.get_by_label("Memory", exact=True)
        expect(chat).to_be_visible()
        expect(memory).to_be_hidden()
        page.get_by_role("button", name="Memory").tap()
        expect(memory).to_be_visible()
        expect(chat).to_be_hidden()
        width = page.evaluate("document.documentElement.scrollWidth")
        assert width <= PHONE["width"]


def test_light_and_dark_follow_the_system_and_the_setting(browser, server):
    ground = "getComputedStyle(document.body).backgroundColor"
    with visit(browser, server.url, color_scheme="dark") as page:
        expect(page.get_by_label("Memory", exact=True)).to_be_visible()
        dark = page.evaluate(ground)
        page.get_by_role("button", name="Settings").click()
        page.get_by_label("Appearance").select_option("light")
        page.get_by_role("button", name="Apply").click()
        expect(page.locator("html")).to_have_attribute("data-theme", "light")
        light = page.evaluate(ground)
    brightness = [sum(map(int, re.findall(r"\d+", colour)[:3])) for colour in (dark, light)]
    assert brightness[0] < 3 * 60
    assert brightness[1] > 3 * 200


# Roles whose elements a screen reader must have a name for.
NAMED = "button textbox combobox checkbox spinbutton link dialog figure img table article region"


@pytest.mark.parametrize("place", ["page", "settings"])
def test_every_control_has_a_name(browser, server, place):
    with visit(browser, server.url) as page:
        send(page, "Hello")
        expect(page.get_by_role("article", name="Model")).to_contain_text(FINISHED)
        page.get_by_role("region", name="Items").wait_for()
        if place == "settings":
            page.get_by_role("button", name="Settings").click()
            where = page.get_by_role("dialog")
            expect(where).to_be_visible()
        else:
            where = page.locator("body")
        seen = where.aria_snapshot()
        assert page.locator("html").get_attribute("lang") == "en"
        ids = page.evaluate("[...document.querySelectorAll('[id]')].map((one) => one.id)")
    lines = [line.strip().removeprefix("- ") for line in seen.splitlines()]
    controls = [line for line in lines if line.split(" ")[0].rstrip(":") in NAMED.split()]
    assert len(controls) >= 6, seen
    assert [line for line in controls if '"' not in line] == [], seen
    assert len(ids) == len(set(ids))


HOSTILE = (
    "<script>window.ran = 1</script><img src=x onerror='window.ran = 2'>",
    "<a href='javascript:window.ran = 3'>here</a><svg onload='window.ran = 4'></svg>",
    "<iframe srcdoc='<script>parent.ran = 5</script>'></iframe>",
    "<b onclick='window.ran = 6'>bold</b>",
    "<form action='/x'><button>go</button></form>![picture](http://127.0.0.9/pixel.png)",
    "\n\n**sound** [link](http://127.0.0.9/)",
)


def test_html_in_an_answer_does_not_run(browser, engine):
    with live(engine, ScriptedEngine(HOSTILE)) as server, visit(browser, server.url) as page:
        send(page, "<img src=y onerror='window.ran = 7'>")
        answer = page.get_by_role("article", name="Model")
        expect(answer.locator("strong")).to_have_text("sound")
        answer.get_by_text("here").click()
        answer.get_by_text("bold").click()
        assert page.evaluate("window.ran") is None
        text = answer.locator(".markdown")
        assert text.locator("script, img, iframe, svg, form, button").count() == 0
        assert text.locator("[onclick], [href^=javascript]").count() == 0


MARKDOWN = """Setext heading
===
A paragraph that goes on
in a second line with **bold** and `code`.
#no heading
| a | b |
|---|---|
| 1 | 2 |

- one
- two

  of two paragraphs
    - inner

1. first
2. second
# Heading
> quoted
lazily
```python
print("x")

# no heading
```
    indented

<b>html</b> in a line
***
End with [a link](http://127.0.0.9/).

 not indented
"""
GROWN = """async (text) => {
  const { Growing } = await import("/static/app/markdown.js");
  const { parse } = await import("/static/vendor/marked.js");
  const whole = (text) =>
    DOMPurify.sanitize(parse(text, { gfm: true, breaks: true }), { FORBID_ATTR: ["class"] });
  const step = (i) => 1 + (i * 7919) % 5;
  const growing = new Growing();
  const wrong = [];
  for (let end = 1; end <= text.length; end += step(end)) {
    const given = text.slice(0, end);
    if (growing.blocks(given, false).join("") !== whole(given)) wrong.push(given);
  }
  const same = growing.blocks(text, true).join("") === whole(text);
  return { wrong, same, settled: growing.settled.length };
}"""


def test_an_answer_that_grows_is_rendered_as_it_would_be_at_once(browser, server):
    with visit(browser, server.url) as page:
        told = page.evaluate(GROWN, MARKDOWN)
        assert told == {"wrong": [], "same": True, "settled": 12}
        late = page.evaluate(
            """async () => {
              const { Growing } = await import("/static/app/markdown.js");
              const text = "See [it][1].\\n\\nMore.\\n\\n[1]: http://127.0.0.9/\\n";
              return new Growing().blocks(text, true).join("");
            }"""
        )
        assert '<a href="http://127.0.0.9/">it</a>' in late


def test_what_stands_is_not_rendered_again(browser, engine):
    pieces = [f"Paragraph {i}.\n\n" for i in range(100)]
    answers = ScriptedEngine(pieces, pause_s=0.01)
    with live(engine, answers) as server, visit(browser, server.url) as page:
        page.evaluate(
            """() => new MutationObserver(() => {
              const all = document.querySelectorAll(".markdown p");
              if (all.length && all.length < 50) window.early ??= all[0];
            }).observe(document.body, { childList: true, subtree: true })"""
        )
        send(page, "Go on")
        answer = page.get_by_role("article", name="Model")
        expect(answer.locator("p").nth(99)).to_have_text("Paragraph 99.")
        assert page.evaluate("window.early === document.querySelector('.markdown p')")


def test_with_keys_the_page_asks_for_one(browser, engine):
    with live(engine, tenants=read_tenants(None, KEY)) as server:
        with pytest.raises(urllib.error.HTTPError, match="401") as caught:
            urllib.request.urlopen(f"{server.url}/memory", timeout=20)
        caught.value.close()
        # The browser itself reports each refused request.
        with visit(browser, server.url, errors=2) as page:
            expect(page.get_by_role("dialog")).to_be_visible()
            page.get_by_label("API key").fill(KEY)
            page.keyboard.press("Enter")
            expect(page.get_by_role("combobox", name="Model")).to_have_value("tiny")
            expect(page.get_by_role("region", name="Budget")).to_be_visible()
            send(page, "Hello")
            expect(page.get_by_role("article", name="Model")).to_contain_text(FINISHED)
