// The controls: choices, the swipe, keys, pointers and what is said about the view.

const byId = (id) => document.getElementById(id);
const page = JSON.parse(byId("page-facts").textContent);
const inside = byId("page-tiles") ? JSON.parse(byId("page-tiles").textContent) : null;

const frame = byId("frame");
const handle = byId("swipe");
const view = new PictureView(byId("canvas"), new TileStore(inside, () => view.ask()), drawn);

function option(value, text) {
  const made = document.createElement("option");
  made.value = value;
  made.textContent = text;
  return made;
}

const picture = () => page.pictures[Number(byId("variable").value)];

// Bands as the chooser has them: "rgb" for the colour picture, or one number.
function bandsChosen() {
  const chosen = byId("band").value;
  return chosen === "rgb" ? picture().composite : [Number(chosen)];
}

function fillChoosers() {
  const now = picture();
  const names = now.bands.map((band, i) => option(i, band.units ? `${band.name} (${band.units})` : band.name));
  if (now.composite) {
    names.unshift(option("rgb", `colour: ${now.composite.map((i) => now.bands[i].name).join(", ")}`));
  }
  byId("band").replaceChildren(...names);
  const first = now.bands.findIndex((band) => band.histogram.some(Boolean));
  if (!now.composite && first > 0) byId("band").value = String(first); // a band without values shows nothing
  byId("date").replaceChildren(...now.shown.map((i) => option(i, now.dates[i] || "the only one")));
  byId("date-field").hidden = now.dates.length < 2;
  byId("band-field").hidden = names.length < 2;
  fillColours();
  frame.style.aspectRatio = `${Math.max(now.columns, now.rows / 2)} / ${now.rows}`;
  let note = "";
  if (now.left_out_dates > 0) {
    note = `${now.left_out_dates} of ${now.dates.length} dates are not in this file; geodiff view shows them all.`;
  }
  byId("date-note").textContent = note;
}

// What the colours of one band can be: greys, and what its numbers ask for.
function fillColours() {
  const chosen = bandsChosen();
  const band = picture().bands[chosen[0]];
  const offered = [option("grey", "grey")];
  if (chosen.length === 1 && band.table[0] < 0 && band.table[255] > 0) offered.push(option("zero", "blue and red about zero"));
  if (chosen.length === 1 && band.turn) offered.push(option("round", "round, as the numbers go"));
  byId("colours").replaceChildren(...offered);
  byId("colours").value = chosen.length === 1 ? band.colours : "grey";
  byId("colours-field").hidden = offered.length < 2;
}

function look() {
  const low = Number(byId("stretch").value);
  const gamma = 2 ** (Number(byId("gamma").value) / 10);
  byId("gamma-value").textContent = gamma.toFixed(2);
  byId("gamma").setAttribute("aria-valuetext", gamma.toFixed(2));
  const colours = byId("colours").value;
  for (const id of ["stretch", "scale", "gamma"]) byId(id).disabled = colours === "round";
  return { low: low / 100, high: 1 - low / 100, gamma, scale: byId("scale").value, colours };
}

const gapColour = () => (byId("colours").value === "grey" ? GAP : GAP_OF_COLOURS);
const shadesOf = (bands) => (bands.length === 3 ? bands.map((one, channel) => one[channel]) : bands[0]);

// What the picture is of, for who cannot see the choices: on paper, and by a screen reader.
function caption() {
  const chosen = (name) => byId(name).selectedOptions[0].textContent;
  const fields = ["band", "date"].filter((name) => !byId(`${name}-field`).hidden);
  const of = [`Picture of ${picture().name}`, ...fields.map(chosen)].join(", ");
  const over = byId("overlay").value === "none" ? "" : `; over the gaps: ${chosen("overlay")}`;
  const words = `${of}, ${byId("picture-title").textContent.toLowerCase()}${over}`;
  byId("canvas").setAttribute("aria-label", words);
  byId("caption").textContent = `${words}.`;
}

function show() {
  const now = picture();
  const bands = bandsChosen();
  caption();
  view.show({
    picture: now,
    place: byId("variable").value,
    date: byId("date").value,
    bands,
    overlay: byId("overlay").value,
    overlayBand: bands[0],
    shades: shadesOf(bands.map((band) => stretched(now.bands[band], look()))),
    gapColour: gapColour(),
  });
}

