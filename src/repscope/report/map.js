"use strict";
// The map: points in a unit square, a view onto it, one colour per bin of points.

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

// A counting sort: points of bin b are order[starts[b]] to order[starts[b + 1] - 1].
function sortByBin(bins, count) {
  const starts = new Uint32Array(count + 1);
  bins.forEach((bin) => { starts[bin + 1] += 1; });
  for (let bin = 0; bin < count; bin += 1) starts[bin + 1] += starts[bin];
  const places = starts.slice();
  const order = new Uint32Array(bins.length);
  bins.forEach((bin, i) => { order[places[bin]++] = i; });
  return { order, starts };
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

class MapView {
  constructor(map) {
    this.map = map;
    this.canvas = byId("map-canvas");
    this.stage = byId("map-stage");
    this.context = this.canvas.getContext("2d");
    this.neighbours = new Neighbours(map);
    this.score = map.channels.find((channel) => channel.kind === "score");
    this.single = null;
    this.selected = -1;
    this.walked = -1;
    this.whole();
    this.offerChannels();
    this.listen();
    this.recolour();
  }

  // Where things are

  get scale() {
    return (Math.min(this.stage.clientWidth, this.stage.clientHeight) - 2 * MARGIN) * this.zoom;
  }

  toPixel(i) {
    return [
      this.stage.clientWidth / 2 + (this.map.x[i] / UNIT - this.x) * this.scale,
      this.stage.clientHeight / 2 - (this.map.y[i] / UNIT - this.y) * this.scale,
    ];
  }

  toUnit(px, py) {
    return [
      this.x + (px - this.stage.clientWidth / 2) / this.scale,
      this.y - (py - this.stage.clientHeight / 2) / this.scale,
    ];
  }

  isVisible(x, y) {
    return x >= 0 && y >= 0 && x <= this.stage.clientWidth && y <= this.stage.clientHeight;
  }

  at(px, py) {
    return this.neighbours.nearest(...this.toUnit(px, py), REACH / this.scale);
  }

  // Drawing

  redraw() {
    if (!this.scheduled) requestAnimationFrame(() => this.draw());
    this.scheduled = true;
  }

  draw() {
    this.scheduled = false;
    const ratio = window.devicePixelRatio || 1;
    this.canvas.width = Math.round(this.stage.clientWidth * ratio);
    this.canvas.height = Math.round(this.stage.clientHeight * ratio);
    this.context.setTransform(ratio, 0, 0, ratio, 0, 0);
    this.context.globalAlpha = this.map.n > 4000 ? 0.75 : 0.85;
    const base = this.map.n > 20000 ? 2 : this.map.n > 4000 ? 3 : 5;
    const size = Math.min(base * Math.sqrt(this.zoom), 9);
    for (let bin = this.colours.length - 1; bin >= 0; bin -= 1) {
      const isFaint = this.single !== null && bin !== this.single;
      this.drawBin(bin, size, isFaint ? themed("--faint") : this.colours[bin]);
    }
    if (this.single !== null) this.drawBin(this.single, size + 1, this.colours[this.single]);
    this.placeNote();
  }

  drawBin(bin, size, colour) {
    const { context, map, scale } = this;
    const left = this.stage.clientWidth / 2 - this.x * scale;
    const top = this.stage.clientHeight / 2 + this.y * scale;
    context.fillStyle = colour;
    for (let k = this.starts[bin]; k < this.starts[bin + 1]; k += 1) {
      const i = this.order[k];
      const x = left + (map.x[i] / UNIT) * scale;
      const y = top - (map.y[i] / UNIT) * scale;
      if (!this.isVisible(x, y)) continue;
      if (size >= 4) {
        context.beginPath();
        context.arc(x, y, size / 2, 0, 2 * Math.PI);
        context.fill();
      } else context.fillRect(x - size / 2, y - size / 2, size, size);
    }
  }

  // Colours and legend

  offerChannels() {
    this.map.channels.forEach((channel, index) => {
      const option = make("option", channel.title);
      option.setAttribute("value", String(index));
      byId("map-colour").append(option);
    });
  }

  recolour() {
    const channel = this.map.channels[Number(byId("map-colour").value)];
    byId("map-legend").replaceChildren();
    this.single = null;
    if (channel === undefined) {
      this.colours = [themed("--series-1")];
      Object.assign(this, sortByBin(new Uint8Array(this.map.n), 1));
    } else if (channel.kind === "score") this.colourByScore(channel);
    else this.colourByCategory(channel);
    this.redraw();
  }

  colourByScore(channel) {
    const { bins, low, high } = scoreBins(channel.values);
    const ramp = rampColours();
    this.colours = [...ramp, themed("--faint")];
    Object.assign(this, sortByBin(bins, this.colours.length));
    const bar = make("div", "", "ramp");
    bar.style.background = `linear-gradient(to right, ${ramp.join(", ")})`;
    const ends = make("div", "", "ramp-ends");
    ends.append(make("span", rounded(low)), make("span", rounded(high)));
    const note = make("p", "From the 1st to the 99th percentile.", "small muted");
    byId("map-legend").append(make("div", channel.title), bar, ends, note);
  }

  colourByCategory(channel) {
    const count = channel.names.length;
    this.colours = categoryColours(count);
    Object.assign(this, sortByBin(channel.codes, count));
    const entries = [];
    for (let bin = 0; bin < count && entries.length < LEGEND_LIMIT; bin += 1) {
      const points = this.starts[bin + 1] - this.starts[bin];
      if (points) entries.push(this.legendEntry(channel.names[bin], bin, points));
    }
    byId("map-legend").append(...entries);
  }

  legendEntry(name, bin, points) {
    const button = make("button", "", "legend");
    button.setAttribute("type", "button");
    button.setAttribute("aria-pressed", "false");
    const swatch = make("span", "", "swatch");
    swatch.style.background = this.colours[bin];
    button.append(swatch, make("span", name), make("span", points.toLocaleString("en"), "count"));
    button.addEventListener("click", () => {
      this.single = this.single === bin ? null : bin;
      byId("map-legend").querySelectorAll("button").forEach((other) => {
        other.setAttribute("aria-pressed", String(other === button && this.single !== null));
      });
      this.redraw();
    });
    return button;
  }

  // The note on one sample

  words(i) {
    const { map } = this;
    const pairs = map.id ? [["id", map.id[i]]] : [];
    pairs.push(["row", String(map.row[i])]);
    map.channels.forEach((channel) => {
      const isScore = channel.kind === "score";
      pairs.push([channel.title, isScore ? rounded(channel.values[i]) : channel.names[channel.codes[i]]]);
    });
    return pairs;
  }

  select(i) {
    if (i === this.selected) return;
    this.selected = i;
    byId("map-tip").replaceChildren();
    if (i >= 0) this.fillNote(i);
    this.placeNote();
  }

  fillNote(i) {
    const list = make("dl");
    this.words(i).forEach(([name, value]) => list.append(make("dt", name), make("dd", value)));
    const shown = document.querySelector(`.thumbnail img[data-row="${this.map.row[i]}"]`);
    if (shown) {
      const picture = make("img");
      picture.setAttribute("src", shown.getAttribute("src"));
      picture.setAttribute("alt", "");
      byId("map-tip").append(picture);
    }
    byId("map-tip").append(list);
  }

  placeNote() {
    const [ring, tip] = [byId("map-ring"), byId("map-tip")];
    ring.hidden = this.selected < 0;
    if (this.selected < 0) return;
    const [x, y] = this.toPixel(this.selected);
    ring.style.left = `${x}px`;
    ring.style.top = `${y}px`;
    const isLeft = x + 14 + tip.offsetWidth > this.stage.clientWidth;
    const lowest = this.stage.clientHeight - tip.offsetHeight;
    tip.style.left = `${Math.max(isLeft ? x - 14 - tip.offsetWidth : x + 14, 0)}px`;
    tip.style.top = `${Math.max(Math.min(y + 8, lowest), 0)}px`;
  }

  // Moving about

  whole() {
    Object.assign(this, { zoom: 1, x: 0.5, y: 0.5 });
    this.redraw();
  }

  zoomAt(factor, px, py) {
    const [x, y] = this.toUnit(px, py);
    const zoom = Math.min(Math.max(this.zoom * factor, 0.8), 200);
    this.x = x + ((this.x - x) * this.zoom) / zoom;
    this.y = y + ((this.y - y) * this.zoom) / zoom;
    this.zoom = zoom;
    this.redraw();
  }

  zoomMiddle(factor) {
    this.zoomAt(factor, this.stage.clientWidth / 2, this.stage.clientHeight / 2);
  }

  move(dx, dy) {
    this.x -= dx / this.scale;
    this.y += dy / this.scale;
    this.redraw();
  }

  rank() {
    const key = (i) => (this.score && Number.isFinite(this.score.values[i]) ? this.score.values[i] : Infinity);
    const ranked = Uint32Array.from({ length: this.map.n }, (_, i) => i);
    return ranked.sort((left, right) => (key(left) === key(right) ? left - right : key(left) - key(right)));
  }

  walk(step) {
    this.ranked ??= this.rank();
    const start = this.walked < 0 && step < 0 ? 0 : this.walked;
    this.walked = (start + step + this.map.n) % this.map.n;
    const i = this.ranked[this.walked];
    if (!this.isVisible(...this.toPixel(i))) {
      [this.x, this.y] = [this.map.x[i] / UNIT, this.map.y[i] / UNIT];
      this.redraw();
    }
    this.select(i);
  }

  listen() {
    byId("map-colour").addEventListener("change", () => this.recolour());
    byId("map-in").addEventListener("click", () => this.zoomMiddle(ZOOM_STEP));
    byId("map-out").addEventListener("click", () => this.zoomMiddle(1 / ZOOM_STEP));
    byId("map-whole").addEventListener("click", () => this.whole());
    new ResizeObserver(() => this.redraw()).observe(this.stage);
    this.listenToKeys();
    this.listenToPointer();
    this.listenToWheel();
  }

  listenToKeys() {
    const actions = {
      ArrowLeft: () => this.move(40, 0),
      ArrowRight: () => this.move(-40, 0),
      ArrowUp: () => this.move(0, 40),
      ArrowDown: () => this.move(0, -40),
      "+": () => this.zoomMiddle(ZOOM_STEP),
      "=": () => this.zoomMiddle(ZOOM_STEP),
      "-": () => this.zoomMiddle(1 / ZOOM_STEP),
      0: () => this.whole(),
      n: () => this.walk(1),
      p: () => this.walk(-1),
      Escape: () => this.select(-1),
    };
    this.canvas.addEventListener("keydown", (event) => {
      const action = actions[event.key.length === 1 ? event.key.toLowerCase() : event.key];
      if (!action || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      action();
    });
  }

  place(event) {
    const box = this.canvas.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  }

  listenToPointer() {
    const { canvas } = this;
    let drag = null;
    canvas.addEventListener("pointerdown", (event) => {
      drag = this.place(event);
      canvas.setPointerCapture(event.pointerId);
    });
    canvas.addEventListener("pointermove", (event) => {
      const [x, y] = this.place(event);
      if (!drag) this.select(this.at(x, y));
      else {
        this.move(x - drag[0], y - drag[1]);
        drag = [x, y];
      }
    });
    canvas.addEventListener("pointerup", (event) => {
      drag = null;
      this.select(this.at(...this.place(event)));
    });
    canvas.addEventListener("pointercancel", () => { drag = null; });
    canvas.addEventListener("pointerleave", () => { if (!drag) this.select(-1); });
  }

  listenToWheel() {
    this.canvas.addEventListener("wheel", (event) => {
      // Without focus the page scrolls on: a reader who only passes by is not caught.
      if (!event.ctrlKey && document.activeElement !== this.canvas) return;
      event.preventDefault();
      this.zoomAt(Math.exp(-event.deltaY * 0.0015), ...this.place(event));
    }, { passive: false });
  }
}
