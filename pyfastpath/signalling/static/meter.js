// A level meter around a disc. The ring falls slower than it rises, as an eye likes it; the number that
// screen readers get changes a few times a second only.

const FALL = 0.82;
const SPOKEN_MS = 400;

export class Meter {
  #element;
  #level = 0;
  #spoken = 0;

  constructor(element) {
    this.#element = element;
  }

  show(level) {
    this.#level = Math.max(level, this.#level * FALL);
    if (this.#level < 0.01) this.#level = 0;
    this.#element.style.setProperty("--level", this.#level.toFixed(3));
    const now = performance.now();
    if (now - this.#spoken < SPOKEN_MS) return;
    this.#spoken = now;
    this.#element.setAttribute("aria-valuenow", String(Math.round(this.#level * 100)));
  }

  rest() {
    this.#level = this.#spoken = 0;
    this.show(0);
  }
}
