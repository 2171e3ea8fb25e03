"""The study in a browser, from the first task to the file that is handed in, and through reloads."""

import csv
import io
import json
from collections import Counter

import pytest
from accessible import complaints
from made_up import make_photos, make_store
from settling import settled

from dave_jax.pages.answers import COLUMNS
from dave_jax.pages.study import write_study
from dave_jax.pages.study_analysis import analyse

pytestmark = pytest.mark.browser
TASKS = 9 + 3 + 2


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("study")
    photos = make_photos(place / "photos", 9)
    stores = [make_store(place / f"{name}.zarr", photos, seed=seed, targets=[0]) for seed, name in enumerate(("dave", "rival"))]
    write_study(stores, place / "study", repeats=1 / 3, question="Better for {class}?")
    return place


@pytest.fixture
def start(tab, folder):
    def go(participant: str) -> None:
        tab.goto((folder / "study" / "index.html").as_uri())
        tab.get_by_label("Your name or number").fill(participant)
        tab.keyboard.press("Enter")
        ready(tab)

    return go


def ready(tab) -> None:
    """Wait until an answer counts."""
    tab.wait_for_function("!document.getElementById('trial').hidden && !document.getElementById('trial').hasAttribute('aria-busy')")
    tab.wait_for_timeout(270)


def comes_to(tab, number: int) -> None:
    settled(tab.locator("#position").text_content, f"Task {number} of {TASKS}")
    ready(tab)


def sources(tab) -> list[str]:
    return [tab.locator(place).get_attribute("src") for place in ("#photo", "#left .map", "#right .map")]


def saved(tab) -> list[dict[str, str]]:
    with tab.expect_download() as download:
        tab.locator("button.save:visible").click()
    name = download.value.suggested_filename
    assert name.startswith("answers-") and name.endswith(".csv")
    return list(csv.DictReader(io.StringIO(download.value.path().read_text())))


def test_from_the_first_task_to_the_file(tab, start, folder, tmp_path):
    key = json.loads((folder / "study.key.json").read_text())
    owner = {picture: entry["method"] for picture, entry in key["pictures"].items()}
    start("p1")
    seen = []
    for number in range(TASKS):
        comes_to(tab, number + 1)
        settled(lambda: tab.evaluate("document.activeElement.id"), "question")
        photo, left, right = (source.removeprefix("pictures/").partition(".")[0] for source in sources(tab))
        question = tab.locator("#question").text_content()
        asked = next((side for side in ("left", "right") if question == f"A check: please choose the {side} map."), "")
        assert asked or question == "Better for golf ball?"
        chosen = asked or ("left" if owner[left] == "dave" else "right")
        seen.append((photo, left, right, asked, chosen))
        if number % 3:
            tab.keyboard.press({"left": "ArrowLeft", "right": "ArrowRight"}[chosen])
        else:
            tab.get_by_role("button", name=f"{chosen} map".capitalize()).click()
    tab.get_by_role("heading", name="Thank you").wait_for()
    rows = saved(tab)
    assert tuple(rows[0]) == COLUMNS and [(row["left"], row["right"], row["asked"], row["chosen"]) for row in rows] == [
        one[1:] for one in seen
    ]
    assert {(row["study"], row["seed"], row["participant"]) for row in rows} == {(key["study"], "0", "p1")}
    assert [row["position"] for row in rows] == [str(number + 1) for number in range(TASKS)]
    assert Counter(row["kind"] for row in rows) == {"trial": 9, "repeat": 3, "check": 2}
    assert all(250 <= int(row["milliseconds"]) < 60000 and row["picture"] == row[row["chosen"]] for row in rows)
    first = {row["trial"]: row for row in rows if row["kind"] == "trial"}
    assert len(first) == 9 and sum(row["left"] == key["trials"][int(row["trial"])]["one"] for row in first.values()) in (4, 5)
    for row in rows:
        if row["kind"] == "repeat":
            assert (row["left"], row["right"]) == (first[row["trial"]]["right"], first[row["trial"]]["left"])
            assert int(row["position"]) > int(first[row["trial"]]["position"]) + 1
    path = tmp_path / "answers.csv"
    path.write_text("\n".join([",".join(COLUMNS), *(",".join(row.values()) for row in rows)]))
    found = analyse([path], key=folder / "study.key.json")
    assert [(row["method"], row["chosen"], row["of"]) for row in found["methods"]] == [("dave", 9, 9), ("rival", 0, 9)]
    assert found["consistency"]["share"] == 1 and found["participants"]["p1"]["checks_passed"] == 2
    tab.reload()
    assert tab.get_by_role("heading", name="Thank you").is_visible() and saved(tab) == rows


