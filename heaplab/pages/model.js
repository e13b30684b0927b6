// What the container says, with the questions a view asks of it.
//
// Moment n is the heap after n events: moment 0 is the empty heap, and event k leads from moment k to k + 1.
// A row is one block of the trace, from the event that allocated it (born) to the event that freed it (died;
// the number of events when nothing frees it). Runs share the rows; each run has its own addresses.
import { addressText, bytesText, countText, exactBytes, plural } from "./words.js";

export const FREE = "free";
export const METADATA = "metadata";

// An address space whose holes are cut out. An offset counts the bytes of the regions alone.
export class Space {
  constructor(regions) {
    this.regions = regions.map(([start, end]) => ({ start, end })).sort((a, b) => a.start - b.start);
    this.size = 0;
    for (const region of this.regions) {
      region.offset = this.size;
      this.size += region.end - region.start;
    }
  }

  _last(value, key) {
    let low = 0;
    let high = this.regions.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (this.regions[middle][key] <= value) low = middle;
      else high = middle - 1;
    }
    return this.regions[low];
  }

  offset(address) {
    const region = this._last(address, "start");
    return region ? region.offset + Math.min(Math.max(address - region.start, 0), region.end - region.start) : 0;
  }

  address(offset) {
    const region = this._last(offset, "offset");
    return region ? region.start + Math.floor(offset - region.offset) : 0;
  }

  // The cuts between `low` and `high`: [{offset, bytes}], the bytes that are cut out there.
  cuts(low, high) {
    return this.regions
      .slice(1)
      .map((region, i) => ({ offset: region.offset, bytes: region.start - this.regions[i].end }))
      .filter(({ offset }) => offset > low && offset < high);
  }
}

// The columns of recorded moments.
const RECORDED = {
  span: ["first", "start", "size", "state", "process"],
  free: ["first", "start", "size", "under", "group", "place", "process"],
  page: ["first", "address", "count", "state", "process"],
  brk: ["first", "value", "process"],
};

export class Run {
  constructor(data, number) {
    const column = (name) => data.columns[`r${number}.${name}`];
    this.data = data;
    this.number = number;
    const told = data.manifest.runs[number];
    Object.assign(this, told);
    this.manifestEvents = told.events;
    this.name = this.allocator + (this.language ? ` (${this.language === "c" ? "C" : "Python"})` : "");
    this.pageSize = this.page_size || 4096;
    this.address = column("address");
    this.lead = column("lead");
    this.span = column("span");
    this.word = column("word");
    this.perEvent = { mems: column("mems"), faults: column("faults"), heap: column("heap"), resident: column("resident") };
    this.sampled = { mems: column("curve.mems"), heap: column("curve.heap"), resident: column("curve.resident") };
    this.calls = { event: column("call.event"), text: column("call.text"), process: column("call.process") };
    this.keys = {};
    for (const [kind, parts] of Object.entries(RECORDED)) {
      this.keys[kind] = Object.fromEntries(parts.map((part) => [part, column(`${kind}.${part}`)]));
    }
    this.space = new Space(this.regions || []);
    this._place();
  }

  // Where each row's span begins and ends, as offsets; -1 where the run never made the block.
  _place() {
    const rows = this.data.rows;
    this.low = new Float64Array(rows);
    this.high = new Float64Array(rows);
    for (let row = 0; row < rows; row++) {
      if (!this.address || this.address[row] === 0) {
        this.low[row] = this.high[row] = -1;
        continue;
      }
      const start = this.address[row] - (this.lead ? this.lead[row] : 0);
      this.low[row] = this.space.offset(start);
      this.high[row] = this.low[row] + this.span[row];
    }
  }

  start(row) {
    return this.address[row] - (this.lead ? this.lead[row] : 0);
  }

