// The map of one design: time to the right, addresses down, a rectangle a block from its malloc to its free.
import { Layer, hatch, legible, line } from "./canvas.js";
import { NO_FRAME, PAGES, UNKNOWN, pixel, scheme } from "./colours.js";
import { listen } from "./gestures.js";
import { Raster, large } from "./raster.js";
import { addressText, bytesText, make, ticks } from "./words.js";

const NAMED = [52, 13]; // pixels: a block has its name in it from this width and height on

// `view` is the whole view: its data, its window {x0, x1, y0, y1}, the chosen moment and block, and what hands ask for.
export class HeapMap {
  constructor(view, run) {
    this.view = view;
    this.run = run;
    this.below = new Layer({ class: "heaplab-pixels", "aria-hidden": "true" });
    this.above = new Layer({
      class: "heaplab-marks",
      tabindex: "0",
      role: "img",
      "aria-label": `Map of ${run.name}: time to the right, addresses down. Arrow keys move, plus and minus zoom, 0 shows all.`,
    });
    this.axis = new Layer({ class: "heaplab-axis", "aria-hidden": "true" });
    this.title = make("h2", {}, run.name);
    this.verdict = make("span", { class: "heaplab-note" }, outcome(run));
    this.element = make(
      "section",
      { class: "heaplab-map" },
      make("header", {}, this.title, this.verdict),
      make("div", { class: "heaplab-plot" }, this.axis.canvas, make("div", { class: "heaplab-stack" }, this.below.canvas, this.above.canvas)),
    );
    this.raster = new Raster();
    this.scheme = null;
    listen(this.above.canvas, {
      pan: (dx, dy) => view.pan(-dx / this.above.width, -dy / this.above.height),
      zoom: (factor, x, y, axes) => view.zoom(factor, x / this.above.width, y / this.above.height, axes),
      hover: (x, y, event) => view.hover({ ...this.at(x, y), event, run }),
      leave: () => view.hover(null),
      click: (x, y) => {
        const { row, moment } = this.at(x, y);
        view.choose({ row, moment, run });
      },
      key: (event) => view.key(event),
    });
  }

  // What is at a point of the canvas: the row of the block (or -1), the moment, the address.
  at(x, y) {
    const { view, run } = this;
    const { x0, x1, y0, y1 } = view.window;
    const event = x0 + (x / this.above.width) * (x1 - x0);
    const offset = y0 + (y / this.above.height) * (y1 - y0);
    const moment = Math.min(Math.max(Math.floor(event) + 1, 0), view.data.events);
    const [events, bytes] = [(3 * (x1 - x0)) / this.above.width, (3 * (y1 - y0)) / this.above.height];
    return {
      row: view.data.rowNear(run, event, offset, events, bytes, view.process),
      moment,
      address: offset < run.space.size ? run.space.address(offset) : 0,
    };
  }

  // Where a row is on the canvas.
  box(row) {
    const { x0, x1, y0, y1 } = this.view.window;
    const { data } = this.view;
    const [sx, sy] = [this.above.width / (x1 - x0), this.above.height / (y1 - y0)];
    return {
      left: (data.born[row] - x0) * sx,
      right: (data.died[row] - x0) * sx,
      top: (this.run.low[row] - y0) * sy,
      bottom: (this.run.high[row] - y0) * sy,
    };
  }

  recolour() {
    const { view, run } = this;
    this.scheme = scheme(view.quality, view.data, run, view.inks.theme);
    this.stale = true;
    this.pageTable = this.scheme.pages ? pageTable(view.data, run, view.process) : null;
    this.bare = this.scheme.pages ? new Uint32Array(view.data.rows).fill(pixel(NO_FRAME.colour)) : null;
  }

  // Paint the blocks: all of them after a change of zoom, colours or size; only what comes into sight after a move.
  paint() {
    const { raster, below } = this;
    const fitted = [below, this.above, this.axis].map((layer) => layer.fit());
    if (!this.scheme) this.recolour();
    raster.resize(below.canvas.width, below.canvas.height);
    const parts = this._moved(fitted[0]);
    this._parts(parts);
    if (parts.length) below.context.putImageData(raster.image, 0, 0);
  }

