// What can go wrong, in words: a title that says what happened and a hint that says what to do.

export class Failure extends Error {
  // `code` is for programs (and the page's data-failed), the rest is for people.
  constructor(code, title, hint = "") {
    super(title);
    this.code = code;
    this.hint = hint;
  }
}

const MICROPHONE = {
  NotAllowedError: [
    "refused",
    "The microphone was refused.",
    "Allow it beside the address bar, then start again.",
  ],
  NotFoundError: ["no_microphone", "There is no microphone.", "Connect one, then start again."],
  NotReadableError: ["microphone_busy", "The microphone does not open.", "Another program may hold it."],
};

export function microphoneFailure(error) {
  const known = MICROPHONE[error.name] ?? [
    "microphone",
    "The microphone does not open.",
    `${error.name}: ${error.message}`,
  ];
  return new Failure(...known);
}

// Why no call is possible here at all; null when one is.
export function obstacle() {
  if (!window.isSecureContext) {
    return new Failure(
      "insecure",
      "Browsers open microphones on HTTPS or localhost only.",
      "Start Fastpath with --tls self-signed and open the https address.",
    );
  }
  if (!navigator.mediaDevices?.getUserMedia || !window.RTCPeerConnection) {
    return new Failure(
      "no_webrtc",
      "This browser cannot make calls.",
      "WebRTC or microphones are switched off in it.",
    );
  }
  return null;
}

// A reply of the gateway that is not a success. The gateway's own sentence says what to do, as a rule; a proxy
// between has none.
export async function refusal(reply) {
  let said = "";
  try {
    said = (await reply.json()).error.message ?? "";
  } catch {
    // Not the gateway's JSON: the status has to do.
  }
  const title = said
    ? said[0].toUpperCase() + said.slice(1)
    : `The gateway refused the call (${reply.status}).`;
  const wait = reply.headers.get("Retry-After");
  const hint = wait && !/again/i.test(title) ? `Try again in ${wait} s.` : "";
  // What the gateway advises there is for programs.
  if (reply.status === 401)
    return new Failure("http_401", title.split(/(?<=\.)\s/)[0], "Enter one and start again.");
  return new Failure(`http_${reply.status}`, title, hint);
}

export const silentGateway = () =>
  new Failure("no_gateway", "The gateway does not answer.", "Is Fastpath running, and is the network up?");

export const lateGateway = () =>
  new Failure("late_gateway", "The gateway took too long to answer.", "Start again.");

export const brokenAnswer = (error) =>
  new Failure("bad_answer", "The browser cannot read the gateway's answer.", error.message);

export const noWay = (relays) =>
  new Failure(
    "ice_failed",
    "No way through to the relay.",
    relays ? `Does UDP reach ${relays}?` : "Is UDP blocked here?",
  );

export const noHandshake = () =>
  new Failure(
    "dtls_failed",
    "The encryption handshake failed.",
    "Start again; the gateway's log may say why.",
  );

export const brokenOff = () => new Failure("cut", "The connection broke off.", "Start again.");

export const lost = () =>
  new Failure(
    "lost",
    "The transceiver of this call is gone.",
    "Start again: another one takes the next call.",
  );

const REASONS = {
  consent_expired: "The server no longer hears this browser.",
  too_long: "The call reached its longest allowed time.",
  no_check: "The relay heard nothing from this browser.",
  no_handshake: "The encryption handshake failed.",
  dtls_failed: "The encryption handshake failed.",
  fingerprint_mismatch: "The encryption handshake failed.",
  agent_lost: "The agent went away.",
  fault: "The server made a mistake and ended the call.",
};

// Reasons are the transceiver's own words; one that is not known here is shown as it is.
export const closedByServer = (reason) =>
  new Failure(
    "closed",
    REASONS[reason] ?? "The server ended the call.",
    reason && !REASONS[reason] ? `It says: ${reason.replaceAll("_", " ")}.` : "",
  );
