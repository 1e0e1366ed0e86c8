// The page: joins a call to what shows it.

import { Call } from "./call.js";
import { EventLog } from "./eventlog.js";
import { obstacle } from "./failure.js";
import { Meter } from "./meter.js";
import { Numbers } from "./numbers.js";
import { Timeline } from "./timeline.js";
import { turnOf } from "./turns.js";
import { Watching } from "./watching.js";
import { Waterfall } from "./waterfall.js";
import { AGENTS, BUTTONS, ended, LIVE, SHAKY, STATES, STEPS } from "./words.js";

const $ = (id) => document.getElementById(id);
const tiles = Object.fromEntries(
  ["rtt", "jitter", "loss", "buffer", "sent", "received"].map((name) => [name, $(`number-${name}`)]),
);
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
$("choices").addEventListener("change", ({ target }) => target.name === "agent" && showAgent());
window.addEventListener("pagehide", () => call?.end());
// …/#tone chooses an agent
document.querySelector(`input[name=agent][value="${CSS.escape(location.hash.slice(1))}"]`)?.click();
showAgent();
const barrier = obstacle();
if (barrier) {
  showFailure(barrier);
  $("call").disabled = true;
}

function start() {
  watching?.close();
  call = new Call({ agent: chosen(), processing: $("processing").checked, key: $("key").value.trim() });
  watching = new Watching(call, { meters, timeline, numbers, clock: $("clock"), voice: $("voice") });
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
  on(
    "shaky",
    (shaky) => call.state === "live" && ($("status").textContent = shaky ? SHAKY : LIVE[call.agent]),
  );
  on("said", (event) => {
    log.add(call.seconds, event);
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
