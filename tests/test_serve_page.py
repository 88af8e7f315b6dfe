"""The page, driven in a browser; skipped where there is none."""

import shutil
import time

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import Select, WebDriverWait
from test_serve import SHAPE, server, small_model

from dvae_tf import DVAE, corruptions, networks
from dvae_tf.serving import export

BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (BROWSER and DRIVER), reason="needs chromium and chromedriver"),
]

OPTIONS = (
    "--headless=new --no-sandbox --disable-gpu --disable-dev-shm-usage --no-first-run "
    "--disable-background-networking --disable-component-update --disable-sync --disable-quic"
)
# The pixels of a canvas, as its rows of red values.
PIXELS = """
const canvas = document.getElementById(arguments[0]);
const data = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
return [canvas.height, canvas.width, Array.from(data).filter((_, i) => i % 4 === 0)];
"""
SIZES = {"phone": (390, 844), "desktop": (1200, 800)}


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    directory = tmp_path_factory.mktemp("export")
    export.export(small_model(1), directory, version=1)
    with server(directory) as url:
        yield url


@pytest.fixture(scope="module")
def driver():
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for option in OPTIONS.split():
        options.add_argument(option)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture(params=SIZES)
def page(request, driver, url):
    width, height = SIZES[request.param]
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    driver.get(url)
    yield driver
    assert driver.execute_script("return document.documentElement.scrollWidth") <= width
    errors = [e["message"] for e in driver.get_log("browser") if e["level"] == "SEVERE"]
    assert errors == []


def pixels(driver, name) -> np.ndarray:
    height, width, red = driver.execute_script(PIXELS, name)
    return np.array(red).reshape(height, width)


def wait_for_result(driver):
    WebDriverWait(driver, 30).until(
        lambda d: d.find_element(By.ID, "status").text.endswith(" ms"),
    )


def set_level(driver, level):
    """Move the slider, as its user would: the page hears of it."""
    driver.execute_script(
        "const level = document.getElementById('level'); level.value = arguments[0];"
        "document.getElementById('status').textContent = '';"
        "level.dispatchEvent(new Event('input'));",
        level,
    )


def test_upload_and_slider(page, tmp_path, rng):
    image = rng.integers(0, 256, SHAPE[:2]).astype(np.uint8)
    # Every pixel large enough that the page's scaling leaves the middle of it alone.
    Image.fromarray(np.kron(image, np.ones((56, 56), np.uint8))).save(tmp_path / "noisy.png")
    assert Select(page.find_element(By.ID, "noise")).first_selected_option.text == "Salt and pepper"
    wait_for_result(page)  # of the example
    page.find_element(By.ID, "file").send_keys(str(tmp_path / "noisy.png"))
    wait_for_result(page)
    set_level(page, 0)
    wait_for_result(page)
    shown = pixels(page, "noisy")
    assert shown.shape == SHAPE[:2]
    np.testing.assert_allclose(shown, image, atol=2)  # level 0 changes nothing

    clean = shown[None, ..., None].astype(np.float32) / 255
    expected = small_model(1).denoise(clean, num_samples=0)
    denoised = expected.mean.numpy()[0, ..., 0] * 255
    np.testing.assert_allclose(pixels(page, "denoised"), denoised, atol=3)
    stddev = expected.stddev.numpy()[0, ..., 0]
    np.testing.assert_allclose(pixels(page, "stddev"), stddev / stddev.max() * 255, atol=3)
    note = page.find_element(By.ID, "stddev-note").text
    assert float(note.split()[-1]) == pytest.approx(stddev.max(), abs=2e-3)

    set_level(page, 0.5)
    wait_for_result(page)
    noisy = corruptions.SaltPepper(0.5)(clean, seed=0)[0, ..., 0].numpy() * 255
    np.testing.assert_allclose(pixels(page, "noisy"), noisy, atol=3)
    assert page.find_element(By.ID, "level-value").text == "0.50"


def test_opens_with_an_example_of_the_models_own(page):
    wait_for_result(page)
    set_level(page, 0)
    wait_for_result(page)
    z = small_model(1).prior.sample(1, seed=tf.constant([1, 0]))
    expected = np.clip(small_model(1).decoder(z).mean()[0, ..., 0], 0, 1) * 255
    np.testing.assert_allclose(pixels(page, "noisy"), expected, atol=3)
    assert pixels(page, "denoised").any()


def test_draw_and_clear(page):
    wait_for_result(page)
    page.find_element(By.ID, "clear").click()
    canvas = page.find_element(By.ID, "source")
    assert not pixels(page, "source").any()
    side = canvas.size["width"]
    actions = ActionChains(page, duration=50).move_to_element_with_offset(canvas, -side // 4, 0)
    actions.click_and_hold().move_by_offset(side // 2, 0).release().perform()
    wait_for_result(page)
    set_level(page, 0)
    wait_for_result(page)
    drawn = pixels(page, "noisy")
    assert drawn[2:4, 2].sum() > 150  # the stroke, across the middle of two rows
    assert drawn[[0, 5]].max() < 60
    assert pixels(page, "denoised").any()
    page.find_element(By.ID, "clear").click()
    assert not pixels(page, "source").any()
    assert not pixels(page, "denoised").any()


def test_what_is_no_image_is_said(page, tmp_path):
    (tmp_path / "text.png").write_text("no image", encoding="utf-8")
    page.find_element(By.ID, "file").send_keys(str(tmp_path / "text.png"))
    status = page.find_element(By.ID, "status")
    started = time.monotonic()
    while "is not an image" not in status.text:
        assert time.monotonic() - started < 10
    assert status.get_attribute("class") == "error"


def test_a_photograph_keeps_its_size(driver, tmp_path, rng):
    """The page of a ladder: an example, a photograph with its own noise, and draws."""
    encoder, decoder = networks.ladder((9, 7, 1), 2, filters=(4, 3))
    model = DVAE(encoder, decoder, corruption=corruptions.Gaussian(0.1))
    export.export(model, tmp_path / "export", version=1)
    photograph = rng.integers(0, 256, (37, 53)).astype(np.uint8)
    Image.fromarray(photograph).save(tmp_path / "noisy.png")
    with server(tmp_path / "export") as url:
        driver.get(url)
        wait_for_result(driver)
        assert pixels(driver, "noisy").shape == (144, 192)
        Select(driver.find_element(By.ID, "noise")).select_by_value("none")
        driver.find_element(By.ID, "file").send_keys(str(tmp_path / "noisy.png"))
        WebDriverWait(driver, 30).until(lambda d: pixels(d, "denoised").shape == (37, 53))
        wait_for_result(driver)  # clearing the page has cleared the last one
        np.testing.assert_allclose(pixels(driver, "noisy"), photograph, atol=1)
        x = photograph[None, ..., None].astype(np.float32) / 255
        expected = np.clip(model.denoise(x, num_samples=8).mean[0, ..., 0], 0, 1) * 255
        np.testing.assert_allclose(pixels(driver, "denoised"), expected, atol=2)
        last = model.draws(x, 1, seed=(0, 5))[0, 0, ..., 0].numpy()
        WebDriverWait(driver, 30).until(
            lambda d: np.allclose(pixels(d, "draw-5"), last.clip(0, 1) * 255, atol=2)
        )
    assert [e for e in driver.get_log("browser") if e["level"] == "SEVERE"] == []
