// SPDX-License-Identifier: MIT
//
// The viewer - the script of the page that `mmkit ... --html FILE` writes: draws sections on canvases,
// with zoom, hover and search, from the data that stands in the page.
//
//   data (JSON, arrays as base64) -> decode -> a View a section -> one canvas each
//
// One file, although it is long: it is the page's one script.
//
// A View draws its world, a plane of its own units, through a camera {x, y, scale}. Nothing is an
// element of the document but the canvases, so that a million objects cost no more than the pixels
// that they cover. The upper half is free of the document and can be run without a browser.
"use strict";

const kPageBytes = 4096;
// Of a RunMap's world: a page is so wide and high.
const kPageWidth = 40, kRowHeight = 10, kRowGap = 2;

function bytesOf(base64) {
  const text = atob(base64), bytes = new Uint8Array(text.length);
  for (let i = 0; i < bytes.length; ++i) bytes[i] = text.charCodeAt(i);
  return bytes;
}

/** {"type": "u16", "data": base64} -> a typed array; anything else as it is. */
function arrayOf(value) {
  const kinds = {u8: Uint8Array, u16: Uint16Array, u32: Uint32Array, f64: Float64Array};
  return new kinds[value.type](bytesOf(value.data).buffer);
}

function isArray(value) {
  return value !== null && typeof value === "object" && typeof value.type === "string" &&
         typeof value.data === "string";
}

/** The document with every packed array in its place. */
function decode(value) {
  if (isArray(value)) return arrayOf(value);
  if (Array.isArray(value)) return value.map(decode);
  if (value === null || typeof value !== "object") return value;
  const result = {};
  for (const key of Object.keys(value)) result[key] = decode(value[key]);
  return result;
}

function count(number) {
  return Math.round(number).toString().replace(/\B(?=(\d{3})+(?!\d))/g, ",");
}

function counted(number, name) {
  return `${count(number)} ${name}${number === 1 ? "" : "s"}`;
}

function figure(number) {
  if (Math.abs(number) >= 1000) return count(number);
  return String(Number(number.toPrecision(4)));
}

/** From nearly white to dark blue; nothing and full have shades of their own. */
function colourOf(share) {
  const last = 16;
  const shade = share <= 0 ? 0 : share >= 1 ? last : 1 + Math.min(last - 2, Math.floor(share * (last - 1)));
  const mixed = (light, deep) => Math.round(light + (deep - light) * shade / last);
  return `rgb(${mixed(238, 18)},${mixed(242, 52)},${mixed(246, 110)})`;
}
const kColours = Array.from({length: 257}, (_, i) => colourOf(i / 256));
const colourOfByte = byte => kColours[byte === 0 ? 0 : byte === 255 ? 256 : Math.min(255, byte)];
const kLines = ["#12346e", "#d1495b", "#2e8b57", "#e08e0b", "#7b4fa3", "#1f9bb3", "#7a5230", "#555555"];

function ticks(low, high, wanted) {
  if (!(high > low)) return [low];
  const rough = (high - low) / wanted, power = 10 ** Math.floor(Math.log10(rough)), share = rough / power;
  const step = power * (share <= 1 ? 1 : share <= 2 ? 2 : share <= 5 ? 5 : 10);
  const marks = [];
  for (let mark = Math.ceil(low / step - 1e-9); mark <= Math.floor(high / step + 1e-9); ++mark) {
    marks.push(mark * step);
  }
  return marks;
}

/** The last place in sorted[from, to) whose value is at most `value`; from - 1 when there is none. */
function lastAtMost(sorted, value, from, to) {
  while (from < to) {
    const middle = (from + to) >> 1;
    if (sorted[middle] <= value) from = middle + 1; else to = middle;
  }
  return from - 1;
}

