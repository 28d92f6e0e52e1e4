"""The page is complete, safe and self-contained; in a real browser, tokens highlight their counterparts."""

import html.parser
import re
import shutil
import subprocess

import matplotlib.image
import numpy as np
import pytest

from denoise_jax.corruption.record import Op, TargetNoise
from denoise_jax.inspection import html_page
from denoise_jax.inspection.examples import NoisedExample

# a <b> c d & e f → d & <extra_id_0> <mask> a <b> x: two moved runs, a sentinel for e and f, x in c's place.
EXAMPLE = NoisedExample(
    inputs=["▁d", "▁&", "<extra_id_0>", "<mask>", "▁a", "▁<b>", "▁x"],
    inputs_op=[Op.KEEP, Op.KEEP, Op.SENTINEL, Op.INSERT, Op.KEEP, Op.KEEP, Op.RANDOM],
    inputs_source=[4, 5, 6, 1, 1, 2, 3],
    inputs_span=[2, 2, 3, 1, 2, 2, 2],
    text=["▁a", "▁<b>", "▁c", "▁d", "▁&", "▁e", "f"],
    text_noise=[TargetNoise(n) for n in (1, 1, 2, 1, 1, 2, 2)],
    targets=["<extra_id_0>", "▁e", "f"],
    targets_source=[6, 6, 7],
    targets_kind=[1, 2, 2],
)
SCRIPT = "<script>alert(1)</script>"
FLAGS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--window-size=900,700"),
    *("--no-first-run", "--disable-background-networking", "--disable-component-update"),
    *("--disable-sync", "--disable-quic"),
]


class _Tokens(html.parser.HTMLParser):
    """Attributes and text of the page's tokens, by (example, side, number)."""

    def __init__(self, text):
        super().__init__()
        self.example, self.found, self.inside, self.links = "", {}, None, []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.links += [attributes[name] for name in ("href", "src") if name in attributes]
        self.example = attributes.get("data-example", self.example)
        if "token" in (attributes.get("class") or "").split():
            self.inside = int(self.example), attributes["data-side"], int(attributes["data-at"])
            self.found[self.inside] = attributes | {"text": ""}

    def handle_data(self, data):
        if self.inside:
            self.found[self.inside]["text"] += data

    def handle_endtag(self, tag):
        self.inside = None

    def lit(self, look="lit"):
        return {key for key, attributes in self.found.items() if look in attributes["class"].split()}


@pytest.fixture(scope="module")
def text():
    blocks = [
        html_page.Block("first", f"about {SCRIPT}", [EXAMPLE]),
        html_page.Block("second", "about", [EXAMPLE, EXAMPLE]),
    ]
    return html_page.render(f"A title {SCRIPT}", blocks, {"third": "no sentinels"})


