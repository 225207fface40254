"""Headless Chromium for tests of pages: Debian's chromium and chromium-driver, which scripts/test.sh installs."""

import contextlib
import json
import os
import shutil
from importlib.util import find_spec
from pathlib import Path

import pytest

FLAGS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-dev-shm-usage",
         "--disable-background-networking", "--disable-component-update", "--disable-sync", "--window-size=1000,900")
SCREENSHOTS = os.environ.get("PAGE_SCREENSHOTS")  # a folder: pictures of the page to look at


@contextlib.contextmanager
def chromium(profile):
    """Yield a driver; skip where there is no browser."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed: bash scripts/setup.sh --test")
    browser, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not browser or not driver:
        pytest.skip("no browser: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for flag in (*FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    found = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    try:
        found.set_page_load_timeout(60)
        found.set_script_timeout(60)
        yield found
    finally:
        found.quit()


def theme(driver, name):
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": name}]})


def width(driver, pixels):
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride",
                           {"width": pixels, "height": 800, "deviceScaleFactor": 1, "mobile": pixels < 600})


def picture(driver, name):
    if SCREENSHOTS:
        import base64

        raw = driver.execute_cdp_cmd("Page.captureScreenshot", {"captureBeyondViewport": True})["data"]
        Path(SCREENSHOTS, f"{name}.png").write_bytes(base64.b64decode(raw))


def axe(driver):
    """Return what axe-core calls serious or critical: (rule, first element)."""
    package = find_spec("axe_playwright_python")
    if package is None:
        pytest.skip("axe-core is not installed: bash scripts/setup.sh --test")
    driver.execute_script(Path(package.origin).with_name("axe.min.js").read_text(encoding="utf-8"))
    found = json.loads(driver.execute_async_script(
        "const done = arguments[0]; axe.run().then(r => done(JSON.stringify(r)), e => done(JSON.stringify({error: String(e)})))"))
    assert "error" not in found, found
    assert len(found["passes"]) > 10  # it looked at something
    return [(row["id"], row["nodes"][0]["html"][:200], row["nodes"][0].get("failureSummary")) for row in found["violations"]
            if row["impact"] in ("serious", "critical")]