/** Where each run lies in the world, and where its objects begin in the list of all. */
function layOut(map) {
  const runs = map.run_pages.length;
  let pages = 0, longest = 1;
  for (let i = 0; i < runs; ++i) {
    pages += map.run_pages[i];
    longest = Math.max(longest, map.run_pages[i]);
  }
  const wide = Math.ceil(Math.sqrt(pages * 2 * kRowHeight / kPageWidth) / longest) * longest || longest;
  const layout = {wide, x: new Float64Array(runs), row: new Uint32Array(runs), first: new Uint32Array(runs + 1),
                  payload: new Float64Array(runs), rows: []};
  let at = 0;
  for (let i = 0, object = 0; i < runs; ++i) {
    if (i === 0 || at + map.run_pages[i] > wide) {
      layout.rows.push(i);
      at = 0;
    }
    layout.x[i] = at * kPageWidth;
    layout.row[i] = layout.rows.length - 1;
    at += map.run_pages[i];
    for (const end = object + map.run_objects[i]; object < end; ++object) layout.payload[i] += map.size[object];
    layout.first[i + 1] = object;
  }
  layout.width = wide * kPageWidth;
  layout.height = Math.max(1, layout.rows.length) * (kRowHeight + kRowGap);
  return layout;
}

/** What lies at a place of the world: a run, and an object of it or null. Null: nothing. */
function hitOf(map, layout, x, y) {
  const row = Math.floor(y / (kRowHeight + kRowGap));
  if (row < 0 || row >= layout.rows.length || y - row * (kRowHeight + kRowGap) > kRowHeight) return null;
  const end = row + 1 < layout.rows.length ? layout.rows[row + 1] : map.run_pages.length;
  const run = lastAtMost(layout.x, x, layout.rows[row], end);
  if (run < layout.rows[row] || x > layout.x[run] + map.run_pages[run] * kPageWidth) return null;
  const byte = (x - layout.x[run]) / kPageWidth * kPageBytes;
  const object = lastAtMost(map.begin, byte, layout.first[run], layout.first[run + 1]);
  const inside = object >= layout.first[run] && byte < map.begin[object] + map.size[object];
  return {run, object: inside ? object : null, byte: Math.floor(byte)};
}

function describe(map, layout, hit) {
  const bytes = map.run_pages[hit.run] * kPageBytes, objects = layout.first[hit.run + 1] - layout.first[hit.run];
  const run = `${map.run_label} ${count(hit.run)}: ${counted(map.run_pages[hit.run], "page")}, ${counted(objects, "object")}, ` +
              `${figure(100 * layout.payload[hit.run] / bytes)} % payload`;
  if (hit.object === null) return `slack at byte ${count(hit.byte)}\n${run}`;
  return `${map.number_label} ${count(map.number[hit.object])}: ${count(map.size[hit.object])} bytes at ` +
         `${count(map.begin[hit.object])}\n${run}`;
}

/** The places of the objects with that number. */
function find(map, number) {
  const places = [];
  for (let at = map.number.indexOf(number); at >= 0; at = map.number.indexOf(number, at + 1)) places.push(at);
  return places;
}

function runOf(layout, object) {
  // The last run whose first object is at most this one: empty runs before it have the same first.
  return lastAtMost(layout.first, object, 0, layout.first.length - 1);
}

/* ------------------------------------------------------------------ in a browser */

