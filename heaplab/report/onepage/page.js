// What a reader can ask of a report: sorted tables, curves under a cursor, what lies under the pointer in a map.
// The data is in the script element #report; whole.py, curves.py and heaps.py, beside this file, say what it holds.

const report = JSON.parse(document.getElementById("report").textContent);
const SVG = "http://www.w3.org/2000/svg";

// ---- words ----

const counted = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });

/** Bytes with three figures and a binary unit, as heaplab.units.format_size writes them. */
function formatSize(bytes) {
  const units = ["B", "KiB", "MiB", "GiB"];
  let unit = 0;
  while (Math.abs(bytes) >= 1024 && unit < 3) {
    bytes /= 1024;
    unit += 1;
  }
  if (!unit) return `${bytes.toFixed(0)} B`;
  const size = Math.abs(bytes);
  return `${bytes.toFixed(size < 9.995 ? 2 : size < 99.95 ? 1 : 0)} ${units[unit]}`;
}

const formatShare = (share) => `${(100 * share).toFixed(1)}%`;

/** Nanoseconds as a duration. */
function formatTime(ns) {
  const [unit, name] = ns >= 1e9 ? [1e9, "s"] : ns >= 1e6 ? [1e6, "ms"] : [1e3, "us"];
  return `${(ns / unit).toPrecision(3)} ${name}`;
}

function make(name, attributes = {}, ...children) {
  const svg = ["svg", "path", "line", "text", "circle", "g", "rect"].includes(name);
  const element = svg ? document.createElementNS(SVG, name) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

// ---- tables ----

/** Let a click on a title, or Enter, sort the table: upwards, downwards, as it was. */
function makeSortable(table) {
  const body = table.tBodies[0];
  const original = [...body.rows];
  const titles = [...table.tHead.rows[0].cells];
  titles.forEach((title, column) => {
    const button = make("button", { type: "button", title: title.textContent }, make("span", {}, title.textContent));
    title.replaceChildren(button);
    title.setAttribute("aria-sort", "none");
    button.addEventListener("click", () => {
      const next = { none: "ascending", ascending: "descending", descending: "none" }[title.getAttribute("aria-sort")];
      titles.forEach((other) => other.setAttribute("aria-sort", "none"));
      title.setAttribute("aria-sort", next);
      body.append(...(next === "none" ? original : sorted(original, column, next === "descending")));
    });
  });
}

/** Rows by a column: numbers as numbers, what is none last in either direction. */
function sorted(rows, column, downwards) {
  const key = (row) => {
    const cell = row.cells[column];
    if (cell.dataset.v !== undefined) return Number(cell.dataset.v);
    return column === 0 ? cell.textContent : null;
  };
  const numeric = rows.some((row) => typeof key(row) === "number");
  const keyed = rows.map((row, place) => ({ row, place, key: numeric || !column ? key(row) : row.cells[column].textContent }));
  keyed.sort((a, b) => {
    if (a.key === null || b.key === null) return (a.key === null) - (b.key === null) || a.place - b.place;
    const order = typeof a.key === "number" ? a.key - b.key : String(a.key).localeCompare(String(b.key));
    return (downwards ? -order : order) || a.place - b.place;
  });
  return keyed.map((each) => each.row);
}

/** Let the figure that is shown trace by trace be chosen. */
function makeMatrix() {
  const choice = document.getElementById("matrix-of");
  if (!choice) return;
  const table = document.querySelector("#matrix table");
  const rows = [...table.tBodies[0].rows];
  choice.addEventListener("change", () => {
    rows.forEach((row, place) => {
      report.matrix[choice.value].cells[place].forEach(([text, value], column) => {
        const cell = row.cells[column + 1];
        cell.textContent = text;
        if (value === null) delete cell.dataset.v;
        else cell.dataset.v = value;
      });
    });
    table.tBodies[0].append(...rows);
    for (const title of table.tHead.rows[0].cells) title.setAttribute("aria-sort", "none");
  });
}

// ---- curves ----

/** The last place whose value is not above `wanted`; -1 when there is none. */
function placeOf(values, wanted) {
  let low = 0, high = values.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (values[middle] <= wanted) low = middle + 1;
    else high = middle;
  }
  return low - 1;
}

