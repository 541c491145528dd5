// From codes to colours: the stretch of the picture, and the overlays with their legends.

const GAP = [227, 140, 116];
const EMPTY = [150, 90, 160];
const INFERNO = [
  [0, 0, 4], [27, 12, 65], [74, 12, 107], [120, 28, 109], [165, 44, 96],
  [207, 68, 70], [237, 105, 37], [251, 155, 6], [247, 209, 61], [252, 255, 164],
];
// Okabe and Ito's colours, told apart by every kind of sight, then some more.
const KINDS = [
  [230, 159, 0], [86, 180, 233], [0, 158, 115], [240, 228, 66], [0, 114, 178], [213, 94, 0], [204, 121, 167],
  [153, 153, 51], [136, 204, 238], [170, 68, 153], [221, 204, 119], [17, 119, 51], [136, 34, 85], [68, 170, 153],
  [200, 200, 200], [120, 120, 220],
];

// For numbers on both sides of a zero (ColorBrewer's RdBu), and for those that go round (matplotlib's twilight); neither
// holds the grey of their gaps.
const ABOUT_ZERO = [
  [5, 48, 97], [32, 101, 171], [67, 147, 195], [144, 196, 221], [209, 229, 240], [247, 247, 247],
  [253, 219, 199], [243, 164, 129], [214, 96, 77], [177, 24, 43], [103, 0, 31],
];
const ROUND = [
  [226, 217, 226], [179, 198, 206], [123, 161, 194], [98, 118, 186], [94, 67, 165], [78, 24, 111], [47, 20, 54],
  [88, 22, 71], [142, 44, 80], [178, 86, 82], [198, 138, 109], [212, 188, 172], [226, 217, 226],
];
const GAP_OF_COLOURS = [96, 96, 96];

const css = ([red, green, blue]) => `rgb(${red} ${green} ${blue})`;

function between(colours, share) {
  const place = Math.min(Math.max(share, 0), 1) * (colours.length - 1);
  const low = Math.min(Math.floor(place), colours.length - 2);
  return colours[low].map((c, i) => Math.round(c + (place - low) * (colours[low + 1][i] - c)));
}

// Begins above black, which would read as a dark observation.
const inferno = (share) => between(INFERNO, 0.15 + 0.85 * Math.min(Math.max(share, 0), 1));

// The value below which a share of the observed values lies, from the histogram of codes.
function percentile(band, share) {
  const total = band.histogram.reduce((a, b) => a + b, 0);
  if (total === 0) return share < 0.5 ? band.table[0] : band.table[255];
  let sum = 0;
  for (let code = 0; code < 256; code += 1) {
    sum += band.histogram[code];
    if (sum >= share * total && sum > 0) return band.table[code];
  }
  return band.table[255];
}

// The values at the two ends of the scale. look: { low, high: shares, gamma, scale: "linear" or "log", colours: "grey",
// "zero" or "round" }
function bounds(band, look) {
  if (look.colours === "round") return band.turn;
  const [low, high] = [percentile(band, look.low), percentile(band, look.high)];
  if (look.colours !== "zero") return [low, high];
  const most = Math.max(Math.abs(low), Math.abs(high));
  return [-most, most];
}

// How far towards the end of the scale a share of the way to it is.
function bent(share, look) {
  const t = look.scale === "log" ? Math.log1p(99 * share) / Math.log(100) : share;
  return t ** (1 / look.gamma);
}

// The colour at a share of the way from one end of the scale to the other.
function colourOf(share, look) {
  if (look.colours === "round") return between(ROUND, share);
  if (look.colours === "zero") {
    const away = 2 * share - 1;
    return between(ABOUT_ZERO, 0.5 + 0.5 * Math.sign(away) * bent(Math.abs(away), look));
  }
  return Array(3).fill(Math.round(255 * bent(share, look)));
}

// Red, green and blue (256 each) of the codes of a band.
function stretched(band, look) {
  const [low, high] = bounds(band, look);
  const span = high - low || 1;
  const colours = band.table.map((value) => colourOf(Math.min(Math.max((value - low) / span, 0), 1), look));
  return [0, 1, 2].map((channel) => Uint8Array.from(colours, (colour) => colour[channel]));
}

// The reason to show where there are several: a named one before plain nodata or an invalid number.
function telling(reason) {
  const named = reason & ~3;
  const bits = named || reason;
  return bits & -bits;
}

function kindColour(code) {
  if (code === UNFILLED) return EMPTY;
  const order = code >= 100 ? code : code >= 20 ? code - 8 : code - 1;
  return KINDS[((order % KINDS.length) + KINDS.length) % KINDS.length];
}

const reasonColour = (bit) => KINDS[(Math.round(Math.log2(bit)) * 5 + 4) % KINDS.length];

function blank(tile) {
  const canvas = document.createElement("canvas");
  canvas.width = tile.width;
  canvas.height = tile.height;
  return canvas;
}

function put(canvas, image) {
  canvas.getContext("2d").putImageData(image, 0, 0);
  return canvas;
}

// The picture as it came (gaps coloured) and as it is now. tiles: one a colour channel, or one for all.
// shades: what the codes of each channel become.
function painted(tiles, shades, gapColour, before) {
  const canvas = blank(tiles[0]);
  const image = new ImageData(canvas.width, canvas.height);
  const pixels = image.data;
  const [red, green, blue] = tiles.length === 3 ? [0, 1, 2] : [0, 0, 0];
  for (let i = 0; i < canvas.width * canvas.height; i += 1) {
    let outside = true;
    let gap = false;
    let empty = false;
    for (const tile of tiles) {
      const source = tile.source[i];
      if (source !== OUTSIDE) outside = false;
      if (source !== 0 && source !== OUTSIDE) gap = true;
      if (source === UNFILLED || tile.value === null) empty = true;
    }
    if (outside) continue;
    const flat = before && gap ? gapColour : !before && empty ? EMPTY : null;
    pixels[4 * i] = flat ? flat[0] : shades[0][tiles[red].value?.[i] ?? 0];
    pixels[4 * i + 1] = flat ? flat[1] : shades[1][tiles[green].value?.[i] ?? 0];
    pixels[4 * i + 2] = flat ? flat[2] : shades[2][tiles[blue].value?.[i] ?? 0];
    pixels[4 * i + 3] = 255;
  }
  return put(canvas, image);
}

// What lies over the gaps: "error", "source" or "reason". Adds the kinds it meets to `seen`.
function overlaid(tile, overlay, seen) {
  const canvas = blank(tile);
  const image = new ImageData(canvas.width, canvas.height);
  for (let i = 0; i < tile.source.length; i += 1) {
    const source = tile.source[i];
    if (source === 0 || source === OUTSIDE) continue;
    let colour = EMPTY;
    if (overlay === "error") {
      if (source !== UNFILLED && tile.error) colour = inferno(tile.error[i] / 255);
    } else {
      const kind = overlay === "source" ? source : telling(tile.reason[i]);
      seen.add(kind);
      if (overlay === "source") colour = kindColour(kind);
      else if (kind) colour = reasonColour(kind);
    }
    image.data.set([...colour, overlay === "error" ? 255 : 205], 4 * i);
  }
  return put(canvas, image);
}