class View {
  constructor(section, height) {
    this.section = section;
    this.canvas = document.createElement("canvas");
    this.canvas.tabIndex = 0;
    this.canvas.setAttribute("role", "img");
    this.canvas.setAttribute("aria-label", section.title);
    this.cssHeight = height;
    this.camera = null;
    this.context = this.canvas.getContext("2d");
    this.listen();
  }
  listen() {
    const canvas = this.canvas;
    canvas.addEventListener("wheel", event => {
      event.preventDefault();
      this.zoom(Math.exp(-event.deltaY / 400), event.offsetX, event.offsetY);
    }, {passive: false});
    canvas.addEventListener("pointerdown", event => {
      canvas.setPointerCapture(event.pointerId);
      this.held = {x: event.offsetX, y: event.offsetY};
    });
    canvas.addEventListener("pointerup", () => { this.held = null; });
    canvas.addEventListener("pointercancel", () => { this.held = null; });
    canvas.addEventListener("pointermove", event => {
      if (this.held) {
        this.pan(event.offsetX - this.held.x, event.offsetY - this.held.y);
        this.held = {x: event.offsetX, y: event.offsetY};
      }
      showTip(event, this.textAt(event.offsetX, event.offsetY));
    });
    canvas.addEventListener("pointerleave", () => showTip(null, ""));
    canvas.addEventListener("dblclick", () => this.reset());
    canvas.addEventListener("keydown", event => {
      const middle = [this.width / 2, this.height / 2];
      const acts = {"+": () => this.zoom(1.5, ...middle), "-": () => this.zoom(1 / 1.5, ...middle),
                    "0": () => this.reset(), ArrowLeft: () => this.pan(60, 0), ArrowRight: () => this.pan(-60, 0),
                    ArrowUp: () => this.pan(0, 60), ArrowDown: () => this.pan(0, -60)};
      if (!acts[event.key]) return;
      event.preventDefault();
      acts[event.key]();
    });
  }
  resize() {
    const ratio = window.devicePixelRatio || 1;
    this.width = this.canvas.parentElement.clientWidth;
    this.height = this.cssHeight;
    this.canvas.style.height = `${this.height}px`;
    this.canvas.width = Math.round(this.width * ratio);
    this.canvas.height = Math.round(this.height * ratio);
    this.context.setTransform(ratio, 0, 0, ratio, 0, 0);
    if (!this.camera) this.camera = this.home();
    this.draw();
  }
  reset() {
    this.camera = this.home();
    this.later();
  }
  /** At most one drawing a frame. */
  later() {
    if (this.waiting) return;
    this.waiting = true;
    requestAnimationFrame(() => {
      this.waiting = false;
      this.draw();
    });
  }
  zoom(factor, x, y) {
    const camera = this.camera, scale = Math.min(4000, Math.max(this.home().scale / 4, camera.scale * factor));
    const ratio = scale / camera.scale;
    camera.x = x - (x - camera.x) * ratio;
    camera.y = y - (y - camera.y) * ratio;
    camera.scale = scale;
    this.later();
  }
  pan(x, y) {
    this.camera.x += x;
    this.camera.y += y;
    this.later();
  }
  home() {
    const scale = Math.min(this.width / this.world.width, this.height / this.world.height);
    return {x: 0, y: 0, scale};
  }
  world_x(x) { return (x - this.camera.x) / this.camera.scale; }
  world_y(y) { return (y - this.camera.y) / this.camera.scale; }
  clear() {
    this.context.fillStyle = "#fff";
    this.context.fillRect(0, 0, this.width, this.height);
    this.context.font = "11px sans-serif";
  }
  /** Whether something was found for a search. */
  search() { return 0; }
}

