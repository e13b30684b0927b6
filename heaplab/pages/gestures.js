// What hands do on a canvas: drag, wheel, pinch, click, hover, keys.

const STILL = 4; // pixels: a pointer that moves less between down and up has clicked

// Listen on `element`. `actions`: pan(dx, dy) in pixels; zoom(factor, x, y, {time, address}): factor > 1 is closer, and
// says which axes; click(x, y); hover(x, y, event); leave(); key(event) -> true when the key was used.
export function listen(element, actions) {
  const down = new Map();
  let moved = 0;
  let spread = 0;
  const place = (event) => {
    const box = element.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  };
  const middle = () => {
    const points = [...down.values()];
    return [0, 1].map((axis) => points.reduce((sum, point) => sum + point[axis], 0) / points.length);
  };
  const distance = () => {
    const [one, other] = [...down.values()];
    return Math.max(Math.hypot(one[0] - other[0], one[1] - other[1]), 1);
  };

  element.addEventListener("pointerdown", (event) => {
    element.focus({ preventScroll: true });
    element.setPointerCapture(event.pointerId);
    down.set(event.pointerId, place(event));
    moved = down.size > 1 ? STILL : 0;
    if (down.size === 2) spread = distance();
  });
  element.addEventListener("pointermove", (event) => {
    const point = place(event);
    if (!down.has(event.pointerId)) {
      actions.hover(...point, event);
      return;
    }
    const before = middle();
    down.set(event.pointerId, point);
    const after = middle();
    moved += Math.hypot(after[0] - before[0], after[1] - before[1]);
    if (moved >= STILL) actions.pan(after[0] - before[0], after[1] - before[1]);
    if (down.size === 2) {
      const now = distance();
      actions.zoom(now / spread, ...after, { time: true, address: true });
      spread = now;
    }
  });
  const up = (event) => {
    if (!down.delete(event.pointerId)) return;
    if (event.type === "pointerup" && moved < STILL && down.size === 0) actions.click(...place(event));
  };
  element.addEventListener("pointerup", up);
  element.addEventListener("pointercancel", up);
  element.addEventListener("pointerleave", () => actions.leave());
  element.addEventListener(
    "wheel",
    (event) => {
      event.preventDefault();
      const pixels = event.deltaMode === 1 ? 16 : event.deltaMode === 2 ? 400 : 1;
      const turned = (event.deltaY || event.deltaX) * pixels; // shift turns the wheel sideways
      if (Math.abs(event.deltaX) > Math.abs(event.deltaY) && !event.shiftKey) {
        actions.pan(-event.deltaX * pixels, 0);
        return;
      }
      const factor = Math.exp(-turned * (event.ctrlKey ? 0.01 : 0.002));
      actions.zoom(factor, ...place(event), { time: !event.shiftKey, address: !event.altKey });
    },
    { passive: false },
  );
  element.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey) return;
    if (actions.key(event)) event.preventDefault();
  });
}
