// A view: one window of time and addresses, one moment and one block, seen in several drawings at once.
import { Layer, inks } from "./canvas.js";
import { QUALITIES, scheme } from "./colours.js";
import { Curves } from "./curves.js";
import { HeapMap } from "./map.js";
import { FREE, METADATA } from "./model.js";
import { Strip } from "./strip.js";
import { drawStructure, settle } from "./structure.js";
import { addressText, bytesText, countText, make, plural } from "./words.js";

const LEAST_EVENTS = 3; // the closest zoom: so many events, and so many bytes
const LEAST_BYTES = 12;
const FRAME = 9; // milliseconds of a frame for drawing: the browser needs the others
// How fast events happen when they are played: [name, what the menu says].
const SPEEDS = [
  ["10 s", "the window in 10 s"],
  ["60 s", "the window in 60 s"],
  ["100", "100 events a second"],
  ["10", "10 events a second"],
  ["1", "1 event a second"],
];
const SETTLED = 150; // milliseconds without a change before the server is asked

export class View {
  // data: a Data; transport: null, or {window, moment, block}, each returning a promise of a container as Data.
  // options: timeline (false: the heap at one moment alone), moment, quality, process.
  constructor(element, data, transport, options = {}) {
    this.root = element;
    this.data = data;
    this.transport = transport;
    this.timeline = options.timeline !== false;
    this.moment = options.moment ?? data.interesting;
    this.quality = options.quality ?? "size";
    this.process = options.process ?? data.busiest;
    this.row = this.hovered = -1;
    this.fetched = new Map();
    this.blocks = new Map();
    this.waiting = new Set();
    this.windows = [];
    this.window = this.home();

    element.classList.add("heaplab");
    element.heaplab = this;
    this.inks = inks(element);
    this.maps = this.timeline ? data.runs.map((run) => new HeapMap(this, run)) : [];
    this.curves = this.timeline ? new Curves(this) : null;
    this.strips = data.runs.map((run) => new Strip(this, run));
    this._build();
    this.change({ blocks: true });

    this.observer = new ResizeObserver(() => {
      Layer.resized();
      this.change({ blocks: true });
    });
    this.observer.observe(element);
    this.dark = matchMedia("(prefers-color-scheme: dark)");
    this.themed = () => this.retheme();
    this.dark.addEventListener("change", this.themed);
  }

  // Stop listening to what is outside the element.
  destroy() {
    this.observer.disconnect();
    this.dark.removeEventListener("change", this.themed);
    cancelAnimationFrame(this.playing);
    this.root.replaceChildren();
  }

  whole() {
    const bytes = Math.max(...this.data.runs.map((run) => run.space.size), LEAST_BYTES);
    return { x0: 0, x1: Math.max(this.data.events, LEAST_EVENTS), y0: 0, y1: bytes };
  }

  // What there is to see of the chosen process: all events, and the addresses that its blocks ever had.
  home() {
    const whole = this.whole();
    if (this.data.manifest.levels) return whole; // the rows are not all there are
    const { low, high } = this.data.extent(this.process);
    return high > low ? { ...whole, y0: low, y1: Math.max(high, low + LEAST_BYTES) } : whole;
  }

  get differs() {
    return this.quality === "place";
  }

  // Are the blocks of a run that live at this event known, those in the window's addresses?
  isExact(event, run) {
    const [from, to] = this.data.exact;
    if (event >= from && event < to) return true;
    const { y0, y1 } = this.window;
    return this.windows.some((each) => each.run === run && each.y0 !== undefined && event >= each.from && event < each.to && each.y0 <= y0 && y1 <= each.y1);
  }

  // Are all blocks of a run known that are in its heap at the chosen moment?
  isWhole(run) {
    const { moment } = this;
    const [from, to] = this.data.exact;
    return moment === 0 || (moment > from && moment <= to) || this.windows.some((each) => each.run === run && each.moment === moment);
  }

  // ---- what hands ask for ----

  // Move the window by parts of itself.
  pan(across, down) {
    const { x0, x1, y0, y1 } = this.window;
    this.look({ x0: x0 + across * (x1 - x0), x1: x1 + across * (x1 - x0), y0: y0 + down * (y1 - y0), y1: y1 + down * (y1 - y0) });
  }

