"""The gallery in a browser, opened as a file: sorted, filtered, looked at, by keyboard alone."""

import pytest
from accessible import complaints
from made_up import CLASSES, make_photos, make_store
from settling import settled

from dave_jax.pages.report import write_report

pytestmark = pytest.mark.browser
COUNT = 70


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A report of seventy photographs, one of them broken, one gone."""
    folder = tmp_path_factory.mktemp("report")
    photos = make_photos(folder / "photos", COUNT)
    store = make_store(folder / "maps.zarr", photos, broken=[5], targets=(0, 2))
    (photos / "007.png").unlink()
    write_report(store, folder / "report")
    return (folder / "report" / "index.html").as_uri()


def names(tab) -> list[str]:
    return tab.locator("#gallery .name").all_text_contents()


def test_sort_filter_and_turn_pages(tab, place):
    tab.goto(place)
    settled(lambda: tab.locator("#summary").text_content().startswith("69 of 70 photographs explained, 1 could not be. Median bias share"))
    settled(lambda: names(tab)[:6], ["000.png", "001.png", "002.png", "003.png", "004.png", "006.png"])
    settled(lambda: len(names(tab)), 60)
    tab.get_by_role("button", name="Next page").click()
    settled(lambda: len(names(tab)), 9)
    settled(lambda: tab.locator("#page").text_content(), "Page 2 of 2")
    settled(lambda: tab.evaluate("document.activeElement.id"), "pictures")
    settled(lambda: tab.get_by_role("button", name="Next page").is_disabled())
    tab.get_by_label("Sort by").select_option("Probability")
    tab.get_by_label("Direction").select_option("Descending")
    settled(lambda: names(tab)[:2], ["069.png", "068.png"])
    tab.get_by_label("Find").fill("01")
    settled(lambda: names(tab), [f"0{i}.png" for i in (*range(19, 9, -1), "01")])
    settled(lambda: tab.locator("#count").text_content(), "11 pictures, 1 to 11 shown")
    tab.get_by_label("Find").fill("zebra")
    settled(lambda: names(tab), [])
    settled(lambda: "No picture fits" in tab.locator("#count").text_content())
    tab.get_by_label("Find").fill("")
    tab.get_by_label("Class", exact=True).select_option(CLASSES[2])  # shows that class's maps, with its name as text
    settled(lambda: tab.locator("#gallery .map").first.get_attribute("src"), "pictures/000/000069-1.png")
    for label, name in (("Bias share", "shares"), ("Logit", "logits"), ("Completeness", "completeness")):
        tab.get_by_label("Sort by").select_option(label)  # of the class that is shown
        rows = tab.evaluate("window.page.images")
        settled(lambda: names(tab), [row["name"] for row in sorted(rows, key=lambda row, name=name: -row[name][1])][:60])
    tab.get_by_label("Pictures a page").select_option("24")
    settled(lambda: len(names(tab)), 24)
    settled(lambda: tab.locator("#gallery b").count(), 0)


def test_what_could_not_be_explained_or_found_is_told(tab, place):
    tab.goto(place)
    settled(lambda: tab.locator("#broken-rows").inner_text().split("\t"), ["5", "005.png", "cannot be read"])
    settled(lambda: "1 photograph could not be found again. Its map is" in tab.locator("#notes").inner_text())
    tab.locator("#gallery .open").nth(6).click()
    settled(lambda: tab.locator("#detail-title").text_content(), "007.png")
    settled(lambda: tab.locator("#large img").count(), 1)
    settled(lambda: "it is no longer in the source" in tab.locator("#lost").text_content())
    tab.keyboard.press("Escape")
    tab.get_by_text("Explanation", exact=True).click()
    settled(lambda: tab.get_by_text("num_samples").is_visible())


def shown(tab, where: str) -> tuple[bool, float, bool]:
    """Whether the photograph is visible, the map's opacity, whether the map is."""
    script = """(where) => {
        const [photo, map] = [".photo", ".map"].map((kind) => getComputedStyle(document.querySelector(`${where} ${kind}`)));
        return [photo.visibility === "visible", Number(map.opacity), map.display !== "none"];
    }"""
    return tuple(tab.evaluate(script, where))  # at one moment


