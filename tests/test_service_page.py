"""The page at / in headless Chromium: what it shows, by keyboard alone, on a phone, in both themes and languages."""

import json
import shutil
import subprocess

import browser
import pytest
from conftest import SUBJECTS
from service import running

from semindex.faq.confidence import Confidence
from semindex.faq.directory import Faq
from semindex.search.methods import Calibration, Method

pytestmark = pytest.mark.slow
EVIL = "<img src=x onerror=\"window.hit=1\"><script>window.hit=1</script>' OR 1=1 -- $& {{7*7}} javascript:alert(1)"
EXACT = f"{SUBJECTS[2]}怎么办"


@pytest.fixture(scope="module")
def served(place, tmp_path_factory):
    """The service, sure of what keyword search has first: an answer of what reads the same, a suggestion of other."""
    folder = tmp_path_factory.mktemp("page")
    faq = Faq.load(str(place / "faq"))
    sure = Confidence((0,) * 6, (1,) * 6, (0, 0, 0, 0, 0, 8), -4, answer=1.0, suggest=0.5)
    path = folder / "calibration.json"
    Calibration(Method("hybrid"), faq.encoder["fingerprint"], faq.fingerprint, thresholds=sure.as_json()).save(str(path))
    with running("--faq_dir", place / "faq", "--data_dir", folder / "data", "--calibration", path) as server:
        yield server


@pytest.fixture(scope="module")
def driver(served, tmp_path_factory):
    with browser.chromium(tmp_path_factory.mktemp("profile")) as driver:
        driver.execute_cdp_cmd("Browser.grantPermissions", {"origin": served.address, "permissions": [
            "clipboardReadWrite", "clipboardSanitizedWrite"]})
        yield driver


@pytest.fixture
def page(served, driver):
    """The page, just opened, in Chinese."""
    driver.get(served.address)
    driver.execute_script("localStorage.setItem('language', 'zh'); sessionStorage.clear(); window.done = false")
    driver.get(served.address)
    return Page(driver)


class Page:
    def __init__(self, driver):
        self.driver = driver
        self.until("document.getElementById('info').textContent")

    def until(self, script):
        """Wait until an expression of the page is true; return its value."""
        from selenium.webdriver.support.ui import WebDriverWait
        return WebDriverWait(self.driver, 60, 0.05).until(lambda d: d.execute_script(f"return ({script})"))

    def all(self, selector):
        return self.driver.find_elements("css selector", selector)

    def one(self, selector):
        return self.driver.find_element("css selector", selector)

    def click(self, selector):
        """Click what a list shows that may be drawn anew at this moment."""
        from selenium.common.exceptions import StaleElementReferenceException
        from selenium.webdriver.support.ui import WebDriverWait
        WebDriverWait(self.driver, 60, 0.05, [StaleElementReferenceException]).until(
            lambda _: self.one(selector).click() or True)

    def keys(self, *keys):
        from selenium.webdriver.common.action_chains import ActionChains
        ActionChains(self.driver).send_keys(*keys).perform()

    def tab_to(self, selector):
        """Press Tab until an element has the focus: it can be reached by keyboard."""
        for _ in range(80):
            self.keys("\ue004")
            if self.driver.execute_script("return document.activeElement.matches(arguments[0])", selector):
                return
        raise AssertionError(f"{selector} is not reached by Tab")

    def english(self):
        self.one("#language").click()
        self.until("document.documentElement.lang === 'en'")

    def search(self, text):
        self.driver.execute_script("document.getElementById('result').replaceChildren()")
        self.one("#query").clear()
        self.one("#query").send_keys(text, "\ue007")
        self.until("document.getElementById('state')")
        return self.one("#state").get_attribute("class")


