// One call: microphone -> offer -> POST /offer -> answer with the relay as its only candidate -> echo.

const GATHERING_MS = 1000;
const element = (id) => document.getElementById(id);
let call = null;

element("start").addEventListener("click", async () => {
  element("start").disabled = true;
  element("error").hidden = true;
  try {
    if (call) hangUp();
    else await start();
  } catch (error) {
    hangUp();
    fail(error.name === "NotAllowedError" ? "The browser did not give access to the microphone." : error.message);
  } finally {
    element("start").disabled = false;
    element("start").textContent = call ? "Hang up" : "Start the call";
    element("start").classList.toggle("stop", Boolean(call));
  }
});

async function start() {
  const begin = performance.now();
  const step = (text) => addStep(text, performance.now() - begin);
  element("steps").replaceChildren();
  const processing = element("processing").checked;
  const microphone = await navigator.mediaDevices.getUserMedia({
    audio: { echoCancellation: processing, noiseSuppression: processing, autoGainControl: processing },
  });
  step("microphone open");
  const pc = new RTCPeerConnection();
  call = { pc, microphone, audio: new AudioContext(), timers: [] };
  pc.addTrack(microphone.getAudioTracks()[0], microphone);
  pc.ontrack = ({ streams, track }) => {
    element("echo").srcObject = streams[0] ?? new MediaStream([track]);
    watchLevel(element("echo").srcObject, "meter-in");
    track.onunmute = () => step("first audio back");
  };
  pc.onconnectionstatechange = () => {
    step(pc.connectionState);
    showState(pc.connectionState);
    if (pc.connectionState === "failed") fail("No connection: is the relay running, and does it allow this address?");
  };
  watchLevel(microphone, "meter-out");
  await pc.setLocalDescription();
  await gathered(pc);
  step("offer sent");
  const { sdp, candidates_removed: removed } = await exchange(pc.localDescription);
  step(`answer: the relay in place of aiortc; ${removed} candidates of this browser removed`);
  await pc.setRemoteDescription({ type: "answer", sdp });
  call.timers.push(setInterval(showNumbers, 500));
}

function hangUp() {
  if (!call) return;
  call.timers.forEach(clearInterval);
  call.microphone.getTracks().forEach((track) => track.stop());
  call.pc.close();
  call.audio.close();
  call = null;
  showState("closed");
  for (const id of ["meter-in", "meter-out"]) element(id).value = 0;
}

// The server removes the candidates anyway; waiting for them shows that it does.
function gathered(pc) {
  return new Promise((resolve) => {
    if (pc.iceGatheringState === "complete") resolve();
    pc.onicegatheringstatechange = () => pc.iceGatheringState === "complete" && resolve();
    setTimeout(resolve, GATHERING_MS);
  });
}

async function exchange({ type, sdp }) {
  const reply = await fetch("/offer", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ type, sdp }),
  });
  const body = await reply.json();
  if (!reply.ok) throw new Error(body.error);
  return body;
}

async function showNumbers() {
  if (!call) return;
  const report = await call.pc.getStats();
  const all = [...report.values()];
  const transport = all.find((stat) => stat.type === "transport");
  const pair = report.get(transport?.selectedCandidatePairId);
  const inbound = all.find((stat) => stat.type === "inbound-rtp");
  const outbound = all.find((stat) => stat.type === "outbound-rtp");
  if (pair) {
    const [local, remote] = [report.get(pair.localCandidateId), report.get(pair.remoteCandidateId)];
    element("local").textContent = local?.address ? `${local.address}:${local.port}` : `port ${local?.port ?? "?"}`;
    element("remote").textContent = `${remote.address}:${remote.port}`;
    element("rtt").textContent = milliseconds(pair.currentRoundTripTime);
  }
  element("sent").textContent = outbound?.packetsSent ?? "–";
  element("received").textContent = inbound?.packetsReceived ?? "–";
  element("lost").textContent = inbound?.packetsLost ?? "–";
  if (inbound?.jitterBufferEmittedCount) {
    element("buffer").textContent = milliseconds(inbound.jitterBufferDelay / inbound.jitterBufferEmittedCount);
  }
}

function watchLevel(stream, meter) {
  const analyser = call.audio.createAnalyser();
  call.audio.createMediaStreamSource(stream).connect(analyser);
  const samples = new Float32Array(analyser.fftSize);
  call.timers.push(setInterval(() => {
    analyser.getFloatTimeDomainData(samples);
    const power = samples.reduce((sum, sample) => sum + sample * sample, 0) / samples.length;
    element(meter).value = Math.min(1, Math.max(0, 1 + Math.log10(power + 1e-9) / 5));
  }, 60));
}

function showState(state) {
  element("state").textContent = state;
  element("path").dataset.state = state;
}

function addStep(text, at) {
  const row = document.createElement("li");
  const time = document.createElement("span");
  time.textContent = `${at.toFixed(0)} ms`;
  row.append(text, time);
  element("steps").append(row);
}

function fail(text) {
  element("error").textContent = text;
  element("error").hidden = false;
}

const milliseconds = (seconds) => (seconds === undefined ? "–" : `${(seconds * 1000).toFixed(1)} ms`);