class MapView extends View {
  constructor(section) {
    super(section, 460);
    this.world = layOut(section);
    this.found = -1;
  }
  draw() {
    const {section: map, world, camera, context} = this, pitch = kRowHeight + kRowGap;
    this.clear();
    // Rows closer than a pixel are passed over, neighbours narrower than a pixel drawn as one.
    const step = Math.max(1, Math.ceil(1 / (pitch * camera.scale)));
    const firstRow = Math.max(0, Math.floor(this.world_y(0) / pitch));
    const lastRow = Math.min(world.rows.length - 1, Math.floor(this.world_y(this.height) / pitch));
    for (let row = firstRow; row <= lastRow; row += step) this.drawRow(row, step);
    if (this.found >= 0) this.mark(this.found);
  }
  drawRow(row, step) {
    const {section: map, world, camera, context} = this;
    const begin = world.rows[row], end = row + 1 < world.rows.length ? world.rows[row + 1] : map.run_pages.length;
    const pitch = (kRowHeight + kRowGap) * camera.scale, top = camera.y + row * pitch;
    // Whole pixels where rows are close, or their edges would mix into a pattern that is not there.
    const y = pitch < 4 ? Math.floor(top) : top;
    const height = pitch < 4 ? Math.ceil(pitch * step) : kRowHeight * camera.scale;
    const pagePixels = kPageWidth * camera.scale, whole = pagePixels < 16;
    const first = Math.max(begin, lastAtMost(world.x, this.world_x(0), begin, end));
    for (let run = first; run < end;) {
      const x = camera.x + world.x[run] * camera.scale;
      if (x > this.width) break;
      let pages = map.run_pages[run], payload = world.payload[run], next = run + 1;
      while (whole && next < end && pages * pagePixels < 1) {
        pages += map.run_pages[next];
        payload += world.payload[next++];
      }
      context.fillStyle = colourOf(whole ? payload / (pages * kPageBytes) : 0.01);
      context.fillRect(x, y, Math.max(1, pages * pagePixels - (pagePixels > 4 ? 1 : 0)), height);
      if (!whole) this.drawObjects(run, x, y, height, pagePixels / kPageBytes);
      run = next;
    }
  }
  drawObjects(run, x, y, height, bytePixels) {
    const {section: map, world, context} = this;
    for (let object = world.first[run]; object < world.first[run + 1]; ++object) {
      const left = x + map.begin[object] * bytePixels, width = map.size[object] * bytePixels;
      if (left + width < 0 || left > this.width) continue;
      context.fillStyle = colourOf(0.25 + 0.6 * map.size[object] / kPageBytes);
      context.fillRect(left, y, Math.max(0.5, width - (width > 4 ? 1 : 0)), height);
      if (width > 70 && height > 14) {
        context.fillStyle = map.size[object] > 1400 ? "#fff" : "#000";
        context.fillText(count(map.number[object]), left + 4, y + Math.min(height - 4, 13), width - 8);
      }
    }
  }
  rectOf(object) {
    const {section: map, world} = this, run = runOf(world, object);
    return {x: world.x[run] + map.begin[object] / kPageBytes * kPageWidth,
            y: world.row[run] * (kRowHeight + kRowGap), width: map.size[object] / kPageBytes * kPageWidth};
  }
  mark(object) {
    const rect = this.rectOf(object), {camera, context} = this;
    context.strokeStyle = "#d1495b";
    context.lineWidth = 3;
    context.strokeRect(camera.x + rect.x * camera.scale - 2, camera.y + rect.y * camera.scale - 2,
                       Math.max(4, rect.width * camera.scale) + 4, kRowHeight * camera.scale + 4);
  }
  textAt(x, y) {
    const hit = hitOf(this.section, this.world, this.world_x(x), this.world_y(y));
    return hit === null ? "" : describe(this.section, this.world, hit);
  }
  search(text) {
    const places = /^\d+$/.test(text) ? find(this.section, Number(text)) : [];
    this.found = places.length ? places[0] : -1;
    if (places.length) {
      const rect = this.rectOf(places[0]), scale = this.width / (6 * kPageWidth);
      this.camera = {scale, x: this.width / 2 - (rect.x + rect.width / 2) * scale,
                     y: this.height / 2 - (rect.y + kRowHeight / 2) * scale};
    }
    this.later();
    return places.length;
  }
}

/** A table of cells: rows with labels on the left, columns with labels above. */
class GridView extends View {
  constructor(section) {
    const rows = section.rows.length;
    super(section, Math.min(640, 40 + rows * 14));
    this.world = {width: 900, height: 40 + rows * 14};
    this.most = section.values.reduce((most, value) => Math.max(most, value), 1e-9);
  }
  /** As wide as there is room; many rows are reached by moving. */
  home() { return {x: 0, y: 0, scale: Math.min(1.2, this.width / this.world.width)}; }
  draw() {
    const {section: grid, camera, context} = this, left = 190, top = 30;
    this.clear();
    const width = (this.world.width - left) / Math.max(1, grid.columns.length);
    const put = (x, y) => [camera.x + x * camera.scale, camera.y + y * camera.scale];
    context.font = `${Math.max(6, Math.min(14, 10 * camera.scale))}px sans-serif`;
    context.fillStyle = "#222";
    grid.columns.forEach((name, column) => context.fillText(name, ...put(left + column * width + 2, top - 6)));
    context.fillText(`${grid.row_label} by ${grid.column_label}: ${grid.cell_label}`, ...put(4, 12));
    for (let row = 0; row < grid.rows.length; ++row) {
      context.fillStyle = "#222";
      context.fillText(grid.rows[row], ...put(4, top + row * 14 + 9));
      for (let column = 0; column < grid.columns.length; ++column) {
        context.fillStyle = colourOf(grid.values[row * grid.columns.length + column] / this.most);
        const [x, y] = put(left + column * width, top + row * 14);
        context.fillRect(x, y, (width - 1) * camera.scale, 12 * camera.scale);
      }
    }
  }
  textAt(x, y) {
    const grid = this.section, left = 190;
    const column = Math.floor((this.world_x(x) - left) / ((this.world.width - left) / grid.columns.length));
    const row = Math.floor((this.world_y(y) - 30) / 14);
    if (row < 0 || row >= grid.rows.length || column < 0 || column >= grid.columns.length) return "";
    return `${grid.rows[row]}, ${grid.columns[column]}: ` +
           `${figure(grid.values[row * grid.columns.length + column])} ${grid.cell_label}`;
  }
  search(text) {
    return this.section.rows.filter(name => name.toLowerCase().includes(text)).length;
  }
}

