// One call, from the microphone to the hang-up. It shows nothing: it dispatches what happens.
//
//   state   "connecting" "live" "ended" (then also .failure, null after a plain hang-up)
//   step    { name, from, to }: a step of the connection, in ms since the start; `to` is null while it runs
//   server  { state, reason, steps_ms } as the call's event stream has it
//   said    an event of the data channel
//   voices  { microphone, agent }: MediaStreams, the agent's once it is there
//   shaky   true when the connection is interrupted, false when it is back

import {
  brokenAnswer,
  brokenOff,
  closedByServer,
  Failure,
  lost,
  microphoneFailure,
  noHandshake,
  noWay,
} from "./failure.js";
import { follow } from "./follow.js";
import { hangUp, placeCall } from "./gateway.js";

const CONNECT_MS = 15_000;
const EVENTS = "oai-events";

export class Call extends EventTarget {
  #processing;
  #key;
  #began = performance.now();
  #stop = new AbortController();
  #steps = new Map();
  #pc = null;
  #microphone = null;
  #address = null;
  #alarm = 0;
  #relays = "";
  state = "connecting";
  failure = null;

  // agent: a name the server knows, or "own" for the one it was started with; processing: echo cancellation
  // and the like; key: "" or a bearer key.
  constructor({ agent, processing, key }) {
    super();
    this.agent = agent;
    this.#processing = processing;
    this.#key = key;
  }

  async start() {
    this.#tell("state");
    try {
      this.#begin("microphone");
      this.#microphone = await this.#openMicrophone();
      this.#done("microphone");
      this.#tell("voices", { microphone: this.#microphone });
      await this.#connect();
    } catch (error) {
      if (this.state === "ended") return;
      this.end(
        error instanceof Failure
          ? error
          : new Failure("unexpected", "Something unexpected happened.", String(error)),
      );
    }
  }

  // Ends the call; a failure says that it was not wanted. `quietly`: the server knows already.
  end(failure = null, { quietly = false } = {}) {
    if (this.state === "ended") return;
    this.state = "ended";
    this.failure = failure;
    clearTimeout(this.#alarm);
    this.#stop.abort();
    this.#microphone?.getTracks().forEach((track) => track.stop());
    if (this.#address && !quietly) hangUp(this.#address, this.#key).then(() => this.#pc.close());
    else this.#pc?.close(); // only after the hang-up: it would end the call before the gateway is asked to
    this.#tell("state");
  }

  get seconds() {
    return (performance.now() - this.#began) / 1000;
  }

  stats() {
    return this.#pc.getStats();
  }

  async #openMicrophone() {
    const on = this.#processing;
    const audio = { echoCancellation: on, noiseSuppression: on, autoGainControl: on, channelCount: 1 };
    let stream;
    try {
      stream = await navigator.mediaDevices.getUserMedia({ audio });
    } catch (error) {
      throw microphoneFailure(error);
    }
    if (this.state === "ended") stream.getTracks().forEach((track) => track.stop());
    this.#stop.signal.throwIfAborted();
    stream.getAudioTracks()[0].onended = () =>
      this.end(
        new Failure("microphone_gone", "The microphone went away.", "Connect it again, then start again."),
      );
    return stream;
  }

  async #connect() {
    this.#begin("offer");
    const pc = (this.#pc = new RTCPeerConnection({ bundlePolicy: "max-bundle" }));
    this.#watch(pc);
    this.#openDataChannel(pc);
    pc.addTrack(this.#microphone.getAudioTracks()[0], this.#microphone);
    await pc.setLocalDescription(); // its candidates are not waited for: the server learns them from the checks
    this.#done("offer");

    this.#begin("answer");
    const session = { type: "realtime", ...(this.agent === "own" ? {} : { model: this.agent }) };
    const { answer, address } = await placeCall(
      pc.localDescription.sdp,
      session,
      this.#key,
      this.#stop.signal,
    );
    this.#done("answer");
    this.#address = address;
    if (this.state === "ended") return void hangUp(address, this.#key);

    this.#begin("ice");
    this.#relays = relaysOf(answer);
    this.#alarm = setTimeout(() => this.end(noWay(this.#relays)), CONNECT_MS);
    this.#follow();
    try {
      await pc.setRemoteDescription({ type: "answer", sdp: answer });
    } catch (error) {
      throw brokenAnswer(error);
    }
    const dtls = pc.getSenders()[0].transport;
    dtls?.addEventListener("statechange", () => this.#dtlsIs(dtls.state));
    if (dtls) this.#dtlsIs(dtls.state);
  }

  #watch(pc) {
    pc.ontrack = ({ track }) => {
      track.onunmute = () => this.heard();
      this.#tell("voices", { microphone: this.#microphone, agent: new MediaStream([track]) });
    };
    pc.oniceconnectionstatechange = () => {
      const state = pc.iceConnectionState;
      if (state === "connected" || state === "completed") this.#iceIsUp();
      if (state === "disconnected") this.#tell("shaky", true);
      if (state === "failed") this.end(this.state === "live" ? brokenOff() : noWay(this.#relays));
    };
    pc.onconnectionstatechange = () => {
      if (pc.connectionState === "connected") this.#isLive();
      if (pc.connectionState === "failed" && this.state !== "ended")
        this.end(this.state === "live" ? brokenOff() : noHandshake());
    };
  }

  // The first audio of the agent has arrived. Also called from outside, by who counts packets.
  heard() {
    if (this.state === "live") this.#done("audio");
  }

  #iceIsUp() {
    this.#tell("shaky", false);
    this.#done("ice");
    this.#begin("dtls");
  }

  #dtlsIs(state) {
    if (state === "failed") this.end(noHandshake());
    if (state === "connected") this.#isLive();
  }

  #isLive() {
    if (this.state !== "connecting") return;
    this.#iceIsUp();
    this.#done("dtls");
    this.#begin("audio");
    clearTimeout(this.#alarm);
    this.state = "live";
    this.#tell("state");
  }

  #openDataChannel(pc) {
    const events = pc.createDataChannel(EVENTS);
    events.onmessage = ({ data }) => {
      let event;
      try {
        event = JSON.parse(data);
      } catch {
        event = { type: "not JSON", text: String(data) };
      }
      this.#tell("said", event);
    };
    // A server that ends a call closes DTLS, and with it this: seconds before ICE notices.
    events.onclose = () => setTimeout(() => this.state === "live" && this.end(closedByServer("")), 1_000);
  }

  #follow() {
    follow(this.#address, this.#key, this.#stop.signal, (name, data) => {
      if (name === "lost") this.end(lost(), { quietly: true });
      if (name === "state") {
        this.#tell("server", data);
        if (data.state === "closing" || data.state === "closed")
          this.end(closedByServer(data.reason), { quietly: true });
      }
      return this.state !== "ended";
    });
  }

  #begin(name) {
    if (this.#steps.has(name)) return;
    const step = { name, from: performance.now() - this.#began, to: null };
    this.#steps.set(name, step);
    this.#tell("step", step);
  }

  #done(name) {
    const step = this.#steps.get(name);
    if (!step || step.to !== null) return;
    step.to = performance.now() - this.#began;
    this.#tell("step", step);
  }

  #tell(type, detail = undefined) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}

// "203.0.113.9:3478 or [2001:db8::1]:3478": the candidates of an answer, for people.
function relaysOf(answer) {
  const found = answer.matchAll(/^a=candidate:\S+ 1 udp \d+ (\S+) (\d+)/gim);
  const names = Array.from(found, ([, host, port]) =>
    host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`,
  );
  return [...new Set(names)].join(" or ");
}