  // The number of the recorded moment that is moment `done`, or that is nearest to it; -1: none is recorded.
  nearestKey(done) {
    const moments = this.data.keyMoments;
    let best = -1;
    for (let k = 0; k < moments.length; k++) {
      if (best < 0 || Math.abs(moments[k] - done) < Math.abs(moments[best] - done)) best = k;
    }
    return best;
  }

  // The last recorded moment that is not after `done`; -1: there is none.
  keyBefore(done) {
    let best = -1;
    this.data.keyMoments.forEach((moment, k) => {
      if (moment <= done) best = k;
    });
    return best;
  }

  // What a recorded moment has of a kind, for one process.
  _entries(kind, key, process, make) {
    const columns = this.keys[kind];
    if (key < 0 || !columns.first) return [];
    const found = [];
    for (let i = columns.first[key]; i < columns.first[key + 1]; i++) {
      if (process < 0 || !columns.process || columns.process[i] === process) found.push(make(columns, i));
    }
    return found;
  }

  // The spans that are no live blocks.
  spans(key, process) {
    const { states } = this.data;
    return this._entries("span", key, process, (c, i) => ({ start: c.start[i], size: c.size[i], state: states[c.state[i]] }));
  }

  // The free structure, in the design's own order.
  free(key, process) {
    return this._entries("free", key, process, (c, i) => ({
      start: c.start[i],
      size: c.size[i],
      under: c.under[i],
      group: this.data.text(c.group[i]),
      place: this.data.text(c.place[i]),
    }));
  }

  pages(key, process) {
    const states = this.data.pageStates;
    return this._entries("page", key, process, (c, i) => ({ address: c.address[i], count: c.count[i], state: states[c.state[i]] }));
  }

  // The break at a recorded moment; 0: unknown.
  brk(key, process) {
    return this._entries("brk", key, process, (c, i) => c.value[i])[0] || 0;
  }

  // How many events this run carried out: a run that ended early has no later moments.
  get last() {
    return this.manifestEvents ?? this.data.events;
  }

  // Does the container have the event that led to moment `done`, on its own?
  knows(done) {
    const [from, to] = this.data.exact;
    return done === 0 || (done > from && done <= to);
  }

  // "heap", "resident", "live" at moment `done`, or "mems", "faults" of the event that led to it.
  at(name, done) {
    const { data } = this;
    if (done === 0) return 0;
    const values = name === "live" ? data.live : this.perEvent[name];
    const index = Math.min(done, this.last) - 1 - data.exact[0];
    if (values && index >= 0 && index < values.length) return values[index];
    const samples = name === "live" ? data.sampledLive : this.sampled[name];
    if (!samples || !data.samples.length) return 0;
    let at = 0;
    while (at + 1 < data.samples.length && data.samples[at + 1] <= done) at++;
    return samples[at];
  }

  // The calls that moved a process's break: [{event, brk}], in order. heaplab writes them as strace does.
  breaks(process) {
    this._breaks ||= new Map();
    if (!this._breaks.has(process)) {
      const found = [];
      const { event, text, process: whose } = this.calls;
      for (let i = 0; event && i < event.length; i++) {
        const brk = /^brk\(.*\) = (0x[0-9a-f]+)/.exec(this.data.text(text[i]));
        if (brk && (!whose || whose[i] === process)) found.push({ event: event[i], brk: Number(brk[1]) });
      }
      const key = this._firstBreak(process);
      const moment = this.data.keyMoments[key];
      if (key >= 0 && !found.some(({ event }) => event < moment)) {
        found.unshift({ event: moment === 0 ? -1 : this.data.firstRecorded(process).born, brk: this.brk(key, process) });
      }
      this._breaks.set(process, found);
    }
    return this._breaks.get(process);
  }

  // The first recorded moment that has a process's break; -1: none. No event moves the break that a process begins with.
  _firstBreak(process) {
    return this.data.keyMoments.findIndex((_, key) => this.brk(key, process));
  }