  // Zoom by a factor around a place, in parts of the window.
  zoom(factor, x = 0.5, y = 0.5, { time = true, address = true } = {}) {
    const { x0, x1, y0, y1 } = this.window;
    const next = { ...this.window };
    const whole = this.whole();
    if (time && this.timeline) {
      const events = Math.min(Math.max((x1 - x0) / factor, LEAST_EVENTS), whole.x1);
      next.x0 = x0 + x * (x1 - x0 - events);
      next.x1 = next.x0 + events;
    }
    if (address) {
      const bytes = Math.min(Math.max((y1 - y0) / factor, LEAST_BYTES), whole.y1);
      next.y0 = y0 + y * (y1 - y0 - bytes);
      next.y1 = next.y0 + bytes;
    }
    this.look(next);
  }

  // Show a window, moved so that it stays within the run and the heaps.
  look(window) {
    const whole = this.whole();
    const inside = (low, high, end) => {
      const span = Math.min(high - low, end);
      const start = Math.min(Math.max(low, 0), end - span);
      return [start, start + span];
    };
    const [x0, x1] = inside(window.x0, window.x1, whole.x1);
    const [y0, y1] = inside(window.y0, window.y1, whole.y1);
    this.window = { x0, x1, y0, y1 };
    this.change({ blocks: true });
    this._ask();
  }

  // Move the window to bytes [low, high) of the heap when it does not show them.
  reveal(low, high) {
    const { y0, y1 } = this.window;
    if (low >= y0 && high <= y1) return;
    const middle = (low + high) / 2;
    this.look({ ...this.window, y0: middle - (y1 - y0) / 2, y1: middle + (y1 - y0) / 2 });
  }

  // Zoom to a block, under the run that is asked or the first one that has it.
  zoomTo(row, run = this.data.runs.find((each) => each.low[row] >= 0)) {
    if (!run) return;
    const [events, bytes] = [Math.max(this.data.lifetime(row), 4), Math.max(run.high[row] - run.low[row], 16)];
    const { born } = this.data;
    this.look({ x0: born[row] - events, x1: born[row] + 2 * events, y0: run.low[row] - 3 * bytes, y1: run.high[row] + 3 * bytes });
  }

  hover(found) {
    this.hovered = found ? found.row : -1;
    this._tip(found);
    this.change({});
  }

  // Choose a moment, a block, or both.
  choose({ row, moment }) {
    if (row !== undefined) this.row = row;
    if (moment !== undefined && this.timeline) this.moment = Math.min(Math.max(Math.round(moment), 0), this.data.events);
    this.change({});
    this._ask();
  }

  // Go where the address bar says: at=K, the moment after event K; block=SLOT, the block that has the slot then.
  follow(said) {
    if (said.has("at")) this.choose({ moment: Number(said.get("at")) + 1 });
    if (!said.has("block")) return;
    const slot = Number(said.get("block"));
    const { data } = this;
    for (let row = 0; row < data.rows; row++) {
      if (data.slot[row] === slot && data.process[row] === this.process && data.alive(row, this.moment)) this.choose({ row });
    }
  }

  paint(quality) {
    this.quality = quality;
    this.menu.querySelector("select").value = quality;
    for (const each of [...this.maps, ...this.strips]) each.recolour();
    this.change({ blocks: true });
  }

  retheme() {
    this.inks = inks(this.root);
    this.paint(this.quality);
  }

  // Answer a key; return true when it has a meaning.
  key(event) {
    const far = 0.12;
    const axes = { time: !event.shiftKey || "+_".includes(event.key), address: !event.altKey };
    const actions = {
      ArrowLeft: () => this.pan(-far, 0),
      ArrowRight: () => this.pan(far, 0),
      ArrowUp: () => this.pan(0, -far),
      ArrowDown: () => this.pan(0, far),
      "+": () => this.zoom(1.5, 0.5, 0.5, axes),
      "=": () => this.zoom(1.5, 0.5, 0.5, axes),
      "-": () => this.zoom(1 / 1.5, 0.5, 0.5, axes),
      _: () => this.zoom(1 / 1.5, 0.5, 0.5, axes),
      0: () => this.look(this.home()),
      Home: () => this.look(this.home()),
      ",": () => this.choose({ moment: this.moment - 1 }),
      ".": () => this.choose({ moment: this.moment + 1 }),
      Escape: () => this.choose({ row: -1 }),
      Enter: () => this.row >= 0 && this.zoomTo(this.row),
    };
    if (!actions[event.key]) return false;
    actions[event.key]();
    return true;
  }

