"""Take the pictures of the documentation: python tests/browser/screenshots.py REPORT.html docs."""

import base64
import sys
import tempfile
from pathlib import Path

from conftest import start


def main(page: Path, folder: Path) -> None:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        driver = start(profile)
        size = {"width": 1100, "height": 1400, "deviceScaleFactor": 1, "mobile": False}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        for theme in ("light", "dark"):
            features = [{"name": "prefers-color-scheme", "value": theme}]
            driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
            driver.get(page.absolute().as_uri())
            shot = driver.execute_cdp_cmd("Page.captureScreenshot", {"format": "png"})["data"]
            (folder / f"report-{theme}.png").write_bytes(base64.b64decode(shot))
        driver.quit()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