def test_the_answer_comes_first_then_where_it_was_found(page):
    assert page.search(EXACT) == "state-answer" and "答案" in page.one("#state").text
    order = page.driver.execute_script("return [...document.querySelectorAll('#state, #answer, .hit')].map(e => e.id || e.className)")
    assert order[:3] == ["state", "answer", "hit"] and page.one("#answer").text == "答2"
    hit = page.one("#result .hit").text
    assert "匹配的问题" in hit and EXACT in hit and "向量: 第 1 名" in hit and "关键字: 第 1 名" in hit
    assert "".join(mark.text for mark in page.all("#result .hit:first-of-type mark")) == EXACT  # what both have
    assert all(word in page.one("#result").text for word in ("编码", "检索", "组织答案", "毫秒"))
    assert "版本" in page.one("#info").text and "16 维" in page.one("#info").text and "模型 export" in page.one("#info").text
    assert page.search(f"{SUBJECTS[2]}怎么") == "state-suggest" and not page.all("#answer")
    assert page.search("zzz") == "state-none" and not page.one("#closest .hit").is_displayed()
    page.one("#closest summary").click()
    assert page.one("#closest .hit").is_displayed()


def test_both_languages_say_the_same(page):
    page.search(EXACT)
    page.english()
    text = page.one("body").text
    assert "Matched question" in text and "rank 1" in text and "Answer" in text and "model export" in text and "version" in text
    names = page.driver.execute_script("return [Object.keys(TEXTS.zh), Object.keys(TEXTS.en)]")
    assert sorted(names[0]) == sorted(names[1]) and page.driver.title == "FAQ"
    page.driver.refresh()
    assert page.one("#language").text == "中文"  # it is remembered


def test_a_slider_shows_what_a_threshold_would_cut(page):
    page.search(EXACT)
    scores = [float(hit.get_attribute("data-cosine")) for hit in page.all("#result .hit")]
    for value in ("0", "1"):
        page.driver.execute_script("const s = arguments[0]; s.value = arguments[1]; s.dispatchEvent(new Event('input'))", page.one("#slider"), value)
        cut = [score for score in scores if score < float(value)]
        assert len(page.all("#result .hit.cut")) == len(cut) and f"{len(cut)} 条会被去掉，留下 {len(scores) - len(cut)} 条" in page.one("#cut").text
        assert [gone.is_displayed() for gone in page.all("#result .gone")] == [score < float(value) for score in scores]


def test_a_search_is_copied_as_curl(page):
    page.search("it's 改手机号")
    page.one("#result p.row button").click()
    page.until("document.querySelector('#result p.row [role=status]').textContent")
    command = page.driver.execute_async_script("navigator.clipboard.readText().then(arguments[0], e => arguments[0](String(e)))")
    assert command.startswith("curl -s http://127.0.0.1:")
    if shutil.which("curl"):
        reply = json.loads(subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True, timeout=60).stdout)
        assert reply["replies"][0]["query"] == "it's 改手机号"


def test_everything_is_done_by_keyboard_alone(page, served):
    page.tab_to("#query")
    page.keys(EXACT, "\ue007")
    page.until("document.getElementById('answer')")
    page.tab_to("#result .hit button")
    page.keys("\ue007")
    page.until("document.querySelector('#result .hit [role=status]').textContent === '已记录'")
    assert f"{EXACT}\t{EXACT}\t1\n" in served.ask("GET", "/feedback/export")[1]
    page.tab_to("#add")
    page.keys("\ue007")
    page.until("document.getElementById('editor').open")
    page.keys("键盘能用吗", "\ue004", "能", "\ue004", "用法", "\ue004", "没有鼠标行吗", "\ue004", "\ue007")
    page.until("!document.getElementById('editor').open && document.getElementById('written').textContent")
    assert "毫秒后可搜到" in page.one("#written").text
    made = served.ask("GET", "/entries?like=%E8%83%BD")[1]["entries"]
    assert [(e["question"], e["answer"], e["category"], e["similar"]) for e in made] == [("键盘能用吗", "能", "用法", ["没有鼠标行吗"])]
    page.keys(" ")  # the focus is on the button that adds
    page.until("document.getElementById('editor').open")
    page.keys("\ue00c")
    page.until("!document.getElementById('editor').open")
    row = f"[data-id='{made[0]['id']}']"
    page.tab_to(f"{row} button:last-child")
    page.keys("\ue007")
    page.driver.switch_to.alert.accept()
    page.until(f"!document.querySelector(\"{row}\")")
    assert served.ask("GET", f"/entries/{made[0]['id']}")[0] == 404 and "搜不到" in page.one("#written").text


