"""The page of formats in a real browser: it rounds as the library does, and can be read and used by everybody."""

import subprocess
import sys
from pathlib import Path

import pytest
from test_report_page import THEMES, WIDTHS, Page, requests, serious

import rf8sim

ROOT = Path(__file__).parents[2]
NUMBERS = ("0.3", "-0.3", "0", "-0", "1", "1.5", "0.0625", "1e-9", "-1e9", "448.0001", "464", "inf", "-inf", "5e-324")
MODES = ("nearest-even", "nearest-away", "toward-zero", "up", "down", "to-odd", "residual")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    subprocess.run([sys.executable, ROOT / "docs" / "formats_page.py", "-o", folder, "-f", "posit(6,1)"], check=True)
    return folder / "index.html"


def choose(page, **fields):
    for name, value in fields.items():
        page.js(
            "const field = document.getElementById(arguments[0]); field.value = arguments[1];"
            "field.dispatchEvent(new Event('input', { bubbles: true }))", name, value,
        )  # fmt: skip
    for value in fields.values():
        page.wait("` ${document.body.dataset.shown} `.includes(` ${arguments[0]} `)", value)


def cells(page, table):
    return page.js(
        f"return [...document.querySelectorAll('#{table} tbody tr')].map(r => [...r.cells].map(c => c.textContent))"
    )


@pytest.mark.parametrize(
    "name", ["rf8", "e4m3fn", "e5m2", "int8", "uint4", "e8m0fnu", "posit8_es1", "nf4", "posit(6,1)"]
)
def test_it_rounds_as_the_library(chromium, site, name):
    page, fmt = Page(chromium, site), rf8sim.get_format(name)
    choose(page, a=fmt.name, b="hifloat8")
    for text in NUMBERS:
        choose(page, x=text)
        rows = cells(page, "rounding")
        assert rows
        for mode, value, code, *_ in rows:
            if value == "–":
                assert mode == "residual"
                continue
            expected = int(rf8sim.encode(float(text), fmt, rounding=mode))
            assert int(code, 16) == expected, (text, mode)
            number = {"∞": "inf", "-∞": "-inf"}.get(value, value)
            assert float(number) == float(rf8sim.decode(expected, fmt)) or number == "NaN", (text, mode)
        assert {row[0] for row in rows} | {"residual"} == set(MODES)


def test_codes_of_two_formats_beside_each_other(chromium, site):
    page = Page(chromium, site)
    choose(page, a="e2m1fn", b="int4")
    rows = cells(page, "codes")
    assert len(rows) == 16
    assert rows[9] == ["0x9", "1001", "-0.5", "1001", "-7"]
    assert page.js("return document.querySelectorAll('#line svg line.value').length") == 7 + 7
    choose(page, axis="linear")
    assert page.js("return document.querySelectorAll('#line svg line.value').length") == 15 + 16


def test_what_is_no_number_is_refused_in_words(chromium, site):
    page = Page(chromium, site)
    choose(page, x="abc")
    assert "“abc” is no number" in page.js("return document.getElementById('message').textContent")
    assert cells(page, "rounding") == []


def test_an_address_is_what_is_shown(chromium, site):
    page = Page(chromium, site)
    choose(page, a="rf6", b="nf4", x="-2.5")
    address = page.js("return location.href")
    page.driver.get("about:blank")
    page.driver.get(address)
    page.wait("document.body.dataset.shown === 'rf6 nf4 -2.5 log'")


def test_it_asks_nobody_for_anything(chromium, site):
    page = Page(chromium, site)
    choose(page, a="rf8", b="e5m2")
    assert [address for address in requests(page) if not address.startswith("file:")] == []
    assert page.driver.get_log("browser") == []


def test_the_table_of_all_formats_needs_no_scripts(chromium, site):
    page = Page(chromium, site, scripts=False)
    text = site.read_text(encoding="utf-8")
    assert all(f'<a href="#a={name}">{name}</a>' in text for name in rf8sim.format_names())
    assert page.path == site


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("width", WIDTHS)
def test_accessible_and_without_sideways_scrolling(chromium, site, axe, width, theme):
    page = Page(chromium, site, width, theme)
    choose(page, a="rf8", b="e4m3fn")
    assert serious(page, axe) == []
    assert page.js("return document.documentElement.scrollWidth <= window.innerWidth")
