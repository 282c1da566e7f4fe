"""The report in a real browser: it sorts, asks for nothing, fits a phone, and has a night and a paper side."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from advss_tf.evaluation import DistortionRecord, Result, evaluate, write_report
from advss_tf.evaluation.records.header import Header

NAMES = ("chromium", "chromium-browser", "google-chrome")
BROWSER = next(filter(None, map(shutil.which, NAMES)), None)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(BROWSER is None, reason=f"no browser is installed: looked for {', '.join(NAMES)}"),
]

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND",
)  # fmt: skip
DARK = "--blink-settings=preferredColorScheme=0"

# Stands in the page's head before anything else, so it hears what the policy forbids; tells in the title what it saw.
PROBE = """
const seen = { violations: [] };
addEventListener("securitypolicyviolation", (event) => seen.violations.push(event.violatedDirective));
addEventListener("load", () => {
  const table = document.querySelector("details table");
  document.querySelectorAll("details").forEach((each) => (each.open = true));
  const names = () => [...table.tBodies].map((body) => body.querySelector(".name").firstChild.textContent);
  const sorted = () => [...table.tHead.rows[0].cells].map((head) => head.getAttribute("aria-sort"));
  const button = (text) => [...table.querySelectorAll("th button")].find((each) => each.innerText.startsWith(text));
  const look = () => ({ names: names(), sorted: sorted(), rows: table.rows.length });
  seen.written = look();
  seen.clicks = {};
  for (const text of ["Clean", "Model", "Rank"]) {
    button(text).focus();
    const focused = document.activeElement === button(text);
    seen.clicks[text] = [0, 1].map(() => (button(text).click(), { focused, ...look() }));
  }
  const heads = [...table.querySelectorAll("th")];
  seen.inert = heads.filter((head) => !head.querySelector("button")).map((head) => head.innerText);
  seen.width = [innerWidth, document.documentElement.scrollWidth];
  seen.background = getComputedStyle(document.body).backgroundColor;
  const entries = performance.getEntriesByType("resource").map((each) => each.name);
  seen.requests = entries.filter((name) => !name.startsWith("data:"));
  document.title = JSON.stringify(seen);
  parent.postMessage(document.title, "*");
});
"""
# A browser's window has a smallest width that is wider than a phone; a frame has none.
PHONE = """<!DOCTYPE html><title></title>
<script>addEventListener("message", (event) => (document.title = event.data));</script>
<iframe src="probed.html" style="width: 390px; height: 844px; border: 0"></iframe>
"""


def linear(seed):
    weights = tf.constant(np.random.default_rng(seed).normal(size=(64, 10)), tf.float32)
    return lambda images: tf.reshape(images, (-1, 64)) @ weights


def corrupted(record):
    def row(kind, level, right):
        return Result.from_counts(kind, right, 80, level=level, class_correct=(right, *[0] * 9))

    kinds = ("gaussian_noise", "motion_blur", "elastic_transform")
    rows = [row(kind, level, 60 - 9 * level) for kind in kinds for level in range(1, 6)]
    mean = sum(each.accuracy for each in rows) / len(rows)
    fields = {name: getattr(record, name) for name in Header.model_fields}
    found = {"threat": "corruptions", "corruptions_acc": mean, "results": (record.result("clean"), *rows)}
    return DistortionRecord(**fields | found)


@pytest.fixture(scope="module")
def records():
    """Four linear classifiers on what the first of them says, with noise: clean accuracies that differ."""
    random = np.random.default_rng(0)
    images = random.uniform(0.2, 0.8, (80, 8, 8, 1)).astype(np.float32)
    labels = np.argmax(linear(0)(images).numpy() + random.normal(size=(80, 10)), axis=1)
    names = (
        "Zeta",
        "a long name, as of a recipe: rotation, adversarial, full finetuning with TRADES",
        "beta",
        "<b>α</b>",
    )
    made = [
        evaluate(linear(seed), (images, labels), num_steps=2, epsilons=("1/255", "2/255"), model_name=name)
        for seed, name in enumerate(names)
    ]
    return [*made, *map(corrupted, made)]


@pytest.fixture(scope="module")
def page(records, tmp_path_factory) -> Path:
    return write_report(records, tmp_path_factory.mktemp("browser") / "report", title="Four classifiers")


def browse(page: Path, *flags: str) -> str:
    profile = page.parent / f"profile-{os.urandom(4).hex()}"
    command = [BROWSER, *FLAGS, f"--user-data-dir={profile}", *flags, page.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout


def probed(page: Path, *flags: str, phone: bool = False) -> dict:
    """What the probe saw; the page's own policy stays, with one more script allowed."""
    digest = base64.b64encode(hashlib.sha256(PROBE.encode()).digest()).decode()
    text = page.read_text().replace("script-src ", f"script-src 'sha256-{digest}' ", 1)
    text = text.replace("<title>", f"<script>{PROBE}</script>\n<title>", 1)
    page.with_name("probed.html").write_text(text)
    page.with_name("phone.html").write_text(PHONE)
    opened = page.with_name("phone.html" if phone else "probed.html")
    dom = browse(opened, "--dump-dom", "--virtual-time-budget=5000", *flags)
    (title,) = re.findall(r"<title>(.*?)</title>", dom, re.DOTALL)
    return json.loads(html.unescape(title))


