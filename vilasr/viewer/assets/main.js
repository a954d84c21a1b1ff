// What is looked at (kept in the address, so that a place can be named), and the keys.

const state = { view: "overview", trace: 0, step: null, image: null, mode: "both", marks: true };
let asked = 0; // the trace that was last put on the page
let followed = null; // the address that is shown

function goTo(change) {
  const next = { ...state, ...change };
  const step = next.step === null ? "" : `&step=${next.step}`;
  const address = next.view === "overview" ? "#view=overview" : `#trace=${next.trace}${step}`;
  const turned = next.view !== state.view || next.trace !== state.trace;
  if (turned) location.hash = address;
  else history.replaceState(null, "", address); // the way back leads from trace to trace, not from step to step
  follow();
}

/** Shows what the address names; at once, so that keys pressed in a row all count. */
function follow() {
  followed = location.hash;
  const found = /^#trace=(\d+)(?:&step=(\d+))?$/.exec(location.hash);
  const trace = found ? Math.min(COUNT - 1, Number(found[1])) : state.trace;
  const step = found?.[2] === undefined ? null : Number(found[2]);
  state.view = found ? "traces" : "overview";
  byId("overview").hidden = state.view !== "overview";
  byId("traces").hidden = state.view !== "traces";
  byId("to-overview").setAttribute("aria-current", String(state.view === "overview"));
  byId("to-traces").setAttribute("aria-current", String(state.view === "traces"));
  if (!found) return;
  const same = current !== null && asked === trace;
  Object.assign(state, { trace, step });
  asked = trace;
  revealRow();
  if (same && step !== null) {
    state.step = Math.min(current.steps.length, step);
    state.image = null;
    drawStep();
  } else if (!same || step === null) {
    current = null;
    drawTrace(trace);
  }
}

function stepBy(direction) {
  if (!current) return;
  goTo({ step: Math.min(current.steps.length, Math.max(0, state.step + direction)) });
}

function nextMode() {
  state.mode = MODES[(MODES.indexOf(state.mode) + 1) % MODES.length];
  drawStep();
}

function toggleMarks() {
  state.marks = !state.marks;
  drawStep();
}

function toggleTheme() {
  const now = document.documentElement.dataset.theme ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
  document.documentElement.dataset.theme = now === "dark" ? "light" : "dark";
}

const inTraces = (action) => () => state.view === "traces" && action();
const KEYS = {
  j: inTraces(() => goTo({ trace: neighbour(1), step: null })),
  k: inTraces(() => goTo({ trace: neighbour(-1), step: null })),
  ArrowRight: inTraces(() => stepBy(1)),
  ArrowLeft: inTraces(() => stepBy(-1)),
  b: inTraces(nextMode),
  m: inTraces(toggleMarks),
  o: () => goTo({ view: state.view === "overview" ? "traces" : "overview" }),
  t: toggleTheme,
  "?": () => byId("keys").showModal(),
  "/": () => {
    if (state.view !== "traces") goTo({ view: "traces" });
    setTimeout(() => byId("search").select());
  },
};

addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || byId("keys").open) return;
  const typing = event.target.closest?.("input, select, textarea");
  if (typing && event.key === "Escape") typing.blur();
  if (typing && (typing.type !== "range" || event.key.startsWith("Arrow"))) return;
  const inList = event.target.id === "list";
  const key = inList && event.key === "ArrowDown" ? "j" : inList && event.key === "ArrowUp" ? "k" : event.key;
  const action = KEYS[key];
  if (!action) return;
  event.preventDefault();
  action();
});

let waiting = 0;
function later(action) {
  cancelAnimationFrame(waiting);
  waiting = requestAnimationFrame(action);
}

byId("title").replaceChildren();
put(byId("title"), data.title);
document.title = plain(data.title, 200);
fillFilters();
drawOverview();
applyFilters();
byId("filters").addEventListener("input", applyFilters);
byId("filters").addEventListener("submit", (event) => event.preventDefault());
byId("clear").addEventListener("click", () => { clearFilters(); applyFilters(); });
byId("list").addEventListener("scroll", () => later(drawRows));
byId("to-overview").addEventListener("click", () => goTo({ view: "overview" }));
byId("to-traces").addEventListener("click", () => goTo({ view: "traces" }));
byId("theme").addEventListener("click", toggleTheme);
byId("help").addEventListener("click", () => byId("keys").showModal());
addEventListener("hashchange", () => location.hash !== followed && follow());
addEventListener("resize", () => later(() => { drawRows(); if (state.view === "traces" && current) drawImages(current); }));
follow();
