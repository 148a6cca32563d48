"""The page of a report in a real browser: quiet, legible, usable, whole without scripts and on paper."""

import base64
import json
import re
import time

import numpy as np
import pytest
from safetensors.numpy import save_file

from rf8sim.report.render import html, write_page
from rf8sim.report.sections.contents import Contents
from rf8sim.report.sections.page import Page as Description
from rf8sim.report.sections.page import Section
from rf8sim.report.sections.pages import REPORT
from rf8sim.report.tables.table import Column, Table
from rf8sim.studies.experiment import Settings
from rf8sim.studies.measuring import run

WIDTHS = (390, 1440)
THEMES = ("light", "dark")
ROWS = 5000


class Page:
    """A page as it is shown at some width, in some theme of the system."""

    def __init__(self, driver, path, width=1440, theme="light", scripts=True, media=""):
        self.driver, self.path = driver, path
        features = [{"name": "prefers-color-scheme", "value": theme}]
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": media, "features": features})
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": not scripts})
        driver.get("about:blank")
        driver.get_log("browser"), driver.get_log("performance")
        driver.get(path.as_uri())
        self.loaded()

    def loaded(self):
        """Wait until the page is parsed to its end: on a busy machine the driver returns before that."""
        ready = "return location.protocol === 'file:' && document.readyState === 'complete'"
        end = time.monotonic() + 60
        while not self.js(ready):
            assert time.monotonic() < end, f"{self.path} is not loaded after a minute"
            time.sleep(0.01)

    def js(self, code, *arguments):
        return self.driver.execute_script(code, *arguments)

    def wait(self, condition, *arguments):
        """Wait, at most two seconds, until a JavaScript expression holds."""
        code = f"""
            const done = arguments[arguments.length - 1], end = performance.now() + 2000;
            const given = [...arguments];
            (function ask() {{
              const holds = (function() {{ return {condition}; }}).apply(null, given);
              if (holds || performance.now() > end) done(holds); else setTimeout(ask, 10);
            }})();"""
        assert self.driver.execute_async_script(code, *arguments), condition

    def open_all(self):
        self.js("document.querySelectorAll('details').forEach(part => { part.open = true; })")

    def column(self, table, index):
        return self.js(
            f"""return [...document.querySelector(`table[aria-label="{table}"]`).tBodies[0].rows]
            .map(row => row.cells[{index}].textContent)"""
        )

    def click_head(self, table, index):
        self.js(f"""document.querySelectorAll(`table[aria-label="{table}"] thead button`)[{index}].click()""")

    def sorted_by(self, table, index):
        heads = f'table[aria-label="{table}"] thead th'
        return self.js(f"return document.querySelectorAll(`{heads}`)[{index}].getAttribute('aria-sort')")


def requests(page):
    """Return what the page asked for besides itself."""
    told = (json.loads(entry["message"])["message"] for entry in page.driver.get_log("performance"))
    asked = [one["params"]["request"]["url"] for one in told if one["method"] == "Network.requestWillBeSent"]
    return [url for url in asked if url not in ("about:blank", page.path.as_uri())]


def complaints(page):
    return [entry["message"] for entry in page.driver.get_log("browser") if entry["level"] in ("WARNING", "SEVERE")]


SMALLEST = """
  const seen = [], walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement, words = walker.currentNode.data.trim();
    if (!words || !element.checkVisibility() || element.closest("title, desc, script")) continue;
    const svg = element.closest("svg");
    if (Boolean(svg) !== arguments[0]) continue;
    const zoom = svg ? svg.getBoundingClientRect().width / svg.viewBox.baseVal.width : 1;
    seen.push([zoom * parseFloat(getComputedStyle(element).fontSize), element.textContent.slice(0, 60)]);
  }
  return seen.sort((a, b) => a[0] - b[0])[0];
"""


