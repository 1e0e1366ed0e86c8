// Which events of the data channel begin and end a turn: { who, begins } or { who, begins: false, cut }.

const TURNS = {
  "input_audio_buffer.speech_started": { who: "you", begins: true },
  "input_audio_buffer.speech_stopped": { who: "you", begins: false },
  "output_audio_buffer.started": { who: "agent", begins: true },
  "output_audio_buffer.stopped": { who: "agent", begins: false },
  "output_audio_buffer.cleared": { who: "agent", begins: false, cut: true },
};

export const turnOf = (event) => TURNS[event.type] ?? null;