/** Some round numbers from 0 (or below) up to `most`. */
function ticks(least, most, count) {
  const rough = (most - least) / count || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((digit) => digit * power).find((each) => each >= rough);
  const found = [];
  for (let at = Math.ceil(least / step) * step; at <= most + step / 1e6; at += step) found.push(Math.abs(at) < step / 1e6 ? 0 : at);
  return found;
}

const LEFT = 62, RIGHT = 12, TOP = 24, HEIGHT = 130, BETWEEN = 22, BELOW = 20;
const QUANTITIES = [
  { key: "heap", title: "heap", bytes: true },
  { key: "resident", title: "resident", bytes: true },
  { key: "external", title: "external fragmentation", bytes: false },
  { key: "internal", title: "internal fragmentation", bytes: false },
];

/** What is drawn of a trace: fragmentation where heaps were walked. */
const quantitiesOf = (trace) => QUANTITIES.filter(({ bytes }) => bytes || trace.runs.some((run) => run.walks.event.length));

/** Pixels that their curves take, one above the other. */
const heightOf = (quantities) => quantities.length * (TOP + HEIGHT) + (quantities.length - 1) * BETWEEN + BELOW;

/** The curves of one trace on one x axis, and one cursor for all of them. */
class Curves {
  constructor(room, trace) {
    this.trace = trace;
    this.grid = trace.grids.reduce((a, b) => (a.event.length >= b.event.length ? a : b));
    this.quantities = quantitiesOf(trace);
    this.axis = "events";
    this.shows = "fits";
    this.focused = new Set();
    this.at = this.grid.live.indexOf(Math.max(...this.grid.live));
    this.build(room);
    new ResizeObserver(() => this.draw()).observe(this.room);
    this.draw();
  }

  // what is drawn

  /** Where events lie on the axis. */
  x(event) {
    const clock = this.trace.clock;
    if (this.axis === "events" || !clock) return event;
    const at = placeOf(clock.event, event);
    if (at < 0) return clock.time[0];
    if (at === clock.event.length - 1) return clock.time[at];
    const part = (event - clock.event[at]) / (clock.event[at + 1] - clock.event[at]);
    return clock.time[at] + part * (clock.time[at + 1] - clock.time[at]);
  }

  /** A run's value after so many events, as it stands; null where nothing is known. */
  value(run, key, event) {
    const walk = key === "external" || key === "internal";
    const events = walk ? run.walks.event : this.trace.grids[run.grid].event;
    const at = placeOf(events, event);
    if (at < 0 || (run.ended && event > events[events.length - 1])) return null;
    return walk ? run.walks[key][at] : run[key][at];
  }

  /** In words, which walk the fragmentation at a moment is of. */
  walked(event) {
    const events = this.trace.runs.map((run) => run.walks.event).reduce((a, b) => (a.length >= b.length ? a : b), []);
    const at = placeOf(events, event);
    if (at < 0 || events[at] === event) return "";
    return ` Fragmentation is as the heaps were walked after ${counted.format(events[at])} events.`;
  }

  live(event) {
    const at = placeOf(this.grid.event, event);
    return at < 0 ? 0 : this.grid.live[at];
  }

  /** What is taken off a quantity's values: "nothing", "live", or "least". */
  baseOf(quantity) {
    if (!quantity.bytes) return "nothing";
    if (this.shows !== "fits") return this.shows;
    return this.trace.alike[quantity.key] === null ? "nothing" : "least";
  }