@pytest.fixture(scope="session")
def report(tmp_path_factory):
    """The page of a checkpoint of 24 tensors in four layers."""
    rng = np.random.default_rng(5)
    tensors = {"embed.weight": rng.normal(size=(70, 40)).astype(np.float32), "odd": np.array([np.nan, 1], np.float32)}
    for layer in range(4):
        for name in ("attn.qkv", "attn.proj", "mlp.up", "mlp.down", "norm"):
            size = 50 if name == "norm" else (60, 50)
            tensors[f"blocks.{layer}.{name}.weight"] = (rng.laplace(size=size) * (layer + 1) / 50).astype(np.float32)
    tensors["blocks.0.mlp.up.weight"][3] *= 1e-3
    folder = tmp_path_factory.mktemp("page")
    save_file(tensors, folder / "model.safetensors")
    experiment = run([folder / "model.safetensors"], Settings(("rf8", "e4m3fn", "int8")))
    write_page(REPORT.page(Contents(experiment)), folder)
    return folder / "report.html"


@pytest.fixture(scope="session")
def long_page(tmp_path_factory):
    """A page with a table of thousands of rows."""
    rng = np.random.default_rng(6)
    values = rng.normal(30, 4, size=(ROWS, 8)).tolist()
    rows = tuple((f"model.layers.{i // 50}.weight.{i}", i, *values[i]) for i in range(ROWS))
    columns = (Column("tensor"), Column("weights", "count"), *(Column(f"f{i}, dB", ".2f") for i in range(8)))
    table = Table("SQNR by tensor", columns, rows, folded=True)
    path = tmp_path_factory.mktemp("long") / "long.html"
    section = Section("tensors", "Tensors", ("Words.",), (table,))
    path.write_text(html(Description("long", "long", (), table, (section,), {})), encoding="utf-8")
    return path


# --- quiet, legible, accessible ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("width", WIDTHS)
def test_quiet_and_legible(chromium, report, width, theme):
    page = Page(chromium, report, width, theme)
    page.open_all()
    assert page.js("return document.documentElement.scrollWidth") <= width
    for in_figures, least in ((False, 12), (True, 9)):  # exponents on the axes are the smallest
        size, text = page.js(SMALLEST, in_figures)
        assert size >= least, text
    assert float(page.js("return parseFloat(getComputedStyle(document.querySelector('p:not(.cue)')).fontSize)")) >= 16
    assert requests(page) == []
    assert complaints(page) == []


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("width", WIDTHS)
def test_accessible(chromium, report, axe, width, theme):
    page = Page(chromium, report, width, theme)
    page.open_all()
    assert serious(page, axe) == []


def serious(page, axe):
    page.js(axe)
    found = page.driver.execute_async_script("axe.run().then(arguments[arguments.length - 1])")
    return [
        f"{one['id']}: {one['nodes'][0]['html'][:200]}: {one['nodes'][0]['failureSummary']}"
        for one in found["violations"]
        if one["impact"] in ("serious", "critical")
    ]


def test_what_is_wrong_is_seen(chromium, report, axe, tmp_path):
    """Negative control of the checks above."""
    text = report.read_text(encoding="utf-8")
    bad = """<p style="color: #999; background: #fff; font-size: 9px; width: 2000px">pale</p><img src="gone.png">
      <script>console.error("broken")</script></main>"""
    path = tmp_path / "bad.html"
    path.write_text(text.replace("</main>", bad), encoding="utf-8")
    page = Page(chromium, path, 390)
    assert page.js("return document.documentElement.scrollWidth") > 390
    assert page.js(SMALLEST, False)[0] < 10
    assert any("gone.png" in url for url in requests(page))
    assert any("broken" in message for message in complaints(page))
    found = serious(page, axe)
    assert any(one.startswith("color-contrast") for one in found)
    assert any(one.startswith("image-alt") for one in found)


def test_the_verdict_is_read_without_scrolling(chromium, report):
    """On a phone each cell of its table has a line with its heading; elsewhere it is a table."""
    seen = """const box = document.querySelector('#verdict .scroll'), row = box.querySelector('tbody tr');
      const place = cell => cell.getBoundingClientRect();
      return [box.scrollWidth <= box.clientWidth, place(row.cells[1]).top < place(row.cells[2]).top,
              getComputedStyle(row.cells[1], '::before').content]"""
    assert Page(chromium, report, 390).js(seen) == [True, True, '"scheme"']
    assert Page(chromium, report, 1440).js(seen) == [True, False, "none"]


