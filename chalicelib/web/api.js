// The admin API. The token lives in this tab's sessionStorage and in the Authorization header, nowhere else.

const KEY = "sluice-token";
const BASE = new URL(".", document.baseURI);
const PATIENCE_MS = 20_000;

export const session = new EventTarget(); // "ended": the token is no longer accepted

/** A rejected call: the problem document, or the gateway's message in its place. */
export class Problem extends Error {
  constructor(document) {
    super(document.detail);
    this.status = document.status;
    this.faults = document.errors ?? [];
    this.needsForce = document.type.endsWith(":force-needed");
  }
}

/** No answer, or one that says the API is unavailable. */
export class Unreachable extends Error {}

/** The token is unknown, revoked or expired. */
export class Ended extends Error {}

export function token() {
  return sessionStorage.getItem(KEY);
}

export function signIn(text) {
  sessionStorage.setItem(KEY, text);
}

export function signOut() {
  sessionStorage.removeItem(KEY);
}

export function get(path, query = {}) {
  return call({ method: "GET", path, query });
}

/** Makes a call, given as the API gives an undo: {method, path, query, headers, body}. */
export async function call({ method, path, query = {}, headers = {}, body = null }) {
  const url = new URL(path.replace(/^\//, ""), BASE);
  for (const [name, value] of Object.entries(query)) {
    for (const each of [value].flat()) if (each !== null && each !== "") url.searchParams.append(name, each);
  }
  const sent = { Authorization: `Bearer ${token()}`, ...headers };
  if (body !== null) sent["Content-Type"] = "application/json";
  if (method === "POST") sent["Idempotency-Key"] = crypto.randomUUID();
  let response, text;
  try {
    response = await fetch(url, {
      method,
      headers: sent,
      body: body === null ? undefined : JSON.stringify(body),
      credentials: "omit",
      redirect: "error",
      signal: AbortSignal.timeout(PATIENCE_MS),
    });
    text = await response.text();
  } catch {
    throw new Unreachable("The API does not answer.");
  }
  const answer = parse(text);
  if (response.ok && answer !== undefined) return answer;
  if (response.status === 401) {
    signOut();
    session.dispatchEvent(new Event("ended"));
    throw new Ended("The token is unknown, revoked or expired.");
  }
  if (response.status >= 500 || answer === undefined) {
    throw new Unreachable(answer?.detail ?? `The API answers ${response.status}.`);
  }
  throw new Problem({
    type: answer.type ?? "",
    status: response.status,
    detail: answer.detail ?? `The gateway rejected the call: ${answer.message ?? response.status}.`,
    errors: answer.errors,
  });
}

function parse(text) {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
