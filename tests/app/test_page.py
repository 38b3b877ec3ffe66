"""The page in a real browser: upload, choose, swap, compare, download; mistakes as sentences; nothing leaks.

One server and one browser serve all tests of this file that a process runs. They need the extra ``app``, playwright and
a Chromium; without one of them they are skipped.
"""

import os
import re
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from simswap_jax.contrib.rendered.renderer import example_faces
from simswap_jax.io.images import encode_png
from simswap_jax.provenance.label_xmp import read_provenance
from simswap_jax.video.decode import open_video, read_video_provenance
from simswap_jax.weights import model_folder
from tests.support.small_model import write_small_model

pytestmark = [pytest.mark.browser, pytest.mark.slow]
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
DETECTOR = "face_detection_yunet.onnx"
NAME = "faces.example"  # that leads the browser here


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A small model of photos."""
    pytest.importorskip("gradio", reason="the extra 'app' is not installed")
    from tests.conftest import TEST_DATA

    if not (TEST_DATA / DETECTOR).is_file():
        pytest.skip(f"{DETECTOR} is not in the test data (set SIMSWAP_JAX_TEST_DATA)")
    here = tmp_path_factory.mktemp("model")
    model = replace(model_folder.read(write_small_model(here / "rendered")), alignment="simswap-frontal")
    return model_folder.write(here / "photos", model, include_identity=True)


@contextmanager
def serving(model, files, *words):
    """The page's address; its log must hold no more than a line for a request that was refused."""
    from tests.conftest import TEST_DATA

    environment = {**os.environ, "SIMSWAP_JAX_WEIGHTS": str(TEST_DATA), "TMPDIR": str(files)}
    given = ["app", "--model", str(model), "--port", "0", "--max-upload", "1", "--runtime", "jax", *words]
    process = subprocess.Popen(
        [sys.executable, "-m", "simswap_jax.cli.main", *given],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    line = process.stdout.readline()
    address = re.search(r"http://127\.0\.0\.1:\d+", line)
    assert address, line + process.stdout.read()
    yield address[0]
    process.terminate()
    said, _ = process.communicate(timeout=30)
    assert said.endswith("The page is closed and its files are removed.\n")
    assert "Traceback" not in said
    lines = said.splitlines()[:-1]  # one for each request that the tests expect to be refused, some left out
    assert all(re.match(r"4\d\d [A-Z]+ /\S* ?|\d+ of \d+ frames|Behind a proxy", line) for line in lines), said
    assert list(files.glob("simswap_jax_app_*")) == []


@pytest.fixture(scope="module")
def server(model, tmp_path_factory):
    """The address of the page, and the folder that it keeps files in."""
    files = tmp_path_factory.mktemp("files")
    with serving(model, files) as address:
        yield address, files


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    found = [path for path in map(shutil.which, BROWSERS) if path]
    if not found:
        pytest.skip(f"there is no browser here ({', '.join(BROWSERS)})")
    with playwright.sync_playwright() as running:
        # Root, as in most containers, gets no sandbox; the pages are our own.
        words = ["--no-sandbox", f"--host-resolver-rules=MAP {NAME} 127.0.0.1"]
        chromium = running.chromium.launch(executable_path=found[0], args=words)
        yield chromium
        chromium.close()


@pytest.fixture
def visit(server, browser):
    """Opens the page as another user; gives the page, whose ``asked`` are all addresses that it called."""
    contexts = []

    def opened():
        context = browser.new_context(viewport={"width": 1200, "height": 1600}, accept_downloads=True)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(90_000)  # networks are compiled on a busy machine
        page.asked = []
        page.on("request", lambda request: page.asked.append(request.url))
        page.goto(server[0])
        page.wait_for_selector("#swap")
        return page

    yield opened
    for context in contexts:
        context.close()


def sentence(page, text):
    page.wait_for_selector(f"#problem:has-text('{text}'), .toast-wrap:has-text('{text}')")  # gradio's own are toasts


def no_sentence(page):
    page.wait_for_selector("#problem", state="hidden")


def advanced(page):
    page.locator("#advanced button").first.click()
    page.wait_for_selector("#dropped", state="visible")


def choose_examples(page):
    page.locator("#source-examples button").nth(1).click()
    page.wait_for_selector("#source-said:has-text('an example face')")
    page.locator("#target-examples button").nth(0).click()
    page.wait_for_selector("#faces-said:has-text('2 faces found')")
    page.wait_for_selector("#faces img")


def click_on_face(page, across):
    page.wait_for_timeout(200)  # the picture is laid out anew
    box = page.locator("#faces img").bounding_box()
    page.mouse.click(box["x"] + box["width"] * across, box["y"] + box["height"] * 0.5)


def saved(page, folder):
    with page.expect_download() as waiting:
        page.click("#download")
    path = folder / waiting.value.suggested_filename
    waiting.value.save_as(path)
    return path


def test_a_swap_from_beginning_to_end(server, visit, tmp_path):
    page = visit()
    assert "people who consented" in page.inner_text("#terms")
    assert "faces of 32 pixels" in page.inner_text("#head")
    choose_examples(page)
    page.click("#swap")
    sentence(page, "Please confirm first")
    page.locator("#whom input").click()
    page.locator("ul[role=listbox] li:has-text('face 2')").click()
    page.wait_for_timeout(500)  # the files make way
    page.locator("#source-examples button").nth(3).click()
    page.wait_for_selector("#source-said:has-text('Face 2: an example face')")
    page.wait_for_selector("#faces-said:has-text('chosen: 1, 2')")
    no_sentence(page)
    page.check("#agreed input")
    page.click("#swap")
    page.wait_for_selector("#said:has-text('Marked as synthetic by a visible label')")
    page.wait_for_selector("#compared img")
    assert page.locator("#compared img").count() == 2
    path = saved(page, tmp_path)
    assert path.name == "two people_swapped.png"
    assert [role for role, _ in read_provenance(path).inputs] == ["source", "source", "target"]
    line = page.locator("#compared .inner, #compared .outer").first.bounding_box()
    assert line["x"] < page.locator("#compared").bounding_box()["x"] + 60  # the swap is what is seen
    advanced(page)
    page.get_by_label("Drop the visible label").check()
    page.get_by_label("JPEG").check()
    page.get_by_label("its mouth").check()
    page.get_by_label("by gradients").check()
    page.click("#swap")
    page.wait_for_selector("#said:has-text('without visible label, as asked')")
    assert saved(page, tmp_path).name == "two people_swapped.jpg"
    assert {re.match(r"(\w+:)(//[^/]*)?", url)[0] for url in page.asked} <= {server[0], "data:", "blob:"}


def swap_drawn(page, drawn):
    """Add a source and a target at once and swap."""
    page.set_input_files("#source input[type=file]", drawn / "source.png")
    page.set_input_files("#target input[type=file]", drawn / "target.png")
    page.wait_for_selector("#source-said:has-text('1 picture')")
    page.wait_for_selector("#faces-said:has-text('found')")
    page.check("#agreed input")
    page.click("#swap")


def test_a_result_that_is_done_during_a_reload_is_offered_again(visit, drawn, tmp_path):
    page = visit()
    swap_drawn(page, drawn)
    page.wait_for_selector("#compared:has-text('Drawing')")  # it is under way
    page.reload()
    page.wait_for_selector("#said:has-text('Marked as synthetic')")
    page.wait_for_selector("#compared img")
    path = saved(page, tmp_path)
    assert path.name == "target_swapped.png"
    assert read_provenance(path) is not None
    other = visit()
    other.wait_for_timeout(3000)  # it has asked, too
    assert "Marked" not in other.inner_text("#said")  # another browser's is none of ours
    assert other.locator("#compared img").count() == 0


def test_uploads_and_their_mistakes(visit, tmp_path, drawn):
    page = visit()
    (tmp_path / "notes.png").write_text("no picture")
    Image.new("RGB", (200, 150), (90, 120, 150)).save(tmp_path / "wall.png")
    page.click("#swap")
    sentence(page, "There is no target photo yet")
    for name, said in (("notes.png", "Target: notes.png is not a picture"), ("wall.png", "no face was found")):
        page.set_input_files("#target input[type=file]", tmp_path / name)
        sentence(page, said)
        page.locator("#target button[aria-label='Clear']").click()
        page.wait_for_selector("#target input[type=file]", state="attached")
    (tmp_path / "large.png").write_bytes(bytes(1_100_000))
    page.set_input_files("#target input[type=file]", tmp_path / "large.png")
    sentence(page, "exceed the maximum allowed size")
    page.set_input_files("#target input[type=file]", drawn / "target.png")
    page.wait_for_selector("#faces-said:has-text('1 face found')")
    no_sentence(page)
    page.check("#agreed input")
    page.click("#swap")
    sentence(page, "There is no source yet")
    page.set_input_files("#source input[type=file]", [drawn / "source.png", drawn / "target.png"])
    page.wait_for_selector("#source-said:has-text('2 pictures of one person')")
    page.wait_for_selector("#source-faces img >> nth=1")
    click_on_face(page, 0.5)
    page.wait_for_selector("#faces-said:has-text('none chosen')")
    page.click("#swap")
    sentence(page, "No face is chosen")
    click_on_face(page, 0.5)
    page.wait_for_selector("#faces-said:has-text('chosen: 1')")
    page.click("#swap")
    page.wait_for_selector("#said:has-text('Marked as synthetic')")
    with Image.open(saved(page, tmp_path)) as result:
        assert result.size == (320, 320)


def test_source_and_target_added_at_once(visit, drawn):
    page = visit()
    swap_drawn(page, drawn)
    page.wait_for_selector("#said:has-text('Marked as synthetic by a visible label')")


def test_a_video(visit, drawn, tmp_path):
    pytest.importorskip("av", reason="the extra 'video' is not installed")
    from tests.support.clips import write_clip

    with Image.open(drawn / "target.png") as face:
        frames = [np.asarray(face)[i : 312 + i, i : 312 + i] for i in range(8)]
    write_clip(tmp_path / "video.mp4", frames)
    (tmp_path / "broken.mp4").write_bytes((tmp_path / "video.mp4").read_bytes()[:3000])
    page = visit()
    page.locator("#source-examples button").nth(1).click()
    page.wait_for_selector("#source-said:has-text('an example face')")
    page.set_input_files("#target input[type=file]", tmp_path / "broken.mp4")
    sentence(page, "Target: broken.mp4 is cut off")
    page.locator("#target button[aria-label='Clear']").click()
    page.wait_for_selector("#target input[type=file]", state="attached")
    page.set_input_files("#target input[type=file]", tmp_path / "video.mp4")
    page.wait_for_selector("#faces-said:has-text('1 face found')")
    page.check("#agreed input")
    page.click("#swap")
    page.wait_for_selector("#said:has-text('Marked as synthetic by a visible label')", timeout=240_000)
    page.wait_for_selector("#video video", state="attached")
    path = saved(page, tmp_path)
    assert path.name == "video_swapped.mp4"
    assert read_video_provenance(path) is not None
    assert len(list(open_video(path).frames())) == 8


def test_two_users_and_the_disk(server, visit, drawn, tmp_path):
    """By gradio's own routes behind the gate."""
    address, files = server
    first, second = visit(), visit()
    first.set_input_files("#target input[type=file]", drawn / "target.png")
    first.wait_for_selector("#faces-said:has-text('1 face found')")
    assert second.inner_text("#faces-said") == ""
    uploaded = max(files.rglob("target.png"), key=lambda path: path.stat().st_mtime)
    secret = tmp_path / "secret.txt"
    secret.write_text("secret")

    def status(context, path):
        return context.request.get(f"{address}/gradio_api/file={path}").status

    assert status(first.context, uploaded) == 200
    assert status(second.context, uploaded) == 403
    for path in (secret, f"{uploaded.parent}/../../../../{secret}", f"{uploaded.parent}/%2e%2e/%2e%2e/{secret}",
                 "/etc/passwd", "/etc/hostname", "../../etc/passwd", "%2Fetc%2Fpasswd", __file__, "pyproject.toml",
                 "http://127.0.0.1:1/", uploaded.parent, files):  # fmt: skip
        assert status(first.context, path) in (403, 404)
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(f"{address}/gradio_api/file={uploaded}")
    for path in ("/file=/etc/passwd", "/gradio_api/proxy=http://127.0.0.1:1/", "/static/../../../../etc/passwd",
                 "/assets/..%2f..%2f..%2f..%2f..%2fetc%2fpasswd", "/static/%2e%2e/%2e%2e/app/gate.py"):  # fmt: skip
        answer = first.context.request.get(address + path)
        assert answer.status in (403, 404)


def test_by_another_name_and_below_a_path(model, browser, drawn, tmp_path):
    (tmp_path / "files").mkdir()
    flags = ["--allowed-host", NAME, "--root-path", "/swap"]
    with serving(model, tmp_path / "files", *flags) as address:
        shown = f"http://{NAME}:{address.rpartition(':')[2]}"
        context = browser.new_context(viewport={"width": 1200, "height": 1600})
        page = context.new_page()
        page.set_default_timeout(90_000)
        failed = []
        page.on("response", lambda answer: failed.append(answer.url) if answer.status >= 400 else None)
        page.on(
            "request", lambda asked: failed.append(asked.url) if not asked.url.startswith(parts_of(shown)) else None
        )
        page.goto(f"{shown}/swap")
        page.wait_for_selector("#source-examples img")
        page.locator("#source-examples button").nth(1).click()
        page.wait_for_selector("#source-said:has-text('an example face')")
        page.set_input_files("#target input[type=file]", drawn / "target.png")
        page.wait_for_selector("#faces-said:has-text('1 face found')")
        page.wait_for_function("document.querySelector('#faces img').naturalWidth > 0")
        loaded = "[...document.querySelectorAll('#source-examples img')].every(each => each.naturalWidth > 0)"
        page.wait_for_function(loaded)
        assert failed == []
        [secret] = context.cookies()
        assert secret["path"] == "/swap/"
        assert context.request.get(f"{address}/swap/").status == 200  # on this computer itself
        context.close()


def parts_of(shown):
    """How an address may begin that the page below a path calls."""
    return (f"{shown}/swap", "data:", "blob:")


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """Two drawn faces that the detector knows."""
    folder = tmp_path_factory.mktemp("drawn")
    faces = example_faces(320)
    (folder / "source.png").write_bytes(encode_png(faces[3]))
    (folder / "target.png").write_bytes(encode_png(faces[5]))
    return folder
