// WebRTC clients of libwebrtc's stack, many in one process, each with a call to a gateway's echo agent.
//
//   node calls.mjs GATEWAY CLIENTS
//
// Client n sends a tone of its own (300 Hz, 400 Hz, …) and listens for it in what comes back. Says "connected"
// when all are, then obeys lines of standard input, each answered by a line of JSON:
//   restart  every client restarts ICE      report  how each of them is      end  they hang up

import { createInterface } from "node:readline";
import wrtc from "@roamhq/wrtc";

const { RTCPeerConnection, nonstandard } = wrtc;
const RATE_HZ = 48_000;
const FRAME_MS = 10; // what RTCAudioSource takes and RTCAudioSink gives
const FRAME_SAMPLES = (RATE_HZ * FRAME_MS) / 1000;
const AMPLITUDE = 12_000;
const FRAMES_A_TURN_MAX = 20; // a process that was starved does not catch up for ever
const CONNECT_MS = 20_000;
const LOUD = 1_000; // effective, of 32,767
const DOMINANT = 0.5; // of the window's energy

class Client {
  constructor(gateway, number) {
    this.gateway = gateway;
    this.number = number;
    this.toneHz = 300 + 100 * number; // whole periods in 10 ms: every frame is the same
    this.frame = Int16Array.from({ length: FRAME_SAMPLES }, (_, n) =>
      Math.round(AMPLITUDE * Math.sin((2 * Math.PI * this.toneHz * n) / RATE_HZ)),
    );
    this.windows = []; // for each second of sound that came: is it our tone, another one, or silence?
    this.restarted = false;
    this.states = [];
    this.openWindow();
  }

  async connect() {
    const call = (this.call = new RTCPeerConnection({ iceServers: [] }));
    this.source = new nonstandard.RTCAudioSource();
    call.addTrack(this.source.createTrack());
    call.ontrack = ({ track }) => {
      this.sink = new nonstandard.RTCAudioSink(track);
      this.sink.ondata = (data) => this.hear(data);
    };
    call.oniceconnectionstatechange = () => this.states.push(call.iceConnectionState);
    const events = call.createDataChannel("oai-events");
    events.onmessage = ({ data }) => (this.firstEvent ??= JSON.parse(data).type);
    const began = performance.now();
    const connected = new Promise((resolve, reject) => {
      const late = setTimeout(() => reject(new Error("not connected in time")), CONNECT_MS);
      call.onconnectionstatechange = () => {
        if (call.connectionState === "failed") reject(new Error("connection failed"));
        if (call.connectionState !== "connected") return;
        clearTimeout(late);
        this.connectedMs ??= performance.now() - began;
        resolve();
      };
    });
    await this.exchange("POST", `${this.gateway}/v1/realtime/calls?model=echo`);
    await connected;
  }

  async exchange(method, url) {
    const { call } = this;
    await call.setLocalDescription(await call.createOffer());
    const headers = { "Content-Type": "application/sdp" };
    const reply = await fetch(url, { method, headers, body: call.localDescription.sdp });
    const answer = await reply.text();
    if (!reply.ok) throw new Error(`${method} ${reply.status}: ${answer}`);
    if (method === "POST") this.location = new URL(reply.headers.get("Location"), this.gateway).href;
    await call.setRemoteDescription({ type: "answer", sdp: answer });
  }

  async restart() {
    this.call.restartIce();
    await this.exchange("PATCH", this.location);
    this.restarted = true;
  }

  speak() {
    this.source.onData({
      samples: this.frame,
      sampleRate: RATE_HZ,
      bitsPerSample: 16,
      channelCount: 1,
      numberOfFrames: FRAME_SAMPLES,
    });
  }

  openWindow() {
    this.ours = this.energy = this.samples = 0;
  }

  hear({ samples, sampleRate, channelCount }) {
    let sine = 0;
    let cosine = 0;
    let energy = 0;
    const frames = samples.length / channelCount;
    for (let n = 0; n < frames; n++) {
      const angle = (2 * Math.PI * this.toneHz * n) / sampleRate;
      const sample = samples[n * channelCount];
      sine += sample * Math.sin(angle);
      cosine += sample * Math.cos(angle);
      energy += sample * sample;
    }
    // Frame by frame: a jitter buffer that stretches the sound moves the phase.
    this.ours += (2 * (sine ** 2 + cosine ** 2)) / frames;
    this.energy += energy;
    this.samples += frames;
    if (this.samples < sampleRate) return;
    const loud = this.energy / this.samples > LOUD ** 2;
    this.windows.push(!loud ? "silence" : this.ours > DOMINANT * this.energy ? "own" : "other");
    this.openWindow();
  }

  async report() {
    const stats = [...(await this.call.getStats()).values()];
    const of = (type) => stats.find((stat) => stat.type === type) ?? {};
    return {
      client: this.number,
      connected_ms: this.connectedMs,
      first_event: this.firstEvent ?? "",
      state: this.call.connectionState,
      ice_states: this.states,
      restarted: this.restarted,
      packets_sent: of("outbound-rtp").packetsSent ?? 0,
      packets_received: of("inbound-rtp").packetsReceived ?? 0,
      packets_lost: of("inbound-rtp").packetsLost ?? 0,
      windows: this.windows,
    };
  }

  async hangUp() {
    await fetch(`${this.location}/hangup`, { method: "POST" });
    this.sink?.stop();
    this.call.close();
  }
}

function keepSpeaking(clients) {
  const began = performance.now();
  let frames = 0;
  return setInterval(() => {
    const due = Math.floor((performance.now() - began) / FRAME_MS);
    frames = Math.max(frames, due - FRAMES_A_TURN_MAX);
    for (; frames < due; frames++) for (const client of clients) client.speak();
  }, FRAME_MS);
}

const orders = {
  async restart(clients) {
    await Promise.all(clients.map((client) => client.restart()));
  },
  report: (clients) => Promise.all(clients.map((client) => client.report())),
  async end(clients) {
    await Promise.all(clients.map((client) => client.hangUp()));
  },
};

const [gateway, count] = process.argv.slice(2);
const clients = Array.from({ length: Number(count) }, (_, number) => new Client(gateway, number));
const say = (value) => console.log(JSON.stringify(value ?? null));
try {
  await Promise.all(clients.map((client) => client.connect()));
  const speaking = keepSpeaking(clients);
  say("connected");
  for await (const order of createInterface({ input: process.stdin })) {
    say(await orders[order](clients));
    if (order === "end") break;
  }
  clearInterval(speaking);
  process.exit(0); // the library's threads would keep the process
} catch (error) {
  console.error(error);
  process.exit(1);
}
