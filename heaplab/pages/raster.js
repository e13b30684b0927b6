// Rectangles into pixels, many at once: time goes to the right, addresses go down.
//
// A rectangle that covers at least a pixel in both directions is painted, its edges on whole pixels. Smaller
// ones share pixels: each adds its colour in proportion to the part of the pixel that it covers, so that a
// heap of tiny blocks is as dark as it is full, whatever the zoom.
//
// A share is noted where it begins, and taken away again where it ends; one pass along each line of pixels adds up. So
// a long thin rectangle costs as much as a short one. Shares are integers: what is added is taken away exactly.

const FLOOR = 0.2; // a pixel that any block touches is at least so strong: a lone block must be seen
const WHOLE = 4096; // the share of a rectangle that fills its pixel

const half = (colour) => (colour >>> 1) & 0x7f7f7f;
const between = (one, other) => ((half(one) + half(other)) | 0xff000000) >>> 0;

export class Raster {
  constructor() {
    this.width = this.height = 0;
  }

  resize(width, height) {
    if (width === this.width && height === this.height) return;
    this.width = width;
    this.height = height;
    this.image = new ImageData(width, height);
    this.pixels = new Uint32Array(this.image.data.buffer);
    this.shares = new Int32Array(4 * (width + 1) * height); // red, green, blue, and the part: where it changes
  }

  // Fill a part of the picture, {left, top, right, bottom} in pixels.
  clear(ground, part = this.all) {
    this.ground = ground;
    for (let y = part.top; y < part.bottom; y++) this.pixels.fill(ground, y * this.width + part.left, y * this.width + part.right);
  }

  get all() {
    return { left: 0, top: 0, right: this.width, bottom: this.height };
  }

  // Move the picture by whole pixels; return the parts that now have to be painted.
  shift(dx, dy) {
    const { width, height, pixels } = this;
    const by = dy * width + dx;
    if (by > 0) pixels.copyWithin(by, 0, pixels.length - by);
    else pixels.copyWithin(0, -by);
    const parts = [];
    const [from, to] = dx > 0 ? [dx, width] : [0, width + dx];
    if (dx) parts.push({ left: dx > 0 ? 0 : to, right: dx > 0 ? from : width, top: 0, bottom: height });
    if (dy) parts.push({ left: from, right: to, top: dy > 0 ? 0 : height + dy, bottom: dy > 0 ? dy : height });
    return parts;
  }

  // Paint rectangles: {count, left, right, low, high: arrays, one entry a rectangle; colours: pixels},
  // `window` = {x0, x1, y0, y1} in their units, which the whole picture shows; only `parts` of it, which do not overlap, are
  // painted. Options: `process`, `processes`: only rectangles of this one; `ages`, see colours.js; `blend`: mixed with what is
  // there; `lines`: a line parts neighbours; `sorted`: `left` never falls.
  paint(table, window, options = {}) {
    const { count, left, right, low, high } = table;
    const { process = 0, processes = null, sorted = false, parts = [this.all] } = options;
    const { width, height } = this;
    const sx = width / (window.x1 - window.x0);
    const sy = height / (window.y1 - window.y0);
    const bounds = parts.map((part) => ({
      part,
      first: window.x0 + part.left / sx,
      last: window.x0 + part.right / sx,
      top: window.y0 + part.top / sy,
      bottom: window.y0 + part.bottom / sy,
      shared: false,
    }));
    const { x0, x1, y0, y1 } = window;
    for (let i = 0; i < count; i++) {
      if (left[i] >= x1) {
        if (sorted) break;
        continue;
      }
      if (right[i] <= x0 || low[i] >= y1 || high[i] <= y0 || low[i] < 0) continue;
      if (processes !== null && processes[i] !== process) continue;
      for (let p = 0; p < bounds.length; p++) {
        const each = bounds[p];
        if (left[i] >= each.last || right[i] <= each.first || low[i] >= each.bottom || high[i] <= each.top) continue;
        if (this._rectangle(table, i, window, sx, sy, each.part, options)) each.shared = true;
      }
    }
    for (const { part, shared } of bounds) if (shared) this._settle(part, options.blend ? 0.5 : 1);
  }

  // Paint one rectangle; return true when it shares pixels.
  _rectangle({ left, right, low, high, colours }, i, { x0, y0 }, sx, sy, part, { ages, blend = false, lines = false }) {
    const { width, shares } = this;
    const l = (left[i] - x0) * sx;
    const r = (right[i] - x0) * sx;
    const t = (low[i] - y0) * sy;
    const b = (high[i] - y0) * sy;
    const narrow = Math.round(l) === Math.round(r);
    const flat = Math.round(t) === Math.round(b);
    const fromX = Math.max(narrow ? Math.floor((l + r) / 2) : Math.round(l), part.left);
    const toX = Math.min(narrow ? Math.floor((l + r) / 2) + 1 : Math.round(r), part.right);
    const fromY = Math.max(flat ? Math.floor((t + b) / 2) : Math.round(t), part.top);
    const toY = Math.min(flat ? Math.floor((t + b) / 2) + 1 : Math.round(b), part.bottom);
    if (fromX >= toX || fromY >= toY) return false;
    const colour = colours[i];
    if (!narrow && !flat) {
      this._fill(fromX, fromY, toX, toY, colour, blend, lines && Math.round(l) === fromX, lines && Math.round(t) === fromY && b - t > 3);
      if (ages) this._grow(fromX, fromY, toX, toY, left[i], x0, sx, ages);
      return false;
    }
    const share = Math.max(Math.round(WHOLE * (narrow ? r - l : 1) * (flat ? b - t : 1)), 1);
    const red = (colour & 255) * share;
    const green = ((colour >>> 8) & 255) * share;
    const blue = ((colour >>> 16) & 255) * share;
    for (let y = fromY; y < toY; y++) {
      let at = 4 * (y * (width + 1) + fromX);
      shares[at] += red;
      shares[at + 1] += green;
      shares[at + 2] += blue;
      shares[at + 3] += share;
      at += 4 * (toX - fromX);
      shares[at] -= red;
      shares[at + 1] -= green;
      shares[at + 2] -= blue;
      shares[at + 3] -= share;
    }
    return true;
  }