class BandsView extends View {
  constructor(section) {
    let top = 0;
    const tops = section.bands.map(band => {
      const here = top;
      top += 26 + Math.ceil(band.shares.length / 128) * 7;
      return here;
    });
    super(section, Math.min(900, top + 10));
    this.tops = tops;
    this.world = {width: 128 * 7 + 10, height: top + 10};
  }
  draw() {
    const {section, camera, context} = this;
    this.clear();
    context.font = `${Math.max(7, 11 * camera.scale)}px sans-serif`;
    section.bands.forEach((band, i) => {
      const top = this.tops[i];
      context.fillStyle = "#222";
      context.fillText(`${band.label}: ${band.caption}`, camera.x + 4 * camera.scale, camera.y + (top + 16) * camera.scale);
      for (let at = 0; at < band.shares.length; ++at) {
        context.fillStyle = colourOfByte(band.shares[at]);
        context.fillRect(camera.x + (4 + at % 128 * 7) * camera.scale,
                         camera.y + (top + 22 + Math.floor(at / 128) * 7) * camera.scale, 7 * camera.scale + 0.5,
                         7 * camera.scale + 0.5);
      }
    });
  }
  textAt(x, y) {
    const at_x = this.world_x(x) - 4, at_y = this.world_y(y), bands = this.section.bands;
    const band = lastAtMost(this.tops, at_y - 22, 0, this.tops.length);
    if (band < 0 || at_x < 0 || at_x >= 128 * 7) return "";
    const cell = Math.floor((at_y - this.tops[band] - 22) / 7) * 128 + Math.floor(at_x / 7);
    const shares = bands[band].shares;
    if (cell < 0 || cell >= shares.length) return "";
    return `${bands[band].label}: ${figure(shares[cell] / 2.55)} % taken\nfrom ${figure(100 * cell / shares.length)} % ` +
           `to ${figure(100 * (cell + 1) / shares.length)} % of the heap`;
  }
  search(text) {
    return this.section.bands.filter(band => band.label.toLowerCase().includes(text)).length;
  }
}

/** Lines; the camera stretches x alone, y follows what is seen. */
class ChartView extends View {
  constructor(section) {
    super(section, 320);
    this.left = 80;
    this.low = Infinity;
    this.high = -Infinity;
    for (const series of section.series) {
      for (const x of series.x) {
        this.low = Math.min(this.low, x);
        this.high = Math.max(this.high, x);
      }
    }
    this.world = {width: 1, height: 1};
  }
  home() { return {x: 0, y: 0, scale: 1}; }
  inner() { return this.width - this.left - 180; }
  x_of(value) {
    const share = (value - this.low) / Math.max(1e-12, this.high - this.low);
    return this.left + this.camera.x + share * this.inner() * this.camera.scale;
  }
  draw() {
    const {section: chart, context} = this, top = 24, bottom = this.height - 40, right = this.left + this.inner();
    this.clear();
    if (!(this.high >= this.low)) return;
    let low = Infinity, high = -Infinity;
    for (const series of chart.series) {
      for (let i = 0; i < series.x.length; ++i) {
        const x = this.x_of(series.x[i]);
        if (x < this.left - 1 || x > right + 1) continue;
        low = Math.min(low, series.y[i]);
        high = Math.max(high, series.y[i]);
      }
    }
    if (!(high >= low)) return;
    const margin = (high - low) * 0.05 || Math.abs(high) * 0.05 || 1;
    low -= margin;
    high += margin;
    this.y_of = value => bottom - (value - low) / (high - low) * (bottom - top);
    context.textAlign = "right";
    for (const mark of ticks(low, high, 6)) {
      context.fillStyle = "#ddd";
      context.fillRect(this.left, this.y_of(mark), this.inner(), 1);
      context.fillStyle = "#222";
      context.fillText(figure(mark), this.left - 6, this.y_of(mark) + 4);
    }
    context.textAlign = "center";
    const span = (this.high - this.low) / this.camera.scale;
    const begin = this.low - this.camera.x / (this.inner() * this.camera.scale) * (this.high - this.low);
    for (const mark of ticks(begin, begin + span, 8)) context.fillText(figure(mark), this.x_of(mark), bottom + 16);
    context.fillText(chart.x_label, (this.left + right) / 2, bottom + 34);
    context.textAlign = "left";
    context.fillText(chart.y_label, 8, 14);
    this.lines(top, bottom, right);
  }
  lines(top, bottom, right) {
    const {section: chart, context} = this;
    chart.series.forEach((series, i) => {
      context.save();
      context.beginPath();
      context.rect(this.left, top, this.inner(), bottom - top);
      context.clip();
      context.beginPath();
      context.strokeStyle = kLines[i % kLines.length];
      context.lineWidth = 1.5;
      for (let at = 0; at < series.x.length; ++at) context.lineTo(this.x_of(series.x[at]), this.y_of(series.y[at]));
      context.stroke();
      context.restore();
      context.fillStyle = kLines[i % kLines.length];
      context.fillRect(right + 14, top + i * 16, 10, 10);
      context.fillStyle = "#222";
      context.fillText(series.name, right + 30, top + i * 16 + 9, 145);
    });
  }
  textAt(x) {
    const share = (x - this.left - this.camera.x) / (this.inner() * this.camera.scale);
    const value = this.low + share * (this.high - this.low);
    if (!(value >= this.low && value <= this.high)) return "";
    const lines = [`${this.section.x_label}: ${figure(value)}`];
    for (const series of this.section.series) {
      const at = Math.max(0, lastAtMost(series.x, value, 0, series.x.length));
      if (series.x.length) lines.push(`${series.name}: ${figure(series.y[at])}`);
    }
    return lines.join("\n");
  }
  search(text) {
    return this.section.series.filter(series => series.name.toLowerCase().includes(text)).length;
  }
}

