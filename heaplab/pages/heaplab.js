// The module's face: a page, a notebook's widget and a report call these.
//
//   mount(element, container, transport, options)   a run over time: maps, curves, clock, strips
//   mountHeap(element, containers, options)         the heaps of one or more designs at one moment: strips
//   default.render({model, el})                     the same for a notebook (anywidget)
//   decode(bytes), fromBase64(text), bytesText(n)   a container's manifest and columns; bytes; "1.5 KiB"
//
// Each returns a promise of the View, whose `choose({moment, row})`, `look({x0, x1, y0, y1})` and `destroy()` others may call.
//
// container: the bytes of heaplab/views/packing.py, as a Uint8Array; containers: one of them, or a list of moments, each of one
// run. transport: null, or an object whose functions
// return a promise of such bytes, for what the container does not have:
//
//   window({run, process, from, to, low, high, width, height})   moment({run, moment})   block({run, moment, process, start})
//
// options: moment, quality ("size", "lifetime", "age", "site", "stack", "thread", "process", "page", "place"), process, hash (true: the address
// bar's #at=K&block=SLOT chooses the moment after event K, and the block that then has the slot).
import { decode, fromBase64 } from "./container.js";
import { Data, joinMoments } from "./model.js";
import { View } from "./view.js";
import { bytesText, make } from "./words.js";

export { bytesText, decode, fromBase64 };

export async function mount(element, container, transport = null, options = {}) {
  return shown(element, async () => {
    const data = new Data(await decode(container));
    const view = new View(element, data, transport && decoded(transport), options);
    if (options.hash) {
      const follow = () => view.follow(new URLSearchParams(location.hash.slice(1)));
      addEventListener("hashchange", follow);
      follow();
    }
    return view;
  });
}

export async function mountHeap(element, containers, options = {}) {
  return shown(element, async () => {
    const decoded = await Promise.all((Array.isArray(containers) ? containers : [containers]).map(decode));
    const data = new Data(decoded.length > 1 ? joinMoments(decoded) : decoded[0]);
    return new View(element, data, null, { ...options, timeline: false });
  });
}

// Return what `action` makes; say in the element's place what went wrong.
async function shown(element, action) {
  try {
    return await action();
  } catch (error) {
    element.replaceChildren(make("p", { role: "alert" }, `heaplab cannot show this: ${error.message}`));
    throw error;
  }
}

function decoded(transport) {
  const ask = (name) => async (question) => new Data(await decode(await transport[name](question)));
  return { window: ask("window"), moment: ask("moment"), block: ask("block") };
}

// The questions of a widget go to Python as messages {id, kind, ...}; answers are {id, error?} with the bytes beside them.
function messages(model) {
  const waiting = new Map();
  let last = 0;
  model.on("msg:custom", (message, buffers) => {
    const asked = waiting.get(message.id);
    if (!asked) return;
    waiting.delete(message.id);
    if (message.error) asked.reject(new Error(message.error));
    else asked.resolve(bytesOf(buffers[0]));
  });
  const ask = (kind) => (question) =>
    new Promise((resolve, reject) => {
      waiting.set(++last, { resolve, reject });
      model.send({ id: last, kind, question });
    });
  return { window: ask("window"), moment: ask("moment"), block: ask("block") };
}

const bytesOf = (view) => (view instanceof Uint8Array ? view : new Uint8Array(view.buffer ?? view, view.byteOffset ?? 0, view.byteLength));

async function render({ model, el }) {
  const place = make("div");
  el.append(place);
  const transport = model.get("asks") ? messages(model) : null;
  const options = model.get("options") || {};
  const view = await (options.timeline === false
    ? mountHeap(place, bytesOf(model.get("container")), options)
    : mount(place, bytesOf(model.get("container")), transport, options));
  return () => view.destroy();
}

export default { render };
