"use strict";
// Points of the map: unpacked, coloured by bin, found by place, stamped into pixels.

const MARGIN = 14;
const REACH = 12;
const CELLS = 96;
const UNIT = 65535;
const RAMP_BINS = 32;
const LEGEND_LIMIT = 300;
const ZOOM_STEP = 1.4;

const byId = (id) => document.getElementById(id);

function make(tag, text = "", className = "") {
  const element = document.createElement(tag);
  if (text) element.textContent = text;
  if (className) element.className = className;
  return element;
}

function rounded(value) {
  if (!Number.isFinite(value)) return "no value";
  return value.toLocaleString("en", { maximumSignificantDigits: 3 });
}

function unpack(text, Kind) {
  const binary = atob(text);
  const bytes = new Uint8Array(binary.length);
  for (let i = 0; i < binary.length; i += 1) bytes[i] = binary.charCodeAt(i);
  return new Kind(bytes.buffer);
}

function readMap() {
  const block = byId("map-data");
  if (!block) return null;
  const map = JSON.parse(block.textContent);
  map.x = unpack(map.x, Uint16Array);
  map.y = unpack(map.y, Uint16Array);
  map.row = unpack(map.row, Uint32Array);
  map.channels.forEach((channel) => {
    if (channel.kind === "score") channel.values = unpack(channel.values, Float32Array);
    else channel.codes = unpack(channel.codes, channel.bytes === 1 ? Uint8Array : Uint16Array);
  });
  return map;
}

const themed = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

function blend(from, to, share) {
  const parts = (hex) => [1, 3, 5].map((start) => parseInt(hex.slice(start, start + 2), 16));
  const [left, right] = [parts(from), parts(to)];
  return `rgb(${left.map((value, i) => Math.round(value + (right[i] - value) * share)).join(" ")})`;
}

function categoryColours(count) {
  if (count <= 7) return Array.from({ length: count }, (_, i) => themed(`--series-${i + 1}`));
  const dark = matchMedia("screen and (prefers-color-scheme: dark)").matches;
  // Neighbours differ in hue (by the golden angle) and in lightness.
  return Array.from({ length: count }, (_, i) => {
    const hue = Math.round((250 + i * 137.508) % 360);
    return `oklch(${dark ? 86 - (i % 3) * 12 : 44 + (i % 3) * 12}% 0.14 ${hue})`;
  });
}

function rampColours() {
  const [low, middle, high] = ["--low", "--middle", "--high"].map(themed);
  return Array.from({ length: RAMP_BINS }, (_, i) => {
    const share = (2 * i) / (RAMP_BINS - 1);
    return share <= 1 ? blend(low, middle, share) : blend(middle, high, share - 1);
  });
}

function scoreBins(values) {
  const sorted = values.filter(Number.isFinite).sort();
  const at = (share) => sorted[Math.round(share * (sorted.length - 1))];
  const [low, high] = [at(0.01), at(0.99)];
  const step = (high - low) / RAMP_BINS || 1;
  const bins = new Uint16Array(values.length);
  values.forEach((value, i) => {
    const bin = Math.min(Math.max(Math.floor((value - low) / step), 0), RAMP_BINS - 1);
    bins[i] = Number.isFinite(value) ? bin : RAMP_BINS;
  });
  return { bins, low, high };
}

function countBins(bins, count) {
  const counts = new Uint32Array(count);
  bins.forEach((bin) => { counts[bin] += 1; });
  return counts;
}

// Any colour of CSS as red, green, blue.
function asNumbers(colours) {
  const canvas = make("canvas");
  canvas.width = colours.length;
  canvas.height = 1;
  const context = canvas.getContext("2d", { willReadFrequently: true });
  colours.forEach((colour, i) => {
    context.fillStyle = colour;
    context.fillRect(i, 0, 1, 1);
  });
  return context.getImageData(0, 0, colours.length, 1).data;
}

// A disc of some pixels across: [dx, dy, share of the pixel that the disc covers].
function disc(size) {
  const pixels = [];
  const reach = Math.ceil(size / 2);
  const parts = [-0.375, -0.125, 0.125, 0.375];
  for (let dy = -reach; dy <= reach; dy += 1) {
    for (let dx = -reach; dx <= reach; dx += 1) {
      let inside = 0;
      parts.forEach((v) => parts.forEach((u) => { inside += Math.hypot(dx + u, dy + v) <= size / 2; }));
      if (inside) pixels.push([dx, dy, inside / 16]);
    }
  }
  return pixels;
}

// A step that visits n points once each in scattered order, so that no class, however
// the rows are sorted, always lies on top.
function scatteredStep(n) {
  const divisor = (a, b) => (b ? divisor(b, a % b) : a);
  let step = Math.max(Math.floor(n * 0.618), 1);
  while (divisor(n, step) > 1) step += 1;
  return step;
}

const cellOf = (unit) => Math.min(Math.max(Math.floor(unit * CELLS), 0), CELLS - 1);

// Cells over the unit square, each a chain of points: finds neighbours without a search.
class Neighbours {
  constructor(map) {
    this.map = map;
    this.first = new Int32Array(CELLS * CELLS).fill(-1);
    this.next = new Int32Array(map.n);
    for (let i = 0; i < map.n; i += 1) {
      const cell = cellOf(map.y[i] / UNIT) * CELLS + cellOf(map.x[i] / UNIT);
      this.next[i] = this.first[cell];
      this.first[cell] = i;
    }
  }

  nearest(x, y, reach) {
    let [best, distance] = [-1, reach * reach];
    for (let row = cellOf(y - reach); row <= cellOf(y + reach); row += 1) {
      for (let column = cellOf(x - reach); column <= cellOf(x + reach); column += 1) {
        for (let i = this.first[row * CELLS + column]; i >= 0; i = this.next[i]) {
          const square = (this.map.x[i] / UNIT - x) ** 2 + (this.map.y[i] / UNIT - y) ** 2;
          if (square < distance) [best, distance] = [i, square];
        }
      }
    }
    return best;
  }
}

function stamp(image, x, y, pixels, numbers, colour) {
  const { data, width, height } = image;
  for (const [dx, dy, share] of pixels) {
    const [column, row] = [x + dx, y + dy];
    if (column < 0 || row < 0 || column >= width || row >= height) continue;
    const place = 4 * (row * width + column);
    const alpha = share * 0.85;
    data[place] += (numbers[colour] - data[place]) * alpha;
    data[place + 1] += (numbers[colour + 1] - data[place + 1]) * alpha;
    data[place + 2] += (numbers[colour + 2] - data[place + 2]) * alpha;
  }
}
