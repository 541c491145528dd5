// The picture on its canvas: what part of it is seen, which tiles that takes, and the swipe between before and after.

class PictureView {
  constructor(canvas, store, whenDrawn) {
    this.canvas = canvas;
    this.store = store;
    this.whenDrawn = whenDrawn;
    this.swipe = 0.5;
    this.kept = new Map(); // painted tiles of the present look
    this.seen = new Set(); // kinds that the overlay has met
    this.gapSeen = false; // whether a gap has been met
    this.emptySeen = false; // whether a gap that was left empty has been met
    this.outsideSeen = false; // whether a place that was not to be filled has been met
    this.valueSeen = false; // whether any value has been met
    this.asked = false;
  }

  // chosen: { picture, place, date, bands, overlay, overlayBand, shades, gapColour }
  show(chosen) {
    const same = this.chosen && this.chosen.picture === chosen.picture;
    this.chosen = chosen;
    this.kept.clear();
    this.seen.clear();
    this.gapSeen = this.emptySeen = this.outsideSeen = this.valueSeen = false;
    if (!same) this.fit();
    this.ask();
  }

  get area() {
    return { width: this.canvas.width, height: this.canvas.height };
  }

  resize() {
    const ratio = window.devicePixelRatio || 1;
    const width = Math.round(this.canvas.clientWidth * ratio);
    const height = Math.round(this.canvas.clientHeight * ratio);
    if (!width || !height || (width === this.canvas.width && height === this.canvas.height)) return;
    const fitted = this.fitted;
    this.canvas.width = width;
    this.canvas.height = height;
    if (this.chosen && fitted) this.fit();
    this.ask();
  }

  get smallest() {
    const { rows, columns } = this.chosen.picture;
    return Math.min(this.area.width / columns, this.area.height / rows);
  }

  fit() {
    const { rows, columns } = this.chosen.picture;
    this.centre = [columns / 2, rows / 2];
    this.scale = this.smallest;
    this.fitted = true;
    this.ask();
  }

  // Zoom by a factor about a point of the canvas (device pixels), by default its middle.
  zoom(factor, x = this.area.width / 2, y = this.area.height / 2) {
    const at = this.groundAt(x, y);
    const most = Math.max(40, this.smallest);
    this.scale = Math.min(Math.max(this.scale * factor, Math.min(this.smallest, 1)), most);
    this.centre = [at[0] - (x - this.area.width / 2) / this.scale, at[1] - (y - this.area.height / 2) / this.scale];
    this.settle();
  }

  pan(x, y) {
    this.centre = [this.centre[0] - x / this.scale, this.centre[1] - y / this.scale];
    this.settle();
  }

  // Show pixels one to one with a place of the ground in the middle.
  visit(column, row, scale) {
    this.centre = [column, row];
    this.scale = Math.max(scale, Math.min(this.smallest, 1));
    this.settle();
  }

  settle() {
    const { rows, columns } = this.chosen.picture;
    this.centre = [Math.min(Math.max(this.centre[0], 0), columns), Math.min(Math.max(this.centre[1], 0), rows)];
    this.fitted = false;
    this.ask();
  }

  // Column and row under a point of the canvas.
  groundAt(x, y) {
    return [
      this.centre[0] + (x - this.area.width / 2) / this.scale,
      this.centre[1] + (y - this.area.height / 2) / this.scale,
    ];
  }

  ask() {
    if (this.asked) return;
    this.asked = true;
    requestAnimationFrame(() => {
      this.asked = false;
      this.draw();
    });
  }

  get level() {
    const wanted = Math.floor(Math.log2(1 / this.scale) + 1e-6);
    return Math.min(Math.max(wanted, 0), this.chosen.picture.levels - 1);
  }

  key(band, level, row, column) {
    return `${this.chosen.place}/${this.chosen.date}/${band}/${level}/${row}/${column}`;
  }

  // A painted tile { before, after, over }, or null while it is not at hand.
  tile(level, row, column) {
    const name = `${level}/${row}/${column}`;
    const found = this.kept.get(name);
    if (found) return found;
    const { bands, overlay, shades, gapColour, overlayBand } = this.chosen;
    const parts = bands.map((band) => this.store.peek(this.key(band, level, row, column)));
    const over = overlay === "none" ? true : this.store.peek(this.key(overlayBand, level, row, column));
    if (parts.includes(null) || over === null) return null;
    if (parts.some((part) => part.source.some((code) => code !== 0 && code !== OUTSIDE))) this.gapSeen = true;
    if (parts.some((part) => part.source.includes(UNFILLED))) this.emptySeen = true;
    if (parts.some((part) => part.source.includes(OUTSIDE))) this.outsideSeen = true;
    if (parts.some((part) => part.value !== null)) this.valueSeen = true;
    const made = {
      before: painted(parts, shades, gapColour, true),
      after: painted(parts, shades, gapColour, false),
      over: over === true ? null : overlaid(over, overlay, this.seen),
    };
    this.kept.set(name, made);
    while (this.kept.size > 400) this.kept.delete(this.kept.keys().next().value);
    return made;
  }

