// A session over WebRTC: picture and sound in, the microphone out, events on a data channel.

import { ServerError, ask } from "./server.js";

const GATHER_MS = 1500;

export class PeerLink {
  kind = "WebRTC";
  #peer;
  #channel;
  #audio;
  #video;
  #lost;
  #before = { delay: 0, count: 0 };

  /** Resolves when events can be sent; rejects with a ServerError after `timeoutMs`, or when `signal` aborts. */
  static async open({ session, secret, iceServers, video, heard, lost, timeoutMs, signal }) {
    const link = new PeerLink();
    let timer;
    const late = new Promise((_, reject) => {
      const give = (why) => reject(new ServerError(why));
      timer = setTimeout(give, timeoutMs, "WebRTC does not connect; choose the WebSocket connection");
      signal.addEventListener("abort", () => give("stopped"));
    });
    try {
      await Promise.race([link.#connect(session, secret, iceServers, video, heard), late]);
    } catch (error) {
      link.close();
      throw error;
    } finally {
      clearTimeout(timer);
    }
    link.#lost = lost;
    return link;
  }

  async #connect(session, secret, iceServers, video, heard) {
    const peer = (this.#peer = new RTCPeerConnection({ iceServers: iceServers.map(withoutNulls) }));
    const stream = new MediaStream();
    this.#video = video;
    peer.addTransceiver("video", { direction: "recvonly" });
    this.#audio = peer.addTransceiver("audio", { direction: "sendrecv" });
    peer.ontrack = ({ track }) => {
      stream.addTrack(track);
      if (video.srcObject === stream) return;
      video.srcObject = stream;
      video.play().catch(() => {});
    };
    this.#channel = peer.createDataChannel("events");
    this.#channel.onmessage = ({ data }) => heard(JSON.parse(data));
    const opened = new Promise((resolve) => (this.#channel.onopen = resolve));
    this.#channel.onclose = () => this.#lost?.();
    peer.onconnectionstatechange = () => {
      if (["failed", "closed"].includes(peer.connectionState)) this.#lost?.();
    };
    await peer.setLocalDescription();
    await gathered(peer);
    const { type, sdp } = peer.localDescription;
    const answer = await ask("POST", `v1/sessions/${session}/offer`, { token: secret, body: { type, sdp } });
    await peer.setRemoteDescription(answer);
    await opened;
  }

  send(event) {
    if (this.#channel.readyState === "open") this.#channel.send(JSON.stringify(event));
  }

  get unsentBytes() {
    return this.#channel.bufferedAmount;
  }

  /** Send what the user says; null: no more. */
  async listen(microphone) {
    await this.#audio.sender.replaceTrack(microphone?.stream.getAudioTracks()[0] ?? null);
  }

  flush() {}

  /** Milliseconds that pictures wait in the browser before they are seen. */
  async bufferMs() {
    for (const report of (await this.#peer.getStats()).values()) {
      if (report.type !== "inbound-rtp" || report.kind !== "video") continue;
      const now = { delay: report.jitterBufferDelay ?? 0, count: report.jitterBufferEmittedCount ?? 0 };
      const { delay, count } = this.#before;
      this.#before = now;
      return now.count > count ? (1000 * (now.delay - delay)) / (now.count - count) : null;
    }
    return null;
  }

  close() {
    this.#lost = undefined;
    this.#peer?.close();
    if (this.#video) this.#video.srcObject = null;
  }
}

async function gathered(peer) {
  if (peer.iceGatheringState === "complete") return;
  await new Promise((resolve) => {
    const timer = setTimeout(resolve, GATHER_MS);
    peer.onicegatheringstatechange = () => {
      if (peer.iceGatheringState !== "complete") return;
      clearTimeout(timer);
      resolve();
    };
  });
}

function withoutNulls(object) {
  return Object.fromEntries(Object.entries(object).filter(([, value]) => value !== null));
}