  // The break over time: [{from, to, brk}] in events, until the process ends.
  heapOver(process) {
    const end = Math.min(this.data.endOf(process), this.last);
    const moves = this.breaks(process).filter(({ event }) => event < end);
    return moves.map(({ event, brk }, i) => ({ from: event, to: moves[i + 1]?.event ?? end, brk }));
  }

  // The break of a process at a moment: 0 before the first call that moved it.
  breakAt(process, done) {
    return this.breaks(process).findLast(({ event }) => event < done)?.brk || 0;
  }

  callsOf(event) {
    const found = [];
    if (this.calls.event) {
      for (let i = 0; i < this.calls.event.length; i++) {
        if (this.calls.event[i] === event) found.push(this.data.text(this.calls.text[i]));
      }
    }
    return found;
  }
}

const OF_BLOCKS = ["born", "died", "slot", "size", "thread", "process", "site", "stack", "before"];
const TEXTS = ["site", "stack"];
const OF_RUNS = ["address", "lead", "span", "word"];

export class Data {
  constructor({ manifest, columns }) {
    this.manifest = manifest;
    this.columns = columns;
    this.kind = manifest.kind;
    this.events = manifest.trace.events;
    this.texts = manifest.texts || [];
    this.states = manifest.states || [];
    this.pageStates = manifest.page_states || [];
    if (this.kind === "moment") rowsOfMoment(manifest, columns);
    for (const name of OF_BLOCKS) this[name] = columns[`block.${name}`];
    // what is painted is of one type: the painting is compiled once
    if (this.born) [this.born, this.died] = [Float64Array.from(this.born), Float64Array.from(this.died)];
    this.rows = this.born ? this.born.length : 0;
    this.inOrder = true;
    for (let row = 1; row < this.rows && this.inOrder; row++) this.inOrder = this.born[row - 1] <= this.born[row];
    this.op = columns["event.op"];
    this.eventRow = columns["event.row"];
    this.live = columns["event.live"];
    this.time = columns["event.time"];
    this.samples = columns["curve.moment"] || [];
    this.sampledLive = columns["curve.live"];
    this.keyMoments = Array.from(columns["key.moment"] || []);
    this.exact = manifest.exact || [0, this.events];
    this.runs = manifest.runs.map((_, number) => new Run(this, number));
    this.processes = this._distinct(this.process);
    this.threads = this._distinct(this.thread);
  }

  text(index) {
    return this.texts[index] || "";
  }

  // The moment to begin with: that of the container, or the peak of the live bytes.
  get interesting() {
    const { moment, trace } = this.manifest;
    return moment ?? Math.min((trace.peak ?? this.events - 1) + 1, this.events);
  }

  countOf(process) {
    return this.process ? this.process.reduce((count, each) => count + (each === process ? 1 : 0), 0) : 0;
  }

  // The event that ends a process: the last that takes several of its blocks at once; where none does, the end of the trace.
  endOf(process) {
    this._ends ||= new Map();
    if (!this._ends.has(process)) {
      let [last, count] = [0, 0];
      for (let row = 0; row < this.rows; row++) {
        if (this.process[row] !== process || this.died[row] < last) continue;
        count = this.died[row] > last ? 1 : count + 1;
        last = this.died[row];
      }
      this._ends.set(process, count > 1 ? Math.min(last, this.events) : this.events);
    }
    return this._ends.get(process);
  }

  // The first moment that is recorded of a process once it has blocks, and the event that makes the first of them.
  firstRecorded(process) {
    let born = this.events;
    for (let row = 0; row < this.rows; row++) if (this.process[row] === process && this.born[row] < born) born = this.born[row];
    return { born, moment: this.keyMoments.find((each) => each > born) ?? this.events + 1 };
  }

  // The process with the most blocks.
  get busiest() {
    return this.processes.reduce((most, each) => (this.countOf(each) > this.countOf(most) ? each : most), this.processes[0] ?? 0);
  }

