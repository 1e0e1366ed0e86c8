// The gateway's HTTP: place a call, hang it up. The addresses are relative: the page may live below a prefix.

import { brokenAnswer, lateGateway, refusal, silentGateway } from "./failure.js";

const ANSWER_MS = 10_000;
const HANG_UP_MS = 500;

const calls = () => new URL("v1/realtime/calls", document.baseURI).href;
const authorization = (key) => (key ? { Authorization: `Bearer ${key}` } : {});

// Sends the offer; returns the answer and the call's own address. Throws a Failure, or AbortError by `signal`.
export async function placeCall(offer, session, key, signal) {
  const body = new FormData();
  body.set("sdp", offer);
  body.set("session", JSON.stringify(session));
  const late = AbortSignal.timeout(ANSWER_MS);
  const stop = new AbortController();
  for (const cause of [late, signal]) cause.addEventListener("abort", () => stop.abort(), { once: true });
  let reply, answer;
  try {
    reply = await fetch(calls(), {
      method: "POST",
      headers: authorization(key),
      body,
      signal: stop.signal,
    });
    if (reply.ok) answer = await reply.text();
  } catch (error) {
    if (signal.aborted) throw error;
    throw late.aborted ? lateGateway() : silentGateway();
  }
  if (!reply.ok) throw await refusal(reply);
  const location = reply.headers.get("Location");
  if (!location) throw brokenAnswer(new Error("The answer has no Location."));
  // Only the id of it: the gateway's public address may be another one than this page was opened by.
  return { answer, address: new URL(location.split("/").pop(), `${calls()}/`).href };
}

// Never fails, and is sent even while the page closes: a server that misses it notices by itself.
export async function hangUp(address, key) {
  const late = new Promise((resolve) => setTimeout(resolve, HANG_UP_MS));
  const said = fetch(`${address}/hangup`, { method: "POST", headers: authorization(key), keepalive: true });
  await Promise.race([said.catch(() => {}), late]);
}

export function openEvents(address, key, signal) {
  const headers = { Accept: "text/event-stream", ...authorization(key) };
  return fetch(`${address}/events`, { headers, signal, cache: "no-store" });
}
