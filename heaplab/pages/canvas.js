// Canvases that fit their place, and the little that all drawings share.
import { make } from "./words.js";

const MOST_DOTS = 2; // dots a CSS pixel: a sharper screen does not show more of a heap

// A canvas of the size that CSS gives it. To ask for that size may cost a layout of the page: a canvas asks once, and again
// after `Layer.resized()`.
export class Layer {
  static epoch = 1;

  static resized() {
    Layer.epoch++;
  }

  constructor(attributes) {
    this.canvas = make("canvas", attributes);
    this.context = this.canvas.getContext("2d");
    this.width = this.height = this.dots = this.epoch = 0;
  }

  // Take the size that the canvas has on the page; return true when it is another than before.
  fit() {
    if (this.epoch === Layer.epoch) return false;
    this.epoch = Layer.epoch;
    const dots = Math.min(window.devicePixelRatio || 1, MOST_DOTS);
    const { clientWidth: width, clientHeight: height } = this.canvas;
    if (width === this.width && height === this.height && dots === this.dots) return false;
    Object.assign(this, { width, height, dots });
    this.canvas.width = Math.max(Math.round(width * dots), 1);
    this.canvas.height = Math.max(Math.round(height * dots), 1);
    return true;
  }

  // Write a line in the middle.
  say(text, inks) {
    const { context } = this;
    context.font = inks.font;
    context.textAlign = "center";
    context.textBaseline = "middle";
    context.fillStyle = inks.faint;
    context.fillText(text, this.width / 2, this.height / 2);
    context.textAlign = "left";
  }

  // The context, empty, in CSS pixels.
  begin() {
    this.context.setTransform(this.dots, 0, 0, this.dots, 0, 0);
    this.context.clearRect(0, 0, this.width, this.height);
    return this.context;
  }
}

// The colours of text, lines and ground, from the style sheet: they follow dark and light.
export function inks(element) {
  const style = getComputedStyle(element);
  const read = (name) => style.getPropertyValue(`--${name}`).trim();
  return {
    theme: read("theme") || "light",
    ground: read("ground"),
    ink: read("ink"),
    faint: read("faint"),
    rule: read("rule"),
    mark: read("mark"),
    soft: read("soft"),
    font: "11px system-ui, sans-serif",
    mono: "11px ui-monospace, monospace",
  };
}

// Black or white, whichever is read on this pixel's colour.
export function legible(pixel) {
  const light = 0.299 * (pixel & 255) + 0.587 * ((pixel >>> 8) & 255) + 0.114 * ((pixel >>> 16) & 255);
  return light > 140 ? "#000" : "#fff";
}

// A line on whole pixels is sharp.
export function line(context, x0, y0, x1, y1) {
  context.beginPath();
  context.moveTo(Math.round(x0) + 0.5, Math.round(y0) + 0.5);
  context.lineTo(Math.round(x1) + 0.5, Math.round(y1) + 0.5);
  context.stroke();
}

// Strokes that lean, between x and x + width: what is free, or not the program's.
export function hatch(context, x, y, width, height, step, colour) {
  context.save();
  context.beginPath();
  context.rect(x, y, width, height);
  context.clip();
  context.strokeStyle = colour;
  context.lineWidth = 1;
  context.beginPath();
  for (let at = x - (x % step) - height; at < x + width; at += step) {
    context.moveTo(at, y + height);
    context.lineTo(at + height, y);
  }
  context.stroke();
  context.restore();
}
