// How loud a MediaStream is, as a share of a meter: 0 is -60 dBFS or less, 1 is -6 dBFS or more.

const FLOOR_DB = -60;
const TOP_DB = -6;

export class Loudness {
  #analyser; #samples;

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
    const decibels = 10 * Math.log10(power / this.#samples.length + 1e-12);
    return Math.min(1, Math.max(0, (decibels - FLOOR_DB) / (TOP_DB - FLOOR_DB)));
  }
}