  // The offsets between which the blocks of a process lie, in any run.
  extent(process) {
    let [low, high] = [Infinity, 0];
    for (const run of this.runs) {
      for (let row = 0; row < this.rows; row++) {
        if (run.low[row] < 0 || this.process[row] !== process) continue;
        if (run.low[row] < low) low = run.low[row];
        if (run.high[row] > high) high = run.high[row];
      }
    }
    return { low, high };
  }

  // Add the rows of `found`, a window of `run`: those that are new, and the places of those that are known.
  merge(found, run) {
    const name = (data, row) => `${data.born[row]} ${data.process[row]} ${data.slot[row]}`;
    this._ends = null;
    this._names ||= new Map(Array.from({ length: this.rows }, (_, row) => [name(this, row), row]));
    const rows = Array.from({ length: found.rows }, (_, row) => {
      const known = name(found, row);
      if (!this._names.has(known)) this._names.set(known, this._names.size);
      return this._names.get(known);
    });
    const grown = (old) => {
      const values = new Float64Array(this._names.size);
      if (old) values.set(old);
      return values;
    };
    const shift = this.texts.length;
    this.texts = [...this.texts, ...found.texts];
    const text = (index) => (index ? index + shift : 0);
    for (const column of OF_BLOCKS) {
      if (!found[column] && !this[column]) continue;
      this[column] = grown(this[column]);
      found[column]?.forEach((value, row) => {
        this[column][rows[row]] = TEXTS.includes(column) ? text(value) : column === "before" ? value && rows[value - 1] + 1 : value;
      });
    }
    this.told ||= new Map();
    const [from, to] = found.exact;
    for (let event = from; event < to && event < from + 4; event++) {
      if (!this.told.has(event)) this.told.set(event, found.eventText(event));
    }
    this.rows = this._names.size;
    this.inOrder = false;
    this._after = null;
    for (const each of this.runs) {
      for (const column of OF_RUNS) each[column] = grown(each[column]);
      if (each === run) {
        for (const column of OF_RUNS) {
          found.runs[0][column]?.forEach((value, row) => (run[column][rows[row]] = column === "word" ? text(value) : value));
        }
      }
      each._place();
    }
  }

  _distinct(values) {
    return values ? [...new Set(values)].sort((a, b) => a - b) : [0];
  }

  // Is the block of this row in the heap at moment `done`?
  alive(row, done) {
    return this.born[row] < done && done <= this.died[row];
  }

  // The rows in the heap of `process` (-1: of every process) at a moment, in order of birth.
  rowsAt(run, done, process = -1) {
    const found = [];
    for (let row = 0; row < this.rows; row++) {
      if (this.alive(row, done) && run.low[row] >= 0 && (process < 0 || this.process[row] === process)) found.push(row);
    }
    return found;
  }

  // The row whose span has the byte at `offset` at moment `done`; -1: no block has it.
  rowAt(run, done, offset, process = -1) {
    for (let row = this.rows - 1; row >= 0; row--) {
      if (
        run.low[row] <= offset &&
        offset < run.high[row] &&
        this.alive(row, done) &&
        (process < 0 || this.process[row] === process)
      ) {
        return row;
      }
    }
    return -1;
  }

  // The row nearest to a point of the map, no farther than so many events and bytes; -1: none is so near.
  rowNear(run, event, offset, events, bytes, process = -1) {
    let best = -1;
    let least = 1;
    for (let row = 0; row < this.rows; row++) {
      if (run.low[row] < 0 || (process >= 0 && this.process[row] !== process)) continue;
      const aside = Math.max(this.born[row] - event, event - this.died[row], 0) / events;
      if (aside > least) continue;
      const above = Math.max(run.low[row] - offset, offset - run.high[row], 0) / bytes;
      const distance = Math.max(aside, above);
      if (distance < least || (distance === 0 && best < 0)) {
        best = row;
        least = distance;
        if (distance === 0) break;
      }
    }
    return best;
  }

