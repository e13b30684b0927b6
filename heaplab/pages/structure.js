// The free structure of one design as a drawing of its own: a tree where entries branch, else a row for each list.
import { bytesText, addressText, make, plural } from "./words.js";
import { where } from "./strip.js";

const MOST_NODES = 31;
const MOST_ROWS = 40;
const MOST_IN_ROW = 12;
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
  return branches ? tree(entries, pick) : rows(entries, pick);
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
  if (groups.size > MOST_ROWS) items.push(make("li", { class: "heaplab-note" }, `and ${groups.size - MOST_ROWS} more lists`));
  return make("ul", { class: "heaplab-rows" }, ...items);
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
    if (!node.below.length) node.x = leaves++ * step + step / 2;
    else {
      node.below.forEach(place);
      node.x = (node.below[0].x + node.below.at(-1).x) / 2;
    }
    node.y = node.depth * drop + 14;
  };
  tops.forEach(place);
  const height = Math.max(...shown.map((node) => node.y)) + 16;
  const svg = draw("svg", { width: Math.max(leaves * step, step), height, role: "group", "aria-label": "tree of free blocks" });
  for (const node of shown) {
    if (node.parent) svg.append(draw("line", { x1: node.parent.x, y1: node.parent.y + 11, x2: node.x, y2: node.y - 11, class: "heaplab-link" }));
  }
  for (const node of shown) {
    const { entry } = node;
    const group = draw("g", { class: "heaplab-node", tabindex: "0", role: "button", "aria-label": `free, ${bytesText(entry.size)} at ${addressText(entry.start)}, ${where(entry)}` });
    const title = draw("title");
    title.textContent = `${addressText(entry.start)}, ${where(entry)}`;
    const text = draw("text", { x: node.x, y: node.y + 4, "text-anchor": "middle" });
    text.textContent = bytesText(entry.size);
    group.append(title, draw("rect", { x: node.x - 28, y: node.y - 11, width: 56, height: 22, rx: 4 }), text);
    group.addEventListener("click", () => pick(entry));
    group.addEventListener("keydown", (event) => event.key === "Enter" && pick(entry));
    svg.append(group);
  }
  const rest = entries.length - shown.length;
  return make("div", { class: "heaplab-tree", "data-root": tops[0].x }, svg, rest > 0 ? make("p", { class: "heaplab-note" }, `and ${plural(rest, "entry").replace("entrys", "entries")} below`) : null);
}

function draw(name, attributes = {}) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
}
