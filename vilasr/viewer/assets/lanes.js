// The traces on the page: one, or one of each of two runs side by side. A lane is such a trace with its step and nodes.

const MODES = ["both", "before", "after"];
let lanes = []; // those on the page, in the order of the runs
let drawings = 0; // how many were begun, so that one overtaken by another is dropped

const mainLane = () => lanes.find((lane) => lane.n === state.trace && lane.trace);
const besideLane = () => lanes.find((lane) => lane.n === state.beside && lane.trace);
const wantedTraces = () => [state.trace, state.beside].filter((n) => n !== null).sort((a, b) => columns.run[a] - columns.run[b]);

function turnTo(lane, step) {
  const within = Math.min(lane.trace.steps.length, Math.max(0, step));
  goTo(lane.n === state.trace ? { step: within } : { at: within });
}

function stepChips(lane) {
  const { trace } = lane;
  const chips = el("div", { class: "chips", role: "group", "aria-label": "Steps" });
  const kind = (step) => (step.error ? "✗ " + spaced(step.error) : step.answer !== null ? "answer" : step.marks.length ? `${plural(step.marks.length, "mark")}` : "reply");
  const labels = ["question", ...trace.steps.map((step, n) => `${n + 1}: ${kind(step)}`)];
  labels.forEach((text, n) => {
    const chip = button("", () => turnTo(lane, n), { class: n && trace.steps[n - 1].error ? "wrong" : "" });
    chip.append(word(plain(text, 40)));
    chips.append(chip);
  });
  return chips;
}

function resultSign(n) {
  const kind = verdict(columns.score[n]);
  return el("span", { class: `sign ${kind}`, role: "img", "aria-label": kind }, SIGNS[kind]);
}

const endingBadge = (n) => badge(spaced(columns.stop[n]), columns.stop[n] === "answered" ? "" : "wrong");

/** What a trace came to, in a few words. */
const answered = (n, limit) => (columns.answer[n] === null ? spaced(columns.stop[n]) : plain(columns.answer[n], limit));

function laneHead({ n }) {
  const facts = el("p", { class: "badges" });
  if (columns.answer[n] !== null) facts.append(badge(`answer: ${columns.answer[n]}`));
  if (columns.stop[n] !== "answered") facts.append(endingBadge(n));
  facts.append(badge(plural(columns.steps[n], "step")));
  return el("div", { class: "top" }, el("h3", {}, resultSign(n), word(runName(columns.run[n]))), facts);
}

function viewTools() {
  return el(
    "div", { class: "tools" },
    button("", nextMode, { class: "mode", title: "Before, after or both (b)" }),
    button("Marks", toggleMarks, { class: "marks-on", title: "Marks on or off (m)" }),
  );
}

function fillLane(lane, alone) {
  const { trace, n } = lane;
  const steps = trace.steps.length;
  const asked = n === state.trace ? state.step : state.at;
  lane.step = Math.min(steps, asked ?? 1);
  lane.image = null;
  lane.slider = el("input", { type: "range", class: "slider", min: 0, max: steps, step: 1, "aria-label": "Step" });
  lane.slider.addEventListener("input", () => turnTo(lane, Number(lane.slider.value)));
  lane.chips = stepChips(lane);
  lane.images = el("div", { class: "images" });
  lane.strip = strip(lane);
  lane.words = el("div", { class: "step", "aria-live": "polite" });
  const left = el("section", { class: "left", "aria-label": "Images" }, COMPARED ? null : viewTools(), lane.images, lane.strip);
  const right = el("section", { class: "right", "aria-label": "Step" }, lane.words, outcome(trace, n));
  const halves = el("div", { class: "halves" }, left, right);
  lane.node.replaceChildren(...(alone ? [] : [laneHead(lane)]), el("div", { class: "steps" }, lane.slider, lane.chips), halves);
}

/** Says so in place of a trace that cannot be shown, so that no other one stands under its address. */
function failed(lane, error) {
  lane.trace = null;
  const whose = lanes.length > 1 ? `${plain(runName(columns.run[lane.n]), 80)}: ` : "";
  lane.node.replaceChildren(put(el("p", { class: "problem" }), `${whose}This trace cannot be shown: ${error}`));
}

function drawStep(lane) {
  if (!lane.trace) return;
  try {
    showStep(lane);
  } catch (error) {
    failed(lane, error);
  }
}

/** Brings a part of a row into sight, without moving anything else of the page. */
function reveal(row, node) {
  if (!node) return;
  const start = node.offsetLeft - row.offsetLeft;
  if (start < row.scrollLeft || start + node.offsetWidth > row.scrollLeft + row.clientWidth) row.scrollLeft = start - row.clientWidth / 3;
}