def test_a_reload_goes_on_where_it_was(tab, start):
    start("p2")
    for number in range(3):
        tab.keyboard.press("ArrowLeft")
        comes_to(tab, number + 2)
    before = sources(tab)
    tab.reload()
    comes_to(tab, 4)
    assert sources(tab) == before
    assert len(saved(tab)) == 3
    tab.get_by_role("button", name="Someone else’s turn").click()
    tab.get_by_label("Your name or number").fill("p3")
    tab.get_by_role("button", name="Begin").click()
    comes_to(tab, 1)
    tab.get_by_role("button", name="Someone else’s turn").click()
    tab.get_by_label("Your name or number").fill("p2")
    tab.keyboard.press("Enter")
    comes_to(tab, 4)
    assert sources(tab) == before


def test_orders_belong_to_participants(chromium, folder):
    orders = []
    for participant in ("a", "a", "b"):
        context = chromium.new_context()
        tab = context.new_page()
        tab.goto((folder / "study" / "index.html").as_uri())
        tab.get_by_label("Your name or number").fill(participant)
        tab.keyboard.press("Enter")
        order = []
        for number in range(3):
            comes_to(tab, number + 1)
            order.append(sources(tab))
            tab.keyboard.press("ArrowRight")
        orders.append(order)
        context.close()
    assert orders[0] == orders[1] != orders[2]


def test_one_press_is_one_answer(tab, start):
    start("p4")
    press = "document.dispatchEvent(new KeyboardEvent('keydown', { key: 'ArrowLeft', repeat: %s }))"
    tab.evaluate(";".join(4 * [press % "false"]))  # at one moment, however slow the machine
    comes_to(tab, 2)
    tab.evaluate(press % "true")
    tab.keyboard.press("Control+ArrowLeft")
    ready(tab)
    comes_to(tab, 2)
    assert len(saved(tab)) == 1


def test_names_fit_into_files(tab, folder):
    tab.goto((folder / "study" / "index.html").as_uri())
    for wrong in ("", "a,b", "a b", "ä"):
        tab.get_by_label("Your name or number").fill(wrong)
        tab.keyboard.press("Enter")
        assert tab.locator("#start").is_visible() and not tab.locator("#trial").is_visible()


def test_a_browser_that_keeps_nothing_is_told(tab, folder):
    tab.add_init_script("Storage.prototype.setItem = () => { throw new DOMException('full', 'QuotaExceededError'); };")
    tab.goto((folder / "study" / "index.html").as_uri())
    assert not tab.locator("#unsaved").is_visible()
    tab.get_by_label("Your name or number").fill("p5")
    tab.keyboard.press("Enter")
    ready(tab)
    assert tab.locator("#unsaved").is_visible()
    tab.keyboard.press("ArrowLeft")
    assert len(saved(tab)) == 1  # and they can still be saved


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_nothing_stands_in_a_participants_way(tab, start, folder, scheme, width):
    tab.emulate_media(color_scheme=scheme)
    tab.set_viewport_size({"width": width, "height": 800})
    tab.goto((folder / "study" / "index.html").as_uri())
    assert complaints(tab) == []
    start("p6")
    assert complaints(tab) == []
    assert tab.locator("#right").evaluate("(one) => one.getBoundingClientRect().bottom <= innerHeight")  # both maps without scrolling


def test_the_checks_can_fail(tab):
    tab.set_content(
        '<html><body style="background:#fff"><h3>Deep</h3><p id="a" style="color:#999">Pale</p><p id="a" aria-labelledby="b">Two</p><img>'
        '<button style="height:9px;padding:0;font-size:1px"></button><div style="width:200vw">Wide</div><label for="c">Whose</label></body>'
    )
    expected = {"no name": 2, "twice": 1, "contrast": 1, "heading": 1, "small": 1, "wider": 1, "no alt": 1, "no language": 1, "for": 1}
    found = complaints(tab)
    for start, count in (expected | {"aria-labelledby": 1}).items():
        assert sum(one.startswith(start) for one in found) == count, (start, found)
