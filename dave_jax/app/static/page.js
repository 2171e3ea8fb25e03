// On a phone the maps are below the controls: show them when they are asked for.
document.addEventListener("click", (event) => {
  const board = document.querySelector("#board");
  if (board && innerWidth <= 760 && event.target.closest("#explain")) {
    const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
    board.scrollIntoView({ behavior: still ? "auto" : "smooth", block: "start" });
  }
});
