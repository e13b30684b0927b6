// The heap of one design at one moment: every block to the byte, the free structure's links above it, pages below.
import { Layer, hatch, legible, line } from "./canvas.js";
import { PAGES, pixel, scheme } from "./colours.js";
import { listen } from "./gestures.js";
import { FREE, METADATA } from "./model.js";
import { Raster, large } from "./raster.js";
import { addressText, bytesText, exactBytes, make, plural, ticks } from "./words.js";

const ARCS = 46; // pixels from the top: the links; then the blocks, the pages, the addresses
const BLOCKS = 44;
const PAGE_LANE = 10;
const MOST_ARCS = 3000;

export class Strip {
  constructor(view, run) {
    this.view = view;
    this.run = run;
    this.layer = new Layer({
      class: "heaplab-strip-plot",
      tabindex: "0",
      role: "img",
      "aria-label":
        `Heap of ${run.name} at the chosen moment, addresses to the right. ` +
        "Left and right choose the block before and after, plus and minus zoom, 0 shows all.",
    });
    this.title = make("h3", {}, run.name);
    this.words = make("span", { class: "heaplab-note" });
    this.element = make("section", { class: "heaplab-strip" }, make("header", {}, this.title, this.words), this.layer.canvas);
    this.raster = new Raster();
    this.scratch = make("canvas", { height: 1 }); // one line of pixels: the blocks
    this.line = this.scratch.getContext("2d");
    const across = (x) => x / this.layer.width;
    listen(this.layer.canvas, {
      pan: (dx) => view.pan(0, -across(dx)),
      zoom: (factor, x) => view.zoom(factor, 0, across(x), { time: false, address: true }),
      hover: (x, y, event) => view.hover({ ...this.at(x, y), event, run }),
      leave: () => view.hover(null),
      click: (x, y) => view.choose({ row: this.at(x, y).row, run }),
      key: (event) => this.key(event),
    });
  }

