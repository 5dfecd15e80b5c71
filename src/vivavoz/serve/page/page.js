// The page: portraits to a session, a session to the screen, and what the user says and wishes to the session.

import { Face } from "./face.js";
import { Graph } from "./graph.js";
import { PeerLink } from "./peer.js";
import { Portraits } from "./portraits.js";
import { ServerError, ask, sentence } from "./server.js";
import { SocketLink } from "./socket.js";
import { Microphone, RATE_HZ, readSound, toBase64 } from "./sound.js";
import { Voice } from "./voice.js";

const AUTO_WEBRTC_MS = 6000;
const CONNECT_MS = 30000;
const HUSH_MS = 300;
const MOST_UNSENT_BYTES = 300000;
const TOKEN_KEY = "vivavoz-token";

const WORDS = {
  off: "Not started",
  making: "Making the avatar",
  connecting: "Connecting",
  waiting: "Waiting for the first picture",
  idle: "Idle",
  listening: "Listening",
  speaking: "Speaking",
};

const $ = (selector) => document.querySelector(selector);
const video = $("#avatar");
const graph = new Graph($("#lanes"));
const portraits = new Portraits($("#thumbnails"), portraitsChanged);
const face = new Face((fields) => update(fields));
const voice = new Voice((fields) => update(fields, "voice"));

let avatarId = null; // of the portraits as they are now
let session = null; // { id, secret, link, abort }
let microphone = null;
let sending = null; // the sound file on its way
let heardNow = {}; // the response that sounds, whether the user speaks, the state of the pictures
let seenBefore = 0;
let hushTimer;

// State and errors

function show(state) {
  if ($("#state").dataset.state === state) return;
  $("#state").dataset.state = state;
  $("#words").textContent = WORDS[state];
}

/** What holds while a session is live: sound before pictures, which may be late. */
function showLive() {
  show(heardNow.response ? "speaking" : heardNow.user ? "listening" : heardNow.pictures);
}

function complain(message) {
  $("#error").textContent = message ? sentence(message) : "";
  $("#error-box").classList.toggle("shown", Boolean(message));
}

function refreshButtons() {
  const isLive = Boolean(session?.link);
  for (const button of document.querySelectorAll("button.live")) button.disabled = !isLive;
  $("#start").disabled = !portraits.files.length || (Boolean(session) && !isLive);
  $("#start").hidden = isLive && avatarId !== null;
  $("#start").textContent = isLive ? "Start with these" : "Start";
  $("#end").hidden = !session;
  $("#add").disabled = portraits.files.length >= 3;
  $("#no-portraits").hidden = portraits.files.length > 0;
  $("#transport").disabled = Boolean(session);
  $("#invitation").hidden = Boolean(session) || portraits.files.length > 0;
}

function portraitsChanged() {
  if (avatarId) forgetAvatar();
  if (!session) video.poster = portraits.url ?? "";
  refreshButtons();
}

async function addPictures(files) {
  complain(await portraits.add(files));
}

// The token

function token() {
  return sessionStorage.getItem(TOKEN_KEY) ?? "";
}

function askForToken() {
  $("#token-form").hidden = false;
  $("#token").focus();
}

$("#token-form").onsubmit = (event) => {
  event.preventDefault();
  sessionStorage.setItem(TOKEN_KEY, $("#token").value.trim());
  $("#token").value = "";
  $("#token-form").hidden = true;
  if (portraits.files.length) start();
};

// A session

function forgetAvatar() {
  ask("DELETE", `v1/avatars/${avatarId}`, { token: token() }).catch(() => {});
  avatarId = null;
}

async function makeAvatar() {
  const body = new FormData();
  for (const file of portraits.files) body.append("images", file, "picture");
  return (await ask("POST", "v1/avatars", { token: token(), body })).id;
}

async function openSession() {
  const controls = () => ({ ...voice.wishes, ...face.wishes });
  const order = () => ask("POST", "v1/sessions", { token: token(), body: { avatar_id: avatarId, controls: controls() } });
  avatarId ??= await makeAvatar();
  try {
    return await order();
  } catch (error) {
    if (error.status === 400 && Object.keys(face.wishes).length) face.disable(); // a model without controls
    else if (error.status === 404) avatarId = await makeAvatar(); // it had expired
    else throw error;
    return order();
  }
}