// -- what is said about the view

let legendWas = "";

function drawn({ coarse, level, busy }) {
  frame.setAttribute("aria-busy", String(busy));
  const zoom = view.scale / (window.devicePixelRatio || 1);
  const shown = level === 0 ? "full resolution" : `1 pixel here is ${2 ** level} × ${2 ** level} of the raster`;
  byId("zoom-note").textContent = `Zoom ${zoom >= 1 ? zoom.toFixed(zoom < 10 ? 1 : 0) : zoom.toPrecision(2)}×, ${shown}.`;
  byId("coarse-note").hidden = !(coarse > 0 && inside !== null);
  legend();
}

const RAISED = { "-": "⁻", 0: "⁰", 1: "¹", 2: "²", 3: "³", 4: "⁴", 5: "⁵", 6: "⁶", 7: "⁷", 8: "⁸", 9: "⁹" };

// A number to about a hundredth of the span that it is one of (101325 Pa among pressures, 0.1234 among reflectances), and
// to seven digits at most, which is what float32 holds.
function number(value, span) {
  const most = Math.floor(Math.log10(Math.max(Math.abs(value), span)));
  const least = Math.max(Math.floor(Math.log10(span)) - 2, most - 6);
  if (value !== 0 && (most >= 7 || most < -3)) {
    const [digits, power] = value.toExponential(Math.max(most - least, 1)).split("e");
    return `${digits} × 10${[...String(Number(power))].map((sign) => RAISED[sign]).join("")}`;
  }
  return String(Number(value.toFixed(Math.min(Math.max(-least, 0), 20))));
}

const spanOf = ({ table }) => table[255] - table[0];

function swatch(colour, text) {
  const item = document.createElement("li");
  const square = document.createElement("span");
  square.className = "swatch";
  square.style.backgroundColor = css(colour);
  item.append(square, text);
  return item;
}

function ramp(colourAt, words, low, high) {
  const item = document.createElement("li");
  const bar = document.createElement("span");
  bar.className = "ramp";
  bar.style.backgroundImage = `linear-gradient(90deg, ${Array.from({ length: 17 }, (_, i) => css(colourAt(i / 16)))})`;
  item.append(`${words}: ${low} `, bar, ` ${high}`);
  return item;
}

function errorRamp({ error, units, name }) {
  return ramp(inferno, `standard error of ${name}`, "0", `${withUnits(number(error, error), units)} or more`);
}

// What the two ends of the scale stand for; in between as the stretch has it.
function valueRamp(band) {
  const now = look();
  const [low, high] = bounds(band, now);
  const colour = (share) => colourOf(share, now);
  return ramp(colour, band.name, number(low, spanOf(band)), withUnits(number(high, spanOf(band)), band.units));
}

const withUnits = (words, units) => (units ? `${words} ${units}` : words);

function chequered(text) {
  const item = swatch(GAP, text);
  item.firstChild.className = "swatch chequered";
  item.firstChild.style.backgroundColor = "";
  return item;
}

function reasonWords(bits) {
  const words = Object.entries(page.reasons).filter(([bit]) => bits & Number(bit)).map(([, word]) => word);
  return words.join(", ").replaceAll("_", " ") || "no reason recorded";
}

function legend() {
  const overlay = byId("overlay").value;
  const seen = [...view.seen].sort((a, b) => a - b);
  const choices = ["band", "variable", "stretch", "scale", "gamma", "colours"].map((name) => byId(name).value);
  const state = [overlay, seen, view.gapSeen, view.emptySeen, view.outsideSeen, view.valueSeen, ...choices].join("|");
  if (state === legendWas) return;
  legendWas = state;
  const items = view.gapSeen ? [swatch(gapColour(), "left of the line: was missing")] : [];
  if (view.emptySeen) items.push(swatch(EMPTY, "missing still: left empty"));
  if (view.outsideSeen) items.push(chequered("outside: not to be filled"));
  const band = picture().bands[bandsChosen()[0]];
  if (bandsChosen().length === 1 && view.valueSeen) items.unshift(valueRamp(band));
  if (overlay === "error" && view.gapSeen && band.error > 0) items.push(errorRamp(band));
  if (overlay === "source") {
    items.push(...seen.filter((c) => c !== UNFILLED).map((c) => swatch(kindColour(c), `filled by ${page.sources[c] ?? c}`)));
  }
  if (overlay === "reason") items.push(...seen.filter(Boolean).map((bit) => swatch(reasonColour(bit), reasonWords(bit))));
  byId("legend").replaceChildren(...items);
}