  // Tiles to draw, each with the part of it to use; counts those that are only there in coarser levels.
  pieces() {
    const size = this.chosen.picture.tile;
    const level = this.level;
    const step = size * 2 ** level;
    const [left, top] = this.groundAt(0, 0);
    const [right, bottom] = this.groundAt(this.area.width, this.area.height);
    const { rows, columns } = this.chosen.picture;
    const pieces = [];
    let coarse = 0;
    for (let row = Math.max(0, Math.floor(top / step)); row * step < Math.min(bottom, rows); row += 1) {
      for (let column = Math.max(0, Math.floor(left / step)); column * step < Math.min(right, columns); column += 1) {
        const piece = this.best(level, row, column);
        if (!this.store.has(this.key(this.chosen.bands[0], level, row, column))) coarse += 1;
        if (piece) pieces.push(piece);
      }
    }
    return { pieces, coarse };
  }

  // The finest tile at hand, of this level or a coarser one, that covers a place.
  best(level, row, column) {
    const { levels, tile: size, rows, columns } = this.chosen.picture;
    const ground = [column * size * 2 ** level, row * size * 2 ** level, size * 2 ** level];
    for (let up = level; up < levels; up += 1) {
      const shift = 2 ** (up - level);
      const place = [Math.floor(row / shift), Math.floor(column / shift)];
      if (!this.store.has(this.key(this.chosen.bands[0], up, ...place))) continue;
      const found = this.tile(up, ...place);
      if (!found) continue;
      const pixel = 2 ** up;
      const width = Math.min(ground[2], columns - ground[0]);
      const height = Math.min(ground[2], rows - ground[1]);
      return {
        found,
        from: [(ground[0] - place[1] * size * pixel) / pixel, (ground[1] - place[0] * size * pixel) / pixel,
          width / pixel, height / pixel],
        to: [ground[0], ground[1], width, height],
      };
    }
    return null;
  }

  draw() {
    if (!this.chosen || !this.area.width) return;
    const context = this.canvas.getContext("2d");
    const { width, height } = this.area;
    const { pieces, coarse } = this.pieces();
    const cut = Math.round(width * this.swipe);
    context.clearRect(0, 0, width, height);
    this.half(context, pieces, [0, 0, cut, height], "before");
    this.half(context, pieces, [cut, 0, width - cut, height], "after");
    this.edge(context);
    this.whenDrawn({ coarse, level: this.level, busy: this.store.busy });
  }

  // A line around the raster: what is left empty in it looks like what lies beside it.
  edge(context) {
    const { rows, columns } = this.chosen.picture;
    const left = (0 - this.centre[0]) * this.scale + this.area.width / 2;
    const top = (0 - this.centre[1]) * this.scale + this.area.height / 2;
    context.strokeStyle = "rgb(128 128 128)";
    context.lineWidth = window.devicePixelRatio || 1;
    context.strokeRect(left, top, columns * this.scale, rows * this.scale);
  }

  half(context, pieces, clip, side) {
    context.save();
    context.beginPath();
    context.rect(...clip);
    context.clip();
    context.imageSmoothingEnabled = this.scale < 1;
    for (const { found, from, to } of pieces) {
      const x = Math.round((to[0] - this.centre[0]) * this.scale + this.area.width / 2);
      const y = Math.round((to[1] - this.centre[1]) * this.scale + this.area.height / 2);
      const right = Math.round((to[0] + to[2] - this.centre[0]) * this.scale + this.area.width / 2);
      const bottom = Math.round((to[1] + to[3] - this.centre[1]) * this.scale + this.area.height / 2);
      context.drawImage(found[side], ...from, x, y, right - x, bottom - y);
      if (side === "after" && found.over) {
        context.imageSmoothingEnabled = false;
        context.drawImage(found.over, ...from, x, y, right - x, bottom - y);
        context.imageSmoothingEnabled = this.scale < 1;
      }
    }
    context.restore();
  }

  // What is known of the pixel under a point of the canvas, from the finest tile at hand; null where nothing is.
  pixelAt(x, y, band) {
    const [column, row] = this.groundAt(x, y).map(Math.floor);
    const { rows, columns, levels, tile: size } = this.chosen.picture;
    if (row < 0 || column < 0 || row >= rows || column >= columns) return null;
    for (let level = this.level; level < levels; level += 1) {
      const step = size * 2 ** level;
      const place = [Math.floor(row / step), Math.floor(column / step)];
      const tile = this.store.decoded.get(this.key(band, level, ...place));
      if (!tile) continue;
      const down = Math.min(Math.floor((row - place[0] * step) / 2 ** level), tile.height - 1);
      const across = Math.min(Math.floor((column - place[1] * step) / 2 ** level), tile.width - 1);
      const i = down * tile.width + across;
      return { row, column, level, source: tile.source[i], reason: tile.reason[i],
        value: tile.value?.[i] ?? null, error: tile.error?.[i] ?? null };
    }
    return null;
  }
}
