// The log of the data channel: one line an event, newest last; a line opens to the whole event.

const LINES_MAX = 300;
const NEAR_PX = 40;
const DETAILS = ["audio_start_ms", "audio_end_ms", "transcript", "delta", "text", "reason"];

export class EventLog {
  #list;
  #count;
  #seen = 0;

  constructor(list, count) {
    this.#list = list;
    this.#count = count;
  }

  clear() {
    this.#seen = 0;
    this.#count.textContent = "";
    this.#list.replaceChildren();
  }

  add(seconds, event) {
    const follows = this.#list.scrollHeight - this.#list.scrollTop - this.#list.clientHeight < NEAR_PX;
    this.#list.append(line(seconds, event));
    if (this.#list.childElementCount > LINES_MAX) this.#list.firstChild.remove();
    if (follows) this.#list.scrollTop = this.#list.scrollHeight; // a reader who scrolled up is left in peace
    this.#count.textContent = String(++this.#seen);
  }
}

function line(seconds, event) {
  const item = document.createElement("li");
  item.dataset.type = event.type ?? "";
  item.dataset.who = speaker(event);
  const details = document.createElement("details");
  const summary = document.createElement("summary");
  summary.append(
    cell("time", "", seconds.toFixed(2)),
    cell("span", "type", event.type ?? "?"),
    cell("span", "detail", detail(event)),
  );
  details.append(summary);
  details.addEventListener(
    "toggle",
    () => {
      if (!details.querySelector("pre")) details.append(cell("pre", "", JSON.stringify(event, null, 2)));
    },
    { once: true },
  );
  item.append(details);
  return item;
}

function cell(tag, name, text) {
  const element = document.createElement(tag);
  if (name) element.className = name;
  element.textContent = text;
  return element;
}

function speaker({ type = "" }) {
  if (type === "error") return "error";
  if (type.startsWith("input_audio_buffer")) return "you";
  if (type.startsWith("response") || type.startsWith("output_audio_buffer")) return "agent";
  return "";
}

function detail(event) {
  if (event.error) return event.error.message ?? "";
  if (event.response?.status) return event.response.status;
  if (event.item?.role) return event.item.role;
  const name = DETAILS.find((key) => key in event);
  if (name === undefined) return "";
  return name.endsWith("_ms") ? `${event[name]} ms` : String(event[name]);
}