function sourceWords(pixel) {
  if (pixel.source === 0) return "observed";
  if (pixel.source === OUTSIDE) return "outside, not to be filled";
  const why = `missing because: ${reasonWords(pixel.reason)}`;
  return pixel.source === UNFILLED ? `left empty; ${why}` : `filled by ${page.sources[pixel.source] ?? pixel.source}; ${why}`;
}

// The row of the raster that is drawn in a row of the picture, which has north above.
const rowOf = (row) => (picture().south_up ? picture().rows - 1 - row : row);

function readOut(x, y) {
  const band = bandsChosen()[0];
  const pixel = view.chosen ? view.pixelAt(x, y, band) : null;
  if (!pixel) {
    byId("pixel").textContent = "";
    return;
  }
  const { table, error, units, name } = picture().bands[band];
  let value = "";
  if (pixel.value !== null && pixel.source < OUTSIDE) {
    value = ` about ${withUnits(number(table[pixel.value], spanOf({ table })), units)}`;
  }
  if (value && pixel.source !== 0 && pixel.error !== null && error > 0) {
    const size = withUnits(number((error * pixel.error) / 255, error), units);
    value += `, standard error about ${size}${pixel.error === 255 ? " or more" : ""}`;
  }
  byId("pixel").textContent = `Row ${rowOf(pixel.row)}, column ${pixel.column}, ${name}:${value} (${sourceWords(pixel)})`;
}

// -- the swipe

function swipeTo(share) {
  view.swipe = Math.min(Math.max(share, 0), 1);
  const percent = Math.round(100 * view.swipe);
  handle.style.left = `${100 * view.swipe}%`;
  handle.setAttribute("aria-valuenow", String(percent));
  handle.setAttribute("aria-valuetext", `${percent} % of the width: ${page.left}`);
  view.ask();
}

function swipeKey(event) {
  const steps = { ArrowLeft: -0.02, ArrowDown: -0.02, ArrowRight: 0.02, ArrowUp: 0.02, PageDown: -0.1, PageUp: 0.1 };
  if (event.key in steps) swipeTo(view.swipe + steps[event.key]);
  else if (event.key === "Home") swipeTo(0);
  else if (event.key === "End") swipeTo(1);
  else return;
  event.preventDefault();
  event.stopPropagation();
}

function dragSwipe(event) {
  event.stopPropagation();
  if (event.type === "pointerdown") handle.setPointerCapture(event.pointerId);
  else if (!handle.hasPointerCapture(event.pointerId)) return;
  const box = frame.getBoundingClientRect();
  swipeTo((event.clientX - box.left) / box.width);
}

// -- zoom and pan

const pointers = new Map();
const onCanvas = (event) => {
  const box = byId("canvas").getBoundingClientRect();
  const ratio = view.area.width / box.width;
  return [(event.clientX - box.left) * ratio, (event.clientY - box.top) * ratio];
};

function spread() {
  const [a, b] = [...pointers.values()];
  return { far: Math.hypot(a[0] - b[0], a[1] - b[1]), middle: [(a[0] + b[0]) / 2, (a[1] + b[1]) / 2] };
}

function press(event) {
  byId("canvas").setPointerCapture(event.pointerId);
  pointers.set(event.pointerId, onCanvas(event));
}

function move(event) {
  const now = onCanvas(event);
  const was = pointers.get(event.pointerId);
  readOut(...now);
  if (!was) return;
  if (pointers.size === 2) {
    const before = spread();
    pointers.set(event.pointerId, now);
    const after = spread();
    view.zoom(after.far / (before.far || 1), ...after.middle);
  } else {
    pointers.set(event.pointerId, now);
    view.pan(now[0] - was[0], now[1] - was[1]);
  }
}

const release = (event) => pointers.delete(event.pointerId);

function wheel(event) {
  if (document.activeElement !== byId("canvas") && !event.ctrlKey) return; // else the page could not be scrolled past
  event.preventDefault();
  view.zoom(2 ** (-event.deltaY / 300), ...onCanvas(event));
}