  // Move the picture as far as the window moved since it was painted; return the parts to paint. The picture moves by whole
  // pixels: `picture` is the window that it shows, less than a pixel from the view's.
  _moved(resized) {
    const { raster, picture, view } = this;
    const { x0, x1, y0, y1 } = view.window;
    const [wide, high] = [x1 - x0, y1 - y0];
    const near = (one, other) => Math.abs(one - other) < 1e-9 * other;
    if (!resized && !this.stale && picture && near(picture.x1 - picture.x0, wide) && near(picture.y1 - picture.y0, high)) {
      const dx = Math.round(((picture.x0 - x0) * raster.width) / wide);
      const dy = Math.round(((picture.y0 - y0) * raster.height) / high);
      if (Math.abs(dx) < raster.width && Math.abs(dy) < raster.height) {
        picture.x0 -= (dx * wide) / raster.width;
        picture.y0 -= (dy * high) / raster.height;
        picture.x1 = picture.x0 + wide;
        picture.y1 = picture.y0 + high;
        return dx || dy ? raster.shift(dx, dy) : [];
      }
    }
    this.picture = { ...view.window };
    this.stale = false;
    return [raster.all];
  }

  _parts(parts) {
    const { view, run, raster, picture } = this;
    const { data, process } = view;
    const grid = this._grid();
    for (const part of parts) {
      raster.clear(pixel(view.inks.ground), part);
      if (grid) raster.grid(grid, pixel(view.inks.faint), picture, (event) => !view.isExact(event, run), part);
    }
    const rows = { process, processes: data.processes.length < 2 ? null : data.process, sorted: data.inOrder, parts };
    if (this.pageTable) {
      raster.paint({ ...this._table(), colours: this.bare }, picture, rows); // a heap's mappings are known by their blocks
      raster.paint(this.pageTable, picture, { parts });
    }
    raster.paint(this._table(), picture, { ...rows, ages: this.scheme.ages, blend: Boolean(this.pageTable), lines: true });
  }

  _table() {
    const { view, run } = this;
    const { rows, born, died } = view.data;
    return { count: rows, left: born, right: died, low: run.low, high: run.high, colours: this.scheme.colours };
  }

  // The blocks that have room for a name.
  _named() {
    const { view, run, above } = this;
    const { y0, y1 } = view.window;
    run.largest ||= run.high.reduce((most, high, row) => Math.max(most, high - run.low[row]), 0);
    if ((run.largest * above.height) / (y1 - y0) < NAMED[1]) return [];
    const { process, processes } = view.data;
    const keep = (row) => processes.length < 2 || process[row] === view.process;
    return large(this._table(), view.window, above.width, above.height, NAMED, 400, keep);
  }

  // The level that suits the zoom: the coarsest with a cell for each pixel, else the finest.
  _grid() {
    const { view, run } = this;
    const { x0, x1, y0, y1 } = view.window;
    const source = this.grid || view.data;
    const levels = (source.manifest.levels || []).filter(
      (level) => this.grid || (level.run === run.number && (level.process ?? view.process) === view.process),
    );
    const [events, bytes] = [(x1 - x0) / this.below.canvas.width, (y1 - y0) / this.below.canvas.height];
    const level = levels.findLast((each) => each.events <= events && each.bytes <= bytes) || levels[0];
    if (!level) return null;
    const { starts } = level;
    const rowOf = (offset) => {
      if (offset >= run.space.size) return -1;
      const address = run.space.address(offset);
      let [low, high] = [0, starts.length - 1];
      while (low < high) {
        const middle = (low + high + 1) >> 1;
        if (starts[middle] <= address) low = middle;
        else high = middle - 1;
      }
      return starts[low] <= address && address < starts[low] + level.bytes ? low : -1;
    };
    return { ...level, values: source.columns[level.column], rowOf };
  }