  // ---- what is known of the free structure and the pages at the chosen moment ----

  // {exact, moment, spans, free, pages, brk}: of the chosen moment where it is recorded or fetched; else exact is false and
  // free is as at the nearest recorded moment. Pages are those of the last recorded moment.
  recorded(run) {
    const known = `${run.number} ${this.moment} ${this.process}`;
    this.recordedCache ||= new Map();
    if (!this.recordedCache.has(known)) {
      if (this.recordedCache.size > 16) this.recordedCache.clear();
      this.recordedCache.set(known, this._recorded(run));
    }
    return this.recordedCache.get(known);
  }

  _recorded(run) {
    const asked = this.fetched.get(`${run.number} ${this.moment}`);
    const [source, key] = asked ? [asked.runs[0], 0] : [run, run.nearestKey(this.moment)];
    const moment = asked ? this.moment : this.data.keyMoments[key];
    const exact = moment === this.moment && this.moment <= run.last;
    const pages = asked ? 0 : run.keyBefore(this.moment);
    return {
      exact,
      moment,
      spans: source.spans(key, this.process),
      free: source.free(key, this.process),
      pages: source.pages(pages, this.process),
      brk: source.brk(key, this.process),
    };
  }

  // Ask the server for what the container lacks, once the hand rests.
  _ask() {
    if (!this.transport) return;
    clearTimeout(this.asking);
    this.asking = setTimeout(() => this._fetch(), SETTLED);
  }

  async _fetch() {
    const { moment } = this;
    for (const run of this.data.runs) {
      if (!this.isWhole(run)) await this._fetchLive(run, moment);
      if (moment <= run.last && !this.recorded(run).exact) await this._fetchMoment(run, moment);
      if (this.row >= 0 && this.data.alive(this.row, moment) && run.low[this.row] >= 0) await this._fetchBlock(run, moment, this.row);
      const { x0, x1 } = this.window;
      if (!this.isExact(x0, run) || !this.isExact(x1 - 1, run)) await this._fetchWindow(run);
    }
  }

  // Ask one question; say what is going on. Returns undefined when there was no answer.
  async _question(kind, question, what) {
    this.status.textContent = `computing ${what} …`;
    try {
      const found = await this.transport[kind](question);
      this.status.textContent = "";
      return found;
    } catch (error) {
      this.status.textContent = `${what}: ${error.message}`;
      return undefined;
    }
  }

  async _fetchMoment(run, moment) {
    const known = `${run.number} ${moment}`;
    if (this.fetched.has(known)) return;
    const found = await this._question("moment", { run: run.number, moment }, `moment ${countText(moment)}`);
    if (!found) return;
    if (this.fetched.size > 32) this.fetched.clear();
    this.fetched.set(known, found);
    this.recordedCache.clear();
    this.change({});
  }

  async _fetchBlock(run, moment, row) {
    const known = `${run.number} ${moment} ${row}`;
    if (this.blocks.has(known)) return;
    const question = { run: run.number, moment, process: this.data.process[row], start: run.start(row) };
    const found = await this._question("block", question, `block ${this.data.slot[row]}`);
    if (!found) return;
    if (this.blocks.size > 32) this.blocks.clear();
    this.blocks.set(known, found);
    this.change({});
  }