function canvasKey(event) {
  const step = view.area.width / 10;
  const keys = {
    ArrowLeft: () => view.pan(step, 0),
    ArrowRight: () => view.pan(-step, 0),
    ArrowUp: () => view.pan(0, step),
    ArrowDown: () => view.pan(0, -step),
    "+": () => view.zoom(1.5),
    "=": () => view.zoom(1.5),
    "-": () => view.zoom(1 / 1.5),
    0: () => view.fit(),
    1: () => view.visit(...view.centre, window.devicePixelRatio || 1),
    n: nextGap,
  };
  if (!(event.key in keys) || event.ctrlKey || event.metaKey || event.altKey) return;
  keys[event.key]();
  event.preventDefault();
}

let gapSeen = -1;

async function gapsOf(date) {
  const now = picture();
  if (now.gaps === null) now.gaps = {};
  if (!(date in now.gaps) && inside === null) {
    const answer = await fetch(`gaps/${byId("variable").value}/${date}`);
    now.gaps[date] = answer.ok ? await answer.json() : [];
  }
  return now.gaps[date] ?? [];
}

async function nextGap() {
  const gaps = await gapsOf(byId("date").value);
  if (!gaps.length) {
    byId("pixel").textContent = "There is no gap on this date.";
    return;
  }
  gapSeen = (gapSeen + 1) % gaps.length;
  const [row, column, extent] = gaps[gapSeen];
  const ratio = window.devicePixelRatio || 1;
  const large = Math.min(view.area.width, view.area.height) / (6 * extent); // a gap of three pixels is to be seen too
  const scale = Math.max(ratio, view.smallest, Math.min(large, 16 * ratio));
  const aside = extent * scale < view.area.height / 4 ? view.area.height / 4 / scale : 0; // not under the line's handle
  view.visit(column, row + aside, scale);
  byId("pixel").textContent = `Gap ${gapSeen + 1} of ${gaps.length}, around row ${rowOf(row)}, column ${column}`;
}

function stepDate(step) {
  const dates = byId("date");
  dates.selectedIndex = (dates.selectedIndex + step + dates.length) % dates.length;
  gapSeen = -1;
  show();
}

// -- dark and light

function theme(name) {
  document.documentElement.dataset.theme = name;
  const dark = name === "dark";
  byId("theme").setAttribute("aria-pressed", String(dark));
  view.ask();
}

function start() {
  byId("variable").replaceChildren(...page.pictures.map((one, i) => option(i, one.name)));
  byId("variable-field").hidden = page.pictures.length < 2;
  fillChoosers();
  byId("variable").addEventListener("change", () => {
    fillChoosers();
    gapSeen = -1;
    show();
  });
  byId("band").addEventListener("change", () => {
    fillColours();
    show();
  });
  for (const id of ["date", "overlay", "stretch", "scale", "colours"]) byId(id).addEventListener("change", show);
  byId("gamma").addEventListener("input", show);
  byId("before-date").addEventListener("click", () => stepDate(-1));
  byId("after-date").addEventListener("click", () => stepDate(1));
  byId("zoom-in").addEventListener("click", () => view.zoom(1.5));
  byId("zoom-out").addEventListener("click", () => view.zoom(1 / 1.5));
  byId("fit").addEventListener("click", () => view.fit());
  byId("full").addEventListener("click", () => view.visit(...view.centre, window.devicePixelRatio || 1));
  byId("next-gap").addEventListener("click", nextGap);
  byId("theme").addEventListener("click", () => {
    theme(document.documentElement.dataset.theme === "dark" ? "light" : "dark");
  });
  handle.addEventListener("keydown", swipeKey);
  for (const kind of ["pointerdown", "pointermove"]) handle.addEventListener(kind, dragSwipe);
  const canvas = byId("canvas");
  canvas.addEventListener("pointerdown", press);
  canvas.addEventListener("pointermove", move);
  for (const kind of ["pointerup", "pointercancel"]) canvas.addEventListener(kind, release);
  canvas.addEventListener("pointerleave", () => {
    byId("pixel").textContent = "";
  });
  canvas.addEventListener("wheel", wheel, { passive: false });
  canvas.addEventListener("keydown", canvasKey);
  new ResizeObserver(() => view.resize()).observe(canvas);
  theme(window.matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
  view.resize();
  swipeTo(0.5);
  show();
}

start();
