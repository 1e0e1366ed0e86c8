// A call with the unmodified @openai/agents-realtime. What is ours in it: `baseUrl` and where the key comes from.

import { OpenAIRealtimeWebRTC, RealtimeAgent, RealtimeSession, tool } from "/sdk/openai-realtime-agents.mjs";

// For agents that ask for it, such as examples/agents/dice.py.
const rollDie = tool({
  name: "roll_die",
  description: "Rolls a die.",
  parameters: { type: "object", properties: {}, required: [], additionalProperties: false },
  execute: async () => ({ eyes: 1 + Math.floor(Math.random() * 6) }),
});

const $ = (id) => document.getElementById(id);
let session = null;

async function connect() {
  $("connect").disabled = true;
  show("connecting");
  try {
    const { key, calls } = await askForKey();
    const agent = new RealtimeAgent({ name: "Assistant", instructions: "Be kind and brief.", tools: [rollDie] });
    const transport = new OpenAIRealtimeWebRTC({ baseUrl: calls, audioElement: $("agent") });
    session = new RealtimeSession(agent, { transport });
    session.on("transport_event", addEvent);
    session.on("history_updated", showHistory);
    session.on("error", ({ error }) => addEvent({ type: "sdk_error", error: String(error?.error?.message ?? error) }));
    transport.on("connection_change", (status) => status === "disconnected" && end());
    await session.connect({ apiKey: key });
    show("connected");
    setTalking(true);
  } catch (error) {
    end(error.message);
  }
}

async function askForKey() {
  const reply = await fetch("/key", { method: "POST" });
  const said = await reply.json();
  if (!reply.ok) throw new Error(said.error?.message ?? `no key: HTTP ${reply.status}`);
  return said;
}

function end(reason = "ended") {
  show(reason);
  setTalking(false);
  $("connect").disabled = false;
}

function show(state) {
  $("state").textContent = state;
}

function setTalking(isTalking) {
  for (const id of ["interrupt", "hang-up", "text"]) $(id).disabled = !isTalking;
}

function addEvent(event) {
  const line = document.createElement("li");
  line.dataset.type = event.type;
  line.textContent = JSON.stringify(event);
  $("events").append(line);
}

function showHistory(history) {
  $("history").replaceChildren(
    ...history.map((item) => {
      const line = document.createElement("li");
      const words = (item.content ?? []).map((part) => part.text ?? part.transcript ?? "").join(" ");
      line.textContent = `${item.role ?? item.type}: ${words || "…"} (${item.status ?? "done"})`;
      return line;
    }),
  );
}

$("connect").addEventListener("click", connect);
$("interrupt").addEventListener("click", () => session.interrupt());
$("hang-up").addEventListener("click", () => session.close());
$("message").addEventListener("submit", (event) => {
  event.preventDefault();
  session.sendMessage($("text").value);
  $("text").value = "";
});