  // "malloc", "free", ...: what event k does; "" where the container does not have it.
  operation(event) {
    const index = event - this.exact[0];
    return this.op && index >= 0 && index < this.op.length ? this.manifest.ops[this.op[index]] : "";
  }

  // The row that event k makes, or else ends; -1: none.
  rowOf(event) {
    const index = event - this.exact[0];
    return this.eventRow && index >= 0 && index < this.eventRow.length ? this.eventRow[index] - 1 : -1;
  }

  // "malloc of block 66, 37 B"
  eventText(event) {
    if (event < 0) return "nothing yet";
    if (this.told?.has(event)) return this.told.get(event);
    const operation = this.operation(event).replaceAll("_", " ");
    const row = this.rowOf(event);
    if (!operation) return "not in the page";
    if (row < 0 || ["fork", "exec", "exit", "thread exit"].includes(operation)) {
      // the block that the first event of a part ends is not in the part
      return operation === "free" && (event === 0 || event > this.exact[0]) ? "free of NULL" : operation;
    }
    return `${operation} of block ${this.slot[row]}, ${bytesText(this.size[row])}`;
  }

  // The blocks that reallocs made one of another, this row among them, oldest first.
  chain(row) {
    if (!this.before) return [row];
    if (!this._after) {
      this._after = new Map();
      this.before.forEach((before, each) => before && this._after.set(before - 1, each));
    }
    const found = [row];
    while (this.before[found[0]]) found.unshift(this.before[found[0]] - 1);
    while (this._after.has(found.at(-1))) found.push(this._after.get(found.at(-1)));
    return found;
  }

  // Earlier blocks that had this row's slot, latest first: at most `most`, and how many there are.
  earlier(row, most = 5) {
    const found = [];
    let count = 0;
    for (let each = row - 1; each >= 0; each--) {
      if (this.slot[each] === this.slot[row] && this.process[each] === this.process[row]) {
        count++;
        if (found.length < most) found.push(each);
      }
    }
    return { rows: found, count };
  }

  lifetime(row) {
    return this.died[row] - this.born[row];
  }

  // What a block's life was: [name, text] pairs; a container of one moment does not know how it ends.
  _life(row) {
    const { born, died } = this;
    if (this.kind === "moment") return [["malloc", `event ${born[row]}`]];
    const never = died[row] >= this.events;
    return [
      ["malloc", `event ${born[row]}${this._when(born[row])}`],
      ["free", never ? "never" : `event ${died[row]}${this._when(died[row])}`],
      ["lifetime", never ? `to the end, ${plural(this.events - born[row], "event")}` : plural(this.lifetime(row), "event")],
    ];
  }

  // What is known of a block under a run, as [name, text] pairs; `done`: the moment the view shows.
  describe(row, run, done) {
    const pairs = [
      ["block", `${this.slot[row]}${this.processes.length > 1 ? `, of process ${this.process[row]}` : ""}`],
      ["size", `${exactBytes(this.size[row])} asked for`],
    ];
    if (run.low[row] < 0) {
      pairs.push(["address", "none: this run ended before the block"]);
    } else {
      const lead = run.lead ? run.lead[row] : 0;
      const rest = run.span[row] - lead - this.size[row];
      pairs.push(["address", addressText(run.address[row])]);
      pairs.push([
        "takes",
        `${exactBytes(run.span[row])} from ${addressText(run.start(row))}: ${lead} B in front, ` +
          `${exactBytes(this.size[row])} the program's, ${bytesText(Math.max(rest, 0))} behind`,
      ]);
    }
    pairs.push(...this._life(row));
    if (this.alive(row, done)) pairs.push(["age", `${plural(done - 1 - this.born[row], "event")} at this moment`]);
    pairs.push(["thread", String(this.thread ? this.thread[row] : 0)]);
    const site = this.site ? this.text(this.site[row]) : "";
    pairs.push(["call site", site || "not recorded"]);
    if (this.stack && this.stack[row]) pairs.push(["call stack", this.text(this.stack[row])]);
    if (!run.word) return pairs;
    const word = run.low[row] >= 0 ? this.text(run.word[row]) : "";
    pairs.push(["header", word || (run.lead && run.lead[row] ? "not decoded" : "none: the design keeps nothing in front")]);
    return pairs;
  }

