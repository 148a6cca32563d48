"""A headless Chromium for the tests of pages, and the accessibility checker axe-core."""

import os
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

import pytest

AXE = "axe-core@4.14.1"
OPTIONS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip


def pytest_collection_modifyitems(items):
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.browser)


def start(folder):
    """Start a browser with a profile of its own."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    chromedriver = shutil.which("chromedriver")
    if chromium is None or chromedriver is None:
        pytest.skip("Chromium and its driver are missing: on Debian, apt install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for option in (*OPTIONS, f"--user-data-dir={folder}"):
        options.add_argument(option)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    return webdriver.Chrome(options=options, service=Service(chromedriver))


@pytest.fixture(scope="session")
def chromium():
    pytest.importorskip("selenium")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        driver = start(folder)
        yield driver
        driver.quit()


@pytest.fixture(scope="session")
def axe(request):
    """The script of axe-core: from the file that AXE_CORE names, else from npm, once."""
    if "AXE_CORE" in os.environ:
        return Path(os.environ["AXE_CORE"]).read_text(encoding="utf-8")
    folder = request.config.cache.mkdir("axe-core")
    script = folder / "package" / "axe.min.js"
    if not script.exists():
        if shutil.which("npm") is None:
            pytest.skip("npm is missing, which fetches axe-core; or set AXE_CORE to an axe.min.js")
        command = ["npm", "pack", AXE, "--silent", "--pack-destination", str(folder)]
        name = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1]
        with tempfile.TemporaryDirectory(dir=folder) as beside, tarfile.open(folder / name) as archive:
            archive.extract("package/axe.min.js", beside, filter="data")
            script.parent.mkdir(exist_ok=True)
            os.replace(Path(beside) / "package" / "axe.min.js", script)
    return script.read_text(encoding="utf-8")
