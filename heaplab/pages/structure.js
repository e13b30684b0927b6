// The free structure of one design as a drawing of its own: a tree where entries branch, else a row for each list.
import { bytesText, addressText, make, plural } from "./words.js";
import { where } from "./strip.js";

const MOST_NODES = 31;
const MOST_ROWS = 40;
const MOST_IN_ROW = 12;
const SIDED = /^(root|[LR]+)( |$)|^slot \d+$/; // places in a binary tree
const SVG = "http://www.w3.org/2000/svg";

// Return an element that shows entries [{start, size, under, group, place}]; `pick(entry)` is called for a click.
export function drawStructure(entries, pick) {
  if (!entries.length) return make("p", { class: "heaplab-note" }, "Nothing is free in it.");
  const followers = new Map();
  for (const entry of entries) {
    const from = `${entry.group} ${entry.under}`;
    followers.set(from, [...(followers.get(from) || []), entry]);
  }
  const branches = entries.some((entry) => (followers.get(`${entry.group} ${entry.start}`) || []).length > 1);
  return branches || entries.every((entry) => SIDED.test(entry.place)) ? tree(entries, pick) : rows(entries, pick);
}

// Say under each drawing that is larger than its place how to see the rest; begin with a tree's root.
export function settle(element) {
  for (const box of element.querySelectorAll(".heaplab-scroll")) {
    const root = Number(box.dataset.root || 0);
    if (root > box.clientWidth) box.scrollLeft = root - box.clientWidth / 2;
    const [wide, tall] = [box.scrollWidth > box.clientWidth + 1, box.scrollHeight > box.clientHeight + 1];
    box.nextElementSibling.textContent = wide || tall ? `Larger than its place: scroll ${[wide && "sideways", tall && "down"].filter(Boolean).join(" and ")} to see the rest.` : "";
  }
}

// What scrolls, and under it what always stays in sight.
function scrolling(content, attributes, ...notes) {
  const said = notes.filter(Boolean).map((text) => make("p", { class: "heaplab-note" }, text));
  return make("div", {}, make("div", { class: "heaplab-scroll", tabindex: "0", role: "region", ...attributes }, content), make("p", { class: "heaplab-note" }), ...said);
}

// The side of its parent on which an entry of a binary tree hangs: -1 left, 1 right, 0 it has none.
function side({ place }) {
  const slot = /^slot (\d+)$/.exec(place);
  if (slot) return Number(slot[1]) === 0 ? 0 : Number(slot[1]) % 2 ? -1 : 1;
  const way = /^[LR]*([LR])( |$)/.exec(place);
  return way ? { L: -1, R: 1 }[way[1]] : 0;
}

function rows(entries, pick) {
  const groups = new Map();
  for (const entry of entries) {
    if (!groups.has(entry.group)) groups.set(entry.group, []);
    groups.get(entry.group).push(entry);
  }
  const items = [...groups].slice(0, MOST_ROWS).map(([group, list]) => {
    const boxes = list.slice(0, MOST_IN_ROW).map((entry) => make("button", { type: "button", class: "heaplab-entry", title: `${addressText(entry.start)}, ${where(entry)}`, onclick: () => pick(entry) }, bytesText(entry.size)));
    const rest = list.length - boxes.length;
    return make("li", {}, make("b", {}, `${group || "list"} (${list.length})`), ...boxes, rest > 0 ? make("span", { class: "heaplab-note" }, `and ${rest} more`) : null);
  });
  const rest = groups.size > MOST_ROWS ? `and ${groups.size - MOST_ROWS} more lists` : "";
  return scrolling(make("ul", { class: "heaplab-rows" }, ...items), { "aria-label": "lists of free blocks" }, rest);
}

// The upper part of a tree, at most MOST_NODES entries, each under the entry that leads to it.
function tree(entries, pick) {
  const followers = new Map();
  for (const entry of entries) followers.set(entry.under, [...(followers.get(entry.under) || []), entry]);
  const roots = followers.get(0) || [];
  const shown = [];
  let front = roots.map((entry) => ({ entry, depth: 0, parent: null, below: [] }));
  const tops = front;
  while (front.length && shown.length + front.length <= MOST_NODES) {
    shown.push(...front);
    front = front.flatMap((node) => {
      node.below = (followers.get(node.entry.start) || []).map((entry) => ({ entry, depth: node.depth + 1, parent: node, below: [] }));
      return node.below;
    });
  }
  for (const node of front) if (node.parent) node.parent.below = [];
  const [step, drop] = [62, 40];
  let leaves = 0;
  const place = (node) => {
    const only = node.below.length === 1 ? side(node.below[0].entry) : 0;
    if (!node.below.length) node.x = leaves++ * step + step / 2;
    else {
      if (only > 0) leaves += 0.5; // room for the parent beside its only child
      node.below.forEach(place);
      if (only < 0) leaves += 0.5;
      node.x = (node.below[0].x + node.below.at(-1).x) / 2 - (only * step) / 2;
    }
    node.y = node.depth * drop + 20;
  };
  tops.forEach(place);
  const height = Math.max(...shown.map((node) => node.y)) + 16;
  const right = Math.max(...shown.map((node) => node.x)) + step / 2;
  const svg = draw("svg", { width: right, height, role: "group", "aria-label": "tree of free blocks" });
  for (const node of shown) {
    if (node.parent) svg.append(draw("line", { x1: node.parent.x, y1: node.parent.y + 11, x2: node.x, y2: node.y - 11, class: "heaplab-link" }));
  }
  for (const node of shown) {
    const { entry } = node;
    const colour = / (red|black)$/.exec(entry.place)?.[1];
    const group = draw("g", { class: colour ? `heaplab-node heaplab-${colour}` : "heaplab-node", tabindex: "0", role: "button", "aria-label": `free, ${bytesText(entry.size)} at ${addressText(entry.start)}, ${where(entry)}` });
    const title = draw("title");
    title.textContent = `${addressText(entry.start)}, ${where(entry)}`;
    const text = draw("text", { x: node.x, y: node.y + 4, "text-anchor": "middle" });
    text.textContent = bytesText(entry.size);
    group.append(title, draw("rect", { x: node.x - 28, y: node.y - 11, width: 56, height: 22, rx: 4 }), text);
    if (colour === "red") {
      const letter = draw("text", { x: node.x - 25, y: node.y - 7, "text-anchor": "middle" });
      letter.textContent = "R";
      group.append(draw("circle", { cx: node.x - 25, cy: node.y - 11, r: 7 }), letter);
    }
    group.addEventListener("click", () => pick(entry));
    group.addEventListener("keydown", (event) => event.key === "Enter" && pick(entry));
    svg.append(group);
  }
  const rest = entries.length - shown.length;
  const below = rest > 0 ? `and ${plural(rest, "entry").replace("entrys", "entries")} below` : "";
  const coloured = shown.some(({ entry }) => /(red|black)$/.test(entry.place)) ? "A red edge with the letter R: a red node. The others are black." : "";
  return scrolling(svg, { "data-root": tops[0].x, "aria-label": "tree of free blocks" }, below, coloured);
}

function draw(name, attributes = {}) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
}
