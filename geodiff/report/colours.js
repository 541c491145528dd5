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

const css = ([red, green, blue]) => `rgb(${red} ${green} ${blue})`;

// Begins above black, which would read as a dark observation.
function inferno(share) {
  const place = (0.15 + 0.85 * Math.min(Math.max(share, 0), 1)) * (INFERNO.length - 1);
  const low = Math.min(Math.floor(place), INFERNO.length - 2);
  return INFERNO[low].map((c, i) => Math.round(c + (place - low) * (INFERNO[low + 1][i] - c)));
}

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

// The values that are black and white. look: { low, high: shares, gamma, scale: "linear" or "log" }
const bounds = (band, look) => [percentile(band, look.low), percentile(band, look.high)];

// The grey level at a share of the way from black's value to white's.
function greyOf(share, look) {
  const t = look.scale === "log" ? Math.log1p(99 * share) / Math.log(100) : share;
  return Math.round(255 * t ** (1 / look.gamma));
}

// Grey levels (256) of the codes of a band.
function stretched(band, look) {
  const [low, high] = bounds(band, look);
  const span = high - low || 1;
  return Uint8Array.from(band.table, (value) => greyOf(Math.min(Math.max((value - low) / span, 0), 1), look));
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

// The picture as it came (gaps coloured) and as it is now. tiles: one a colour channel, or one for grey.
function painted(tiles, greys, before) {
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
    const flat = before && gap ? GAP : !before && empty ? EMPTY : null;
    pixels[4 * i] = flat ? flat[0] : greys[red][tiles[red].value?.[i] ?? 0];
    pixels[4 * i + 1] = flat ? flat[1] : greys[green][tiles[green].value?.[i] ?? 0];
    pixels[4 * i + 2] = flat ? flat[2] : greys[blue][tiles[blue].value?.[i] ?? 0];
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