  base(quantity, event) {
    const kind = this.baseOf(quantity);
    if (kind === "nothing") return 0;
    if (kind === "live") return this.live(event);
    const values = this.trace.runs.map((run) => this.value(run, quantity.key, event)).filter((value) => value !== null);
    return values.length ? Math.min(...values) : 0;
  }

  /** The points of a run's curve: [event, value]. */
  points(run, quantity) {
    const walk = !quantity.bytes;
    const events = walk ? run.walks.event : this.trace.grids[run.grid].event;
    const values = walk ? run.walks[quantity.key] : run[quantity.key];
    return events.map((event, at) => [event, values[at] - this.base(quantity, event)]);
  }

  // the page

  build(room) {
    const name = `axis-${room.dataset.trace}`;
    const axis = ["events", "time"].map((kind) => {
      const radio = make("input", { type: "radio", name, value: kind });
      radio.checked = kind === this.axis;
      radio.disabled = kind === "time" && !this.trace.clock;
      radio.addEventListener("change", () => {
        this.axis = kind;
        this.draw();
      });
      return make("label", radio.disabled ? { title: "the trace has no times" } : {}, radio, `over ${kind}`);
    });
    const choice = make("select", { "aria-label": "what the curves show" });
    const kinds = { fits: "as fits", nothing: "values", live: "above live payload", least: "above the least" };
    for (const [value, text] of Object.entries(kinds)) choice.append(make("option", { value }, text));
    choice.addEventListener("change", () => {
      this.shows = choice.value;
      this.draw();
    });
    this.svg = make("svg", { role: "img", "aria-label": "curves of memory over the trace; the table below has their values" });
    this.slider = make("input", {
      type: "range", min: 0, max: this.grid.event.length - 1, value: this.at, "aria-label": "moment in the trace",
    });
    this.slider.addEventListener("input", () => this.move(Number(this.slider.value)));
    const follow = (event) => this.move(this.near(event.clientX));
    this.svg.addEventListener("pointermove", (event) => {
      if (event.pointerType === "mouse" || event.buttons) follow(event);
    });
    this.svg.addEventListener("pointerdown", follow);
    this.said = make("p", { class: "at" });
    this.liveKey = make("li", {}, make("i", { class: "area" }), "live payload");
    const key = make("ul", { class: "key" }, ...this.trace.runs.map((run) => {
      const look = report.allocators[run.allocator];
      return make("li", {}, this.swatch(look), look.name);
    }), this.liveKey);
    this.body = make("tbody");
    const titles = ["allocator", ...this.quantities.map(({ title }) => title.replace(" fragmentation", "\nfragm."))];
    const head = make("tr", {}, ...titles.map((title) => make("th", { scope: "col" }, title)));
    this.cells = this.trace.runs.map((run) => this.row(run));
    this.room = make(
      "div", {},
      make("div", { class: "controls" }, ...axis, make("label", {}, "shown: ", choice)),
      key, this.svg, this.slider, this.said,
      make("div", { class: "wide" }, make("table", {}, make("thead", {}, head), this.body)),
    );
    room.replaceChildren(this.room);
  }

  /** A row of the table under the curves: the allocator, pressed to tell it from the others, and its values. */
  row(run) {
    const look = report.allocators[run.allocator];
    const button = make("button", { type: "button", class: "swatch", "aria-pressed": "false" }, this.swatch(look), look.name);
    button.addEventListener("click", () => {
      if (!this.focused.delete(run)) this.focused.add(run);
      button.setAttribute("aria-pressed", String(this.focused.has(run)));
      this.fade();
    });
    const cells = this.quantities.map(() => make("td"));
    this.body.append(make("tr", {}, make("th", { scope: "row" }, button), ...cells));
    return cells;
  }

  /** A piece of an allocator's line. */
  swatch(look) {
    const line = this.stroke(make("line", { x1: 0, y1: 5, x2: 26, y2: 5, "stroke-width": 2.5 }), look);
    return make("svg", { "aria-hidden": "true" }, line);
  }