@pytest.fixture(scope="module")
def seen(page) -> dict:
    return probed(page, "--window-size=1280,1000")


def test_a_click_sorts_and_another_turns_the_order(records, seen):
    attacked = records[:4]
    ranks = [(-record.robust_acc, -record.clean_acc, place) for place, record in enumerate(attacked)]
    ranked = [attacked[place].name for *_, place in sorted(ranks)]
    assert seen["written"]["names"] == ranked
    best = sorted(attacked, key=lambda record: (-record.clean_acc, ranked.index(record.name)))
    worst = sorted(attacked, key=lambda record: (record.clean_acc, ranked.index(record.name)))
    assert len({record.clean_acc for record in attacked}) > 1
    falling, rising = seen["clicks"]["Clean"]
    assert falling["names"] == [record.name for record in best]
    assert rising["names"] == [record.name for record in worst]
    assert falling["sorted"][2] == "descending" and rising["sorted"][2] == "ascending"
    words = [["<b>α</b>", *(record.name for record in attacked if record.name[0] == letter)][-1] for letter in "abZ"]
    assert [name for name in seen["clicks"]["Model"][0]["names"] if not name.startswith("<")] == words
    assert seen["clicks"]["Model"][1]["names"] == seen["clicks"]["Model"][0]["names"][::-1]
    assert seen["clicks"]["Rank"][0]["names"] == ranked


def test_sorting_moves_records_whole_and_says_where_it_stands(seen):
    looks = [seen["written"], *(look for both in seen["clicks"].values() for look in both)]
    assert {look["rows"] for look in looks} == {1 + 4 * 2}
    assert all(len([each for each in look["sorted"] if each]) == 1 for look in looks)
    assert all(look["focused"] for look in looks[1:])
    assert seen["inert"] == ["ε"]


def test_the_page_asks_for_nothing_and_keeps_its_own_policy(page, seen):
    assert seen["requests"] == [] and seen["violations"] == []
    text = page.read_text()
    addresses = re.findall(r"""(?:src|href|action|poster|srcset|data)=["']([^"']*)""", text)
    assert addresses and all(address.startswith(("data:image/png;base64,", "#")) for address in addresses)
    assert set(re.findall(r"""https?://[^"'\s<)]+""", text)) <= {
        "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink", "http://www.w3.org/TR/xlink",
    }  # fmt: skip


def test_a_phone_needs_no_scrolling_sideways(page):
    inner, content = probed(page, phone=True)["width"]
    assert inner == 390
    assert content <= inner


def test_it_is_dark_by_night_and_light_by_day(page, seen):
    dark = probed(page, DARK)
    assert seen["background"] == "rgb(246, 247, 248)" and dark["background"] == "rgb(16, 19, 23)"


def test_it_can_be_seen_and_printed(page, tmp_path):
    shots = {}
    for name, flags in {"light": (), "dark": (DARK,), "phone": ("--window-size=390,844",)}.items():
        path = tmp_path / f"{name}.png"
        browse(page, f"--screenshot={path}", *flags)
        shots[name] = path.read_bytes()
        assert shots[name].startswith(b"\x89PNG") and len(shots[name]) > 10_000
    assert len(set(shots.values())) == 3
    browse(page, "--no-pdf-header-footer", f"--print-to-pdf={tmp_path / 'paper.pdf'}")
    assert (tmp_path / "paper.pdf").read_bytes().startswith(b"%PDF")
