// The images of a trace at a step, with what the step changed. A lane is one trace on the page, see lanes.js.

/** Images that exist after `step` (0: before the first reply). */
function imagesAt(trace, step) {
  const made = trace.steps.slice(0, step).flatMap((one) => one.new);
  const roots = trace.images.flatMap((image, n) => (image.parent === null ? [n + 1] : []));
  return [...roots, ...made];
}

/** The step (from 1) and change that made an image, or that told marks for it in `step`. */
function viewOf(trace, image, step) {
  const now = step > 0 ? trace.steps[step - 1].views.find((view) => view.image === image) : undefined;
  if (now) return [step, now];
  for (let n = Math.min(step, trace.steps.length); n > 0; n--) {
    const view = trace.steps[n - 1].views.find((one) => one.image === image);
    if (view) return [n, view];
  }
  return [0, null];
}

/** What the step drew on comes first; without a drawing, the image that was newest. */
function shownImage({ trace, step, image }) {
  const there = imagesAt(trace, step);
  if (there.includes(image)) return image;
  const drawn = step > 0 ? trace.steps[step - 1].views : [];
  if (drawn.length) return drawn[0].image;
  return step > 0 && there.some((image) => trace.images[image - 1].parent !== null) ? there.at(-1) : there[0];
}

function pane(trace, image, marks, title, room) {
  const node = picture(trace, image, marks, room[0], room[1], plain(`${title}, ${plural(marks.length, "mark")}`));
  return el("figure", {}, el("figcaption", {}, title), node);
}

function drawImages(lane) {
  const { trace, images: area } = lane;
  if (!area.clientWidth) return; // not seen: its lane has no room, or the overview is shown
  const image = shownImage(lane);
  if (!image) {
    const why = trace.broken ? `This trace cannot be drawn: ${trace.broken}` : "No image is recorded for this trace.";
    area.replaceChildren(put(el("p", { class: "note" }), why));
    return;
  }
  const [step, view] = viewOf(trace, image, lane.step);
  const pairs = (keys, status) => keys.map((key) => [key, status]);
  const before = view ? [...pairs(view.kept, "kept"), ...pairs(view.gone, "kept")] : pairs(trace.images[image - 1].marks, "kept");
  const after = view ? [...pairs(view.gone, "gone"), ...pairs(view.kept, "kept"), ...pairs(view.new, "new")] : before;
  const both = view && state.mode === "both";
  const wide = area.clientWidth;
  const alone = lanes.length === 1;
  const side = both && wide >= (alone ? 440 : 360);
  const share = alone ? 0.6 : 0.36; // of the window's height, so that the words of two runs are seen as well
  const room = [side ? (wide - 14) / 2 : wide, Math.max(180, Math.min(innerHeight * (both && !side ? 0.36 : share), 640))];
  const panes = el("div", { class: "panes" });
  if (!view) panes.append(pane(trace, image, before, `image ${image}`, room));
  if (view && state.mode !== "after") panes.append(pane(trace, view.of, before, `before step ${step}: image ${view.of}`, room));
  if (view && state.mode !== "before") panes.append(pane(trace, image, after, `after step ${step}: image ${image}`, room));
  const root = trace.images[image - 1].root;
  const caption = el("p", { class: "dim" }, `question image ${root}, `, word(trace.images[root - 1].name || "no file"), `, ${trace.images[image - 1].size.join(" × ")} pixels as the model saw it`);
  if (trace.feedback !== "real" && view) caption.append(`; drawn, but the model was shown: ${plain(trace.feedback, 40)}`);
  area.replaceChildren(panes, el("p", { class: "readout", "aria-live": "polite" }, "Point at a mark for its label and coordinates."), ...(alone ? [caption, markTable(trace, after)] : [foldedMarks(trace, after)]));
  for (const node of area.querySelectorAll("[data-mark]")) {
    node.addEventListener("pointerenter", () => point(area, trace, node.dataset.mark, after, true));
    node.addEventListener("pointerleave", () => point(area, trace, node.dataset.mark, after, false));
    node.addEventListener("focus", () => point(area, trace, node.dataset.mark, after, true));
    node.addEventListener("blur", () => point(area, trace, node.dataset.mark, after, false));
  }
}

function point(area, trace, key, marks, on) {
  for (const node of area.querySelectorAll(`[data-mark="${Number(key)}"]`)) node.classList.toggle("hot", on);
  const status = marks.find(([one]) => one === Number(key))?.[1] ?? "kept";
  if (on) area.querySelector(".readout").textContent = described(trace.marks[key], status);
}

function markTable(trace, marks) {
  if (!marks.length) return el("p", { class: "dim" }, "No marks on this image.");
  const order = ["new", "gone", "kept"];
  const sorted = [...marks].sort((a, b) => order.indexOf(a[1]) - order.indexOf(b[1]));
  const rows = sorted.map(([key, status]) => {
    const mark = trace.marks[key];
    const swatch = svg("svg", { width: 12, height: 12, "aria-hidden": "true" }, svg("rect", { width: 12, height: 12, fill: `rgb(${data.palette[mark[7]].join(",")})` }));
    return el(
      "tr",
      { class: status, "data-mark": key, tabindex: "0" },
      el("td", {}, swatch), el("td", {}, word(mark[6])), el("td", {}, mark[0]),
      el("td", { class: "number" }, coordinates(mark)), el("td", {}, STATES[status]),
    );
  });
  const head = ["", "label", "kind", "pixels", "state"].map((text) => el("th", { scope: "col" }, text));
  return el("div", { class: "scroll marks", tabindex: "0" }, el("table", {}, el("thead", {}, el("tr", {}, ...head)), el("tbody", {}, ...rows)));
}

/** The table for two runs side by side: there it is open when asked for, and stays so from step to step. */
function foldedMarks(trace, marks) {
  const node = folded(plural(marks.length, "mark"), markTable(trace, marks));
  node.open = state.table;
  node.addEventListener("toggle", () => { state.table = node.open; });
  return node;
}

function drawStrip(lane) {
  const there = imagesAt(lane.trace, lane.step);
  const shown = shownImage(lane);
  for (const node of lane.strip.children) {
    const image = Number(node.dataset.image);
    node.hidden = !there.includes(image);
    node.setAttribute("aria-pressed", image === shown ? "true" : "false");
  }
}

function strip(lane) {
  const { trace } = lane;
  const node = el("div", { class: "strip", role: "group", "aria-label": "Images" });
  trace.images.forEach((image, n) => {
    const of = image.parent === null ? "" : ` of ${image.parent}`;
    const choose = button("", () => { lane.image = n + 1; drawStep(lane); }, { "data-image": n + 1, title: `image ${n + 1}${of ? `, drawn on image ${image.parent}` : ", of the question"}` });
    choose.append(thumbnail(trace, n + 1), el("span", {}, `${n + 1}${of}`));
    node.append(choose);
  });
  return node;
}
