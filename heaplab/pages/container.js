// The container: bytes that hold a manifest and columns. heaplab/views/packing.py writes it, and says what is in it.
//
//   "HLV1" | length of the JSON, 4 bytes, little-endian | one raw deflate stream: the JSON, then every column

const TYPES = { u1: Uint8Array, u2: Uint16Array, u4: Uint32Array, f8: Float64Array };

// Return {manifest, columns}: each column a typed array. Columns of 8-byte integers become Float64Arrays,
// which hold every integer below 2 ** 53 exactly. Throws an Error that says what is wrong with the bytes.
export async function decode(bytes) {
  if (bytes.length < 8 || String.fromCharCode(...bytes.subarray(0, 4)) !== "HLV1") {
    throw new Error("these bytes are no container of heaplab's: they do not begin with HLV1");
  }
  const length = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength).getUint32(4, true);
  const stream = await inflate(bytes.subarray(8));
  const { manifest, columns: described } = JSON.parse(new TextDecoder().decode(stream.subarray(0, length)));
  const columns = {};
  let at = length;
  for (const [name, how] of Object.entries(described)) {
    const width = Number(how.type[1]);
    const raw = stream.slice(at, at + width * how.length); // a copy: typed arrays must be aligned
    if (raw.length < width * how.length) throw new Error(`the container ends within its column ${name}`);
    at += raw.length;
    const whole = how.planes ? gather(raw, width, how.length) : raw;
    columns[name] = how.type === "u8" ? wide(whole, how) : narrow(new TYPES[how.type](whole.buffer), how);
  }
  return { manifest, columns };
}

async function inflate(bytes) {
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate-raw"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

// Put together the bytes of each value: all lowest bytes come first, then all second ones, and so on.
function gather(raw, width, length) {
  const whole = new Uint8Array(raw.length);
  for (let plane = 0; plane < width; plane++) {
    for (let i = 0, from = plane * length; i < length; i++) whole[i * width + plane] = raw[from + i];
  }
  return whole;
}

// Typed arrays wrap around as the differences do.
function narrow(values, { delta }) {
  if (delta) for (let i = 1; i < values.length; i++) values[i] += values[i - 1];
  return values;
}

function wide(raw, { length, delta }) {
  const halves = new Uint32Array(raw.buffer);
  const values = new Float64Array(length);
  let low = 0;
  let high = 0;
  for (let i = 0; i < length; i++) {
    low = halves[2 * i] + (delta ? low : 0);
    high = (halves[2 * i + 1] + (delta ? high : 0) + (low > 0xffffffff ? 1 : 0)) >>> 0;
    low >>>= 0;
    values[i] = high * 0x100000000 + low;
  }
  return values;
}

// Return the bytes of base64 text.
export function fromBase64(text) {
  const characters = atob(text.trim());
  const bytes = new Uint8Array(characters.length);
  for (let i = 0; i < bytes.length; i++) bytes[i] = characters.charCodeAt(i);
  return bytes;
}
