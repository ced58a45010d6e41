// SPDX-License-Identifier: MIT
/**
 * Plots the traffic of the last minute: sent bytes upwards, received bytes downwards.
 *
 * Colours come from the style sheet. Does not count bytes and has no timer.
 */

const SAMPLES = 60;

export function size(bytes) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let unit = 0;
  while (bytes >= 999.5 && unit < units.length - 1) {
    bytes /= 1000;
    unit += 1;
  }
  return `${bytes < 10 && unit ? bytes.toFixed(1) : Math.round(bytes)} ${units[unit]}`;
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
    const scale = devicePixelRatio || 1;
    canvas.width = width * scale;
    canvas.height = height * scale;
    const pen = canvas.getContext("2d");
    pen.scale(scale, scale);
    const style = getComputedStyle(canvas);
    const colour = (name) => style.getPropertyValue(name).trim();
    const middle = Math.round(height / 2);
    const step = width / SAMPLES;
    [-1, 1].forEach((way, index) => {
      const most = Math.max(...this.#samples.map((sample) => sample[index]), 1);
      pen.fillStyle = colour(index ? "--down" : "--up");
      this.#samples.forEach((sample, at) => {
        const tall = sample[index] && Math.max(2, (sample[index] / most) * (middle - 14));
        const left = width - (this.#samples.length - at) * step;
        pen.fillRect(left, way < 0 ? middle - tall : middle + 1, Math.max(step - 1, 1), tall);
      });
      pen.fillStyle = colour("--quiet");
      pen.font = "11px system-ui, sans-serif";
      if (most > 1) pen.fillText(`${size(most)}/s`, 4, way < 0 ? 11 : height - 4);
    });
    pen.fillStyle = colour("--line");
    pen.fillRect(0, middle, width, 1);
    const [sent, received] = this.#samples.at(-1) ?? [0, 0];
    const text = `In the last second ${size(sent)} sent, ${size(received)} received`;
    canvas.setAttribute("aria-label", text);
  }
}