  _fill(fromX, fromY, toX, toY, colour, blend, lineLeft, lineTop) {
    const { pixels, width } = this;
    const line = between(colour, this.ground);
    for (let y = fromY; y < toY; y++) {
      const from = y * width + fromX;
      const to = y * width + toX;
      if (blend) {
        for (let at = from; at < to; at++) pixels[at] = between(pixels[at], colour);
        continue;
      }
      const paint = lineTop && y === fromY ? line : colour;
      if (to - from < 16) for (let at = from; at < to; at++) pixels[at] = paint;
      else pixels.fill(paint, from, to);
      if (lineLeft && to - from > 3) pixels[from] = line;
    }
  }

  // Repaint a rectangle so that its colour changes with age, column by column.
  _grow(fromX, fromY, toX, toY, born, x0, sx, { low, pixels: scale }) {
    const { pixels, width } = this;
    const first = fromY * width;
    const last = scale.length - 1;
    for (let x = fromX; x < toX; x++) {
      const age = Math.max(x0 + (x + 0.5) / sx - born, 1);
      pixels[first + x] = scale[Math.min(Math.max(31 - Math.clz32(age) - low, 0), last)];
    }
    for (let y = fromY + 1; y < toY; y++) pixels.copyWithin(y * width + fromX, first + fromX, first + toX);
  }

  // Add up the shares along each line, into the pixels; `most`: how strong a pixel that is full becomes.
  _settle(part, most) {
    const { pixels, shares, width } = this;
    for (let y = part.top; y < part.bottom; y++) {
      let red = 0;
      let green = 0;
      let blue = 0;
      let total = 0;
      const end = 4 * (y * (width + 1) + part.right);
      let pixel = y * width + part.left;
      for (let at = 4 * (y * (width + 1) + part.left); at < end; at += 4, pixel++) {
        red += shares[at];
        green += shares[at + 1];
        blue += shares[at + 2];
        total += shares[at + 3];
        if (total === 0) continue;
        const strength = most * (FLOOR + (1 - FLOOR) * Math.min(total / WHOLE, 1));
        const under = pixels[pixel];
        const r = under & 255;
        const g = (under >>> 8) & 255;
        const b = (under >>> 16) & 255;
        pixels[pixel] =
          ((255 << 24) |
            ((b + (blue / total - b) * strength) << 16) |
            ((g + (green / total - g) * strength) << 8) |
            (r + (red / total - r) * strength)) >>>
          0;
      }
      shares.fill(0, 4 * (y * (width + 1) + part.left), end + 4);
    }
  }

  // Paint a grid of coverage, 0 to 255 a cell, where `shown(event)`: columns of so many events, rows as `rowOf(offset)`
  // says (-1: no row).
  grid({ values, first = 0, columns, rows, events, rowOf }, colour, window, shown, part = this.all) {
    const { width, height, pixels } = this;
    const { x0, x1, y0, y1 } = window;
    const mixes = Array.from({ length: 256 }, (_, cover) =>
      mix(this.ground, colour, cover ? FLOOR + (1 - FLOOR) * (cover / 255) : 0),
    );
    const rowAt = Array.from({ length: height }, (_, y) => rowOf(y0 + ((y + 0.5) * (y1 - y0)) / height));
    for (let x = part.left; x < part.right; x++) {
      const event = x0 + ((x + 0.5) * (x1 - x0)) / width;
      const column = Math.floor((event - first) / events);
      if (column < 0 || column >= columns || !shown(event)) continue;
      for (let y = part.top; y < part.bottom; y++) {
        if (rowAt[y] >= 0) pixels[y * width + x] = mixes[values[column * rows + rowAt[y]]];
      }
    }
  }
}

function mix(one, other, part) {
  let mixed = 255 << 24;
  for (const shift of [0, 8, 16]) {
    const from = (one >>> shift) & 255;
    mixed |= Math.round(from + (((other >>> shift) & 255) - from) * part) << shift;
  }
  return mixed >>> 0;
}

// Return the rectangles of a table that are at least so wide and high in pixels, at most `most`: [{i, l, t, r, b}].
export function large({ count, left, right, low, high }, { x0, x1, y0, y1 }, width, height, [wide, tall], most, keep) {
  const sx = width / (x1 - x0);
  const sy = height / (y1 - y0);
  const found = [];
  for (let i = 0; i < count && found.length < most; i++) {
    if ((high[i] - low[i]) * sy < tall || (right[i] - left[i]) * sx < wide || low[i] < 0) continue;
    const l = Math.max((left[i] - x0) * sx, 0);
    const r = Math.min((right[i] - x0) * sx, width);
    const t = Math.max((low[i] - y0) * sy, 0);
    const b = Math.min((high[i] - y0) * sy, height);
    if (r - l >= wide && b - t >= tall && keep(i)) found.push({ i, l, t, r, b });
  }
  return found;
}