@pytest.fixture(scope="module")
def browse(text, tmp_path_factory):
    """Opens the page in Chromium with a script appended; returns its DOM, or a picture [h, w, 3]."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no chromium on PATH (Debian: apt-get install chromium)")
    folder = tmp_path_factory.mktemp("browser")

    def run(address="", script="", screenshot=False, flags=()):
        file, picture = folder / "page.html", folder / "page.png"
        file.write_text(text.replace("</body>", f"<script>{script}</script></body>"), encoding="utf-8")
        action = f"--screenshot={picture}" if screenshot else "--dump-dom"
        result = subprocess.run(
            [
                chromium,
                *FLAGS,
                *flags,
                f"--user-data-dir={folder}/profile",
                action,
                f"{file.as_uri()}{address}",
            ],
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        )
        if not screenshot:
            return _Tokens(result.stdout)
        return np.round(matplotlib.image.imread(picture)[..., :3] * 255).astype(int)

    return run


def test_every_token_has_its_provenance(text):
    found = _Tokens(text).found
    assert len(found) == 3 * (7 + 7 + 3)
    assert [found[1, "inputs", n]["text"] for n in range(1, 8)] == [
        *("d", "&", "<extra_id_0>", "<mask>", "a", "<b>", "x")
    ]
    sentinel = found[1, "inputs", 3]
    assert (sentinel["data-op"], sentinel["data-source"], sentinel["data-span"]) == ("SENTINEL", "6", "3")
    assert sentinel["data-places"] == "6 7"
    assert found[1, "inputs", 4]["data-places"] == ""
    assert found[1, "targets", 2]["data-kind"] == "MASKED"
    assert [found[1, "inputs", n]["class"].split()[1] for n in range(1, 8)] == [
        *("moved", "kept", "sentinel", "inserted", "moved", "kept", "replaced")
    ]


def test_each_row_is_one_stop_of_the_tab_key(text):
    stops = {key for key, attributes in _Tokens(text).found.items() if attributes["tabindex"] == "0"}
    assert stops == {(example, side, 1) for example in (1, 2, 3) for side in ("inputs", "text", "targets")}


def test_nothing_is_loaded_and_no_script_of_the_text_runs(text):
    assert SCRIPT not in text
    assert "alert(1)" in text
    assert "://" not in text
    assert "@import" not in text and "url(" not in text
    assert text.count("<script>") == 1
    assert all(link.startswith("#") for link in _Tokens(text).links)


def test_the_legend_shows_the_looks_that_occur(text):
    legend = text.split('class="legend"')[1].split("</ul>")[0]
    assert re.findall(r'swatch (\w+)"', legend) == [
        *("kept", "moved", "inserted", "replaced", "sentinel", "visible", "covered")
    ]


def test_skipped_presets_are_named(text):
    assert "third is not shown: no sentinels" in text


def test_the_address_names_a_corrupted_token(browse):
    tokens = browse("#hover=3")
    assert tokens.lit("on") == {(1, "inputs", 3)}
    assert tokens.lit() == {
        (1, "text", 6),
        (1, "text", 7),
        (1, "targets", 1),
        (1, "targets", 2),
        (1, "targets", 3),
    }
    tokens = browse("#hover=3.text.7")
    assert tokens.lit("on") == {(3, "text", 7)}
    assert tokens.lit() == {(3, "inputs", 3), (3, "targets", 3)}


def test_hovering_highlights_and_leaving_ends_it(browse):
    over = "document.querySelector('{}').dispatchEvent(new PointerEvent('pointerover', {{bubbles: true}}));"
    token = over.format('[data-example="1"] [data-side="inputs"][data-at="7"]')
    assert browse(script=token).lit() == {(1, "text", 3)}
    assert browse(script=token + over.format("h1")).lit() == set()
    insertion = over.format('[data-example="1"] [data-side="inputs"][data-at="4"]')
    tokens = browse(script=insertion)
    assert tokens.lit("on") == {(1, "inputs", 4)}
    assert tokens.lit() == set()


def test_arrow_keys_move_the_focus_and_enter_pins(browse):
    script = (
        "document.querySelector('[data-example=\"2\"] [data-side=text]').focus();"
        "const press = (key) => document.activeElement.dispatchEvent("
        "new KeyboardEvent('keydown', {key, bubbles: true}));"
        "press('End'); press('ArrowLeft'); press('Enter');"
        "document.body.dataset.example = location.hash;"
    )
    tokens = browse(script=script)
    assert tokens.lit("on") == {(2, "text", 6)}
    assert tokens.lit() == {(2, "inputs", 3), (2, "targets", 1), (2, "targets", 2)}
    stops = {key for key, a in tokens.found.items() if key[:2] == (2, "text") and a["tabindex"] == "0"}
    assert stops == {(2, "text", 6)}


def test_it_is_drawn_in_colour_in_light_and_dark(browse):
    def pixels(picture, colour):
        wanted = np.array([int(colour[i : i + 2], 16) for i in (0, 2, 4)])
        return int(np.sum(np.all(np.abs(picture - wanted) <= 2, axis=-1)))

    light = browse("#hover=2.inputs.3", screenshot=True)
    dark = browse("#hover=2.inputs.3", screenshot=True, flags=["--blink-settings=preferredColorScheme=0"])
    assert light.shape == dark.shape == (700, 900, 3)
    assert pixels(light, "f4f5f7") > 50_000  # the page
    assert pixels(light, "39bcd0") > 500  # the sentinel, undimmed
    assert pixels(light, "0b62d6") > 200  # the rings around highlighted tokens
    assert pixels(dark, "14171c") > 50_000
    assert pixels(dark, "6cb0ff") > 200