  // Draw what lies above the blocks: labels, cuts, the chosen moment and block.
  mark() {
    const { view, run, above } = this;
    const context = above.begin();
    const { inks, data } = view;
    const { x0, x1, y0, y1 } = view.window;
    const { width, height } = above;
    context.font = inks.font;
    context.textBaseline = "middle";
    for (const label of this._named()) this._label(context, label);

    if (this.pageTable) {
      const { left, right } = this.pageTable;
      const [from, to] = [left, right].map((ends) => ends.at(-1) - x0).map((events) => Math.min(Math.max((events / (x1 - x0)) * width, 0), width));
      if (this.pageTable.unknown && to > from) hatch(context, from, 0, to - from, Math.min(((run.space.size - y0) / (y1 - y0)) * height, height), 6, "#000");
    }
    context.strokeStyle = context.fillStyle = inks.ink;
    let last = -Infinity;
    for (const cut of run.space.cuts(y0, y1)) {
      const y = ((cut.offset - y0) / (y1 - y0)) * height;
      if (y - last < 14) continue;
      last = y;
      context.setLineDash([6, 3, 1, 3]);
      line(context, 0, y, width, y);
      context.setLineDash([]);
      const text = `${bytesText(cut.bytes)} cut out`;
      const beside = Math.min(Math.max(y, 8), height - 8);
      context.fillStyle = inks.ground;
      context.fillRect(4, beside - 6, context.measureText(text).width + 6, 12);
      context.fillStyle = inks.ink;
      context.fillText(text, 7, beside);
    }
    this._breaks(context);
    if (run.last < data.events) this._end(context, ((run.last - x0) / (x1 - x0)) * width);

    if (this._isEmpty()) above.say("nothing here; Show all goes back", inks);
    const x = ((view.moment - 0.5 - x0) / (x1 - x0)) * width;
    context.strokeStyle = inks.mark;
    context.lineWidth = Math.max(1.5, Math.min(width / (x1 - x0), 3));
    context.beginPath();
    context.moveTo(x, 0);
    context.lineTo(x, height);
    context.stroke();
    context.lineWidth = 1;
    if (view.hovered >= 0 && view.hovered !== view.row) this._outline(context, view.hovered, 1);
    if (view.row >= 0) this._outline(context, view.row, 2);
    this._axis();
  }

  // Is it known that the window has no block?
  _isEmpty() {
    const { view, run } = this;
    const { x0, x1, y0, y1 } = view.window;
    const { rows, born, died, process } = view.data;
    const known = `${x0} ${x1} ${y0} ${y1} ${view.process} ${rows}`;
    if (this.looked === known) return this.empty;
    this.looked = known;
    this.empty = view.isExact(x0, run) && view.isExact(x1 - 1, run);
    for (let row = 0; row < rows && this.empty; row++) {
      if (run.low[row] >= 0 && born[row] < x1 && died[row] > x0 && run.low[row] < y1 && run.high[row] > y0 && process[row] === view.process) this.empty = false;
    }
    return this.empty;
  }

  // The break over time: a step for each call that moved it. What lies beyond it is not the heap's. Where designs are
  // compared, the other's break as well, as far from the heap's start.
  _breaks(context) {
    const { view, run } = this;
    this._break(context, run, 0, run.breaks(view.process));
    if (!view.differs) return;
    context.setLineDash([5, 4]);
    for (const other of view.data.runs) {
      if (other !== run) this._break(context, other, run.space.regions[0].start - other.space.regions[0].start, other.breaks(view.process));
    }
    context.setLineDash([]);
  }

  _break(context, run, shift, moves) {
    if (!moves.length) return;
    const { view } = this;
    const { x0, x1, y0, y1 } = view.window;
    const { width, height } = this.above;
    const { start } = this.run.space.regions[0];
    context.strokeStyle = view.inks.ink;
    context.beginPath();
    let [lastX, lastY] = [-2, null];
    for (const { event, brk } of moves) {
      const x = Math.round(Math.min(Math.max(((event - x0) / (x1 - x0)) * width, -2), width + 2)) + 0.5;
      const y = Math.round(((brk + shift - start - y0) / (y1 - y0)) * height) + 0.5; // the heap is the first region
      if (x === lastX && y === lastY) continue;
      if (lastY !== null) context.lineTo(x, lastY);
      context.lineTo(x, y);
      [lastX, lastY] = [x, y];
    }
    context.lineTo(Math.min(((run.last - x0) / (x1 - x0)) * width, width + 2), lastY);
    context.stroke();
  }

  _label(context, { i, l: left, t: top, r: right, b: bottom }) {
    const { data } = this.view;
    const { pixels, width } = this.raster;
    const { dots } = this.below;
    context.fillStyle = legible(pixels[Math.floor(((top + bottom) / 2) * dots) * width + Math.floor((left + 4) * dots)]);
    const { y0, y1 } = this.view.window;
    const scale = this.above.height / (y1 - y0);
    const lead = this.run.lead ? this.run.lead[i] : 0;
    if (lead * scale >= 3) {
      // the parts of the block: in front, the program's, behind
      context.strokeStyle = context.fillStyle;
      context.setLineDash([2, 2]);
      const payload = (this.run.low[i] + lead - y0) * scale;
      const behind = payload + data.size[i] * scale;
      if (payload > top && payload < bottom) line(context, left, payload, right, payload);
      if (behind > top && behind < bottom - 1) line(context, left, behind, right, behind);
      context.setLineDash([]);
    }
    const text = `${data.slot[i]} · ${bytesText(data.size[i])}`;
    if (context.measureText(text).width < right - left - 8) context.fillText(text, left + 5, (top + bottom) / 2);
  }