  stroke(element, look) {
    element.setAttribute("stroke", look.colour);
    if (look.dash) element.setAttribute("stroke-dasharray", look.dash);
    return element;
  }

  draw() {
    const width = this.room.clientWidth;
    if (!width) return;
    const height = heightOf(this.quantities);
    this.svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    this.svg.setAttribute("height", height);
    this.low = this.axis === "events" ? 0 : this.trace.clock.time[0];
    this.high = Math.max(this.x(this.trace.events), this.low + 1);
    this.across = (value) => LEFT + ((value - this.low) / (this.high - this.low)) * (width - LEFT - RIGHT);
    this.lines = [];
    this.dots = [];
    const parts = this.quantities.map((quantity, place) => this.panel(quantity, place * (TOP + HEIGHT + BETWEEN), width));
    this.svg.replaceChildren(...parts, this.below(height, width));
    this.liveKey.hidden = !this.svg.querySelector(".live");
    this.fade();
    this.move(this.at);
  }

  panel(quantity, top, width) {
    const panel = make("g", { transform: `translate(0 ${top})` });
    const base = this.baseOf(quantity);
    const curves = this.trace.runs.map((run) => this.points(run, quantity));
    const shown = curves.flat().map((point) => point[1]);
    const withLive = quantity.bytes && base === "nothing";
    if (withLive) shown.push(...this.grid.live);
    const most = Math.max(...shown, 0), least = Math.min(...shown, 0);
    const unit = quantity.bytes ? this.unitOf(Math.max(most, -least)) : { size: 0.01, name: "%" };
    const span = most - least || unit.size;
    const along = (value) => TOP + HEIGHT - ((value - least) / span) * HEIGHT;
    const above = { nothing: "", live: " above live payload", least: " above the least" }[base];
    const of = quantity.bytes ? `, ${unit.name}` : ", % of the heap";
    panel.append(make("text", { x: 0, y: 13, class: "title" }, `${quantity.title}${above}${of}`));
    for (const tick of ticks(least / unit.size, (least + span) / unit.size, 4)) {
      const y = along(tick * unit.size);
      panel.append(make("line", { class: "axis", x1: LEFT, x2: width - RIGHT, y1: y, y2: y }));
      panel.append(make("text", { x: LEFT - 6, y: y + 4, "text-anchor": "end" }, String(Number(tick.toPrecision(4)))));
    }
    const path = (points) => points.map(([event, value], at) =>
      `${at ? "L" : "M"}${this.across(this.x(event)).toFixed(1)} ${along(value).toFixed(1)}`).join("");
    if (withLive) {
      const live = this.grid.event.map((event, at) => [event, this.grid.live[at]]);
      const [first, last] = [live[0], live[live.length - 1]].map(([event]) => this.across(this.x(event)).toFixed(1));
      panel.append(make("path", { class: "live", d: `${path(live)}L${last} ${along(0)}L${first} ${along(0)}Z` }));
    }
    curves.forEach((points, place) => {
      if (!points.length) return;
      const run = this.trace.runs[place], look = report.allocators[run.allocator];
      const line = this.stroke(make("path", { class: "line", d: path(points) }), look);
      panel.append(line);
      this.lines.push([line, run]);
      if (run.ended) {
        const [event, value] = points[points.length - 1];
        const end = make("text", { x: this.across(this.x(event)), y: along(value) + 4, "text-anchor": "middle", style: `fill:${look.colour};font-weight:700` }, "\u00d7");
        panel.append(end);
        this.lines.push([end, run]);
      }
      const dot = make("circle", { r: 3.2, fill: look.colour });
      panel.append(dot);
      this.lines.push([dot, run]);
      this.dots.push({ dot, run, quantity, along });
    });
    const cursor = make("line", { class: "cursor", y1: TOP, y2: TOP + HEIGHT });
    panel.append(cursor);
    this.dots.push({ cursor });
    return panel;
  }

