// One call in Firefox, headless, over WebDriver BiDi: open the page, choose an agent, talk, hang up.
//
//   node call.mjs '{"firefox": …, "url": …, "agent": …, "microphone_hz": …, "seconds": …, "screenshot": …}'
//
// Prints one line of JSON: { states, failure, recording, stats, shown, levels }. Firefox's fake microphone is a tone of
// `microphone_hz`; `recording` is what comes back.

import puppeteer from "puppeteer-core";

async function call(page) {
  await page.setViewport({ width: 1280, height: 800 });
  await page.evaluateOnNewDocument(keepCalls);
  await page.goto(job.url);
  await page.evaluate(chooseAgent, job.agent);
  const states = [await stateOf(page)];
  await page.click("#call");
  await page.waitForSelector("body[data-state=live], body[data-state=ended]", { timeout: 30_000 });
  states.push(await stateOf(page));
  const failure = await page.$eval("#failure", (box) => (box.hidden ? null : box.textContent.trim()));
  if (failure) return { states, failure };
  const recording = await page.evaluate(record, job.seconds);
  const stats = await page.evaluate(async () => [...(await window.calls.at(-1).getStats()).values()]);
  const shown = await page.evaluate(() =>
    Object.fromEntries([...document.querySelectorAll("dd")].map((tile) => [tile.id, tile.textContent])),
  );
  const levels = await page.$$eval("[role=meter]", (all) =>
    all.map((meter) => Number(meter.getAttribute("aria-valuenow"))),
  );
  await page.screenshot({ path: job.screenshot });
  await page.click("#call");
  states.push(await stateOf(page));
  return { states, failure, recording, stats, shown, levels };
}

function stateOf(page) {
  return page.$eval("body", (body) => body.dataset.state);
}

// The functions below run in the page.

function chooseAgent(agent) {
  document.querySelector(`input[value=${agent}]`).click();
  document.getElementById("processing").checked = false; // noise suppression would take a tone for noise
}

function keepCalls() {
  window.calls = [];
  const Native = window.RTCPeerConnection;
  window.RTCPeerConnection = class extends Native {
    constructor(...settings) {
      super(...settings);
      window.calls.push(this);
    }
  };
}

// What the agent says, as Ogg in base64. A MediaRecorder and no AudioContext: that stands still on a machine
// without a sound card.
async function record(seconds) {
  const recorder = new MediaRecorder(document.getElementById("voice").srcObject, { mimeType: "audio/ogg" });
  const parts = [];
  recorder.ondataavailable = ({ data }) => parts.push(data);
  const stopped = new Promise((resolve) => (recorder.onstop = resolve));
  recorder.start();
  await new Promise((resolve) => setTimeout(resolve, seconds * 1000));
  recorder.stop();
  await stopped;
  const bytes = new Uint8Array(await new Blob(parts).arrayBuffer());
  return btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(""));
}

const job = JSON.parse(process.argv[2]);
const browser = await puppeteer.launch({
  browser: "firefox",
  executablePath: job.firefox,
  headless: true,
  acceptInsecureCerts: true,
  extraPrefsFirefox: {
    "media.navigator.streams.fake": true,
    "media.navigator.audio.fake_frequency": job.microphone_hz,
    "media.navigator.permission.disabled": true,
    "media.autoplay.default": 0,
    "media.autoplay.blocking_policy": 0,
  },
});
try {
  process.stdout.write(JSON.stringify(await call(await browser.newPage())) + "\n");
} finally {
  await browser.close();
}
