// SPDX-License-Identifier: MIT
/**
 * Plots the traffic of the last minute: sent bytes upwards, received bytes downwards.
 *
 * Both directions have one scale, which ends at a round number. Colours come from the
 * style sheet. Does not count bytes and has no timer.
 */

const SAMPLES = 60;
const LEFT = 56; // pixels for the labels of the scale
const BELOW = 18; // pixels for the labels of the time
const MARGIN = 7; // half of the height of a label
const LEAST_SCALE = 10; // bytes a second

export function size(bytes) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let unit = 0;
  while (bytes >= 999.5 && unit < units.length - 1) {
    bytes /= 1000;
    unit += 1;
  }
  return `${bytes < 10 && unit ? bytes.toFixed(1) : Math.round(bytes)} ${units[unit]}`;
}

/** Returns the smallest 1, 2 or 5 times a power of ten that is not less. */
function roundUp(bytes) {
  const power = 10 ** Math.floor(Math.log10(bytes));
  return power * [1, 2, 5, 10].find((factor) => factor * power >= bytes);
}

export class Plot {
  #canvas;
  #samples = []; // [sent, received] bytes of each second
  #last = [0, 0];

  constructor(canvas) {
    this.#canvas = canvas;
    new ResizeObserver(() => this.draw()).observe(canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
  }

  /** Clears the plot. */
  reset() {
    this.#samples = [];
    this.#last = [0, 0];
    this.draw();
  }

  /** Called each second with the total of sent and received bytes. */
  tick(sent, received) {
    const [sentBefore, receivedBefore] = this.#last;
    this.#samples.push([sent - sentBefore, received - receivedBefore]);
    this.#samples.splice(0, this.#samples.length - SAMPLES);
    this.#last = [sent, received];
    this.draw();
  }

  draw() {
    const canvas = this.#canvas;
    const { clientWidth: width, clientHeight: height } = canvas;
    const ratio = devicePixelRatio || 1;
    canvas.width = width * ratio;
    canvas.height = height * ratio;
    const pen = canvas.getContext("2d");
    pen.scale(ratio, ratio);
    const style = getComputedStyle(canvas);
    const colour = (name) => style.getPropertyValue(name).trim();
    const most = roundUp(Math.max(LEAST_SCALE, ...this.#samples.flat()));
    const tall = Math.floor((height - BELOW) / 2 - MARGIN);
    const middle = tall + MARGIN;
    pen.font = "11px system-ui, sans-serif";
    pen.textBaseline = "middle";
    pen.textAlign = "right";
    for (const share of [1, 0.5, 0, -0.5, -1]) {
      const level = middle - Math.round(share * tall);
      pen.fillStyle = colour(share ? "--line" : "--edge");
      pen.fillRect(LEFT, level, width - LEFT, 1);
      pen.fillStyle = colour("--quiet");
      if (share !== 0.5 && share !== -0.5) this.#label(pen, Math.abs(share) * most, level);
    }
    pen.textAlign = "left";
    pen.fillText("60 s ago", LEFT, height - MARGIN);
    pen.textAlign = "right";
    pen.fillText("now", width, height - MARGIN);
    this.#drawBars(pen, { left: LEFT, width: width - LEFT, middle, tall, most }, colour);
    const [sent, received] = this.#samples.at(-1) ?? [0, 0];
    const text = `In the last second ${size(sent)} sent, ${size(received)} received`;
    canvas.setAttribute("aria-label", `${text}; the scale ends at ${size(most)} a second`);
  }

  #label(pen, bytes, level) {
    pen.fillText(bytes ? `${size(bytes)}/s` : "0", LEFT - 6, level);
  }

  #drawBars(pen, { left, width, middle, tall, most }, colour) {
    const step = width / SAMPLES;
    const first = left + width - this.#samples.length * step;
    this.#samples.forEach((sample, at) => {
      const long = sample.map((bytes) => {
        return bytes && Math.max(2, Math.round((bytes / most) * tall));
      });
      const x = Math.round(first + at * step);
      const wide = Math.max(Math.round(first + (at + 1) * step) - x - 1, 1);
      pen.fillStyle = colour("--up");
      pen.fillRect(x, middle - long[0], wide, long[0]);
      pen.fillStyle = colour("--down");
      pen.fillRect(x, middle + 1, wide, long[1]);
    });
  }
}
