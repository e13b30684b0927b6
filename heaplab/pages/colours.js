// Colour schemes: for each row of the data, the colour that a quality of the block has, and a legend in words.
//
// Categories: Okabe and Ito, Color Universal Design (2008), as heaplab/report/style.py has them. Quantities: a
// scale whose lightness alone tells small from large.
import { bytesText, countText } from "./words.js";

const [ORANGE, SKY, GREEN, YELLOW, BLUE, VERMILION, PURPLE] = [
  "#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7",
];
const INNERMOST = 4; // functions of a call stack in a legend
const GREY = "#999999";
const CATEGORIES = [BLUE, ORANGE, GREEN, VERMILION, PURPLE, SKY, YELLOW];

// Designs, in the order they are given.
export const SERIES = {
  light: [BLUE, ORANGE, GREEN, VERMILION, PURPLE, SKY],
  dark: [SKY, ORANGE, GREEN, VERMILION, PURPLE, YELLOW],
};

// Pages by their state: the colour, and what the state means.
export const PAGES = {
  own: { colour: SKY, text: "resident, this process's alone" },
  shared: { colour: ORANGE, text: "resident, shared with another process" },
  zero: { colour: GREY, text: "the zero page, which all share" },
  copied: { colour: VERMILION, text: "resident, copied by a write after fork" },
};

// What else the map of pages shows: addresses of the heap without a page in memory, and the time of which nothing is known.
export const NO_FRAME = { colour: PURPLE, text: "no frame: heap that was not in memory" };
export const UNKNOWN = { colour: YELLOW, text: "not recorded yet: before the first recorded moment", hatched: true };
const UNDER_BLOCKS = "#303030"; // half of it is mixed with the colour of the page that a block lies on

// From little to much, after viridis (Smith and van der Walt, 2015): what stands out from the ground is much.
const SCALES = {
  light: ["#c9d44a", "#6cbf5a", "#22a884", "#2a788e", "#414487", "#440154"],
  dark: ["#4d57a0", "#2f7f97", "#22a884", "#5cc863", "#b5de2b", "#fde725"],
};

function parts(hex) {
  return [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));
}

// A colour as the pixel it is in an ImageData seen through a Uint32Array (little-endian: 0xAABBGGRR).
export function pixel(hex) {
  const [red, green, blue] = parts(hex);
  return ((255 << 24) | (blue << 16) | (green << 8) | red) >>> 0;
}

// A scale of `steps` colours, as hex.
function scale(theme, steps) {
  const stops = SCALES[theme].map(parts);
  return Array.from({ length: steps }, (_, i) => {
    const at = steps === 1 ? 0 : (i / (steps - 1)) * (stops.length - 1);
    const low = Math.min(Math.floor(at), stops.length - 2);
    const mixed = stops[low].map((value, c) => Math.round(value + (stops[low + 1][c] - value) * (at - low)));
    return "#" + mixed.map((value) => value.toString(16).padStart(2, "0")).join("");
  });
}

// The ground of a kind of page, and beside it what it is under a block.
function swatch({ colour, hatched = false }) {
  const under = `color-mix(in srgb, ${colour}, ${UNDER_BLOCKS})`;
  const halves = `linear-gradient(90deg, ${colour} 50%, ${under} 50%)`;
  return hatched ? `repeating-linear-gradient(135deg, #000 0 1px, transparent 1px 5px), ${halves}` : halves;
}

const log2 = (value) => 31 - Math.clz32(Math.min(Math.max(value, 1), 0x7fffffff));

// Powers of two in `values`, each with its colour: {of(value) -> pixel, legend}.
function powers(values, theme, text) {
  let low = 31;
  let high = 0;
  for (const value of values) {
    const power = log2(value);
    if (power < low) low = power;
    if (power > high) high = power;
  }
  low = Math.min(low, high);
  const colours = scale(theme, high - low + 1);
  const pixels = colours.map(pixel);
  const every = Math.ceil(colours.length / 8);
  const legend = [];
  for (let i = 0; i < colours.length; i += every) {
    const from = 2 ** (low + i);
    const to = 2 ** Math.min(low + i + every, high + 1) - 1;
    const colour = colours[Math.min(i + ((every / 2) | 0), colours.length - 1)];
    legend.push({ colour, text: from === to ? text(from) : `${text(from)} to ${text(to)}` });
  }
  return { of: (value) => pixels[Math.min(Math.max(log2(value) - low, 0), pixels.length - 1)], legend, low, pixels };
}

