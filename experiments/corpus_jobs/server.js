// Pages compressed on a pool of threads and read back, four at a time.
const zlib = require('node:zlib');
const lines = require('node:fs').readFileSync('text.txt', 'utf8').split('\n');
const streams = 4, rounds = 3, step = 20;
let bytes = 0;
function next(index) {
  if (index >= rounds * lines.length) return;
  const start = index % lines.length;
  const page = lines.slice(start, start + step).join('\n').repeat(1 + index % 5);
  zlib.deflate(page, (error, packed) => {
    zlib.inflate(packed, (failure, back) => {
      bytes += back.length;
      next(index + streams * step);
    });
  });
}
for (let stream = 0; stream < streams; stream++) next(stream * step);
process.on('exit', () => console.log(bytes));