function showTip(event, text) {
  const tip = document.getElementById("tip");
  tip.textContent = text;
  tip.style.display = text ? "block" : "none";
  if (!event || !text) return;
  tip.style.left = `${Math.min(event.clientX + 14, window.innerWidth - tip.offsetWidth - 8)}px`;
  tip.style.top = `${Math.min(event.clientY + 14, window.innerHeight - tip.offsetHeight - 8)}px`;
}

function searchAll(views, text) {
  text = text.trim().toLowerCase();
  const number = text.replace(/,/g, "");
  let hits = 0, first = null;
  for (const view of views) {
    view.frame.classList.remove("hit");
    const inside = text ? view.search(/^\d+$/.test(number) ? number : text) : view.search("\0");
    const here = text ? inside + (view.section.title.toLowerCase().includes(text) ? 1 : 0) : 0;
    if (here === 0) continue;
    hits += here;
    view.frame.classList.add("hit");
    first = first || view;
  }
  document.getElementById("hits").textContent = text ? `${count(hits)} found` : "";
  if (first) first.frame.scrollIntoView({block: "nearest"});
}

function start() {
  const began = performance.now();
  const picture = decode(JSON.parse(document.getElementById("mmkit-data").textContent));
  document.title = picture.title;
  document.querySelector("h1").textContent = picture.title;
  const kinds = {bands: BandsView, chart: ChartView, grid: GridView, map: MapView}, views = [];
  for (const section of picture.sections) {
    const frame = document.createElement("section"), heading = document.createElement("h2"), caption = document.createElement("p");
    heading.textContent = section.title;
    caption.textContent = section.caption;
    const view = new kinds[section.kind](section);
    view.frame = frame;
    frame.append(heading, caption, view.canvas);
    document.querySelector("main").append(frame);
    views.push(view);
  }
  for (const view of views) view.resize();
  window.addEventListener("resize", () => views.forEach(view => view.resize()));
  const box = document.getElementById("search");
  box.addEventListener("change", () => searchAll(views, box.value));
  box.addEventListener("keydown", event => { if (event.key === "Enter") searchAll(views, box.value); });
  // For whoever measures: how long it took until all was drawn.
  document.body.dataset.readyMs = String(Math.round(performance.now() - began));
}

if (typeof document !== "undefined") {
  start();
} else if (typeof module !== "undefined") {
  module.exports = {decode, layOut, hitOf, describe, find, runOf, ticks, lastAtMost, colourOf, count, figure};
}