  unitOf(bytes) {
    const name = formatSize(bytes).split(" ")[1];
    return { size: { B: 1, KiB: 2 ** 10, MiB: 2 ** 20, GiB: 2 ** 30 }[name], name };
  }

  below(height, width) {
    const group = make("g");
    const time = this.axis === "time";
    const unit = !time ? 1 : this.high - this.low >= 1e9 ? 1e9 : this.high - this.low >= 1e6 ? 1e6 : 1e3;
    const name = !time ? "" : { 1e9: " s", 1e6: " ms", 1e3: " us" }[unit];
    for (const tick of ticks(0, (this.high - this.low) / unit, Math.max(2, Math.min(6, Math.floor(width / 110))))) {
      const at = this.across(this.low + tick * unit);
      const anchor = at > width - 40 ? "end" : "middle";
      group.append(make("text", { x: at, y: height - 4, "text-anchor": anchor }, `${time ? Number(tick.toPrecision(4)) : counted.format(tick)}${name}`));
    }
    return group;
  }

  fade() {
    for (const [element, run] of this.lines) {
      element.classList.toggle("faded", this.focused.size > 0 && !this.focused.has(run));
    }
  }

  // the cursor

  /** The moment that lies next to a place on the screen. */
  near(clientX) {
    const wanted = clientX - this.svg.getBoundingClientRect().left;
    const places = this.grid.event.map((event) => this.across(this.x(event)));
    const at = placeOf(places, wanted);
    if (at < 0) return 0;
    if (at === places.length - 1) return at;
    return wanted - places[at] < places[at + 1] - wanted ? at : at + 1;
  }

  move(at) {
    this.at = at;
    const event = this.grid.event[at];
    const x = this.across(this.x(event));
    for (const { dot, cursor, run, quantity, along } of this.dots) {
      if (cursor) {
        cursor.setAttribute("x1", x);
        cursor.setAttribute("x2", x);
        continue;
      }
      const value = this.value(run, quantity.key, event);
      dot.setAttribute("visibility", value === null ? "hidden" : "visible");
      if (value === null) continue;
      const walked = quantity.bytes ? event : run.walks.event[placeOf(run.walks.event, event)];
      dot.setAttribute("cx", this.across(this.x(walked)));
      dot.setAttribute("cy", along(value - this.base(quantity, event)));
    }
    const clock = this.trace.clock;
    const when = clock ? `, ${formatTime(this.atTime(event) - clock.time[0])}` : "";
    const words = `After ${counted.format(event)} of ${counted.format(this.trace.events)} events${when}: ${formatSize(this.live(event))} live.${this.walked(event)}`;
    this.said.textContent = words;
    this.slider.value = at;
    this.slider.setAttribute("aria-valuetext", words);
    this.trace.runs.forEach((run, place) => {
      this.quantities.forEach(({ key, bytes }, column) => {
        const value = this.value(run, key, event);
        this.cells[place][column].textContent = value === null ? "-" : bytes ? formatSize(value) : formatShare(value);
      });
    });
  }

  atTime(event) {
    const clock = this.trace.clock;
    return clock.time[Math.max(placeOf(clock.event, event), 0)];
  }
}

// ---- maps ----

/** What lies under a pixel of a map, in words. */
function underPixel(map, pixel) {
  let start = pixel * map.cell, address = null;
  for (const [begin, size] of map.regions) {
    if (start < size) {
      address = begin + start;
      break;
    }
    start -= size;
  }
  if (address === null) return `${map.title}: beyond the heap's end`;
  const [payload, overhead] = [0, 1].map((part) => map.known[2 * pixel + part] / 255);
  const share = (value) => `${Math.round(100 * value)} %`;
  return `${map.title}: 0x${address.toString(16)}, ${formatSize(pixel * map.cell)} into the heap: `
    + `${share(payload)} payload, ${share(overhead)} overhead, ${share(Math.max(0, 1 - payload - overhead))} free`;
}