  async _fetchWindow(run) {
    const { x0, x1, y0, y1 } = this.window;
    const map = this.maps[run.number];
    const low = run.space.address(y0);
    const high = run.space.address(Math.min(y1, run.space.size) - 1) + 1;
    const [from, to] = [Math.max(Math.floor(x0), 0), Math.min(Math.ceil(x1), this.data.events)];
    const [width, height] = [Math.round(map.above.width), Math.round(map.above.height)];
    const question = { run: run.number, process: this.process, from, to, low, high, width, height };
    const found = await this._question("window", question, `events ${countText(from)} to ${countText(to)}`);
    if (!found) return;
    map.grid = found.manifest.mode === "grid" ? found : null;
    if (!map.grid) this._take(found, { run, from, to, y0, y1 });
    map.stale = true;
    this.change({ blocks: true });
  }

  // The blocks that are in the heap of a run at a moment, with their whole lives.
  async _fetchLive(run, moment) {
    const question = { run: run.number, process: this.process, from: Math.max(moment - 2, 0), to: moment };
    const found = await this._question("window", question, `moment ${countText(moment)}`);
    if (found?.manifest.mode === "blocks") this._take(found, { run, moment });
  }

  // Add the blocks of an answer; `part` says what they are all of.
  _take(found, part) {
    this.data.merge(found, part.run);
    this.windows = [...this.windows.slice(-31), part];
    for (const each of [...this.maps, ...this.strips]) each.recolour();
    for (const strip of this.strips) strip.known = "";
    this.told = "";
    this.change({ blocks: true });
  }

  // ---- drawing ----

  // Draw anew at the next frame; `blocks`: the maps' blocks too.
  change({ blocks = false }) {
    this.stale = this.stale || blocks;
    this.marks = true;
    for (const each of [this.curves, ...this.strips, this].filter(Boolean)) this.waiting.add(each);
    this._next();
  }

  _next() {
    if (this.frame) return;
    this.frame = requestAnimationFrame(() => {
      this.frame = 0;
      this.draw();
    });
  }

  // Is everything drawn as it is?
  get settled() {
    return !this.frame && !this.waiting.size;
  }

  // Draw what has changed: the maps first; then the rest, each in its turn, as long as the frame has time. What is left
  // waits for the next frame, so that a moving map stays smooth.
  draw() {
    const end = performance.now() + FRAME;
    if (this.stale) for (const map of this.maps) map.paint();
    if (this.marks) for (const map of this.maps) map.mark();
    this.stale = this.marks = false;
    for (const each of this.waiting) {
      this.waiting.delete(each);
      if (each === this) this._tell();
      else each.draw();
      if (performance.now() > end) break;
    }
    if (this.waiting.size) this._next();
  }