async function start() {
  if (session) await end();
  complain(null);
  const mine = (session = { abort: new AbortController() });
  heardNow = { pictures: "waiting" };
  refreshButtons();
  try {
    if (!avatarId) show("making");
    const { session: info, client_secret: secret, ice_servers: iceServers } = await openSession();
    Object.assign(mine, { id: info.id, secret, iceServers });
    if (session !== mine) return leave(mine);
    show("connecting");
    mine.link = await connect(mine);
    if (session !== mine) return leave(mine);
    showLive();
    voice.load(token());
    seenBefore = 0;
    graph.clear();
    refreshButtons();
    $("#text").focus({ preventScroll: true });
  } catch (error) {
    if (session !== mine) return undefined;
    await end();
    if (error.status === 401) askForToken();
    complain(error instanceof ServerError ? error.message : "This page failed: " + error.message);
  }
  return undefined;
}

async function connect(mine) {
  const wanted = $("#transport").value;
  const options = {
    session: mine.id,
    secret: mine.secret,
    iceServers: mine.iceServers,
    video,
    heard,
    lost: () => session === mine && end("The connection was lost; start again."),
    signal: mine.abort.signal,
  };
  if (wanted !== "websocket" && "RTCPeerConnection" in window) {
    try {
      return await PeerLink.open({ ...options, timeoutMs: wanted === "auto" ? AUTO_WEBRTC_MS : CONNECT_MS });
    } catch (error) {
      if (wanted === "webrtc" || session !== mine) throw error;
    }
  }
  return SocketLink.open({ ...options, timeoutMs: CONNECT_MS });
}

async function end(message = null) {
  const mine = session;
  session = null;
  closeMicrophone();
  if (mine) leave(mine);
  video.poster = portraits.url ?? "";
  show("off");
  refreshButtons();
  if (message) complain(message);
}

function leave(mine, keepalive = false) {
  mine.abort.abort();
  mine.link?.close();
  if (mine.id) ask("DELETE", `v1/sessions/${mine.id}`, { token: mine.secret, keepalive }).catch(() => {});
}

// What the server tells

const handlers = {
  "avatar.state": ({ state }) => hear({ pictures: state }),
  "response.started": ({ response }) => hear({ response: response.id }),
  "response.done": ({ response }) => response.id === heardNow.response && hear({ response: null }),
  "input_audio_buffer.speech_started": () => hear({ user: true }),
  "input_audio_buffer.speech_stopped": () => hear({ user: false }),
  "output.flush": () => {
    hush();
    session?.link?.flush();
  },
  "session.metrics": ({ metrics }) => measure(metrics),
  "session.closed": ({ reason }) => end(`The session is over: ${reason}`),
  error: ({ error }) => {
    if (error.event_id === "face") face.disable();
    else complain(error.message);
  },
};

function heard(event) {
  handlers[event.type]?.(event);
}

function hear(change) {
  Object.assign(heardNow, change);
  if (session?.link) showLive();
}

/** No sound for a moment: what was on its way when the avatar was interrupted. */
function hush() {
  video.muted = true;
  clearTimeout(hushTimer);
  hushTimer = setTimeout(() => (video.muted = false), HUSH_MS);
}

async function measure(metrics) {
  const link = session?.link;
  if (!link) return;
  const seen = video.getVideoPlaybackQuality?.().totalVideoFrames ?? 0;
  const browser = await link.bufferMs().catch(() => null);
  graph.add({
    fps: metrics.fps,
    seen: seen >= seenBefore ? seen - seenBefore : null,
    latency: metrics.lead_ms + metrics.block_ms + (browser ?? 0),
    buffered: metrics.buffered_ms,
    browser,
  });
  seenBefore = seen;
  const { num_shown: shown, num_repeated: repeated, num_skipped: skipped, num_steps: steps, block_latents: latents } = metrics;
  const parts = [`${shown} pictures`, `${repeated} repeated`, `${skipped} skipped`, `${steps} ${steps === 1 ? "step" : "steps"}`];
  parts.push(`blocks of ${160 * latents} ms`);
  $("#counts").textContent = `By ${link.kind}: ${parts.join(", ")}.`;
}

