// Requests to the server that this page came from, and its errors as sentences.

export class ServerError extends Error {
  constructor(message, status = 0) {
    super(sentence(message));
    this.status = status;
  }
}

/** A message as one sentence: a capital letter first, a full stop last. */
export function sentence(message) {
  const text = String(message).trim();
  return text.charAt(0).toUpperCase() + text.slice(1) + (/[.!?]$/.test(text) ? "" : ".");
}

/** The address of a path, also where a proxy serves this page below some folder. */
export function address(path) {
  return new URL(path, document.baseURI);
}

/** Ask the server; what it answers, or a ServerError. `body` is a FormData, or something to be sent as JSON. */
export async function ask(method, path, { token = "", body, keepalive = false } = {}) {
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  const isForm = body instanceof FormData;
  if (body !== undefined && !isForm) headers["Content-Type"] = "application/json";
  let answer;
  try {
    answer = await fetch(address(path), { method, headers, keepalive, body: isForm || body === undefined ? body : JSON.stringify(body) });
  } catch {
    throw new ServerError("the server cannot be reached; is it running?");
  }
  const content = answer.status === 204 ? null : await answer.json().catch(() => null);
  if (!answer.ok) throw new ServerError(content?.error?.message ?? `the server answered ${answer.status}`, answer.status);
  return content;
}