  _build() {
    const { data } = this;
    const several = data.runs.length > 1;
    this.tip = make("div", { class: "heaplab-tip", hidden: true, "aria-hidden": "true" });
    this.status = make("span", { class: "heaplab-status", role: "status" });
    this.legend = make("div", { class: "heaplab-legend" });
    this.table = make("div", { class: "heaplab-wide" });
    this.details = make("section", { class: "heaplab-details", "aria-live": "polite" });
    this.structures = make("section", { class: "heaplab-structures" });
    const qualities = QUALITIES.filter(
      ([name]) =>
        (name !== "place" || several) &&
        (name !== "process" || data.processes.length > 1) &&
        (name !== "thread" || data.threads.length > 1) &&
        (!["site", "stack"].includes(name) || data[name]) &&
        (name !== "page" || data.keyMoments.length) &&
        (this.timeline || !["page", "lifetime"].includes(name)),
    );
    this.menu = choice("colour by", qualities, this.quality, (value) => this.paint(value));
    const button = (text, title, action) => make("button", { type: "button", title, onclick: action }, text);
    const controls = [
      this.menu,
      data.processes.length > 1
        ? choice("process", data.processes.map((process) => [String(process), `${process}: ${plural(data.countOf(process), "block")}`]), String(this.process), (value) => {
            this.process = Number(value);
            this.row = -1;
            for (const map of this.maps) map.recolour();
            this.look(this.home());
          })
        : null,
      button("Zoom in", "closer: plus, or the wheel", () => this.zoom(2)),
      button("Zoom out", "farther: minus, or the wheel", () => this.zoom(0.5)),
      button("Show all", "the whole run: 0", () => this.look(this.home())),
      button("To the block", "zoom to the chosen block: Enter", () => this.row >= 0 && this.zoomTo(this.row)),
      this.status,
    ];
    const hands = make("p", { class: "heaplab-note" }, "Wheel: zoom. Drag or arrow keys: move. Click: choose a block" + (this.timeline ? " and a moment. Comma and full stop: one event back, one on." : "."));
    const help = make(
      "details",
      { class: "heaplab-help" },
      make("summary", {}, "How to read and move this"),
      make("p", {}, this.timeline
        ? "In a map each rectangle is a block of the program: its left edge is its malloc, its right edge its free, its height its " +
          "bytes. Time goes to the right, one step an event; addresses go down. The upright line in all drawings is the chosen moment; the thin stepped line is the break, where the heap ends."
        : "Each box is a block at its address. Addresses go to the right."),
      make("p", {}, "Drag to move. The wheel zooms: with shift addresses alone, with alt time alone. Two fingers pinch. Arrow keys move, plus and minus zoom, 0 shows all, comma and full stop step one event, Escape forgets the chosen block. Click a block to choose it."),
      make("p", {}, "In a strip: leaning strokes are free space; the shaded part at the left of a block is its header, the pale part at its right is padding; arrows are the links of the free structure, and one from above is where a list or tree begins; the bar below shows pages in memory, with strokes where a page is shared or copied. A dash-dotted line is where a part of the address space that no heap uses is cut out."),
    );
    const sentences = this._remarks().map((text) => text[0].toUpperCase() + text.slice(1) + ".");
    const remarks = sentences.length ? [make("p", { class: "heaplab-note" }, sentences.join(" "))] : [];
    const maps = make("div", { class: "heaplab-main" }, ...this.maps.map((map) => map.element));
    if (this.timeline) maps.append(this.curves.element, this._scrubber());
    maps.append(stripLegend(), ...this.strips.map((strip) => strip.element), this.structures);
    const side = make("div", { class: "heaplab-side" }, make("h2", {}, "At this moment"), this.table, this.details);
    this.root.replaceChildren(make("div", { class: "heaplab-tools" }, ...controls.filter(Boolean)), hands, this.legend, ...remarks, make("div", { class: "heaplab-body" }, maps, side), help, this.tip);
  }

  // The clock: one tick an event, as a range that keys and screen readers know.
  _scrubber() {
    const step = (count) => () => this.choose({ moment: this.moment + count });
    this.range = make("input", { type: "range", min: 0, max: this.data.events, step: 1, "aria-label": "moment: how many events have happened", oninput: () => this.choose({ moment: Number(this.range.value) }) });
    this.number = make("input", { type: "number", min: 0, max: this.data.events, "aria-label": "events done", title: "Events are numbered from 0: after event 9, ten events are done.", onchange: () => this.choose({ moment: Number(this.number.value) }) });
    this.play = make("button", { type: "button", title: "let the events happen", onclick: () => this._play() }, "Play");
    this.speed = SPEEDS[0][0];
    const speeds = choice("speed", SPEEDS, this.speed, (value) => {
      this.speed = value;
    });
    this.event = make("output", { class: "heaplab-event" });
    return make(
      "div",
      { class: "heaplab-clock" },
      make("div", { class: "heaplab-scrub" }, make("span", {}, "whole run"), this.range),
      make("div", { class: "heaplab-ticks" }, make("button", { type: "button", title: "one event back: comma", onclick: step(-1) }, "‹ Back"), this.play, make("button", { type: "button", title: "one event on: full stop", onclick: step(1) }, "On ›"), speeds, make("label", {}, "events done ", this.number), this.event),
    );
  }

  _play() {
    if (this.playing) {
      cancelAnimationFrame(this.playing);
      this.playing = 0;
      this.play.textContent = "Play";
      return;
    }
    this.play.textContent = "Stop";
    if (this.moment >= this.data.events) this.choose({ moment: 0 });
    let at = this.moment;
    let before = performance.now();
    const next = (now) => {
      const { x0, x1 } = this.window;
      const [number, unit] = this.speed.split(" ");
      const pace = unit ? (x1 - x0) / Number(number) : Number(number);
      at += (pace * Math.max(now - before, 0)) / 1000;
      before = now;
      if (at > x1 && this.moment <= x1 && x1 < this.data.events) this.look({ ...this.window, x0: x1, x1: x1 + (x1 - x0) });
      this.choose({ moment: Math.min(Math.floor(at), this.data.events) });
      if (at >= this.data.events) this._play();
      else this.playing = requestAnimationFrame(next);
    };
    this.playing = requestAnimationFrame(next);
  }

