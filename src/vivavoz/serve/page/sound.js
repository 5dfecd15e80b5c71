// Sound files and the microphone as 16-bit samples, mono, at the rate that sessions take by default.

import { address } from "./server.js";

export const RATE_HZ = 24000;
const LEVEL_EVERY_MS = 60;

/** Samples of a sound file, of whatever format the browser reads. */
export async function readSound(file) {
  const context = new OfflineAudioContext(1, 1, RATE_HZ);
  const decoded = await context.decodeAudioData(await file.arrayBuffer()); // resampled by the browser
  const samples = new Int16Array(decoded.length);
  const channels = Array.from({ length: decoded.numberOfChannels }, (_, index) => decoded.getChannelData(index));
  for (let at = 0; at < samples.length; at += 1) {
    let sum = 0;
    for (const channel of channels) sum += channel[at];
    samples[at] = Math.max(-1, Math.min(1, sum / channels.length)) * 32767;
  }
  return samples;
}

/** Base64 of samples. */
export function toBase64(samples) {
  const bytes = new Uint8Array(samples.buffer, samples.byteOffset, samples.byteLength);
  let text = "";
  for (let at = 0; at < bytes.length; at += 8192) text += String.fromCharCode(...bytes.subarray(at, at + 8192));
  return btoa(text);
}

/** The user's microphone while it is open. */
export class Microphone {
  #context;
  #timer;

  /** `showLevel` is told from 0 to 1 how loud it is. May reject as getUserMedia does. */
  static async open(showLevel) {
    const microphone = new Microphone();
    microphone.stream = await navigator.mediaDevices.getUserMedia({
      audio: { echoCancellation: true, noiseSuppression: true, autoGainControl: true },
    });
    const context = (microphone.#context = new AudioContext());
    await context.resume();
    microphone.source = context.createMediaStreamSource(microphone.stream);
    const analyser = context.createAnalyser();
    analyser.fftSize = 1024;
    microphone.source.connect(analyser);
    const wave = new Float32Array(analyser.fftSize);
    microphone.#timer = setInterval(() => {
      analyser.getFloatTimeDomainData(wave);
      const power = wave.reduce((sum, value) => sum + value * value, 0) / wave.length;
      showLevel(Math.max(0, Math.min(1, 1 + Math.log10(power + 1e-9) / 5))); // 50 dB
    }, LEVEL_EVERY_MS);
    return microphone;
  }

  /** Give pieces of samples to `receive` until closed. */
  async take(receive) {
    await this.#context.audioWorklet.addModule(address("page/microphone.worklet.js"));
    const node = new AudioWorkletNode(this.#context, "microphone", { numberOfOutputs: 0, processorOptions: { rateHz: RATE_HZ } });
    node.port.onmessage = ({ data }) => receive(data);
    this.source.connect(node);
  }

  close() {
    clearInterval(this.#timer);
    for (const track of this.stream.getTracks()) track.stop();
    this.#context.close();
  }
}