  key(event) {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!step || event.shiftKey) return this.view.key(event);
    const { rows } = this.byAddress(this.rows());
    if (!rows.length) return true;
    const at = rows.indexOf(this.view.row);
    const row = at < 0 ? rows[0] : rows[Math.min(Math.max(at + step, 0), rows.length - 1)];
    this.view.choose({ row, run: this.run });
    this.view.reveal(this.run.low[row], this.run.high[row]);
    return true;
  }

  rows() {
    const { view, run } = this;
    const known = `${view.moment} ${view.process}`;
    if (this.known !== known) {
      this.known = known;
      this.found = view.data.rowsAt(run, view.moment, view.process);
      this.live = this.found.reduce((sum, row) => sum + view.data.size[row], 0);
      this.table = null;
    }
    return this.found;
  }

  recolour() {
    const { view, run } = this;
    const found = scheme(view.quality === "page" ? "size" : view.quality, view.data, run, view.inks.theme);
    this.colours = found.colours;
    this.ages = found.ages;
    this.table = null;
  }

  colour(row) {
    if (!this.ages) return this.colours[row];
    const { low, pixels } = this.ages;
    const age = Math.max(this.view.moment - this.view.data.born[row], 1);
    return pixels[Math.min(Math.max(31 - Math.clz32(age) - low, 0), pixels.length - 1)];
  }

  // What is at a point: {row, words}.
  at(x) {
    const { view, run } = this;
    const { data } = view;
    const { y0, y1 } = view.window;
    const offset = y0 + (x / this.layer.width) * (y1 - y0);
    if (offset < 0 || offset >= run.space.size) return { row: -1, words: "no part of the heap" };
    const address = run.space.address(offset);
    const row = data.rowAt(run, view.moment, offset, view.process);
    if (row >= 0) {
      const inside = address - run.start(row);
      const lead = run.lead ? run.lead[row] : 0;
      const part = inside < lead ? "in front of" : inside < lead + data.size[row] ? `byte ${inside - lead} of` : "behind";
      const header = inside < lead && run.word ? `; ${data.text(run.word[row])}` : "";
      return { row, words: `${addressText(address)}: ${part} ${data.summary(row, run)}${header}` };
    }
    const recorded = view.recorded(run);
    if (recorded.exact) {
      const entry = recorded.free.find((each) => each.start <= address && address < each.start + each.size);
      const span = recorded.spans.find((each) => each.start <= address && address < each.start + each.size);
      if (entry) return { row: -1, words: `${addressText(address)}: free, ${exactBytes(entry.size)} from ${addressText(entry.start)}, ${where(entry)}` };
      if (span) return { row: -1, words: `${addressText(address)}: ${span.state}, ${exactBytes(span.size)} from ${addressText(span.start)}` };
    }
    return { row: -1, words: `${addressText(address)}: no live block` };
  }

  draw() {
    const { view, run, layer } = this;
    const resized = layer.fit();
    if (!this.colours) this.recolour();
    const shown = [view.window.y0, view.window.y1, view.moment, view.process, view.row, view.hovered, view.fetched.size].join();
    if (!resized && this.table && this.shown === shown) return;
    this.shown = shown;
    const { data, inks } = view;
    const { y0, y1 } = view.window;
    const { width } = layer;
    const context = layer.begin();
    const recorded = view.recorded(run);
    const toX = (offset) => ((offset - y0) / (y1 - y0)) * width;
    const placed = (address) => toX(run.space.offset(address));
    const rows = this.rows();
    context.font = inks.font;

    const gaps = recorded.exact || !view.isWhole(run) ? "unknown" : "free";
    for (const [low, high] of this._extents(rows)) {
      const [left, right] = [Math.max(toX(low), 0), Math.min(toX(high), width)];
      if (right <= left) continue;
      context.fillStyle = gaps === "free" ? inks.ground : inks.soft;
      context.fillRect(left, ARCS, right - left, BLOCKS);
      if (gaps === "free") hatch(context, left, ARCS, right - left, BLOCKS, 7, inks.faint);
      context.strokeStyle = inks.rule;
      context.strokeRect(left + 0.5, ARCS + 0.5, right - left - 1, BLOCKS - 1);
    }
    for (const span of recorded.exact ? recorded.spans : []) {
      const [left, right] = [placed(span.start), placed(span.start) + (span.size * width) / (y1 - y0)];
      if (right < 0 || left > width) continue;
      this._span(context, span, Math.max(left, -2), Math.min(right, width + 2));
    }
    this._blocks(context, rows);
    if (recorded.exact && recorded.free.length <= MOST_ARCS) this._arcs(context, recorded.free, placed, width / (y1 - y0));
    this._pages(context, recorded, placed);
    this._axis(context, toX);
    const brk = (recorded.exact && recorded.brk) || this._break();
    const x = placed(brk);
    if (brk && run.space.regions.some(({ start, end }) => start <= brk && brk <= end) && x >= -0.5 && x <= width + 0.5) {
      context.strokeStyle = context.fillStyle = inks.mark;
      context.lineWidth = 2;
      line(context, x, ARCS - 6, x, ARCS + BLOCKS + PAGE_LANE + 6);
      context.lineWidth = 1;
      context.textBaseline = "bottom";
      const room = context.measureText("break").width;
      const left = x > width - 40 ? x - 4 - room : x + 4;
      context.fillStyle = inks.ground; // arrows would run through the word
      context.fillRect(left - 2, ARCS - 16, room + 4, 14);
      context.fillStyle = inks.mark;
      context.textAlign = "left";
      context.fillText("break", left, ARCS - 2);
    }
    if (y0 >= run.space.size) layer.say("nothing here; Show all goes back", inks);
    for (const [row, weight] of [[view.hovered, 1], [view.row, 2]]) {
      if (row < 0 || run.low[row] < 0 || !data.alive(row, view.moment)) continue;
      const [left, right] = [toX(run.low[row]), toX(run.high[row])];
      if (right < 0 || left > width) continue;
      context.strokeStyle = inks.ink;
      context.lineWidth = weight + 1;
      context.strokeRect(left - 1, ARCS - 2, Math.max(right - left + 2, 4), BLOCKS + 4);
      context.lineWidth = 1;
    }
    this._say(rows, recorded);
  }

  // Where the heap is at the chosen moment, as offsets: up to the break, and in each mapping from its first block to its last.
  _extents(rows) {
    const { view, run } = this;
    const found = [];
    const brk = this._break();
    const { left, right } = this.byAddress(rows);
    for (const { start, end, offset } of run.space.regions) {
      if (start <= brk && brk <= end) found.push([offset, offset + brk - start]);
      const [first, next] = [bound(left, offset - 0.5), bound(left, offset + end - start - 0.5)];
      if (next > first) found.push([left[first], right[next - 1]]);
    }
    return found;
  }

  get ended() {
    return this.view.timeline && this.view.moment > this.view.data.endOf(this.view.process);
  }

  // The break of the living process at the chosen moment; 0: it has none.
  _break() {
    const { view, run } = this;
    return this.ended ? 0 : run.breakAt(view.process, view.moment);
  }

  _say(rows, recorded) {
    const { view, run } = this;
    const whole = view.isWhole(run) ? "" : "not all blocks of this moment are in the page: ";
    const parts = [`${whole}${plural(rows.length, "block")} live, ${bytesText(this.live)} asked for`];
    if (this.ended) parts.push("the process has ended");
    if (view.moment > run.last) parts.push("this run ended before the moment");
    if (recorded.exact) {
      const free = recorded.spans.filter((span) => span.state === FREE);
      parts.push(`${free.length} free, ${bytesText(free.reduce((sum, span) => sum + span.size, 0))}`);
    }
    else if (whole === "" && rows.length) parts.push("which of the rest is free is not recorded");
    this.words.textContent = parts.join("; ");
  }

  _span(context, span, left, right) {
    const { inks } = this.view;
    const width = Math.max(right - left, 1);
    context.fillStyle = inks.ground;
    context.fillRect(left, ARCS, width, BLOCKS);
    if (span.state === METADATA) {
      context.fillStyle = inks.rule;
      context.fillRect(left, ARCS, width, BLOCKS);
    } else if (width > 3) {
      hatch(context, left, ARCS, width, BLOCKS, span.state === FREE ? 7 : 4, inks.faint);
    }
    context.strokeStyle = inks.faint;
    if (width > 2) context.strokeRect(left + 0.5, ARCS + 0.5, width - 1, BLOCKS - 1);
    const text = span.state === FREE ? `free ${bytesText(span.size)}` : span.state === METADATA ? "the design's" : span.state;
    const room = context.measureText(text).width;
    if (room + 8 > width) return;
    const middle = (Math.max(left, 0) + Math.min(right, this.layer.width)) / 2;
    context.textAlign = "center";
    context.textBaseline = "middle";
    context.fillStyle = inks.ground;
    context.fillRect(middle - room / 2 - 3, ARCS + BLOCKS / 2 - 8, room + 6, 16);
    context.fillStyle = inks.ink;
    context.fillText(text, middle, ARCS + BLOCKS / 2);
  }

  // The live blocks as rectangles of one line, by address.
  byAddress(rows) {
    if (!this.table) {
      const { run } = this;
      const sorted = Uint32Array.from(rows).sort((a, b) => run.low[a] - run.low[b]);
      this.table = {
        rows: sorted,
        left: Float64Array.from(sorted, (row) => run.low[row]),
        right: Float64Array.from(sorted, (row) => run.high[row]),
        low: new Float64Array(rows.length),
        high: new Float64Array(rows.length).fill(1),
        colours: Uint32Array.from(sorted, (row) => this.colour(row)),
      };
    }
    return this.table;
  }

  _blocks(context, rows) {
    const { view, run, raster, layer } = this;
    const { y0, y1 } = view.window;
    const { left, right } = this.byAddress(rows);
    const [from, to] = [bound(right, y0), bound(left, y1)];
    const table = Object.fromEntries(Object.entries(this.table).map(([name, column]) => [name, column.subarray(from, to)]));
    table.count = Math.max(to - from, 0);
    const window = { x0: y0, x1: y1, y0: 0, y1: 1 };
    raster.resize(layer.canvas.width, 1);
    raster.clear(0);
    raster.ground = pixel(view.inks.ground);
    raster.paint(table, window, { lines: true });
    if (this.scratch.width !== raster.width) this.scratch.width = raster.width;
    this.line.putImageData(raster.image, 0, 0);
    context.imageSmoothingEnabled = false;
    context.drawImage(this.scratch, 0, ARCS, layer.width, BLOCKS);
    for (const { i, l, r } of large(table, window, layer.width, 1, [12, 0], 2000, () => true)) this._block(context, table.rows[i], l, r);
  }

  // The parts of a block that is wide enough, and its name.
  _block(context, row, left, right) {
    const { view, run, layer } = this;
    const { data, inks } = view;
    const { y0, y1 } = view.window;
    const scale = layer.width / (y1 - y0);
    const lead = run.lead ? run.lead[row] : 0;
    const payload = (run.low[row] + lead - y0) * scale;
    const behind = payload + data.size[row] * scale;
    context.save();
    context.beginPath();
    context.rect(left, ARCS, right - left, BLOCKS);
    context.clip();
    context.globalAlpha = 0.55;
    context.fillStyle = inks.ground;
    const start = (run.low[row] - y0) * scale;
    if (lead * scale >= 2) {
      context.fillRect(start, ARCS, payload - start, BLOCKS);
      hatch(context, start, ARCS, payload - start, BLOCKS, 3, inks.ink);
    }
    const end = (run.high[row] - y0) * scale;
    if (end - behind >= 2) context.fillRect(behind, ARCS, end - behind, BLOCKS);
    context.restore();
    const [from, to] = [Math.max(payload, left), Math.min(behind, right)];
    context.fillStyle = legible(this.colour(row));
    context.textAlign = "center";
    context.textBaseline = "middle";
    for (const [text, y] of [[String(data.slot[row]), BLOCKS / 2 - 7], [bytesText(data.size[row]), BLOCKS / 2 + 8]]) {
      if (context.measureText(text).width < to - from - 4) context.fillText(text, (from + to) / 2, ARCS + y);
    }
    if (lead * scale > 60 && run.word) {
      context.fillStyle = inks.ink;
      context.fillText("header", (start + payload) / 2, ARCS + 10);
    }
  }

  // The links of the free structure: from the entry that leads, to the entry that it leads to.
  _arcs(context, free, placed, scale) {
    const { inks } = this.view;
    const { width } = this.layer;
    const middles = new Map(free.map((entry) => [entry.start, placed(entry.start) + (entry.size * scale) / 2]));
    context.strokeStyle = context.fillStyle = inks.ink;
    context.globalAlpha = free.length > 200 ? 0.35 : 0.8;
    for (const entry of free) {
      const to = middles.get(entry.start);
      const from = entry.under ? middles.get(entry.under) : undefined;
      if (from === undefined) {
        if (to >= 0 && to <= width) this._arrow(context, to, ARCS - 14, to);
        continue;
      }
      if ((from < 0 && to < 0) || (from > width && to > width)) continue;
      const rise = Math.min(8 + Math.abs(to - from) * 0.25, ARCS - 4);
      context.beginPath();
      context.moveTo(from, ARCS);
      context.bezierCurveTo(from, ARCS - rise * 1.3, to, ARCS - rise * 1.3, to, ARCS - 4);
      context.stroke();
      this._arrow(context, to, null, to);
    }
    context.globalAlpha = 1;
  }

  _arrow(context, x, from) {
    if (from !== null) line(context, x, from, x, ARCS - 5);
    context.beginPath();
    context.moveTo(x, ARCS);
    context.lineTo(x - 3, ARCS - 5);
    context.lineTo(x + 3, ARCS - 5);
    context.fill();
  }

  _pages(context, recorded, placed) {
    const { inks } = this.view;
    const top = ARCS + BLOCKS + 3;
    if (this.ended) return; // those of the last recorded moment are gone
    for (const page of recorded.pages) {
      const kind = PAGES[page.state];
      if (!kind) continue;
      const left = placed(page.address);
      const each = placed(page.address + this.run.pageSize) - left;
      const right = placed(page.address + page.count * this.run.pageSize);
      if (right < 0 || left > this.layer.width) continue;
      context.fillStyle = kind.colour;
      context.fillRect(left, top, Math.max(right - left, 1), PAGE_LANE);
      if (page.state !== "own") hatch(context, left, top, right - left, PAGE_LANE, page.state === "zero" ? 2 : 4, inks.ink);
      if (each < 5) continue;
      context.strokeStyle = inks.ground;
      for (let x = left; x <= right + 0.5; x += each) line(context, x, top, x, top + PAGE_LANE);
    }
  }

  _axis(context, toX) {
    const { view, run, layer } = this;
    const { inks } = view;
    const { y0, y1 } = view.window;
    const top = ARCS + BLOCKS + PAGE_LANE + 6;
    context.font = inks.mono;
    context.fillStyle = inks.faint;
    context.strokeStyle = inks.rule;
    context.textAlign = "left";
    context.textBaseline = "top";
    let last = -Infinity;
    for (const region of run.space.regions) {
      const low = Math.max(y0, region.offset);
      const high = Math.min(y1, region.offset + region.end - region.start);
      if (high <= low) continue;
      const [from, to] = [low - region.offset + region.start, high - region.offset + region.start];
      const wanted = Math.max((toX(high) - toX(low)) / 130, 0.5);
      for (const address of [...(from === region.start ? [from] : []), ...ticks(from, to, wanted, 16)]) {
        const x = toX(address - region.start + region.offset);
        const text = addressText(Math.round(address));
        if (x - last < 108 || x + 96 > layer.width) continue;
        last = x;
        line(context, x, top, x, top + 5);
        context.fillText(text, x + 3, top + 3);
      }
    }
    context.strokeStyle = inks.ink;
    context.setLineDash([6, 3, 1, 3]);
    for (const cut of run.space.cuts(y0, y1)) line(context, toX(cut.offset), ARCS - 4, toX(cut.offset), top);
    context.setLineDash([]);
    context.font = inks.font;
  }
}

// How many of the rising values are not above `value`.
function bound(values, value) {
  let [low, high] = [0, values.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (values[middle] <= value) low = middle + 1;
    else high = middle;
  }
  return low;
}

export function where({ group, place, under }) {
  const leads = under ? `after ${addressText(under)}` : "";
  return [group, place, leads].filter(Boolean).join(", ") || "in the free structure";
}
