// The steps of the connection as rows of a waterfall: name, bar, milliseconds.
//
// Zero of the scale is the end of the microphone step: how long a person takes to allow the microphone
// would squash everything else.

export const OWN_STEPS = {
  microphone: "Microphone",
  offer: "Offer",
  answer: "POST, answer",
  ice: "ICE connected",
  dtls: "DTLS connected",
  audio: "First audio",
};
const SERVER_STEPS = {
  check: "First check",
  path: "Path chosen",
  handshake: "Handshake",
  keys: "Keys agreed",
  data: "Data channel",
  media_in: "Audio in",
  media_out: "Audio out",
};
const BEYOND_MS = 2_000; // a step longer than this (a parrot that waits for you) runs off the scale
const ROOM = 1.1; // what runs off must be seen to

export class Waterfall {
  #own;
  #server;
  #total;
  #steps = new Map();
  #marks = [];

  constructor({ own, server, total }) {
    this.#own = own;
    this.#server = server;
    this.#total = total;
    this.clear();
  }

  clear() {
    this.#steps.clear();
    this.#marks = [];
    this.#server.replaceChildren();
    this.#own.replaceChildren(...Object.entries(OWN_STEPS).map(([name, label]) => row(name, label)));
    this.#total.textContent = "";
  }

  // { name, from, to } in ms since the start of the call; to is null while it runs.
  show(step) {
    this.#steps.set(step.name, step);
    this.#draw();
  }

  // The call is over: what still ran did not come to its end.
  stop(failed) {
    for (const [name, { to }] of this.#steps) {
      if (to !== null) continue;
      const element = this.#own.querySelector(`[data-name="${name}"]`);
      element.dataset.step = failed && name !== "audio" ? "failed" : "waiting";
      element.lastChild.textContent = element.dataset.step === "failed" ? "failed" : "–";
      if (element.dataset.step === "waiting") element.querySelector(".bar").replaceChildren();
    }
  }

  // The server's own clock: { name: ms since it created the session }.
  showServer(steps) {
    const marks = Object.entries(steps)
      .filter(([, ms]) => typeof ms === "number")
      .sort((a, b) => a[1] - b[1]);
    if (JSON.stringify(marks) === JSON.stringify(this.#marks)) return;
    this.#marks = marks;
    this.#server.replaceChildren(...marks.map(([name]) => row(name, SERVER_STEPS[name] ?? words(name))));
    this.#draw();
  }

  #draw() {
    const zero = this.#steps.get("microphone")?.to ?? this.#steps.get("microphone")?.from ?? 0;
    const ends = [...this.#steps.values()]
      .filter(({ from, to }) => to !== null && to - from < BEYOND_MS)
      .map(({ to }) => to - zero);
    const posted = (this.#steps.get("answer")?.from ?? zero) - zero; // the server's zero is close to our POST
    const marks = this.#marks.filter(([, ms]) => ms < BEYOND_MS).map(([, ms]) => posted + ms);
    const scale = Math.max(50, ...ends, ...marks) * ROOM;
    for (const { name, from, to } of this.#steps.values()) {
      const element = this.#own.querySelector(`[data-name="${name}"]`);
      if (name === "microphone") place(element, 0, to === null ? scale : 0, scale);
      else place(element, from - zero, (to ?? from + scale) - zero, scale);
      element.dataset.step = to === null ? "running" : "done";
      element.lastChild.textContent = to === null ? "…" : milliseconds(to - from);
    }
    this.#drawServer(posted, scale);
    const ready = this.#steps.get("dtls")?.to;
    this.#total.textContent = ready ? `ready in ${milliseconds(ready - zero)}` : "";
  }

  // A mark is a moment; its bar shows what passed since the one before.
  #drawServer(posted, scale) {
    let before = 0;
    for (const [name, ms] of this.#marks) {
      const element = this.#server.querySelector(`[data-name="${CSS.escape(name)}"]`);
      place(element, posted + before, posted + ms, scale);
      element.dataset.step = "done";
      element.lastChild.textContent = milliseconds(ms);
      before = ms;
    }
  }
}

function row(name, label) {
  const element = document.createElement("li");
  element.dataset.name = name;
  element.dataset.step = "waiting";
  const bar = document.createElement("span");
  bar.className = "bar";
  bar.setAttribute("aria-hidden", "true");
  const [title, value] = [document.createElement("span"), document.createElement("span")];
  title.textContent = title.title = label;
  value.textContent = "–";
  element.append(title, bar, value);
  return element;
}

function place(element, from, to, scale) {
  const bar = element.querySelector(".bar");
  const fill = bar.firstChild ?? bar.appendChild(document.createElement("i"));
  const percent = (ms) => Math.min(100, Math.max(0, (ms / scale) * 100));
  bar.toggleAttribute("data-beyond", to > scale);
  fill.hidden = to <= from;
  fill.style.left = `min(${percent(from)}%, calc(100% - 4px))`;
  fill.style.width = `${percent(to) - percent(from)}%`;
}

const words = (name) => name[0].toUpperCase() + name.slice(1).replaceAll("_", " ");

export const milliseconds = (ms) =>
  ms >= 10_000
    ? `${(ms / 1000).toFixed(0)} s`
    : ms >= 2_000
      ? `${(ms / 1000).toFixed(1)} s`
      : `${ms.toFixed(ms > 0 && ms < 10 ? 1 : 0)} ms`;