def test_the_view_is_one_for_gallery_and_detail(tab, place):
    tab.goto(place)
    settled(lambda: shown(tab, "#gallery"), (True, 1.0, True))
    opacity = tab.get_by_label("Opacity of the map").first
    opacity.focus()
    for _ in range(4):
        tab.keyboard.press("ArrowLeft")
    settled(lambda: shown(tab, "#gallery"), (True, 0.8, True))
    settled(lambda: opacity.input_value(), "80")
    tab.get_by_role("radio", name="Overlay").first.focus()
    tab.keyboard.press("ArrowRight")
    settled(lambda: shown(tab, "#gallery"), (False, 1.0, True))
    settled(lambda: opacity.is_disabled())
    tab.locator("#gallery .open").first.click()
    settled(lambda: shown(tab, "#large"), (False, 1.0, True))
    tab.locator("#detail .modes input[value=photograph]").check()
    settled(lambda: shown(tab, "#large"), (True, 0.8, False))
    tab.keyboard.press("Escape")
    settled(lambda: shown(tab, "#gallery"), (True, 0.8, False))


def test_the_detail_view_by_keyboard(tab, place):
    tab.goto(place)
    for _ in range(60):
        tab.keyboard.press("Tab")
        if tab.evaluate("document.activeElement.className") == "open":
            break
    tab.keyboard.press("Enter")
    title = tab.locator("#detail-title")
    settled(lambda: title.text_content(), "000.png")
    settled(lambda: tab.evaluate("document.activeElement.id"), "detail-title")
    settled(lambda: tab.get_by_role("button", name="Previous", exact=True).is_disabled())
    for key, name in (
        ("ArrowRight", "001.png"),
        ("ArrowRight", "002.png"),
        ("ArrowLeft", "001.png"),
        ("End", "069.png"),
        ("ArrowRight", "069.png"),
    ):
        tab.keyboard.press(key)
        settled(lambda: title.text_content(), name)
    tab.keyboard.press("Home")
    tab.locator("#targets input").first.focus()
    tab.keyboard.press("ArrowDown")  # a radio's own key
    settled(lambda: title.text_content(), "000.png")
    settled(lambda: tab.locator("#large .map").get_attribute("src").endswith("000000-1.png"))
    settled(lambda: tab.locator("#large .map").get_attribute("alt"), f"Map of the evidence for {CLASSES[2]}")
    stations = set()
    for _ in range(12):
        tab.keyboard.press("Tab")
        stations.add(tab.evaluate("(document.activeElement.closest('dialog') ?? document.activeElement).tagName"))
    assert stations <= {"DIALOG", "BODY"}  # the body on the way through the browser's own bars
    tab.locator("#detail-title").focus()
    tab.keyboard.press("End")
    settled(lambda: tab.evaluate("location.hash"), "#picture-69")
    tab.keyboard.press("Escape")
    settled(lambda: not tab.locator("#detail").is_visible())
    settled(lambda: tab.locator("#page").text_content(), "Page 2 of 2")
    settled(lambda: tab.evaluate("document.activeElement.dataset.place"), "68")
    settled(lambda: tab.evaluate("location.hash"), "")


def test_a_picture_has_an_address(tab, place):
    tab.goto(f"{place}#picture-42")
    settled(lambda: tab.locator("#detail-title").text_content(), "042.png")


def test_pictures_load_when_they_are_seen(tab, place):
    asked = []
    tab.on("request", lambda request: asked.append(request.url))
    tab.goto(place)
    tab.wait_for_load_state("networkidle")
    assert not any(name in url for url in asked for name in ("000069", "-1.png"))  # the next page's, other classes'
    assert all(tab.locator("#gallery img").first.evaluate("(one) => [one.complete && one.naturalWidth > 0]"))


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_nothing_stands_in_anybodys_way(tab, place, scheme, width):
    tab.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    tab.set_viewport_size({"width": width, "height": 800})
    tab.goto(place)
    assert complaints(tab) == []
    tab.locator("#gallery .open").first.click()
    assert complaints(tab) == []


def test_a_page_without_data_says_so(chromium, place, tmp_path):
    folder = tmp_path / "report"
    write_report(make_store(tmp_path / "maps.zarr", make_photos(tmp_path / "photos", 1)), folder)
    (folder / "data.js").unlink()
    tab = chromium.new_page()
    tab.goto((folder / "index.html").as_uri())
    assert "not finished" in tab.locator("#summary").text_content() and not tab.locator("#report").is_visible()
    tab.close()
