// One call, timed. In: { path, kind } of the server this page came from. Out: milliseconds since the POST, by step.
async ({ path, kind }) => {
  window.microphone ??= await navigator.mediaDevices.getUserMedia({
    audio: { echoCancellation: false, noiseSuppression: false, autoGainControl: false },
  });
  // Encoded streams give every packet as it arrives: getStats would say it up to 50 ms late, and playout later still.
  const pc = new RTCPeerConnection({ bundlePolicy: "max-bundle", encodedInsertableStreams: true });
  const steps = {};
  let began = 0;
  const step = (name) => (steps[name] ??= performance.now() - began);
  const heard = new Promise((resolve, reject) => {
    setTimeout(() => reject(new Error(`no audio after 10 s; steps so far: ${JSON.stringify(steps)}`)), 10_000);
    pc.ontrack = async ({ receiver }) => {
      const { readable } = receiver.createEncodedStreams();
      await readable.getReader().read();
      step("media");
      resolve();
    };
  });
  pc.oniceconnectionstatechange = () => {
    if (["connected", "completed"].includes(pc.iceConnectionState)) step("ice");
  };
  const sender = pc.addTrack(window.microphone.getAudioTracks()[0], window.microphone);
  sender.createEncodedStreams?.();
  pc.createDataChannel("oai-events");
  await pc.setLocalDescription();

  const { sdp } = pc.localDescription;
  const [type, body] = kind === "sdp" ? ["application/sdp", sdp] : ["application/json", JSON.stringify({ type: "offer", sdp })];
  began = performance.now();
  const reply = await fetch(path, { method: "POST", headers: { "Content-Type": type }, body });
  if (!reply.ok) throw new Error(`${reply.status} ${await reply.text()}`);
  const answer = kind === "sdp" ? await reply.text() : (await reply.json()).sdp;
  step("answered");
  await pc.setRemoteDescription({ type: "answer", sdp: answer });
  step("accepted");
  const dtls = sender.transport;
  const follow = () => dtls.state === "connected" && step("dtls");
  dtls.addEventListener("statechange", follow);
  follow();
  await heard;
  window.call = pc;
  return steps;
}