function makeMaps(room) {
  const maps = report.traces[room.dataset.trace].maps;
  const said = room.nextElementSibling;
  for (const button of room.querySelectorAll("button.map")) {
    const map = maps[button.dataset.map];
    const image = button.querySelector("img");
    button.addEventListener("pointermove", (event) => {
      map.known ??= Uint8Array.from(atob(map.shares), (letter) => letter.charCodeAt(0));
      const box = image.getBoundingClientRect();
      const column = Math.floor(((event.clientX - box.left) / box.width) * map.columns);
      const row = Math.floor(((event.clientY - box.top) / box.height) * map.rows);
      if (column >= 0 && row >= 0 && column < map.columns && row < map.rows) {
        said.textContent = underPixel(map, row * map.columns + column);
      }
    });
    button.addEventListener("click", () => openMap(map, maps));
  }
}

/** Open the heap at the moment of a map, where the page has it, and tell how the whole view is opened. */
function openMap(map, maps) {
  const dialog = make("dialog", { "aria-label": map.title }, make("b", {}, map.title));
  const buttons = make("form", { method: "dialog" }, make("button", {}, "close"));
  let shown = null;
  if (map.moment && globalThis.heaplabPages) {
    const place = make("div", { class: "heap" });
    const beside = make("select", { "aria-label": "beside it" }, make("option", { value: "" }, "nothing"));
    maps.forEach((other, at) => {
      if (other !== map && other.moment) beside.append(make("option", { value: at }, other.allocator));
    });
    const show = async () => {
      const { mountHeap, fromBase64 } = globalThis.heaplabPages;
      const both = [map, ...(beside.value ? [maps[beside.value]] : [])];
      (await shown)?.destroy();
      shown = mountHeap(place, both.map(({ moment }) => fromBase64(moment)), {});
    };
    beside.addEventListener("change", show);
    if (beside.options.length > 1) dialog.append(make("label", { class: "controls" }, "beside it: ", beside));
    dialog.append(place);
    dialog.classList.add("large");
    show();
  }
  if (map.command.startsWith("heaplab ")) dialog.append(...command(map, buttons));
  else dialog.append(make("p", { class: "note" }, map.command));
  dialog.append(buttons);
  dialog.addEventListener("close", async () => {
    dialog.remove();
    (await shown)?.destroy();
  });
  document.body.append(dialog);
  dialog.showModal();
}

/** The command that opens the whole view, to copy. */
function command(map, buttons) {
  const code = make("code", {}, map.command);
  const copy = make("button", { type: "button" }, "copy");
  copy.addEventListener("click", () => {
    getSelection().selectAllChildren(code);
    document.execCommand("copy"); // pages from a file have no navigator.clipboard
    copy.textContent = "copied";
  });
  buttons.prepend(copy);
  return [make("p", { class: "note" }, "This command makes a page of the whole run, from its first event to its last:"), code];
}

// ---- all of it ----

document.querySelectorAll("table.sortable").forEach(makeSortable);
makeMatrix();
document.querySelectorAll(".maps").forEach(makeMaps);

// Curves are drawn when they come near, for a page may have hundreds; their room is kept until then.
const undrawn = new Set(document.querySelectorAll(".curves"));
const seen = new IntersectionObserver((entries) => {
  for (const { isIntersecting, target } of entries) if (isIntersecting) drawCurves(target);
}, { rootMargin: "600px" });

function drawCurves(room) {
  if (!undrawn.delete(room)) return;
  seen.unobserve(room);
  new Curves(room, report.traces[room.dataset.trace]);
  room.style.minHeight = "";
}

for (const room of undrawn) {
  const trace = report.traces[room.dataset.trace];
  room.style.minHeight = `${heightOf(quantitiesOf(trace)) + 170 + 26 * trace.runs.length}px`; // controls, table
  seen.observe(room);
}
addEventListener("beforeprint", () => undrawn.forEach(drawCurves));
