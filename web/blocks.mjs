// @ts-check
/** Blocks as they appear: one square each, coloured by its name; many to a square where there are too many. */

const CELL = 9;
const GAP = 2;
const ROWS = 7;

export class BlockMap {
  /** @type {{hue: number, count: number}[]} */
  #cells = [];
  #each = 1;
  #expected = 0;
  #count = 0;
  #drawing = false;

  /** @param {HTMLCanvasElement} canvas its width is its place's */
  constructor(canvas) {
    this.canvas = canvas;
    new ResizeObserver(() => this.#draw()).observe(canvas);
  }

  /** Begin anew. @param {number} expected about how many blocks there will be */
  begin(expected) {
    this.#cells = [];
    this.#count = 0;
    this.#expected = expected;
    this.#each = 1;
    this.#fit();
    this.#draw();
  }

  /** @param {string} cid */
  add(cid) {
    this.#count++;
    this.#fit();
    const last = this.#cells.at(-1);
    const cell = last && last.count < this.#each ? last : { hue: 0, count: 0 };
    cell.hue = hue(cid);
    cell.count++;
    if (cell !== last) this.#cells.push(cell);
    this.#draw();
  }

  get #columns() {
    return Math.max(8, Math.floor((this.canvas.clientWidth + GAP) / (CELL + GAP)));
  }

  /** Double what a square stands for until all have room. */
  #fit() {
    const room = this.#columns * ROWS;
    while (Math.max(this.#expected, this.#count) > room * this.#each) {
      this.#each *= 2;
      const pairs = [];
      for (let at = 0; at < this.#cells.length; at += 2) pairs.push({ hue: this.#cells[at].hue, count: this.#cells[at].count + (this.#cells[at + 1]?.count ?? 0) });
      this.#cells = pairs;
    }
  }

  /** Once a frame at most. */
  #draw() {
    if (this.#drawing) return;
    this.#drawing = true;
    requestAnimationFrame(() => {
      this.#drawing = false;
      this.#paint();
    });
  }

  #paint() {
    const { canvas } = this;
    const columns = this.#columns;
    const wanted = Math.max(this.#cells.length, Math.ceil(this.#expected / this.#each));
    const [width, height] = [canvas.clientWidth, Math.max(1, Math.ceil(wanted / columns)) * (CELL + GAP)];
    const ratio = devicePixelRatio || 1;
    canvas.style.height = `${height}px`;
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
    const pen = canvas.getContext("2d");
    if (!pen) return;
    pen.scale(ratio, ratio);
    const empty = getComputedStyle(canvas).getPropertyValue("color");
    for (let at = 0; at < wanted; at++) {
      const cell = this.#cells[at];
      const [x, y] = [(at % columns) * (CELL + GAP), Math.floor(at / columns) * (CELL + GAP)];
      pen.globalAlpha = cell ? 0.35 + (0.65 * cell.count) / this.#each : 1;
      pen.fillStyle = cell ? `hsl(${cell.hue} 55% 52%)` : empty;
      pen.fillRect(x, y, CELL, CELL);
    }
  }
}

/** A colour of a name: its last characters are as good as chance. @param {string} cid */
function hue(cid) {
  let sum = 0;
  for (const letter of cid.slice(-6)) sum = (sum * 33 + letter.charCodeAt(0)) % 360;
  return sum;
}
