// Live, heap and resident bytes over the same events as the maps.
import { Layer, line } from "./canvas.js";
import { SERIES } from "./colours.js";
import { listen } from "./gestures.js";
import { bytesText, countText, make, ticks } from "./words.js";

export class Curves {
  constructor(view) {
    this.view = view;
    this.plot = new Layer({
      class: "heaplab-curves",
      tabindex: "0",
      role: "img",
      "aria-label": "Curves of live, heap and resident bytes over the events. The table beside them has the numbers.",
    });
    this.axis = new Layer({ class: "heaplab-axis", "aria-hidden": "true" });
    this.lines = [{ name: "live", run: view.data.runs[0], dash: [], title: "bytes the program asked for and has not freed" }];
    for (const run of view.data.runs) {
      this.lines.push({ name: "heap", run, dash: [], title: "address space that the design took from the system" });
      this.lines.push({ name: "resident", run, dash: [2, 3], title: "pages of it that are in memory" });
    }
    this.levels = new Map();
    this.keys = make("ul", { class: "heaplab-keys" });
    this.element = make(
      "section",
      { class: "heaplab-time" },
      this.keys,
      make("div", { class: "heaplab-plot" }, this.axis.canvas, make("div", { class: "heaplab-stack" }, this.plot.canvas)),
    );
    const moment = (x) => {
      const { x0, x1 } = view.window;
      return Math.min(Math.max(Math.floor(x0 + (x / this.plot.width) * (x1 - x0)) + 1, 0), view.data.events);
    };
    listen(this.plot.canvas, {
      pan: (dx) => view.pan(-dx / this.plot.width, 0),
      zoom: (factor, x) => view.zoom(factor, x / this.plot.width, 0, { time: true, address: false }),
      hover: (x, y, event) => view.hover({ row: -1, moment: moment(x), event, words: this.words(moment(x)) }),
      leave: () => view.hover(null),
      click: (x) => view.choose({ moment: moment(x) }),
      key: (event) => view.key(event),
    });
  }

  colour({ name, run }) {
    const { theme, ink } = this.view.inks;
    return name === "live" ? ink : SERIES[theme][run.number % SERIES[theme].length];
  }

  // Say which line is which.
  tell() {
    const items = this.lines.map((each) => {
      const stroke = `border-top: 2px ${each.dash.length ? "dotted" : "solid"} ${this.colour(each)}`;
      return make("li", { title: each.title }, make("span", { class: "heaplab-stroke", style: stroke }), this._name(each));
    });
    this.keys.replaceChildren(...items);
  }

  _name({ name, run }) {
    return name === "live" || this.view.data.runs.length === 1 ? name : `${name} of ${run.name}`;
  }

  words(moment) {
    const values = this.lines.map((each) => `${this._name(each)} ${bytesText(each.run.at(each.name, moment))}`);
    return `after event ${moment - 1}: ${values.join(", ")}`;
  }

  // The points of a curve in the window, at most two a pixel: [[event, value], ...].
  _points({ name, run }, x0, x1, width) {
    const { data } = this.view;
    const values = name === "live" ? data.live : run.perEvent[name];
    const found = [];
    const first = data.exact[0];
    const samples = name === "live" ? data.sampledLive : run.sampled[name];
    const sampled = (from, to) => {
      for (let i = 0; samples && i < data.samples.length; i++) {
        const event = data.samples[i];
        if (event > from && event <= to && event <= run.last) found.push([event, samples[i]]);
      }
    };
    const count = values ? Math.min(values.length, run.last - first) : 0;
    sampled(x0 - (x1 - x0), Math.min(first, x1 * 2));
    // bins of a power of two of events, at fixed places: a move does not change them
    const level = Math.max(Math.ceil(Math.log2((x1 - x0) / width)), 0);
    const bins = values && this._bins(values, level);
    const size = 2 ** level;
    const from = Math.max(Math.floor((x0 - first) / size) - 1, 0);
    const to = Math.min(Math.ceil((x1 - first) / size) + 1, Math.ceil(count / size));
    for (let bin = from; bin < to; bin++) {
      const event = first + bin * size;
      found.push([event, bins.high[bin]]);
      if (level === 0) found.push([event + 1, bins.high[bin]]);
      else if (bins.low[bin] < bins.high[bin]) found.push([event, bins.low[bin]]);
    }
    sampled(Math.max(first + count, x0 - (x1 - x0)), x1 + (x1 - x0));
    return found;
  }