  _tip(found) {
    const { tip, root } = this;
    const text = !found ? "" : found.words || (found.row >= 0 ? this.data.summary(found.row, found.run) : `after event ${found.moment - 1}${found.address ? `, ${addressText(found.address)}` : ""}: no block here`);
    tip.hidden = !text;
    if (!text) return;
    tip.textContent = text;
    const box = root.getBoundingClientRect();
    const x = found.event.clientX - box.left;
    tip.style.left = `${Math.max(Math.min(x + 14, box.width - tip.offsetWidth - 4), 0)}px`;
    tip.style.top = `${found.event.clientY - box.top + 18}px`;
  }

  // ---- what is said in words ----

  _tell() {
    const { data, moment } = this;
    if (this.timeline) {
      this.range.value = this.number.value = moment;
      const text = moment === 0 ? "before the first event: the heap is empty" : `after event ${moment - 1}: ${data.eventText(moment - 1)}`;
      this.event.textContent = text;
      this.range.setAttribute("aria-valuetext", `moment ${moment} of ${data.events}, ${text}`);
    }
    const told = `${moment} ${this.row} ${this.quality} ${this.process} ${this.inks.theme} ${this.fetched.size} ${this.blocks.size}`;
    if (this.told === told) return;
    this.told = told;
    this._tellTable();
    this._tellBlock();
    this._tellLegend();
    this.curves?.tell();
    this._tellStructures();
  }

  _tellTable() {
    const { data, moment } = this;
    const figures = this.timeline ? this._figures() : this._figuresOfMoment();
    const { runs } = data;
    const head = make("tr", {}, make("th", {}, ""), ...runs.map((run) => make("th", { scope: "col" }, run.name)));
    const lines = figures.map(([name, value, title]) =>
      make("tr", { title }, make("th", { scope: "row" }, name), ...runs.map((run) => make("td", {}, value(run)))),
    );
    const calls = runs.flatMap((run) => run.callsOf(moment - 1).map((text) => `${run.name}: ${text}`));
    const notes = [
      this.timeline && data.processes.length > 1 ? "Bytes are those of all processes. " : "",
      this.timeline ? "References and faults are those of the event that led to this moment. " : "",
      calls.length ? `System calls: ${calls.join("; ")}.` : "",
    ];
    this.table.replaceChildren(
      make("table", {}, make("thead", {}, head), make("tbody", {}, ...lines)),
      make("p", { class: "heaplab-note" }, ...notes),
    );
    if (data.runs.length > 1) this.table.append(make("p", { class: "heaplab-differs" }, this._difference()));
  }

  // The rows of the table: [name, text of a run, what it means].
  _figures() {
    const { moment } = this;
    const bytes = (name) => (run) => bytesText(run.at(name, moment));
    const count = (name) => (run) => (run.knows(moment) ? countText(run.at(name, moment)) : "-");
    const ratio = (run) => (run.at("live", moment) ? (run.at("heap", moment) / run.at("live", moment)).toFixed(2) : "-");
    return [
      ["live", bytes("live"), "bytes the program asked for and has not freed"],
      ["heap", bytes("heap"), "address space that the design took from the system"],
      ["resident", bytes("resident"), "pages of it that are in memory"],
      ["heap ÷ live", ratio, ""],
      ["references", count("mems"), "the design's loads and stores for the event that led here"],
      ["page faults", count("faults"), "for the event that led here"],
    ];
  }

