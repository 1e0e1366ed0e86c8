// The sentences below the two ends: what happens, or what to do.

export const AGENTS = {
  parrot: { name: "Parrot", icon: "icon-parrot", idle: "Say something. The parrot says it back." },
  echo: { name: "Echo", icon: "icon-echo", idle: "Hear yourself at once. Best with headphones." },
  tone: { name: "Tone", icon: "icon-tone", idle: "A steady tone, to hear that sound arrives." },
  own: { name: "Agent", icon: "icon-agent", idle: "The agent this server was started with." },
};

export const STATES = { idle: "Ready", connecting: "Connecting", live: "Live", ended: "Ended" };

export const BUTTONS = {
  idle: "Start",
  connecting: "Cancel",
  live: "Hang up",
  ended: "Call again",
};

export const STEPS = {
  microphone: "Waiting for your microphone…",
  offer: "Writing the offer…",
  answer: "Asking the gateway…",
  ice: "Finding the relay…",
  dtls: "Shaking hands…",
};

export const LIVE = {
  parrot: "Say something, then wait a moment.",
  echo: "Say something.",
  tone: "Listen.",
  own: "Say something.",
};
export const SHAKY = "The connection is interrupted. Waiting for it to come back…";
export const ended = (seconds) => `The call lasted ${clock(seconds)}.`;
export const clock = (seconds) =>
  `${Math.floor(seconds / 60)}:${String(Math.floor(seconds % 60)).padStart(2, "0")}`;
