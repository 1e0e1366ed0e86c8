// How loud the two voices are, as shares of a meter: 0 is -60 dBFS or less, 1 is -6 dBFS or more.

const FLOOR_DB = -60;
const TOP_DB = -6;
const QUIET = 1e-6;

const share = (amplitude) => {
  const decibels = 20 * Math.log10(amplitude + QUIET);
  return Math.min(1, Math.max(0, (decibels - FLOOR_DB) / (TOP_DB - FLOOR_DB)));
};

// One MediaStream, listened to.
class Loudness {
  #analyser;
  #samples;

  constructor(audio, stream) {
    this.#analyser = audio.createAnalyser();
    this.#analyser.fftSize = 2048; // 43 ms at 48 kHz: about what passes between two readings
    this.#samples = new Float32Array(this.#analyser.fftSize);
    audio.createMediaStreamSource(stream).connect(this.#analyser);
  }

  read() {
    this.#analyser.getFloatTimeDomainData(this.#samples);
    let power = 0;
    for (const sample of this.#samples) power += sample * sample;
    return share(Math.sqrt(power / this.#samples.length));
  }
}

export class Voices {
  #audio = new AudioContext();
  #streams = {};
  #counted = { you: 0, agent: 0 };

  // MediaStreams by name, each taken once.
  hear({ microphone, agent }) {
    if (microphone) this.#streams.you ??= new Loudness(this.#audio, microphone);
    if (agent) this.#streams.agent ??= new Loudness(this.#audio, agent);
  }

  // Without a sound card some browsers never start an AudioContext. getStats knows levels all the same.
  get areDeaf() {
    return this.#audio.state !== "running";
  }

  // The amplitudes 0…1 that getStats has.
  count({ you = 0, agent = 0 }) {
    this.#counted = { you: share(you), agent: share(agent) };
  }

  read() {
    if (this.areDeaf) return this.#counted;
    return { you: this.#streams.you?.read() ?? 0, agent: this.#streams.agent?.read() ?? 0 };
  }

  close() {
    if (this.#audio.state !== "closed") this.#audio.close();
  }
}