  // Those of a container without curves: sums over what is recorded.
  _figuresOfMoment() {
    const sum = (list, size) => bytesText(list.reduce((total, each) => total + size(each), 0));
    const rows = (run) => Array.from(this.strips[run.number].rows());
    const rest = (run, state) => this.recorded(run).spans.filter((span) => span.state === state);
    return [
      ["live", (run) => sum(rows(run), (row) => this.data.size[row]), "bytes the program asked for and has not freed"],
      ["blocks", (run) => sum(rows(run), (row) => run.span[row]), "bytes that live blocks take, with headers and padding"],
      ["free", (run) => sum(rest(run, FREE), (span) => span.size), "bytes that a later request can have"],
      ["the design's", (run) => sum(rest(run, METADATA), (span) => span.size), "bytes of the design's own, apart from blocks"],
      ["resident", (run) => sum(this.recorded(run).pages, (page) => (page.state === "zero" ? 0 : page.count * run.pageSize)), "pages in memory"],
    ];
  }

  // What differs between the first two designs at the chosen moment, in words.
  _difference() {
    const { data, moment } = this;
    const [one, other] = data.runs;
    const rows = this.strips[0].rows().filter((row) => other.low[row] >= 0);
    const apart = rows.filter((row) => data.distance(one, row) !== data.distance(other, row)).length;
    const more = one.at("heap", moment) - other.at("heap", moment);
    const heaps = more === 0 ? "Both heaps are as large" : `The heap of ${(more > 0 ? one : other).name} is ${bytesText(Math.abs(more))} larger`;
    const places = !rows.length ? "" : `${countText(apart)} of ${plural(rows.length, "block")} lie elsewhere, counted from where each heap starts.`;
    const free = data.runs.slice(0, 2).map((run) => [run, this.recorded(run)]);
    const said = free.every(([, { exact }]) => exact)
      ? ` Free: ${free.map(([run, { spans }]) => `${bytesText(spans.reduce((sum, each) => sum + (each.state === FREE ? each.size : 0), 0))} under ${run.name}`).join(", ")}.`
      : "";
    return [this.timeline && heaps, places].filter(Boolean).join("; ").replace(/(?<!\.)$/, ".") + said;
  }

  _tellBlock() {
    const { data, row, details } = this;
    if (row < 0) {
      details.replaceChildren(make("h2", {}, "Block"), make("p", { class: "heaplab-note" }, "None is chosen: click one, or use the arrow keys in a strip."));
      return;
    }
    const present = data.runs.filter((run) => run.low[row] >= 0);
    const first = present[0] || data.runs[0];
    const list = make("dl", {}, ...pairs(data.describe(row, first, this.moment)));
    const parts = [make("h2", {}, `Block ${data.slot[row]}`), data.runs.length > 1 ? make("p", { class: "heaplab-note" }, `Under ${first.name}:`) : "", list, this._content(row, first)];
    for (const run of data.runs) {
      if (run === first) continue;
      const same = data.describe(row, run, this.moment).filter(([name]) => ["address", "takes", "header"].includes(name));
      parts.push(make("p", { class: "heaplab-note" }, `Under ${run.name}, outlined there too:`), make("dl", {}, ...pairs(same)), this._content(row, run));
    }
    if (data.kind !== "moment") parts.push(this._history(row));
    details.replaceChildren(...parts);
  }

  // The bytes of a block and the design's words in it, where the server has told of them.
  _content(row, run) {
    const found = this.blocks.get(`${run.number} ${this.moment} ${row}`);
    if (!found) return "";
    const { columns } = found;
    const words = Array.from(columns["word.address"], (address, i) => [
      `${found.text(columns["word.name"][i])} at ${addressText(address)}`,
      `${found.text(columns["word.text"][i])}${columns["word.to"][i] ? `, leads to ${addressText(columns["word.to"][i])}` : ""}`,
    ]);
    const hex = Array.from(columns["byte.value"].subarray(0, 64), (value) => value.toString(16).padStart(2, "0"));
    const lines = [];
    for (let i = 0; i < hex.length; i += 8) lines.push(`${addressText(found.manifest.start + i)}  ${hex.slice(i, i + 8).join(" ")}`);
    return make("div", {}, make("dl", {}, ...pairs(words)), make("pre", {}, lines.join("\n")));
  }

