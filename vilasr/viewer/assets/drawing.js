// Images with their marks: the clean picture, and over it the marks as shapes that can be pointed at.

const contrast = ([r, g, b]) => (0.299 * r + 0.587 * g + 0.114 * b > 140 ? "#000" : "#fff");
const STATES = { new: "new", kept: "as before", gone: "revised away" };
const LABEL = 28; // characters of a label on an image; the whole stands below it

const number = (value) => (Number.isInteger(value) ? String(value) : value.toFixed(1));

function coordinates([kind, , x1, y1, x2, y2]) {
  const [a, b] = [`(${number(x1)}, ${number(y1)})`, `(${number(x2)}, ${number(y2)})`];
  return kind === "box" ? `${a} – ${b}, ${number(x2 - x1)} × ${number(y2 - y1)}` : `${a} → ${b}`;
}

const described = (mark, status) => `${mark[0]} ${plain(mark[6], 200)}: ${coordinates(mark)} (${STATES[status]})`;

/** The shape of a mark; `u` is the image's pixels behind one of the screen. */
function shape([kind, , x1, y1, x2, y2], attributes, u, width) {
  if (kind === "box") return svg("rect", { x: x1, y: y1, width: x2 - x1, height: y2 - y1, fill: "none", ...attributes });
  const length = Math.hypot(x2 - x1, y2 - y1) || 1;
  const [dx, dy] = [(x2 - x1) / length, (y2 - y1) / length];
  const head = Math.min((5 + 3 * width) * u, 0.6 * length);
  const [bx, by] = [x2 - dx * head, y2 - dy * head];
  const half = 0.5 * head;
  const path =
    `M${x1} ${y1}L${x2} ${y2}M${bx - dy * half} ${by + dx * half}L${x2} ${y2}L${bx + dy * half} ${by - dx * half}`;
  return svg("path", { d: path, fill: "none", ...attributes });
}

function markGroup(mark, key, status, u) {
  const color = data.palette[mark[7]];
  const width = status === "new" ? 3 : 2;
  const dash = status === "gone" ? `${6 * u} ${5 * u}` : null;
  const around = { "stroke-linejoin": "round", "stroke-linecap": dash ? "butt" : "round", "stroke-dasharray": dash };
  const group = svg("g", { class: `mark ${status}`, "data-mark": key });
  group.append(
    svg("title", {}, described(mark, status)),
    shape(mark, { stroke: contrast(color), "stroke-width": (width + 2.5) * u, ...around }, u, width),
    shape(mark, { stroke: `rgb(${color.join(",")})`, "stroke-width": width * u, ...around }, u, width),
  );
  if (mark[0] === "line") {
    group.append(svg("circle", { cx: mark[2], cy: mark[3], r: 1.5 * width * u, fill: `rgb(${color.join(",")})`, stroke: contrast(color), "stroke-width": u }));
  }
  group.append(shape(mark, { stroke: "transparent", "stroke-width": 14 * u, "pointer-events": "stroke" }, u, width));
  return group;
}

const ruler = document.createElement("canvas").getContext("2d");
function labelWidth(text) {
  ruler.font = "600 13px system-ui, sans-serif";
  return ruler.measureText(text).width + 4;
}

/** A label beside its mark, at the first place where none stands yet. */
function label(mark, size, u, placed) {
  let text = plain(mark[6], LABEL);
  while (text.length > 4 && labelWidth(text) * u > size[0]) text = `${text.slice(0, -2)}…`;
  const height = 13 * u;
  const width = labelWidth(text) * u;
  const [kind, , x1, y1, x2, y2] = mark;
  const gap = 5 * u;
  const [mx, my] = [(x1 + x2) / 2, (y1 + y2) / 2];
  const wanted =
    kind === "box"
      ? [[x1, y1 - gap], [x1, y2 + height + gap], [x1 + gap, y1 + height + gap], [x2 - width, y1 - gap], [x1 + gap, y2 - gap]]
      : [[mx + gap, my + height + gap], [mx + gap, my - gap], [mx - gap - width, my + height], [x2 + gap, y2 + height]];
  const inside = wanted.map(([x, y]) => [
    Math.max(0, Math.min(x, size[0] - width)),
    Math.max(height, Math.min(y, size[1] - 3 * u)),
  ]);
  const free = ([x, y]) => !placed.some(([l, b, r, t]) => x < r && l < x + width && y > t && b > y - height);
  const [x, y] = inside.find(free) ?? inside[0];
  placed.push([x, y, x + width, y - height]);
  const color = data.palette[mark[7]];
  return svg("text", {
    x, y, class: "label", "font-size": 13 * u, fill: `rgb(${color.join(",")})`, stroke: contrast(color),
    "stroke-width": 3.5 * u, "paint-order": "stroke", "stroke-linejoin": "round",
  }, text);
}

/** The clean picture as the ground of an image, or what to say where there is none. */
function ground(root, size, u, large) {
  const node = svg("g");
  if (root.picture !== undefined) {
    const image = svg("image", { width: size[0], height: size[1], preserveAspectRatio: "none" });
    if (u < 0.5) image.setAttribute("class", "pixels");
    pictureUrl(root.picture).then((url) => image.setAttribute("href", url));
    node.append(image);
    return node;
  }
  node.append(svg("rect", { class: "nothing", width: size[0], height: size[1] }));
  if (large) {
    const text = svg("text", { class: "missing", x: size[0] / 2, y: size[1] / 2, "font-size": 12 * u }, plain(root.missing, 60));
    node.append(text);
  }
  return node;
}

/** An image at `width` x `height` screen pixels at most. `marks` are pairs of a mark's number and its state. */
function picture(trace, image, marks, width, height, text) {
  const size = trace.images[image - 1].size;
  const scale = Math.min(width / size[0], height / size[1]);
  const u = 1 / scale;
  const root = trace.images[trace.images[image - 1].root - 1];
  const node = svg("svg", {
    class: "image", viewBox: `0 0 ${size[0]} ${size[1]}`, width: Math.floor(size[0] * scale),
    height: Math.floor(size[1] * scale), role: "img", "aria-label": text,
  });
  node.append(ground(root, size, u, true));
  if (!state.marks) return node;
  const order = { gone: 0, kept: 1, new: 2 };
  const drawn = [...marks].sort((a, b) => order[a[1]] - order[b[1]]);
  for (const [key, status] of drawn) node.append(markGroup(trace.marks[key], key, status, u));
  const placed = [];
  for (const [key, status] of drawn.toReversed()) if (status !== "gone") node.append(label(trace.marks[key], size, u, placed));
  return node;
}

/** A small picture of an image with its marks. */
function thumbnail(trace, image) {
  const { size, marks, root } = trace.images[image - 1];
  const u = Math.max(size[0], size[1]) / 72;
  const node = svg("svg", { viewBox: `0 0 ${size[0]} ${size[1]}`, width: Math.round(size[0] / u), height: Math.round(size[1] / u), "aria-hidden": "true" });
  node.append(ground(trace.images[root - 1], size, u, false));
  for (const key of marks) {
    const mark = trace.marks[key];
    node.append(shape(mark, { stroke: `rgb(${data.palette[mark[7]].join(",")})`, "stroke-width": 2 * u }, u, 1));
  }
  return node;
}
