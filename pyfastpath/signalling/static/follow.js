// The call's event stream: what the server says about the call, and that it is still there at all.
// fetch and not EventSource, which can send no key and hides the status of a refusal.

import { openEvents } from "./gateway.js";

const SILENCE_MS = 3_500; // the server writes at least a comment each second
const RETRY_MS = 500;

// Calls `told(name, data)` for each event until `signal` aborts, `told` returns false or the call is unknown to
// the server, which is told as ("lost", {}). A stream that breaks or falls silent is opened again.
export async function follow(address, key, signal, told) {
  while (!signal.aborted) {
    const attempt = new AbortController();
    const stop = () => attempt.abort();
    signal.addEventListener("abort", stop, { once: true });
    try {
      const reply = await openEvents(address, key, attempt.signal);
      if (reply.status === 404 || reply.status === 410) return void told("lost", {});
      if (reply.ok && !(await read(reply.body, attempt, told))) return;
    } catch {
      // Gateway gone or stream broken: the media does not need it, so the call goes on.
    }
    signal.removeEventListener("abort", stop);
    if (!signal.aborted) await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
  }
}

// Returns false when no more is to come, true when the stream only broke.
async function read(body, attempt, told) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const alarm = setTimeout(() => attempt.abort(), SILENCE_MS);
    const { value, done } = await reader.read().finally(() => clearTimeout(alarm));
    if (done) return true;
    text += value.replaceAll("\r\n", "\n");
    const blocks = text.split("\n\n");
    text = blocks.pop();
    for (const block of blocks) {
      const event = parseEvent(block);
      if (event && told(event.name, event.data) === false) {
        attempt.abort();
        return false;
      }
    }
  }
}

// One block of text/event-stream; null for comments and for data that is not JSON.
export function parseEvent(block) {
  let name = "message";
  const data = [];
  for (const line of block.split("\n")) {
    if (line.startsWith("event:")) name = line.slice(6).trim();
    if (line.startsWith("data:")) data.push(line.slice(5).replace(/^ /, ""));
  }
  if (!data.length) return null;
  try {
    return { name, data: JSON.parse(data.join("\n")) };
  } catch {
    return null;
  }
}
