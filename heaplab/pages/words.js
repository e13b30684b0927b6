// Numbers and addresses as a person reads them.

const UNITS = ["B", "KiB", "MiB", "GiB", "TiB"];

// 0: "0 B"; 1536: "1.5 KiB"; 153700: "150 KiB". Three digits; exact where it is a whole number.
export function bytesText(count) {
  let unit = 0;
  let value = count;
  while (Math.abs(value) >= 1024 && unit < UNITS.length - 1) {
    value /= 1024;
    unit++;
  }
  const digits = Math.abs(value) >= 100 ? 0 : Math.abs(value) >= 10 ? 1 : 2;
  return `${Number.isInteger(value) ? value : Number(value.toFixed(digits))} ${UNITS[unit]}`;
}

// "37 B", "1.5 KiB (1,536 B)": to the byte, whatever the size.
export function exactBytes(count) {
  return count < 1024 ? `${count} B` : `${bytesText(count)} (${countText(count)} B)`;
}

const COUNTS = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });

export const countText = (count) => COUNTS.format(count);

export const addressText = (address) => "0x" + address.toString(16);

// "1 event", "2 events".
export const plural = (count, noun) => `${countText(count)} ${noun}${count === 1 ? "" : "s"}`;

// Return round numbers between low and high, about `wanted` of them, one to a whole multiple of 1, 2 or 5
// times a power of `base` (10 for counts, 16 for addresses: then 1, 2, 4 or 8 times).
export function ticks(low, high, wanted, base = 10) {
  const span = Math.max(high - low, 1e-9);
  const factors = base === 10 ? [1, 2, 5] : [1, 2, 4, 8];
  let step = base ** Math.floor(Math.log(span / wanted) / Math.log(base));
  if (step < 1) step = 1;
  for (const factor of [...factors, base]) {
    if (span / (step * factor) <= wanted) {
      step *= factor;
      break;
    }
  }
  const found = [];
  for (let value = Math.ceil(low / step) * step; value <= high; value += step) found.push(value);
  return found;
}

// Make an element: its attributes (on… are listeners), then its children (text or elements).
export function make(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (value === true) element.setAttribute(key, "");
    else if (value !== false && value !== undefined && value !== null) element.setAttribute(key, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}