// The most frequent categories have a colour each; the others share grey.
function categories(values, name) {
  const counts = new Map();
  for (const value of values) counts.set(value, (counts.get(value) || 0) + 1);
  const ordered = [...counts].sort((a, b) => b[1] - a[1]).map(([value]) => value);
  const colours = new Map(ordered.slice(0, CATEGORIES.length).map((value, i) => [value, CATEGORIES[i]]));
  const legend = [...colours].map(([value, colour]) => ({ colour, text: `${name(value)}: ${countText(counts.get(value))}` }));
  const rest = ordered.length - colours.size;
  if (rest > 0) legend.push({ colour: GREY, text: `${rest} others` });
  const pixels = new Map([...colours].map(([value, colour]) => [value, pixel(colour)]));
  const grey = pixel(GREY);
  return { of: (value) => pixels.get(value) ?? grey, legend };
}

// The end of a call stack that a legend has room for.
function innermost(stack) {
  const functions = stack.split(" > ");
  return functions.length > INNERMOST ? `… > ${functions.slice(-INNERMOST).join(" > ")}` : stack;
}

function filled(rows, colourOf) {
  const colours = new Uint32Array(rows);
  for (let row = 0; row < rows; row++) colours[row] = colourOf(row);
  return colours;
}

// How far apart two places of a block may be, bytes: the classes of "place".
const APART = [4096, 65536, 1 << 20, Infinity];

// The qualities a view can colour by: [name, what the menu says].
export const QUALITIES = [
  ["size", "size asked for"],
  ["lifetime", "lifetime"],
  ["age", "age"],
  ["site", "call site"],
  ["stack", "call stack"],
  ["thread", "thread"],
  ["process", "process"],
  ["page", "page state"],
  ["place", "what differs between designs"],
];

// Return {colours, legend, note} for a quality of the blocks of `run`: colours, a Uint32Array of pixels, one a row.
// `ages` is set for the quality "age": the pixels by power of two, which change along the block's life.
export function scheme(quality, data, run, theme) {
  const rows = data.rows;
  if (quality === "size") {
    const found = powers(data.size || [], theme, bytesText);
    return { colours: filled(rows, (row) => found.of(data.size[row])), legend: found.legend, note: "" };
  }
  if (quality === "lifetime" || quality === "age") {
    const lives = filled(rows, (row) => data.lifetime(row));
    const found = powers(lives, theme, (value) => countText(value));
    if (quality === "age") {
      return {
        colours: filled(rows, (row) => found.of(lives[row])),
        legend: found.legend,
        note: "events since the block was allocated: a block changes its colour as it grows old",
        ages: { low: found.low, pixels: Uint32Array.from(found.pixels) },
      };
    }
    const never = pixel(PURPLE);
    return {
      colours: filled(rows, (row) => (data.died[row] >= data.events ? never : found.of(lives[row]))),
      legend: [...found.legend, { colour: PURPLE, text: "never freed" }],
      note: "events from malloc to free",
    };
  }
  if (quality === "page") {
    return {
      colours: new Uint32Array(rows).fill(pixel(UNDER_BLOCKS)),
      legend: [...data.pageStates.filter((state) => PAGES[state]).map((state) => PAGES[state]), NO_FRAME, UNKNOWN].map((kind) => ({ ...kind, swatch: swatch(kind) })),
      note:
        "darker: a block lies there; bright: none does. Pages are as they were at the last recorded moment",
      pages: true,
    };
  }
  if (quality === "place") {
    const other = data.runs.find((each) => each !== run);
    const [same, only] = [theme === "dark" ? "#5c6470" : "#b4bcc6", YELLOW];
    const far = scale(theme, APART.length);
    const pixels = far.map(pixel);
    return {
      colours: filled(rows, (row) => {
        if (!other || other.low[row] < 0) return pixel(only);
        const apart = Math.abs(data.distance(run, row) - data.distance(other, row));
        return apart === 0 ? pixel(same) : pixels[APART.findIndex((limit) => apart < limit)];
      }),
      legend: [
        { colour: same, text: "same place" },
        ...APART.map((limit, i) => ({
          colour: far[i],
          text: limit < Infinity ? `less than ${bytesText(limit)} away` : `farther`,
        })),
        { colour: only, text: "in this design alone" },
      ],
      note:
        "how far apart the block lies in the other design, both counted from where the heap starts; dashed: the other " +
        "design's break",
    };
  }
  const names = {
    site: [data.site, (value) => data.text(value) || "not recorded"],
    stack: [data.stack, (value) => innermost(data.text(value)) || "not recorded"],
    thread: [data.thread, (value) => `thread ${value}`],
    process: [data.process, (value) => `process ${value}`],
  };
  const [column, name] = names[quality];
  const found = categories(column || new Uint8Array(rows), name);
  return { colours: filled(rows, (row) => found.of(column ? column[row] : 0)), legend: found.legend, note: "blocks of each" };
}