def test_what_is_typed_anywhere_shows_as_text(page, served):
    page.one("#add").click()
    for name in ("question", "answer", "category", "similar"):
        page.one(f"#e-{name}").send_keys(f"{name} {EVIL}")
    page.one("#edit button.main").click()
    page.until("!document.getElementById('editor').open && document.getElementById('written').textContent")
    id = served.ask("GET", "/entries?like=onerror")[1]["entries"][0]["id"]
    row = page.one(f"[data-id='{id}']")
    assert f"question {EVIL}" in row.text
    page.search(f"question {EVIL}")
    assert page.one("#answer").text == f"answer {EVIL}" and EVIL in page.one("#result .hit").text
    page.search(f"similar {EVIL}")
    assert EVIL in page.one("#result .hit").text
    page.one("#like").send_keys(EVIL, "\ue007")
    page.click(f"[data-id='{id}'] button")
    page.until("document.getElementById('editor').open")
    assert page.one("#e-category").get_attribute("value") == f"category {EVIL}"
    page.one("#e-question").clear()
    page.one("#e-question").send_keys(EXACT)  # another entry has it: the error is text as well
    page.one("#edit button.main").click()
    page.until("document.getElementById('e-problem').textContent")
    assert EXACT in page.one("#e-problem").text
    page.one("#e-cancel").click()
    assert page.driver.execute_script("return window.hit === undefined && !document.querySelector('img, main script')")
    served.ask("DELETE", f"/entries/{id}")


@pytest.mark.parametrize("colours", ["light", "dark"])
@pytest.mark.parametrize("language", ["zh", "en"])
def test_axe_finds_nothing_serious_and_a_phone_scrolls_one_way(page, served, colours, language):
    long = served.ask("POST", "/entries", {"question": "W" * 200, "answer": "http://" + "x" * 300, "similar": ["v" * 200]})[1]["id"]
    browser.theme(page.driver, colours)
    try:
        if language == "en":
            page.english()
        backs = {"light": "rgb(255, 255, 255)", "dark": "rgb(22, 24, 27)"}
        assert page.driver.execute_script("return getComputedStyle(document.body).backgroundColor") == backs[colours]
        page.search(EXACT)
        page.driver.execute_script("const s = document.getElementById('slider'); s.value = 1; s.dispatchEvent(new Event('input'))")
        for pixels in (1000, 360):
            browser.width(page.driver, pixels)
            for text, state in ((EXACT, "answer"), ("W" * 200, "answer"), (f"{SUBJECTS[2]}怎么", "suggest"), ("zzz", "none")):
                assert page.search(text) == f"state-{state}"
                browser.picture(page.driver, f"{colours}-{language}-{pixels}-{state}{'-long' * (text[0] == 'W')}")
                assert page.driver.execute_script("return document.documentElement.scrollWidth <= innerWidth"), (pixels, text)
                if text in (EXACT, "zzz"):
                    assert browser.axe(page.driver) == []
            page.one("#add").click()
            page.until("document.getElementById('editor').open")
            browser.picture(page.driver, f"{colours}-{language}-{pixels}-editor")
            assert browser.axe(page.driver) == []
            page.one("#e-cancel").click()
    finally:
        served.ask("DELETE", f"/entries/{long}")
        page.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        browser.theme(page.driver, "light")
