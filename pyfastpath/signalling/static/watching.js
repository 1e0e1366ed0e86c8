// What runs by the clock while a call is there: levels, timeline, numbers, duration.

import { Voices } from "./levels.js";
import { StatsReader } from "./stats.js";
import { clock } from "./words.js";

const LEVELS_MS = 40;
const STATS_MS = 500;
const DEAF_STATS_MS = 150;
const VOICE = 0.3; // of a meter: louder is somebody speaking
const PAUSE_MS = 300;

export class Watching {
  #call;
  #views;
  #voices = new Voices();
  #levels;
  #stats = new StatsReader();
  #counting = 0;
  #frame = 0;
  #spoke = 0;
  began = 0;

  // views: { meters: { you, agent }, timeline, numbers, clock: element, voice: <audio> }
  constructor(call, views) {
    this.#call = call;
    this.#views = views;
    this.#levels = setInterval(() => this.#listen(), LEVELS_MS);
    const paint = () => {
      views.timeline.paint();
      this.#frame = requestAnimationFrame(paint);
    };
    paint();
  }

  hear(voices) {
    if (voices.agent) this.#views.voice.srcObject = voices.agent; // also what makes Chromium decode it at all
    this.#voices.hear(voices);
  }

  // The call is live.
  begin() {
    this.began = this.#call.seconds;
    this.#count();
  }

  get seconds() {
    return this.#call.seconds - this.began;
  }

  close() {
    clearInterval(this.#levels);
    clearTimeout(this.#counting);
    cancelAnimationFrame(this.#frame);
    this.#voices.close();
    this.#views.voice.srcObject = null;
    delete document.body.dataset.speaks;
    for (const meter of Object.values(this.#views.meters)) meter.rest();
  }

  #listen() {
    const levels = this.#voices.read();
    for (const [who, level] of Object.entries(levels)) this.#views.meters[who].show(level);
    this.#views.timeline.add(this.#call.seconds, levels.you, levels.agent);
    this.#showSpeaker(levels);
  }

  #showSpeaker({ you, agent }) {
    const now = performance.now();
    if (Math.max(you, agent) > VOICE) {
      this.#spoke = now;
      document.body.dataset.speaks = agent > you ? "agent" : "you";
    } else if (now - this.#spoke > PAUSE_MS) delete document.body.dataset.speaks;
  }

  async #count() {
    const report = await this.#call.stats().catch(() => null); // it may be closed meanwhile
    if (this.#call.state !== "live" || !report) return;
    const read = this.#stats.read(report);
    this.#views.clock.textContent = clock(this.seconds);
    this.#views.numbers.show(read);
    this.#voices.count(read.levels);
    if (read.received) this.#call.heard();
    this.#counting = setTimeout(() => this.#count(), this.#voices.areDeaf ? DEAF_STATS_MS : STATS_MS);
  }
}
