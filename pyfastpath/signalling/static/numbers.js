// The tiles with the numbers of the moment.

const UNITS = { rtt: "ms", jitter: "ms", buffer: "ms", loss: "%", sent: "packets", received: "packets" };

export class Numbers {
  #tiles;
  #route;

  // tiles: { rtt: element, … } by the names of UNITS.
  constructor(tiles, route) {
    this.#tiles = tiles;
    this.#route = route;
  }

  clear() {
    for (const tile of Object.values(this.#tiles)) tile.textContent = "–";
    this.#route.textContent = "";
  }

  show(numbers) {
    for (const [name, unit] of Object.entries(UNITS)) {
      const value = numbers[name];
      if (value === undefined) continue;
      const small = document.createElement("small");
      small.textContent = unit;
      this.#tiles[name].replaceChildren(written(value, unit), small);
    }
    if (numbers.route) this.#route.textContent = numbers.route;
  }
}

function written(value, unit) {
  if (unit === "packets") return value.toLocaleString("en").replaceAll(",", "\u202f");
  if (unit === "ms" && value < 0.1) return "< 0.1"; // browsers round: never quite nothing
  return value.toFixed(value < 10 && value > 0 ? 1 : 0);
}
