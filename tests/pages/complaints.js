// What is wrong with a page as it is shown: structure, size of what is pressed, contrast (WCAG AA).
() => {
  const found = [];
  const all = (selector) => [...document.querySelectorAll(selector)];

  const ids = all("[id]").map((element) => element.id);
  found.push(...ids.filter((id, place) => ids.indexOf(id) !== place).map((id) => `twice: ${id}`));
  for (const name of ["for", "aria-labelledby", "aria-describedby"])
    for (const element of all(`[${name}]`))
      if (!document.getElementById(element.getAttribute(name))) found.push(`${name} of nothing: ${element.getAttribute(name)}`);
  for (const image of document.images) if (!image.hasAttribute("alt")) found.push(`no alt: ${image.src}`);
  const levels = all("h1, h2, h3").filter((one) => one.checkVisibility()).map((one) => Number(one.tagName[1]));
  levels.forEach((level, place) => {
    if (level > (levels[place - 1] ?? 0) + 1) found.push(`heading ${level} after ${levels[place - 1]}`);
  });
  if (!document.documentElement.lang || !document.title) found.push("no language or title");
  if (document.documentElement.scrollWidth > innerWidth) found.push(`wider than the window: ${document.documentElement.scrollWidth}`);
  for (const control of all("button, select, input[type=range]"))
    if (control.checkVisibility() && control.getBoundingClientRect().height < 24) found.push(`small: ${control.outerHTML.slice(0, 60)}`);

  const channels = (colour) => colour.match(/[\d.]+/g).map(Number);
  const linear = (value) => (value <= 0.03928 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4);
  const light = (colour) => {
    const [red, green, blue] = colour.slice(0, 3).map((value) => linear(value / 255));
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  };
  const behind = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const colour = channels(getComputedStyle(at).backgroundColor);
      if (colour.length === 3 || colour[3] === 1) return colour;
    }
    return [255, 255, 255];
  };
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const [element, text] = [walker.currentNode.parentElement, walker.currentNode.textContent.trim()];
    const aside = element.closest("[disabled], .unseen, .skip, script, noscript, template"); // what is disabled needs no contrast
    if (!text || aside || !element.checkVisibility({ visibilityProperty: true })) continue;
    const style = getComputedStyle(element);
    const [one, other] = [light(channels(style.color)), light(behind(element))];
    const ratio = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
    if (ratio < (parseFloat(style.fontSize) >= 24 ? 3 : 4.5)) found.push(`contrast ${ratio.toFixed(2)}: ${text.slice(0, 30)}`);
  }
  return found;
}