  // The least and the most of each 2 ** level events.
  _bins(values, level) {
    if (!this.levels.has(values)) this.levels.set(values, [{ low: values, high: values }]);
    const levels = this.levels.get(values);
    while (levels.length <= level) {
      const { low, high } = levels.at(-1);
      const length = Math.ceil(low.length / 2);
      const next = { low: new Float64Array(length), high: new Float64Array(length) };
      for (let i = 0; i < length; i++) {
        const other = Math.min(2 * i + 1, low.length - 1);
        next.low[i] = Math.min(low[2 * i], low[other]);
        next.high[i] = Math.max(high[2 * i], high[other]);
      }
      levels.push(next);
    }
    return levels[level];
  }

  draw() {
    this.plot.fit();
    this.axis.fit();
    const { view, plot } = this;
    const { inks } = view;
    const { x0, x1 } = view.window;
    const { width, height } = plot;
    const floor = height - 18;
    const curves = this.lines.map((each) => ({ ...each, points: this._points(each, x0, x1, width) }));
    const most = 1.08 * curves.reduce((high, { points }) => points.reduce((each, [, value]) => Math.max(each, value), high), 1);
    const [toX, toY] = [(event) => ((event - x0) / (x1 - x0)) * width, (value) => floor - (value / most) * (floor - 4)];
    const context = plot.begin();
    const axis = this.axis.begin();
    axis.font = context.font = inks.font;
    axis.textAlign = "right";
    axis.textBaseline = "middle";
    axis.fillStyle = context.fillStyle = inks.faint;
    context.strokeStyle = inks.rule;
    const unit = 1024 ** Math.floor(Math.log(most) / Math.log(1024));
    for (const value of ticks(0, most / unit, 4)) {
      const y = toY(value * unit);
      line(context, 0, y, width, y);
      axis.fillText(bytesText(value * unit), this.axis.width - 6, Math.max(y, 6));
    }
    context.textAlign = "center";
    context.textBaseline = "bottom";
    for (const event of ticks(x0, x1, width / 90)) {
      const x = toX(event);
      line(context, x, 0, x, floor + 4);
      const label = countText(event);
      const room = context.measureText(label).width / 2;
      if (x > room && x < width - room) context.fillText(label, x, height);
    }
    axis.textBaseline = "bottom";
    axis.fillText("event", this.axis.width - 6, height);
    if (view.differs && curves.length > 3) this._between(context, curves[1].points, curves[3].points, toX, toY);
    for (const each of curves) {
      const { dash, points, name } = each;
      context.strokeStyle = this.colour(each);
      context.setLineDash(dash);
      context.lineWidth = name === "live" ? 2 : 1.5;
      context.beginPath();
      points.forEach(([event, value], i) => (i ? context.lineTo(toX(event), toY(value)) : context.moveTo(toX(event), toY(value))));
      context.stroke();
    }
    context.setLineDash([]);
    context.lineWidth = 1.5;
    context.strokeStyle = inks.mark;
    const x = toX(view.moment - 0.5);
    context.beginPath();
    context.moveTo(x, 0);
    context.lineTo(x, floor);
    context.stroke();
    context.lineWidth = 1;
  }

  // The ground between the heaps of two designs.
  _between(context, one, other, toX, toY) {
    context.fillStyle = this.view.inks.soft;
    context.beginPath();
    one.forEach(([event, value], i) => (i ? context.lineTo(toX(event), toY(value)) : context.moveTo(toX(event), toY(value))));
    for (const [event, value] of [...other].reverse()) context.lineTo(toX(event), toY(value));
    context.fill();
  }
}