def test_wide_things_scroll_and_say_so(chromium, report):
    page = Page(chromium, report, 390)
    page.open_all()
    state = """const box = document.querySelector('section figure .scroll'), note = box.previousElementSibling;
      return [box.scrollWidth > box.clientWidth, note.className === 'cue' && note.checkVisibility(),
              getComputedStyle(box).overflowX]"""
    page.wait("document.querySelectorAll('.cue').length > 0")
    assert page.js(state) == [True, True, "auto"]
    assert page.js("const b = document.querySelector('figure .scroll'); b.scrollLeft = 50; return b.scrollLeft") == 50
    page = Page(chromium, report, 1440)
    page.wait("document.querySelectorAll('.cue').length > 0")
    assert page.js("return document.querySelector('section figure .scroll').previousElementSibling.hidden") is True


# --- sorting, filtering, the theme, hints -----------------------------------------------------------------------------


def test_sorting(chromium, report):
    page, name = Page(chromium, report), "SQNR by tensor"
    before = page.column(name, 0)
    page.click_head(name, 2)
    # A tensor without a number comes last, whichever way.
    falling = page.column(name, 2)
    numbers = [float(text) for text in falling if text not in ("–", "∞")]
    assert numbers == sorted(numbers, reverse=True)
    assert len(set(numbers)) > 10
    assert page.sorted_by(name, 2) == "descending"
    page.click_head(name, 2)
    rising = [float(text) for text in page.column(name, 2) if text not in ("–", "∞")]
    assert rising == numbers[::-1]
    assert page.sorted_by(name, 2) == "ascending"
    page.click_head(name, 0)
    names = page.column(name, 0)
    assert names == sorted(before)
    assert page.sorted_by(name, 2) is None
    page.click_head(name, 1)
    counts = [int(text.replace(",", "")) for text in page.column(name, 1)]
    assert counts == sorted(counts, reverse=True)


def test_the_sum_stays_last(chromium, report):
    page, name = Page(chromium, report), "Fits by tensor"
    for column in (0, 2, 6):
        page.click_head(name, column)
        assert page.column(name, 0)[-1] == "all together"
        assert page.column(name, 0).count("all together") == 1


def test_filter(chromium, report):
    page, name = Page(chromium, report), "SQNR by tensor"
    page.open_all()
    field = page.driver.find_element("css selector", f'input[aria-label="Filter {name}"]')
    whole = page.column(name, 0)
    field.send_keys("MLP blocks.2")
    rows = f'document.querySelector(`table[aria-label="{name}"]`).tBodies[0].rows.length'
    page.wait(f"{rows} === 2")
    assert set(page.column(name, 0)) == {"blocks.2.mlp.up.weight", "blocks.2.mlp.down.weight"}
    page.click_head(name, 0)
    assert page.column(name, 0) == ["blocks.2.mlp.down.weight", "blocks.2.mlp.up.weight"]
    assert f"2 of {len(whole)} rows" in page.js("return document.querySelector('#tensors .tools').textContent")
    field.clear()
    field.send_keys("nothing like it")
    page.wait(f"{rows} === 0")
    field.send_keys("\b" * 20)
    page.wait(f"{rows} === {len(whole)}")


def test_theme(chromium, report):
    colour = "return getComputedStyle(document.body).backgroundColor"
    light = Page(chromium, report, theme="light").js(colour)
    page = Page(chromium, report, theme="dark")
    dark = page.js(colour)
    assert (light, dark) == ("rgb(255, 255, 255)", "rgb(20, 23, 28)")
    stroke = "return getComputedStyle(document.querySelector('svg text')).fill"
    ink = page.js(stroke)
    button = page.driver.find_element("id", "theme")
    assert button.text == "Light theme"
    button.click()
    assert page.js(colour) == light
    assert page.js(stroke) != ink, "figures follow the theme"
    assert button.text == "Dark theme"
    again = Page(chromium, report, theme="dark")
    assert again.js(colour) == light, "the choice is kept"
    again.js("localStorage.clear()")
    assert Page(chromium, report, theme="dark").js(colour) == dark


def test_hints(chromium, report):
    page = Page(chromium, report)
    assert page.js("return document.getElementById('tip').hidden") is True
    marks = page.js("return document.querySelectorAll('svg [data-tip]').length")
    assert marks > 100
    from selenium.webdriver import ActionChains

    mark = page.driver.find_element("css selector", "#sqnr-marks-2 use")
    page.js("arguments[0].scrollIntoView({block: 'center'})", mark)
    ActionChains(page.driver).move_to_element(mark).perform()
    assert page.js("return document.getElementById('tip').hidden") is False
    assert re.search(r"\d", page.js("return document.getElementById('tip').textContent"))
    assert page.js("return document.getElementById('tip').textContent") == mark.get_attribute("data-tip")


