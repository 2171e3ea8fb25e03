// The trials of a study. Everything comes from window.page (data.js); answers are kept in localStorage and leave the browser as a CSV file.
"use strict";
(() => {
  const page = window.page;
  if (!page) return;
  const find = (id) => document.getElementById(id);
  const COLUMNS = ["study", "seed", "participant", "position", "kind", "trial", "left", "right", "asked", "chosen", "picture", "milliseconds", "time"];
  const PAUSE = 250; // milliseconds before an answer counts: a key that is pressed twice answers once

  // Randomness that is the same for the same study and participant: a hash of the text starts a generator of 32-bit numbers (mulberry32).

  function generator(text) {
    let state = 2166136261;
    for (const letter of text) state = Math.imul(state ^ letter.codePointAt(0), 16777619); // FNV-1a
    return () => {
      state = (state + 0x6d2b79f5) | 0;
      let mixed = Math.imul(state ^ (state >>> 15), state | 1);
      mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
      return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
    };
  }

  function shuffle(list, random) {
    const found = [...list];
    for (let i = found.length - 1; i > 0; i--) {
      const j = Math.floor(random() * (i + 1));
      [found[i], found[j]] = [found[j], found[i]];
    }
    return found;
  }

  // The tasks of a participant. Repeats are drawn from the first third and come again in the second half, with sides exchanged; half of all
  // trials have their pictures in the order of the data, half the other way round; checks are spread evenly.

  function tasksOf(participant) {
    const random = generator(`${page.study} ${page.seed} ${participant}`);
    const count = page.trials.length;
    const flips = shuffle(page.trials.map((_, number) => number % 2 === 0), random);
    const task = (trial, kind, flip) => {
      const { one, other, photo } = page.trials[trial];
      const [left, right] = flip ? [other, one] : [one, other];
      return { kind, trial, photo, left, right, asked: "" };
    };
    const order = shuffle(page.trials.map((_, number) => number), random);
    const again = shuffle(order.slice(0, Math.floor(count / 3)), random).slice(0, page.repeats);
    const half = Math.ceil(count / 2);
    const first = (trial) => task(trial, "trial", flips[trial]);
    const later = [...order.slice(half).map(first), ...again.map((trial) => task(trial, "repeat", !flips[trial]))];
    const tasks = [...order.slice(0, half).map(first), ...shuffle(later, random)];
    for (let number = 0; number < page.checks; number++) {
      const place = Math.floor(((number + random()) / page.checks) * tasks.length);
      const check = task(Math.floor(random() * count), "check", random() < 0.5);
      check.asked = random() < 0.5 ? "left" : "right";
      tasks.splice(place, 0, check);
    }
    return tasks;
  }

  // Answers, kept at every one.

  const PLACE = `dave_jax study ${page.study}`;
  const state = { participant: "", tasks: [], answers: [], ready: 0, open: false };

  function keep(key, value) {
    try {
      if (value === null) localStorage.removeItem(key);
      else localStorage.setItem(key, value);
    } catch {
      find("unsaved").hidden = false;
    }
  }

  function kept(key) {
    try {
      return localStorage.getItem(key);
    } catch {
      find("unsaved").hidden = false;
      return null;
    }
  }

  function answersOf(participant) {
    try {
      const found = JSON.parse(kept(`${PLACE} ${participant}`) ?? "[]");
      return Array.isArray(found) ? found : [];
    } catch {
      return [];
    }
  }

  function asCsv() {
    const rows = state.answers.map((answer) => COLUMNS.map((column) => answer[column]).join(","));
    return [COLUMNS.join(","), ...rows, ""].join("\n"); // no value holds a comma or a quote
  }

  function save() {
    const address = URL.createObjectURL(new Blob([asCsv()], { type: "text/csv" }));
    const link = document.createElement("a");
    link.href = address;
    link.download = `answers-${page.study}-${state.participant}.csv`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(address), 10000);
    find("saved").textContent = `Saved as ${link.download}, in the folder of your downloads.`;
  }

  // The three views.

  function show(id) {
    for (const view of ["start", "trial", "end"]) find(view).hidden = view !== id;
  }

  function begin(participant) {
    state.participant = participant;
    state.tasks = tasksOf(participant);
    state.answers = answersOf(participant).slice(0, state.tasks.length);
    keep(PLACE, participant);
    next();
  }

  function next() {
    if (state.answers.length < state.tasks.length) return ask();
    show("end");
    find("end-title").focus();
  }

  function picture(name, alt, kind) {
    const image = new Image(page.size[1], page.size[0]);
    image.src = `pictures/${name}`;
    image.alt = alt;
    image.className = kind;
    return image;
  }

  function ask() {
    const number = state.answers.length;
    const task = state.tasks[number];
    const name = page.trials[task.trial].class;
    state.open = false;
    show("trial");
    find("trial").dataset.kind = task.kind;
    find("trial").setAttribute("aria-busy", "true");
    find("failed").hidden = true;
    find("position").textContent = `Task ${number + 1} of ${state.tasks.length}`;
    find("progress").max = state.tasks.length;
    find("progress").value = number;
    find("question").textContent = task.kind === "check" ? `A check: please choose the ${task.asked} map.` : page.question.replaceAll("{class}", name);
    const loading = [];
    const put = (place, pictures) => {
      place.style.aspectRatio = `${page.size[1]} / ${page.size[0]}`;
      place.replaceChildren(...pictures);
      loading.push(...pictures.map((image) => image.decode()));
    };
    const photo = picture(`${task.photo}.jpg`, "The picture that both maps are of", "");
    photo.id = "photo";
    put(document.querySelector(".middle .stack"), [photo]);
    for (const side of ["left", "right"]) put(find(side).querySelector(".stack"), [picture(`${task.photo}.jpg`, "", "photo"), picture(`${task[side]}.png`, "", "map")]);
    find("question").focus({ preventScroll: number > 0 });
    const current = () => state.tasks[state.answers.length] === task && !find("trial").hidden;
    Promise.all(loading).then(
      () => requestAnimationFrame(() => current() && open(number)),
      () => current() && (find("failed").hidden = false),
    );
  }

  function open(number) {
    find("trial").removeAttribute("aria-busy");
    state.ready = performance.now();
    state.open = true;
    const after = state.tasks[number + 1];
    if (after) for (const name of [`${after.photo}.jpg`, `${after.left}.png`, `${after.right}.png`]) picture(name, "", "");
  }

  function choose(side) {
    const milliseconds = Math.round(performance.now() - state.ready);
    if (!state.open || milliseconds < PAUSE) return;
    state.open = false;
    const { kind, trial, left, right, asked } = state.tasks[state.answers.length];
    const position = state.answers.length + 1;
    const given = { kind, trial, left, right, asked, chosen: side, picture: side === "left" ? left : right, milliseconds };
    state.answers.push({ study: page.study, seed: page.seed, participant: state.participant, position, ...given, time: new Date().toISOString() });
    keep(`${PLACE} ${state.participant}`, JSON.stringify(state.answers));
    next();
  }

  function start() {
    show("start");
    find("participant").value = "";
  }

  find("unfinished").hidden = true;
  const total = page.trials.length + page.repeats + page.checks;
  find("count").textContent = String(total);
  find("again").hidden = page.repeats === 0;
  find("checks").hidden = page.checks === 0;
  find("enter").addEventListener("submit", (event) => {
    event.preventDefault();
    begin(find("participant").value);
  });
  for (const side of ["left", "right"]) find(side).addEventListener("click", () => choose(side));
  document.addEventListener("keydown", (event) => {
    const side = { ArrowLeft: "left", ArrowRight: "right" }[event.key];
    if (!side || find("trial").hidden || event.repeat || event.altKey || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    choose(side);
  });
  for (const button of document.querySelectorAll(".save")) button.addEventListener("click", save);
  for (const button of document.querySelectorAll(".leave")) {
    button.addEventListener("click", () => {
      keep(PLACE, null);
      find("saved").textContent = "";
      start();
      find("participant").focus();
    });
  }
  const before = kept(PLACE);
  if (before) begin(before);
  else start();
})();