  _end(context, x) {
    const { inks } = this.view;
    context.setLineDash([3, 3]);
    context.strokeStyle = inks.ink;
    line(context, x, 0, x, this.above.height);
    context.setLineDash([]);
    context.fillStyle = inks.ink;
    context.fillText("this run ends here", x + 6, 12);
  }

  _outline(context, row, weight) {
    if (this.run.low[row] < 0) return;
    const { inks } = this.view;
    const { left, right, top, bottom } = this.box(row);
    if (right < -4 || bottom < -4 || left > this.above.width + 4 || top > this.above.height + 4) return;
    const [x, y] = [Math.max(left, -4) - 1.5, Math.max(top, -4) - 1.5];
    const width = Math.max(Math.min(right, this.above.width + 4) - x + 1.5, 5);
    const height = Math.max(Math.min(bottom, this.above.height + 4) - y + 1.5, 5);
    context.lineWidth = weight + 2;
    context.strokeStyle = inks.ground;
    context.strokeRect(x, y, width, height);
    context.lineWidth = weight;
    context.strokeStyle = inks.ink;
    context.strokeRect(x, y, width, height);
    context.lineWidth = 1;
    if (weight > 1 && width < 24 && height < 24) {
      context.fillStyle = inks.ink; // so small a block has a pointer
      context.beginPath();
      context.moveTo(x + width + 2, y + height / 2);
      context.lineTo(x + width + 10, y + height / 2 - 5);
      context.lineTo(x + width + 10, y + height / 2 + 5);
      context.fill();
    }
  }

  _axis() {
    const { view, run } = this;
    const context = this.axis.begin();
    const { y0, y1 } = view.window;
    const { width, height } = this.axis;
    context.font = view.inks.mono;
    context.textAlign = "right";
    context.textBaseline = "middle";
    context.fillStyle = view.inks.faint;
    context.strokeStyle = view.inks.rule;
    let last = -Infinity;
    for (const region of run.space.regions) {
      const low = Math.max(y0, region.offset);
      const high = Math.min(y1, region.offset + region.end - region.start);
      if (high <= low) continue;
      const [from, to] = [low - region.offset + region.start, high - region.offset + region.start];
      const wanted = Math.max((((high - low) / (y1 - y0)) * height) / 34, 0.5);
      const places = [from === region.start ? from : null, ...ticks(from, to, wanted, 16)];
      for (const address of places) {
        if (address === null) continue;
        const y = ((address - region.start + region.offset - y0) / (y1 - y0)) * height;
        if (y - last < 12 || y > height - 1) continue;
        last = y;
        const text = addressText(Math.round(address));
        context.fillText(width < 80 ? "…" + text.slice(-6) : text, width - 6, Math.max(y, 6));
        line(context, width - 4, y, width, y);
      }
    }
  }
}

function outcome(run) {
  if (!run.outcome || run.outcome === "finished") return "";
  return run.outcome + (run.reason ? `: ${run.reason}` : "");
}

// The states of pages as rectangles: from each recorded moment to the next; under them the heap that has no frames, and
// last the time before the first recorded moment.
function pageTable(data, run, process) {
  const found = { left: [], right: [], low: [], high: [], colours: [] };
  const add = (left, right, low, high, colour) => {
    if (right <= left) return;
    for (const [name, value] of Object.entries({ left, right, low, high, colours: pixel(colour) })) found[name].push(value);
  };
  const end = Math.min(data.endOf(process), run.last);
  for (const { from, to, brk } of run.heapOver(process)) add(from, to, 0, run.space.offset(brk), NO_FRAME.colour);
  data.keyMoments.forEach((moment, key) => {
    const until = Math.min(key + 1 < data.keyMoments.length ? data.keyMoments[key + 1] - 1 : data.events, end);
    for (const page of run.pages(key, process)) {
      const colour = PAGES[page.state]?.colour;
      if (!colour) continue;
      const low = run.space.offset(page.address);
      add(moment - 1, until, low, low + page.count * run.pageSize, colour);
    }
  });
  const { born, moment } = data.firstRecorded(process);
  add(born, moment - 1, 0, run.space.size, UNKNOWN.colour);
  const numbers = (name) => Float64Array.from(found[name]);
  return {
    count: found.left.length,
    unknown: moment - 1 > born, // the last rectangle
    left: numbers("left"),
    right: numbers("right"),
    low: numbers("low"),
    high: numbers("high"),
    colours: Uint32Array.from(found.colours),
  };
}