// What the user says

function update(fields, part = "face") {
  session?.link?.send({ type: "session.update", event_id: part, session: fields });
}

function say(text) {
  session.link.send({ type: "response.create", response: { text } });
}

async function speakFile(file) {
  const mine = session;
  const abort = (sending = new AbortController());
  let samples;
  try {
    samples = await readSound(file);
  } catch {
    complain(`The file ${file.name} cannot be played; choose another sound.`);
    return;
  }
  const isWanted = () => session === mine && !abort.signal.aborted;
  if (!isWanted()) return;
  mine.link.send({ type: "response.create", response: {} });
  for (let at = 0; at < samples.length; at += RATE_HZ / 2) {
    while (isWanted() && mine.link.unsentBytes > MOST_UNSENT_BYTES) await new Promise((next) => setTimeout(next, 50));
    if (!isWanted()) return;
    mine.link.send({ type: "response.audio.append", audio: toBase64(samples.subarray(at, at + RATE_HZ / 2)) });
  }
  mine.link.send({ type: "response.audio.done" });
}

function interrupt() {
  if (!session?.link) return;
  sending?.abort();
  hush();
  session.link.send({ type: "response.cancel" });
}

async function toggleMicrophone() {
  if (microphone) {
    closeMicrophone();
    return;
  }
  const mine = session;
  try {
    const opened = await Microphone.open(showLevel);
    if (session !== mine || microphone) {
      opened.close();
      return;
    }
    microphone = opened;
    await mine.link.listen(microphone);
  } catch (error) {
    closeMicrophone();
    complain(error.name === "NotAllowedError" ? "The microphone is not allowed; allow it for this page." : "There is no microphone.");
    return;
  }
  showMicrophone();
}

function closeMicrophone() {
  if (microphone) {
    microphone.close();
    session?.link?.listen(null);
    session?.link?.send({ type: "input_audio_buffer.commit" }); // silence will not follow
  }
  microphone = null;
  heardNow.user = false;
  showMicrophone();
}

function showMicrophone() {
  $("#microphone").setAttribute("aria-pressed", String(Boolean(microphone)));
  $("#level").hidden = !microphone;
}

function showLevel(level) {
  $("#level").setAttribute("aria-valuenow", Math.round(100 * level));
  $("#level div").style.transform = `scaleX(${level})`;
}

// The user's hands

for (const button of [$("#invite"), $("#add")]) button.onclick = () => $("#pictures").click();
$("#pictures").onchange = ({ target }) => {
  addPictures(target.files);
  target.value = "";
};
$("#start").onclick = () => start();
$("#end").onclick = () => end();
$("#dismiss").onclick = () => complain(null);
$("#talk").onsubmit = (event) => {
  event.preventDefault();
  const text = $("#text").value.trim();
  if (!text || !session?.link) return;
  complain(null);
  say(text);
  $("#text").value = "";
};
$("#text").onkeydown = (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  $("#talk").requestSubmit();
};
$("#microphone").onclick = toggleMicrophone;
$("#upload").onclick = () => $("#sound").click();
$("#sound").onchange = ({ target }) => {
  if (target.files.length && session?.link) speakFile(target.files[0]);
  target.value = "";
};
$("#interrupt").onclick = interrupt;
video.onplaying = () => {
  if (heardNow.pictures === "waiting") hear({ pictures: "idle" });
};
document.addEventListener("keydown", (event) => event.key === "Escape" && interrupt());
document.addEventListener("paste", ({ clipboardData: { files } }) => files.length && addPictures(files));
for (const type of ["dragenter", "dragover", "dragleave", "drop"]) {
  document.addEventListener(type, (event) => {
    event.preventDefault();
    $("#frame").classList.toggle("target", type.startsWith("drage") || type === "dragover");
    if (type === "drop" && event.dataTransfer.files.length) addPictures(event.dataTransfer.files);
  });
}
addEventListener("pagehide", () => session && leave(session, true));
refreshButtons();
voice.load(token());