function showStep(lane) {
  const { trace, step, slider, chips } = lane;
  drawImages(lane);
  drawStrip(lane);
  slider.value = String(step);
  slider.setAttribute("aria-valuetext", step ? `step ${step} of ${trace.steps.length}` : "question");
  [...chips.children].forEach((chip, n) => {
    if (n === step) chip.setAttribute("aria-current", "step");
    else chip.removeAttribute("aria-current");
  });
  reveal(chips, chips.children[step]);
  reveal(lane.strip, lane.strip.querySelector("[aria-pressed=true]"));
  lane.words.replaceChildren(...stepSections(trace, step).filter(Boolean));
}

function drawLanes() {
  for (const node of document.querySelectorAll("#trace .mode")) node.textContent = { both: "Before and after", before: "Before", after: "After" }[state.mode];
  for (const node of document.querySelectorAll("#trace .marks-on")) node.setAttribute("aria-pressed", String(state.marks));
  lanes.forEach(drawStep);
}

/** The runs that have this item, and what is set for all of them. */
function runsBar() {
  if (!COMPARED) return null;
  const traces = sameItem(state.trace);
  const bar = el("div", { class: "runs", role: "group", "aria-label": "This item in each run" });
  for (const n of traces) {
    const choose = button("", () => openRun(n), { "aria-current": String(n === state.trace), title: "Show this run's trace (x: the next one)" });
    choose.append(resultSign(n), " ", word(plain(runName(columns.run[n]), 80)), ": ", word(answered(n, 20)));
    bar.append(choose);
  }
  if (traces.length < 2) bar.append(el("span", { class: "dim" }, "No other run in this report has this item."));
  const beside = button("Side by side", toggleDuo, { class: "beside", "aria-pressed": String(state.duo), title: "Two runs side by side, or one alone (c)" });
  bar.append(el("span", { class: "space" }), traces.length < 2 ? "" : beside, viewTools());
  return bar;
}

function head(trace, n) {
  const title = el("h2", {}, resultSign(n), word(name(n)));
  const facts = el("p", { class: "badges" }, badge(runName(columns.run[n])), badge(taskName(columns.task[n])), endingBadge(n));
  if (columns.reflection[n]) facts.append(badge(columns.reflection[n] > 1 ? "reflection, strict" : "reflection"));
  const change = changeOf(n);
  if (change) facts.append(el("span", { class: "badge", title: changeTitle(n) }, changeSign(change, changeTitle(n)), ` ${change.text}`));
  const walk = el(
    "span", { class: "walk" },
    button("‹ previous", () => goTo({ trace: neighbour(-1), step: null }), { title: "Previous trace (k)" }),
    button("next ›", () => goTo({ trace: neighbour(1), step: null }), { title: "Next trace (j)" }),
  );
  const top = el("div", { class: "top" }, title, facts, walk);
  if (!trace) return [top];
  const question = trace.question === undefined ? el("p", { class: "note" }, "This item was not run.") : block(trace.question, { class: "prose question" });
  return [top, question, optionList(trace, n)];
}

async function readLane(n) {
  const lane = { n, trace: null, node: el("section", { class: n === state.trace ? "lane main" : "lane", "aria-label": plain(runName(columns.run[n]), 80) }) };
  try {
    lane.trace = await traceOf(n);
  } catch (error) {
    lane.error = error;
  }
  return lane;
}

/** Puts the traces that are looked at on the page; what was left for another in the meantime is dropped. */
async function drawTraces() {
  const drawing = ++drawings;
  const stays = lanes.length && COMPARED && columns.item[lanes[0].n] >= 0 && columns.item[lanes[0].n] === columns.item[state.trace];
  lanes = [];
  const read = await Promise.all(wantedTraces().map(readLane));
  if (drawing !== drawings) return;
  lanes = read;
  for (const lane of lanes) {
    try {
      if (!lane.trace) throw lane.error;
      fillLane(lane, lanes.length === 1);
    } catch (error) {
      failed(lane, error);
    }
  }
  const page = byId("trace");
  const top = stays ? page.scrollTop : 0;
  const shown = el("div", { class: lanes.length > 1 ? "lanes duo" : "lanes" }, ...lanes.map((lane) => lane.node));
  page.replaceChildren(...[...head(mainLane()?.trace, state.trace), runsBar()].filter(Boolean), shown);
  state.step = mainLane()?.step ?? state.step;
  state.at = besideLane()?.step ?? state.at;
  drawLanes();
  page.scrollTop = top;
}

/** Shows the steps that the address names, where the traces are on the page already. */
function turnLanes() {
  for (const lane of lanes) {
    const step = lane.n === state.trace ? state.step : state.at;
    if (!lane.trace || step === lane.step) continue;
    lane.step = step;
    lane.image = null;
  }
  drawLanes();
}