  _history(row) {
    const { data } = this;
    const link = (each, text) => make("button", { type: "button", class: "heaplab-entry", onclick: () => this.choose({ row: each, moment: data.born[each] + 1 }) }, text);
    const chain = data.chain(row);
    const earlier = data.earlier(row);
    const list = make("ul", { class: "heaplab-rows" });
    if (chain.length > 1) {
      const at = chain.indexOf(row);
      const shown = chain.slice(Math.max(at - 4, 0), at + 5);
      list.append(make("li", {}, make("b", {}, "reallocs"), ...shown.map((each) => (each === row ? make("b", {}, bytesText(data.size[each])) : link(each, `${bytesText(data.size[each])} (event ${data.born[each]})`)))));
    }
    if (earlier.count) {
      list.append(make("li", {}, make("b", {}, `${plural(earlier.count, "earlier block")} of slot ${data.slot[row]}`), ...earlier.rows.map((each) => link(each, `${bytesText(data.size[each])} (event ${data.born[each]})`))));
    }
    return list.children.length ? make("div", {}, make("h3", {}, "History"), list) : make("p", { class: "heaplab-note" }, "The first block of its slot.");
  }

  // What a reader has to know.
  _remarks() {
    const { remarks = [], levels = [] } = this.data.manifest;
    return levels.length && this.timeline ? [...remarks, "elsewhere the maps show in grey how full memory is"] : remarks;
  }

  _tellLegend() {
    const { legend, note } = scheme(this.quality, this.data, this.data.runs[0], this.inks.theme);
    const said = Object.fromEntries(QUALITIES)[this.quality];
    const items = legend.map(({ colour, swatch, text }) => make("li", {}, make("span", { class: swatch ? "heaplab-swatch heaplab-halves" : "heaplab-swatch", style: `background: ${swatch || colour}` }), text));
    this.legend.replaceChildren(make("b", {}, `Colour: ${said}`), make("ul", {}, ...items), note ? make("span", { class: "heaplab-note" }, `(${note})`) : "");
  }

  _tellStructures() {
    const { data } = this;
    const parts = data.runs.map((run) => {
      const { exact, moment, free } = this.recorded(run);
      const title = make("h3", {}, `Free structure of ${run.name}${run.structure ? `: ${run.structure}` : ""}`);
      if (this.moment > run.last) return make("div", {}, title, make("p", { class: "heaplab-note" }, `This run ended after event ${run.last - 1}.`));
      if (moment === undefined) return make("div", {}, title, make("p", { class: "heaplab-note" }, "No moment of it is recorded."));
      const when = exact
        ? `At this moment: ${plural(free.length, "block")}.`
        : `As at moment ${moment}, the nearest recorded one: ${plural(free.length, "block")}. ` +
          (this.transport ? "The chosen moment is computed when the hand rests." : "heaplab view with --serve computes it at any moment.");
      const go = exact || !this.timeline ? "" : make("button", { type: "button", onclick: () => this.choose({ moment }) }, `Go to moment ${moment}`);
      const pick = (entry) => {
        const low = run.space.offset(entry.start);
        this.look({ ...this.window, y0: low - 2 * entry.size, y1: low + 3 * entry.size });
      };
      return make("div", {}, title, make("p", { class: "heaplab-note" }, when, " ", go), drawStructure(free, pick));
    });
    this.structures.replaceChildren(...parts);
    settle(this.structures);
  }
}

// What the patterns of a strip mean.
function stripLegend() {
  const item = (kind, text) => make("li", {}, make("span", { class: `heaplab-swatch heaplab-${kind}` }), text);
  return make(
    "ul",
    { class: "heaplab-patterns", "aria-label": "patterns of a strip" },
    make("li", {}, make("b", {}, "In a heap:")),
    item("block", "coloured: a block"),
    item("padding", "its pale part: padding"),
    item("free", "hatched: free"),
    item("page", "bar below: a page in memory"),
    make("li", {}, "arrows: links of the free structure"),
  );
}

function pairs(list) {
  return list.flatMap(([name, text]) => [make("dt", {}, name), make("dd", {}, text)]);
}

function choice(label, options, value, action) {
  const select = make("select", { onchange: () => action(select.value) }, ...options.map(([name, text]) => make("option", { value: name, selected: name === value }, text)));
  return make("label", {}, `${label} `, select);
}