# --- thousands of rows ------------------------------------------------------------------------------------------------


def test_thousands_of_rows(chromium, long_page):
    page, name = Page(chromium, long_page), "SQNR by tensor"
    page.open_all()
    assert len(page.column(name, 0)) == 200
    assert "1 to 200 of 5000 rows" in page.js("return document.querySelector('.tools').textContent")
    # The work of a click and the layout after it, without waiting for the screen.
    timed = f"""const button = document.querySelectorAll(`table[aria-label="{name}"] thead button`)[4];
      const start = performance.now(); button.click(); document.body.offsetHeight; return performance.now() - start"""
    spent = sorted(page.js(timed) for _ in range(5))
    assert spent[2] < 250, f"sorting takes {spent} ms"
    assert page.sorted_by(name, 4) == "descending"
    numbers = [float(text) for text in page.column(name, 4)]
    assert numbers == sorted(numbers, reverse=True)
    page.driver.find_element("css selector", "input").send_keys("layers.99. 49")
    page.wait("document.querySelector('tbody').rows.length < 60")
    assert all("layers.99." in text and "49" in text for text in page.column(name, 0))
    page.driver.find_element("css selector", "input").send_keys("\b" * 20)
    page.wait("document.querySelector('tbody').rows.length === 200")
    page.js("[...document.querySelectorAll('.tools button')].find(b => b.textContent === 'Next').click()")
    assert "201 to 400 of" in page.js("return document.querySelector('.tools').textContent")


def test_the_head_stays_in_sight(chromium, long_page):
    page = Page(chromium, long_page)
    page.open_all()
    where = """const box = document.querySelector('.scroll'); box.scrollTop = 2000; box.scrollLeft = 0;
      const head = box.querySelector('thead th').getBoundingClientRect();
      return [box.scrollTop, Math.abs(head.top - box.getBoundingClientRect().top)]"""
    scrolled, off = page.js(where)
    assert scrolled == 2000
    assert off < 2


# --- without scripts, and on paper ------------------------------------------------------------------------------------


def test_whole_without_scripts(chromium, report, long_page):
    page = Page(chromium, long_page, scripts=False)
    assert len(page.column("SQNR by tensor", 0)) == ROWS
    page = Page(chromium, report, 390, scripts=False)
    page.open_all()
    assert page.js("return document.getElementById('theme').checkVisibility()") is False
    assert page.js("return document.querySelectorAll('thead button, .tools').length") == 0
    assert page.js("return document.documentElement.scrollWidth") <= 390
    assert page.js("return document.querySelectorAll('svg use > title').length") > 100
    assert "linear-gradient" in page.js("return getComputedStyle(document.querySelector('.scroll')).backgroundImage")
    Page(chromium, report)  # scripts again


@pytest.mark.parametrize("scripts", [True, False])
def test_on_paper_everything_is_open(chromium, report, scripts):
    page = Page(chromium, report, theme="dark", media="print", scripts=scripts)
    hidden = """return [...document.querySelectorAll('details')].filter(part => {
      const row = part.querySelector('tbody tr:last-child');
      return !row.checkVisibility({contentVisibilityAuto: true}) || row.getBoundingClientRect().height === 0;
    }).length"""
    assert page.js("return document.querySelectorAll('details:not([open])').length") > 3
    assert page.js(hidden) == 0
    assert page.js("return getComputedStyle(document.body).backgroundColor") in ("rgb(255, 255, 255)",)
    assert page.js("return document.querySelector('.bar').checkVisibility()") is False
    screen = Page(chromium, report)
    assert screen.js(hidden) > 3, "negative control: they are closed on the screen"


def test_paper_has_all_rows(chromium, long_page):
    page = Page(chromium, long_page)
    before = page.js("return document.querySelector('tbody').rows.length")
    printed = base64.b64decode(page.driver.execute_cdp_cmd("Page.printToPDF", {})["data"])
    assert before == 200
    assert len(re.findall(rb"/Type\s*/Page\b", printed)) > ROWS / 100
    assert page.js("return document.querySelector('tbody').rows.length") == 200
    assert page.js("return document.querySelector('details').open") is False