  _when(event) {
    const index = event - this.exact[0];
    if (!this.time || index < 0 || index >= this.time.length) return "";
    return `, at ${(this.time[index] / 1e6).toLocaleString("en", { maximumSignificantDigits: 6 })} ms`;
  }

  // One line for a tooltip.
  summary(row, run) {
    const ends = this.died[row] >= this.events ? ", never freed" : `, freed by event ${this.died[row]}`;
    const died = this.kind === "moment" ? "" : ends;
    const where = run.low[row] < 0 ? "" : ` at ${addressText(run.address[row])}`;
    const site = this.site ? this.text(this.site[row]) : "";
    return `block ${this.slot[row]}: ${bytesText(this.size[row])}${where}; allocated by event ${this.born[row]}${died}${site ? `; asked for in ${site}` : ""}`;
  }

  // How far a run's block is from where its heap begins, to compare runs.
  distance(run, row) {
    return run.low[row] < 0 ? -1 : run.address[row] - run.space.regions[0].start;
  }
}

// Return one decoded container of several, each a moment of one run: their runs side by side.
export function joinMoments(list) {
  const joined = { manifest: { ...list[0].manifest, runs: [], texts: [""] }, columns: {} };
  const { manifest, columns } = joined;
  for (const each of list) {
    const number = manifest.runs.push(each.manifest.runs[0]) - 1;
    const shift = manifest.texts.length - 1;
    manifest.texts.push(...each.manifest.texts.slice(1));
    for (const [name, column] of Object.entries(each.columns)) {
      if (!name.startsWith("r0.")) continue;
      const isText = /\.(group|place|text|word)$/.test(name);
      columns[`r${number}${name.slice(2)}`] = isText ? Float64Array.from(column, (index) => (index ? index + shift : 0)) : column;
    }
  }
  return joined;
}

// Give a container of one moment a table of rows: the live blocks of all its runs, one row for each slot of a process.
function rowsOfMoment(manifest, columns) {
  const rows = new Map();
  const read = (number, name) => columns[`r${number}.live.${name}`] || [];
  manifest.runs.forEach((_, number) => {
    const slots = read(number, "slot");
    slots.forEach((slot, i) => {
      const process = read(number, "process")[i] || 0;
      const name = slot ? `${process} ${slot}` : `run ${number}, ${i}`;
      if (!rows.has(name)) rows.set(name, { process, slot: slot - 1, number, i, at: [] });
      rows.get(name).at[number] = i;
    });
  });
  const blocks = [...rows.values()];
  const { moment, trace } = manifest;
  const column = (name) => Float64Array.from(blocks, ({ number, i }) => read(number, name)[i] || 0);
  columns["block.born"] = column("event").map((event) => Math.min(event, Math.max(moment - 1, 0)));
  columns["block.died"] = new Float64Array(blocks.length).fill(Math.max(trace.events, moment));
  columns["block.slot"] = Float64Array.from(blocks, ({ slot }) => slot);
  columns["block.process"] = Float64Array.from(blocks, ({ process }) => process);
  columns["block.size"] = column("requested");
  columns["block.thread"] = column("thread");
  columns["key.moment"] ||= Uint32Array.of(moment);
  manifest.runs.forEach((_, number) => {
    const taken = (name) => Float64Array.from(blocks, ({ at }) => (at[number] === undefined ? 0 : read(number, name)[at[number]]));
    const [starts, payloads] = [taken("start"), taken("payload")];
    columns[`r${number}.address`] = payloads;
    columns[`r${number}.lead`] = payloads.map((payload, row) => payload - starts[row]);
    columns[`r${number}.span`] = taken("size");
  });
}
