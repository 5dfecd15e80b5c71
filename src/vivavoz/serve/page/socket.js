// A session over a WebSocket: fragmented MP4 into a MediaSource, events as text, the microphone as events.

import { ServerError, address } from "./server.js";
import { toBase64 } from "./sound.js";

const MOST_BEHIND_S = 1.2;
const CATCH_UP_S = 0.5;
const RESUME_S = 0.25;
const KEEP_S = 20;

const Source = window.MediaSource ?? window.ManagedMediaSource;

export class SocketLink {
  kind = "WebSocket";
  #socket;
  #video;
  #source;
  #buffer;
  #waiting = [];
  #lost;

  /** Resolves when events can be sent; rejects with a ServerError after `timeoutMs`, or when `signal` aborts. */
  static open({ session, secret, video, heard, lost, timeoutMs, signal }) {
    const link = new SocketLink();
    link.#video = video;
    const url = address(`v1/realtime?session=${encodeURIComponent(session)}`);
    url.protocol = url.protocol.replace("http", "ws");
    const socket = (link.#socket = new WebSocket(url, ["realtime", `vivavoz-token.${secret}`]));
    socket.binaryType = "arraybuffer";
    return new Promise((resolve, reject) => {
      let refusal = "the WebSocket does not connect; choose the WebRTC connection";
      const fail = () => {
        link.close();
        reject(new ServerError(refusal));
      };
      const timer = setTimeout(fail, timeoutMs);
      signal.addEventListener("abort", fail);
      socket.onclose = () => {
        clearTimeout(timer);
        (link.#lost ?? fail)();
      };
      socket.onmessage = ({ data }) => {
        if (typeof data !== "string") {
          link.#take(data);
          return;
        }
        const event = JSON.parse(data);
        if (event.type === "session.created") {
          clearTimeout(timer);
          link.#lost = lost;
          resolve(link);
        } else if (event.type === "error" && !link.#lost) refusal = event.error.message;
        else if (event.type === "output.started") link.#begin(event.mime, heard);
        heard(event);
      };
    });
  }

  send(event) {
    if (this.#socket.readyState === WebSocket.OPEN) this.#socket.send(JSON.stringify(event));
  }

  get unsentBytes() {
    return this.#socket.bufferedAmount;
  }

  /** Send what the user says; null: no more. */
  async listen(microphone) {
    await microphone?.take((samples) => this.send({ type: "input_audio_buffer.append", audio: toBase64(samples) }));
  }

  /** Skip what is buffered. */
  flush() {
    const end = this.#end();
    if (end !== null) this.#video.currentTime = end;
  }

  /** Milliseconds of pictures that wait in the browser. */
  async bufferMs() {
    const end = this.#end();
    return end === null ? null : Math.max(0, 1000 * (end - this.#video.currentTime));
  }

  close() {
    this.#lost = () => {};
    this.#socket.close();
    if (this.#source) {
      URL.revokeObjectURL(this.#video.src);
      this.#source = this.#buffer = undefined;
      this.#video.removeAttribute("src");
      this.#video.load();
    }
  }

  #begin(mime, heard) {
    if (!Source?.isTypeSupported(mime)) {
      heard({ type: "error", error: { message: "this browser does not play the server's video; choose the WebRTC connection" } });
      return;
    }
    const source = (this.#source = new Source());
    this.#video.disableRemotePlayback = true;
    this.#video.src = URL.createObjectURL(source);
    source.onsourceopen = () => {
      if (this.#source !== source || this.#buffer) return;
      this.#buffer = source.addSourceBuffer(mime);
      this.#buffer.onupdateend = () => this.#step();
      this.#step();
    };
  }

  #take(data) {
    this.#waiting.push(data);
    this.#step();
  }

  /** Stay near the newest picture, forget what is long over, append what waits: one thing at a time. */
  #step() {
    const buffer = this.#buffer;
    if (!buffer || buffer.updating || this.#source.readyState !== "open") return;
    this.#follow();
    const { currentTime } = this.#video;
    if (buffer.buffered.length && buffer.buffered.start(0) < currentTime - 2 * KEEP_S) buffer.remove(0, currentTime - KEEP_S);
    else if (this.#waiting.length) buffer.appendBuffer(this.#waiting.shift());
  }

  #follow() {
    const video = this.#video;
    const end = this.#end();
    if (end === null) return;
    const start = this.#buffer.buffered.start(this.#buffer.buffered.length - 1);
    const behind = end - video.currentTime;
    if (video.currentTime < start || behind > MOST_BEHIND_S) video.currentTime = Math.max(start, end - RESUME_S);
    video.playbackRate = behind > CATCH_UP_S ? 1.1 : 1;
    if (video.paused && end - start >= RESUME_S) video.play().catch(() => {});
  }

  #end() {
    const ranges = this.#buffer?.buffered;
    return ranges?.length ? ranges.end(ranges.length - 1) : null;
  }
}
