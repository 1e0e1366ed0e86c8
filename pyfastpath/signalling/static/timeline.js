// Who speaks: a ribbon that runs to the left, your voice above the line, the agent's below. Behind the voices
// stand the turns as the server sees them (speech_started … speech_stopped, output started … stopped).

const SLOT_S = 0.1;
const SLOT_PX = 4;
const KEEP_S = 120;
const TICK_S = 5;
const SCALE_PX = 18;
const NAMES_PX = 44;

export class Timeline {
  #canvas;
  #slots = [];
  #turns = [];
  #now = 0;
  #colours = {};
  #painted = -1;
  #agent = "Agent";
  #calm = matchMedia("(prefers-reduced-motion: reduce)");

  constructor(canvas) {
    this.#canvas = canvas;
    this.#readColours();
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.#readColours());
    new ResizeObserver(() => this.paint(true)).observe(canvas);
  }

  clear(agent) {
    this.#agent = agent;
    this.#slots = [];
    this.#turns = [];
    this.#now = 0;
    this.paint(true);
  }

  // Levels 0…1 heard at `seconds` of the call; a slot keeps its loudest.
  add(seconds, you, agent) {
    this.#now = seconds;
    const number = Math.floor(seconds / SLOT_S);
    const last = this.#slots.at(-1);
    if (last?.number === number) {
      last.you = Math.max(last.you, you);
      last.agent = Math.max(last.agent, agent);
    } else {
      this.#slots.push({ number, you, agent });
      if (this.#slots.length > KEEP_S / SLOT_S) this.#slots.shift();
    }
  }

  // who: "you" or "agent". A turn that begins twice is one turn; `cut` marks one that was interrupted.
  turnBegins(who, seconds) {
    if (!this.#open(who)) this.#turns.push({ who, from: seconds, to: null, cut: false });
    if (this.#turns.length > KEEP_S) this.#turns.shift();
  }

  turnEnds(who, seconds, cut = false) {
    const turn = this.#open(who);
    if (turn) Object.assign(turn, { to: seconds, cut });
  }

  #open(who) {
    return this.#turns.find((turn) => turn.who === who && turn.to === null);
  }

  paint(force = false) {
    const step = this.#calm.matches ? 0.5 : 1 / 60;
    if (!force && this.#now - this.#painted < step) return;
    this.#painted = this.#now;
    const { clientWidth: width, clientHeight: height } = this.#canvas;
    const scale = window.devicePixelRatio || 1;
    if (
      this.#canvas.width !== Math.round(width * scale) ||
      this.#canvas.height !== Math.round(height * scale)
    ) {
      this.#canvas.width = Math.round(width * scale);
      this.#canvas.height = Math.round(height * scale);
    }
    const pen = this.#canvas.getContext("2d");
    pen.setTransform(scale, 0, 0, scale, 0, 0);
    pen.clearRect(0, 0, width, height);
    const middle = (height - SCALE_PX) / 2;
    const x = (seconds) => width - ((this.#now - seconds) / SLOT_S) * SLOT_PX;
    this.#paintTurns(pen, x, middle, width);
    this.#paintVoices(pen, x, middle);
    this.#paintScale(pen, x, middle, width, height);
  }

  #paintTurns(pen, x, middle, width) {
    for (const { who, from, to, cut } of this.#turns) {
      const left = x(from);
      const right = to === null ? width : x(to);
      if (right < 0) continue;
      const top = who === "you" ? 3 : middle + 3;
      pen.fillStyle = this.#colours[who];
      pen.globalAlpha = 0.13;
      pen.beginPath();
      pen.roundRect(left, top, Math.max(2, right - left), middle - 6, 6);
      pen.fill();
      pen.globalAlpha = 1;
      if (cut) pen.fillRect(right - 2, top, 2, middle - 6);
    }
  }

  #paintVoices(pen, x, middle) {
    const room = middle - 8;
    for (const { number, you, agent } of this.#slots) {
      const left = x((number + 1) * SLOT_S);
      if (left < -SLOT_PX) continue;
      pen.fillStyle = this.#colours.you;
      this.#bar(pen, left, middle - 2 - you * room, you * room);
      pen.fillStyle = this.#colours.agent;
      this.#bar(pen, left, middle + 2, agent * room);
    }
  }

  #bar(pen, left, top, length) {
    if (length < 1) return;
    pen.beginPath();
    pen.roundRect(left, top, SLOT_PX - 1.5, length, 1.2);
    pen.fill();
  }

  #paintScale(pen, x, middle, width, height) {
    pen.fillStyle = this.#colours.line;
    pen.fillRect(0, middle - 0.5, width, 1);
    pen.font = this.#colours.font;
    pen.textAlign = "center";
    for (
      let tick = Math.floor(this.#now / TICK_S) * TICK_S;
      tick >= 0 && x(tick) > -20 && this.#slots.length;
      tick -= TICK_S
    ) {
      if (x(tick) > width - 12) continue;
      pen.fillStyle = this.#colours.soft;
      pen.fillText(`${Math.floor(tick / 60)}:${String(tick % 60).padStart(2, "0")}`, x(tick), height - 2);
    }
    pen.textAlign = "left";
    this.#paintNames(pen, middle);
  }

  // The ribbon fades out below the names.
  #paintNames(pen, middle) {
    const fade = pen.createLinearGradient(NAMES_PX, 0, NAMES_PX + 40, 0);
    fade.addColorStop(0, "black");
    fade.addColorStop(1, "transparent");
    pen.globalCompositeOperation = "destination-out";
    pen.fillStyle = fade;
    pen.fillRect(0, 0, NAMES_PX + 40, 2 * middle + SCALE_PX);
    pen.globalCompositeOperation = "source-over";
    pen.textBaseline = "middle";
    for (const [who, name, height] of [
      ["you", "You", middle / 2],
      ["agent", this.#agent, 1.5 * middle],
    ]) {
      pen.fillStyle = this.#colours[who];
      pen.fillText(name, 0, height);
    }
    pen.textBaseline = "alphabetic";
  }

  #readColours() {
    const style = getComputedStyle(document.documentElement);
    for (const name of ["you", "agent", "line", "soft"]) {
      this.#colours[name] = style.getPropertyValue(`--${name}`).trim();
    }
    this.#colours.font = `12px ${getComputedStyle(document.body).fontFamily}`;
    this.paint(true);
  }
}
