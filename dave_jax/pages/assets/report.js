// The gallery of a report. Everything comes from window.page (data.js); nothing is requested but the pictures that are shown.
"use strict";
(() => {
  const page = window.page;
  if (!page) return;
  const find = (id) => document.getElementById(id);
  const root = document.documentElement;
  const state = { view: "overlay", opacity: 100, chosen: new Map(), list: [], page: 0, current: -1 };

  // Small helpers.

  function make(tag, attributes = {}, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (value === true) element.setAttribute(name, "");
      else if (value !== false && value !== undefined) element.setAttribute(name, value);
    }
    element.append(...children);
    return element;
  }
  const percent = (value) => (value === null ? "–" : `${(100 * value).toFixed(Math.abs(value) < 0.0995 ? 1 : 0)}\u00a0%`.replace("-", "−"));
  const fixed = (value) => (value === null ? "–" : value.toFixed(2).replace("-", "−"));
  const tiny = (value) => (value === null ? "–" : value.toExponential(1).replace("-", "−"));
  const plural = (count, one, many) => `${count.toLocaleString("en")} ${count === 1 ? one : many}`;
  const className = (target) => page.classes[target];
  const chosen = (image) => state.chosen.get(image.index) ?? 0;
  const stem = (index) => `pictures/${String(Math.floor(index / 1000)).padStart(3, "0")}/${String(index).padStart(6, "0")}`;

  // Head of the page.

  function note(text) {
    find("notes").append(make("p", { class: "note" }, text));
  }

  function describe() {
    const { images, explained, failed, pending, lost } = page.counts;
    const parts = [`${explained.toLocaleString("en")} of ${plural(images, "photograph", "photographs")} explained`];
    if (failed) parts.push(`${failed.toLocaleString("en")} could not be`);
    if (pending) parts.push(`${pending.toLocaleString("en")} still to come`);
    const residuals = page.images.flatMap((image) => image.completeness).filter((value) => value !== null);
    const shares = page.images.flatMap((image) => image.shares).filter((value) => value !== null).sort((one, other) => one - other);
    let text = `${parts.join(", ")}.`;
    if (shares.length) text += ` Median bias share ${percent(shares[Math.floor(shares.length / 2)])}`;
    if (residuals.length) text += `, largest completeness residual ${tiny(residuals.reduce((one, other) => Math.max(one, other)))}.`;
    find("summary").textContent = text;
    if (pending) note("The run is not finished, or was interrupted. This page shows what was there when it was made; make it again to see more.");
    if (lost) {
      const why = page.problem ? ` (${page.problem})` : "";
      const alone = lost === 1 ? "Its map is shown alone" : "Their maps are shown alone";
      note(`${plural(lost, "photograph", "photographs")} could not be found again${why}. ${alone}.`);
    }
  }

  // The view: photograph, overlay or map, and the map's opacity; the same controls in the gallery and in the detail view.

  function setView() {
    root.dataset.view = state.view;
    root.style.setProperty("--opacity", state.opacity / 100);
    for (const input of document.querySelectorAll(".modes input")) input.checked = input.value === state.view;
    for (const label of document.querySelectorAll(".opacity")) {
      const range = label.querySelector("input");
      range.value = state.opacity;
      range.disabled = state.view !== "overlay";
      label.querySelector("output").textContent = `${state.opacity} %`;
    }
  }

  function addViewControls() {
    document.querySelectorAll(".view").forEach((place, number) => {
      place.append(find("view-controls").content.cloneNode(true));
      for (const input of place.querySelectorAll(".modes input")) {
        input.name = `view-${number}`;
        input.addEventListener("change", () => {
          state.view = input.value;
          setView();
        });
      }
      const range = place.querySelector(".opacity input");
      range.addEventListener("input", () => {
        state.opacity = Number(range.value);
        setView();
      });
    });
  }

  // Pictures.

  function stack(image, described) {
    const [height, width] = page.size;
    const target = chosen(image);
    const name = className(image.targets[target]);
    const size = { width, height, decoding: "async", loading: described ? "eager" : "lazy" };
    const photo = image.lost === undefined && make("img", { ...size, class: "photo", src: `${stem(image.index)}.jpg`, alt: described ? `Photograph ${image.name}` : "" });
    const map = make("img", { ...size, class: "map", src: `${stem(image.index)}-${target}.png`, alt: described ? `Map of the evidence for ${name}` : "" });
    const element = make("span", { class: photo ? "stack" : "stack lost", style: `aspect-ratio: ${width} / ${height}` });
    element.append(...(photo ? [photo, map] : [map]));
    return element;
  }

  function card(image, place) {
    const open = make("button", { type: "button", class: "open", "aria-haspopup": "dialog", "data-place": place });
    const share = make("span", { class: "muted share" });
    const item = make("li", {}, open);
    const show = () => {
      const target = chosen(image);
      open.replaceChildren(stack(image, false), make("span", { class: "name", title: image.name }, image.name));
      open.setAttribute("aria-label", `${image.name}: ${className(image.targets[target])}, ${percent(image.probabilities[target])}. Open`);
      share.textContent = `Bias share ${percent(image.shares[target])}`;
    };
    open.addEventListener("click", () => openDetail(place));
    const rows = image.targets.map((target, number) => {
      const probability = image.probabilities[number];
      const content = [
        make("span", { class: "label" }, className(target)),
        make("span", { class: "part" }, percent(probability)),
        make("span", { class: "rail", "aria-hidden": "true" }),
        make("span", { class: "bar-of", "aria-hidden": "true", style: `width: ${100 * (probability ?? 0)}%` }),
      ];
      if (image.targets.length === 1) return make("li", {}, make("span", { class: "one" }, ...content));
      const button = make("button", { type: "button", title: `Show the map of ${className(target)}` }, ...content);
      button.addEventListener("click", () => {
        state.chosen.set(image.index, number);
        show();
        press();
      });
      return make("li", {}, button);
    });
    const list = make("ul", { class: "classes", "aria-label": `Classes of ${image.name}` }, ...rows);
    const press = () => list.querySelectorAll("button").forEach((button, number) => button.setAttribute("aria-pressed", number === chosen(image)));
    item.append(list, share);
    show();
    press();
    return item;
  }

  // Sorting, filtering, pages.

  const value = {
    index: (image) => image.index,
    name: (image) => image.name,
    class: (image) => className(image.targets[chosen(image)]),
    default: (image, name) => image[name][chosen(image)],
  };

  function arrange() {
    const text = find("find").value.trim().toLowerCase();
    const wanted = find("class").value;
    const name = find("sort").value;
    const direction = Number(find("direction").value);
    const keep = (image) =>
      (wanted === "" || image.targets.includes(Number(wanted))) &&
      (text === "" || image.name.toLowerCase().includes(text) || image.targets.some((target) => className(target).toLowerCase().includes(text)));
    const key = (image) => (value[name] ?? value.default)(image, name);
    const compare = (one, other) => {
      const [a, b] = [key(one), key(other)];
      if (a === null || b === null) return (a === null) - (b === null); // unknown ones last, either way
      const order = typeof a === "string" ? a.localeCompare(b, "en", { numeric: true }) : a - b;
      return direction * order || one.index - other.index;
    };
    state.list = page.images.filter(keep);
    state.chosen.clear(); // a picture is sorted by the class that it shows
    if (wanted !== "") for (const image of state.list) state.chosen.set(image.index, image.targets.indexOf(Number(wanted)));
    state.list.sort(compare);
    state.page = 0;
    showPage();
  }

  const pageSize = () => Number(find("page-size").value);
  const pageCount = () => Math.max(1, Math.ceil(state.list.length / pageSize()));

  function showPage() {
    const [start, count] = [state.page * pageSize(), state.list.length];
    const shown = state.list.slice(start, start + pageSize());
    find("gallery").replaceChildren(...shown.map((image, number) => card(image, start + number)));
    find("gallery").start = start + 1;
    find("count").textContent = count ? `${plural(count, "picture", "pictures")}, ${start + 1} to ${start + shown.length} shown` : "No picture fits. Change what to find, or the class.";
    find("page").textContent = `Page ${state.page + 1} of ${pageCount()}`;
    find("previous-page").disabled = state.page === 0;
    find("next-page").disabled = state.page + 1 >= pageCount();
  }

  function turn(to) {
    state.page = Math.min(Math.max(to, 0), pageCount() - 1);
    showPage();
    find("pictures").focus();
    find("pictures").scrollIntoView();
  }

  // The detail view: a modal dialog, which the browser keeps the focus in and closes on Esc.

  function openDetail(place) {
    showDetail(place);
    find("detail").showModal();
    find("detail-title").focus();
  }

  function showDetail(place) {
    state.current = place;
    const image = state.list[place];
    find("detail-title").textContent = image.name;
    find("position").textContent = `Picture ${place + 1} of ${state.list.length}, number ${image.index} of the data set`;
    find("previous").disabled = place === 0;
    find("next").disabled = place + 1 === state.list.length;
    find("lost").hidden = image.lost === undefined;
    find("lost").textContent = `The photograph could not be found again: ${image.lost}. The map is shown alone.`;
    const rows = image.targets.map((target, number) => {
      const input = make("input", { type: "radio", name: "target", value: number });
      input.checked = number === chosen(image);
      input.addEventListener("change", () => {
        state.chosen.set(image.index, number);
        showLarge(image);
      });
      const cells = [percent(image.probabilities[number]), percent(image.shares[number]), fixed(image.logits[number]), tiny(image.completeness[number])];
      return make("tr", {}, make("td", {}, make("label", {}, input, className(target))), ...cells.map((cell) => make("td", {}, cell)));
    });
    find("targets").replaceChildren(...rows);
    showLarge(image);
    history.replaceState(null, "", `#picture-${image.index}`);
  }

  function showLarge(image) {
    const made = stack(image, true);
    find("large").className = made.className;
    find("large").style.aspectRatio = made.style.aspectRatio;
    find("large").replaceChildren(...made.children);
    [...find("targets").rows].forEach((row, number) => (row.dataset.chosen = number === chosen(image)));
  }

  function go(to) {
    if (to < 0 || to >= state.list.length || to === state.current) return;
    const held = document.activeElement;
    showDetail(to);
    if (held.disabled || !held.isConnected) find("detail-title").focus(); // the button at the end, or a row that is gone
  }

  function closeDetail() {
    history.replaceState(null, "", location.pathname + location.search);
    const target = Math.floor(state.current / pageSize());
    state.page = target;
    showPage();
    find("gallery").querySelector(`[data-place="${state.current}"]`)?.focus();
  }

  function onKey(event) {
    if (event.altKey || event.ctrlKey || event.metaKey || event.target.matches("input")) return; // a slider's and a radio's own keys
    const to = { ArrowLeft: state.current - 1, ArrowRight: state.current + 1, Home: 0, End: state.list.length - 1 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    go(to);
  }

  // Begin.

  function fill() {
    const names = Object.entries(page.classes).sort((one, other) => one[1].localeCompare(other[1], "en", { numeric: true }));
    find("class").append(...names.map(([target, name]) => make("option", { value: target }, name)));
    const groups = page.settings.map(({ title, rows }, number) => {
      const terms = rows.flatMap(([name, text]) => [make("dt", {}, name), make("dd", {}, text)]);
      return make("details", { open: number === 0 }, make("summary", {}, title), make("dl", { class: "settings" }, ...terms));
    });
    find("setting-groups").append(...groups);
    find("broken-rows").append(...page.broken.map((row) => make("tr", {}, make("td", {}, String(row.index)), make("td", {}, row.name), make("td", {}, row.reason))));
    find("broken-section").hidden = page.broken.length === 0;
  }

  describe();
  addViewControls();
  setView();
  fill();
  find("report").hidden = false;
  find("tools").addEventListener("submit", (event) => event.preventDefault());
  for (const id of ["find", "class", "sort", "direction"]) find(id).addEventListener("input", arrange);
  find("page-size").addEventListener("input", () => {
    state.page = 0;
    showPage();
  });
  find("previous-page").addEventListener("click", () => turn(state.page - 1));
  find("next-page").addEventListener("click", () => turn(state.page + 1));
  find("previous").addEventListener("click", () => go(state.current - 1));
  find("next").addEventListener("click", () => go(state.current + 1));
  find("close").addEventListener("click", () => find("detail").close());
  find("detail").addEventListener("close", closeDetail);
  find("detail").addEventListener("keydown", onKey);
  arrange();
  const asked = /^#picture-(\d+)$/.exec(location.hash);
  const place = asked ? state.list.findIndex((image) => image.index === Number(asked[1])) : -1;
  if (place >= 0) openDetail(place);
})();
