// What getStats knows about a call, in the units people read. Fields a browser lacks are undefined.

export class StatsReader {
  #before = null;

  // { rtt, jitter, buffer } in ms, { loss } in percent, { sent, received } in packets, { route } as text,
  // { levels: { you, agent } } as amplitudes 0…1.
  read(report) {
    const all = [...report.values()];
    const of = (type) => all.find((stat) => stat.type === type && (stat.kind ?? "audio") === "audio");
    const [inbound, outbound, remote, transport] = [
      "inbound-rtp",
      "outbound-rtp",
      "remote-inbound-rtp",
      "transport",
    ].map(of);
    const pair =
      report.get(transport?.selectedCandidatePairId) ??
      all.find(
        (stat) =>
          stat.type === "candidate-pair" && (stat.selected || (stat.nominated && stat.state === "succeeded")),
      );
    return {
      rtt: ms(pair?.currentRoundTripTime ?? remote?.roundTripTime),
      jitter: ms(inbound?.jitter),
      loss: percent(inbound?.packetsLost, inbound?.packetsReceived),
      buffer: this.#buffer(inbound),
      sent: outbound?.packetsSent,
      received: inbound?.packetsReceived,
      levels: { you: of("media-source")?.audioLevel, agent: inbound?.audioLevel },
      route: route(report, pair, transport, report.get(inbound?.codecId ?? outbound?.codecId)),
    };
  }

  // The mean since the last reading, not since the start of the call: what the ear has now.
  #buffer(inbound) {
    if (!inbound?.jitterBufferEmittedCount) return undefined;
    const now = { delay: inbound.jitterBufferDelay, count: inbound.jitterBufferEmittedCount };
    const { delay, count } = this.#before?.count < now.count ? this.#before : { delay: 0, count: 0 };
    this.#before = now;
    return ms((now.delay - delay) / (now.count - count));
  }
}

const ms = (seconds) => (seconds === undefined ? undefined : seconds * 1000);

const percent = (lost, received) =>
  received === undefined ? undefined : (100 * Math.max(0, lost)) / Math.max(1, received + Math.max(0, lost));

function route(report, pair, transport, codec) {
  const end = (id) => {
    const candidate = report.get(id);
    const host = candidate?.address ?? candidate?.ip;
    return host ? `${host.includes(":") ? `[${host}]` : host}:${candidate.port}` : "";
  };
  const remote = end(pair?.remoteCandidateId);
  const parts = [
    remote && `Relay ${remote}`,
    { FEFD: "DTLS 1.2", FEFC: "DTLS 1.3" }[transport?.tlsVersion],
    transport?.srtpCipher
      ?.replace(/^(SRTP_)?(AEAD_)?/, "")
      .replace("AES_", "AES")
      .replaceAll("_", "-"),
    codec && `${codec.mimeType.replace("audio/", "").replace("opus", "Opus")} ${codec.clockRate / 1000} kHz`,
  ];
  return parts.filter(Boolean).join(" · ");
}
