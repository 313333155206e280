"use strict";
// The map: a view onto points in a unit square, with legend, note, pointer and keys.

class MapView {
  constructor(map) {
    this.map = map;
    this.canvas = byId("map-canvas");
    this.stage = byId("map-stage");
    this.context = this.canvas.getContext("2d");
    this.neighbours = new Neighbours(map);
    this.score = map.channels.find((channel) => channel.kind === "score");
    this.step = scatteredStep(map.n);
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
    const width = Math.max(Math.round(this.stage.clientWidth * ratio), 1);
    const height = Math.max(Math.round(this.stage.clientHeight * ratio), 1);
    this.canvas.width = width;
    this.canvas.height = height;
    const image = this.context.createImageData(width, height);
    const paper = asNumbers([themed("--paper")]);
    new Uint32Array(image.data.buffer).fill(new Uint32Array(paper.buffer)[0]);
    if (this.single === null) this.stampAll(image, ratio, () => true, this.numbers);
    else {
      const faint = asNumbers(this.colours.map(() => themed("--faint")));
      this.stampAll(image, ratio, (bin) => bin !== this.single, faint);
      this.stampAll(image, ratio, (bin) => bin === this.single, this.numbers);
    }
    this.context.putImageData(image, 0, 0);
    this.placeNote();
  }

  stampAll(image, ratio, isDrawn, numbers) {
    const { map, bins, step } = this;
    const scale = this.scale * ratio;
    const left = image.width / 2 - this.x * scale;
    const top = image.height / 2 + this.y * scale;
    const base = map.n > 20000 ? 1.8 : map.n > 4000 ? 2.8 : 5;
    const pixels = disc(Math.min(base * Math.sqrt(this.zoom), 9) * ratio);
    for (let k = 0, i = 0; k < map.n; k += 1, i = (i + step) % map.n) {
      if (!isDrawn(bins[i])) continue;
      const x = Math.round(left + (map.x[i] / UNIT) * scale);
      const y = Math.round(top - (map.y[i] / UNIT) * scale);
      stamp(image, x, y, pixels, numbers, 4 * bins[i]);
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
      this.bins = new Uint8Array(this.map.n);
    } else if (channel.kind === "score") this.colourByScore(channel);
    else this.colourByCategory(channel);
    this.numbers = asNumbers(this.colours);
    this.redraw();
  }

  colourByScore(channel) {
    const { bins, low, high } = scoreBins(channel.values);
    const ramp = rampColours();
    this.colours = [...ramp, themed("--faint")];
    this.bins = bins;
    const bar = make("div", "", "ramp");
    bar.style.background = `linear-gradient(to right, ${ramp.join(", ")})`;
    const ends = make("div", "", "ramp-ends");
    ends.append(make("span", rounded(low)), make("span", rounded(high)));
    const note = make("p", "From the 1st to the 99th percentile.", "small muted");
    byId("map-legend").append(make("div", channel.title), bar, ends, note);
  }

  colourByCategory(channel) {
    this.colours = categoryColours(channel.names.length);
    this.bins = channel.codes;
    const counts = Array.from(countBins(channel.codes, channel.names.length));
    const entries = counts.map((points, bin) => [channel.names[bin], bin, points]);
    const shown = entries.filter(([, , points]) => points > 0).slice(0, LEGEND_LIMIT);
    byId("map-legend").append(...shown.map((entry) => this.legendEntry(...entry)));
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
      if (channel.kind === "score") pairs.push([channel.title, rounded(channel.values[i])]);
      else if (channel.codes[i] !== channel.silent) {
        pairs.push([channel.title, channel.names[channel.codes[i]]]);
      }
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
