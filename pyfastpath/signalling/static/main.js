// The page: joins a call to what shows it.

import { Call } from "./call.js";
import { EventLog } from "./eventlog.js";
import { obstacle } from "./failure.js";
import { Loudness } from "./levels.js";
import { Meter } from "./meter.js";
import { Numbers } from "./numbers.js";
import { StatsReader } from "./stats.js";
import { Timeline } from "./timeline.js";
import { turnOf } from "./turns.js";
import { Waterfall } from "./waterfall.js";
import { AGENTS, BUTTONS, clock, ended, LIVE, SHAKY, STATES, STEPS } from "./words.js";

const LEVELS_MS = 40;
const STATS_MS = 500;
const VOICE = 0.3; // of a meter: louder is somebody speaking
const PAUSE_MS = 300;

const $ = (id) => document.getElementById(id);
const tiles = Object.fromEntries(["rtt", "jitter", "loss", "buffer", "sent", "received"].map((name) => [name, $(`number-${name}`)]));
const meters = { you: new Meter($("you")), agent: new Meter($("agent")) };
const timeline = new Timeline($("timeline"));
const waterfall = new Waterfall({ own: $("steps-own"), server: $("steps-server"), total: $("steps-total") });
const numbers = new Numbers(tiles, $("route"));
const log = new EventLog($("events"), $("events-count"));

let call = null;
let watching = null;

const chosen = () => document.querySelector("input[name=agent]:checked").value;

$("call").addEventListener("click", () => {
  if (call && call.state !== "ended") call.end();
  else start();
});
$("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  $("call").click();
});
$("choices").addEventListener("change", showAgent);
window.addEventListener("pagehide", () => call?.end());
document.querySelector(`input[name=agent][value="${CSS.escape(location.hash.slice(1))}"]`)?.click(); // …/#tone
showAgent();
const barrier = obstacle();
if (barrier) {
  showFailure(barrier);
  $("call").disabled = true;
}

function start() {
  watching?.close();
  call = new Call({ agent: chosen(), processing: $("processing").checked, key: $("key").value.trim() });
  watching = new Watching(call);
  showFailure(null);
  for (const part of [waterfall, numbers, log]) part.clear();
  timeline.clear(AGENTS[call.agent].name);
  join(call);
  call.start();
}

function join(call) {
  const on = (type, react) => call.addEventListener(type, ({ detail }) => react(detail));
  on("state", () => showState(call));
  on("step", (step) => {
    waterfall.show(step);
    if (call.state === "connecting" && step.to === null) $("status").textContent = STEPS[step.name] ?? "";
  });
  on("server", ({ steps_ms: steps }) => waterfall.showServer(steps ?? {}));
  on("voices", (voices) => watching.hear(voices));
  on("shaky", (shaky) => call.state === "live" && ($("status").textContent = shaky ? SHAKY : LIVE[call.agent]));
  on("said", ({ from, event }) => {
    log.add(call.seconds, from, event);
    const turn = turnOf(event);
    if (turn?.begins) timeline.turnBegins(turn.who, call.seconds);
    else if (turn) timeline.turnEnds(turn.who, call.seconds, turn.cut);
  });
}

function showState(call) {
  document.body.dataset.state = call.state;
  $("state").textContent = call.failure ? "Failed" : STATES[call.state];
  $("call").querySelector("span").textContent = BUTTONS[call.state];
  $("choices").disabled = call.state !== "ended";
  $("clock").hidden = call.state !== "live";
  if (call.state === "live") {
    $("status").textContent = LIVE[call.agent];
    watching.begin();
  }
  if (call.state === "ended") {
    $("status").textContent = watching.began ? ended(watching.seconds) : AGENTS[chosen()].idle;
    showFailure(call.failure);
    waterfall.stop(Boolean(call.failure));
    watching.close();
  }
}

function showAgent() {
  const { name, icon, idle } = AGENTS[chosen()];
  $("agent-icon").setAttribute("href", `#${icon}`);
  $("agent-name").textContent = name;
  $("status").textContent = idle;
  timeline.clear(name);
}

function showFailure(failure) {
  $("failure").hidden = !failure;
  $("status").hidden = Boolean(failure);
  $("failure-title").textContent = failure?.message ?? "";
  $("failure-hint").textContent = failure?.hint ?? "";
  if (failure) document.body.dataset.failed = failure.code;
  else delete document.body.dataset.failed;
  if (failure?.code === "http_401") {
    $("key-form").hidden = false;
    $("key").focus();
  }
}

// What runs by the clock while a call is there: levels, timeline, numbers, duration.
class Watching {
  #call; #audio = new AudioContext(); #voices = {}; #timers = []; #frame = 0; #stats = new StatsReader(); #spoke = 0;
  began = 0;

  constructor(call) {
    this.#call = call;
    this.#timers.push(setInterval(() => this.#listen(), LEVELS_MS));
    const paint = () => {
      timeline.paint();
      this.#frame = requestAnimationFrame(paint);
    };
    paint();
  }

  hear({ microphone, agent }) {
    if (microphone) this.#voices.you ??= new Loudness(this.#audio, microphone);
    if (!agent) return;
    $("voice").srcObject = agent; // also what makes Chromium decode the stream at all
    this.#voices.agent ??= new Loudness(this.#audio, agent);
  }

  begin() {
    this.began = this.#call.seconds;
    this.#timers.push(setInterval(() => this.#count(), STATS_MS));
    this.#count();
  }

  get seconds() {
    return this.#call.seconds - this.began;
  }

  close() {
    this.#timers.forEach(clearInterval);
    cancelAnimationFrame(this.#frame);
    if (this.#audio.state !== "closed") this.#audio.close();
    $("voice").srcObject = null;
    delete document.body.dataset.speaks;
    for (const meter of Object.values(meters)) meter.rest();
  }

  #listen() {
    const levels = { you: this.#voices.you?.read() ?? 0, agent: this.#voices.agent?.read() ?? 0 };
    for (const [who, level] of Object.entries(levels)) meters[who].show(level);
    timeline.add(this.#call.seconds, levels.you, levels.agent);
    this.#showSpeaker(levels);
  }

  #showSpeaker({ you, agent }) {
    const now = performance.now();
    if (Math.max(you, agent) > VOICE) {
      this.#spoke = now;
      document.body.dataset.speaks = agent > you ? "agent" : "you";
    } else if (now - this.#spoke > PAUSE_MS) delete document.body.dataset.speaks;
  }

  async #count() {
    $("clock").textContent = clock(this.seconds);
    const read = this.#stats.read(await this.#call.stats());
    if (this.#call.state !== "live") return;
    numbers.show(read);
    if (read.received) this.#call.heard();
  }
}
