// Calls to the server. Every function rejects with an ApiError: words.js says what it means, its message are the
// server's own words.

export class ApiError extends Error {
  constructor(message, status, retryAfterS, code = null) {
    super(message);
    this.code = code;
    this.status = status;
    this.retryAfterS = retryAfterS;
  }
}

function headers(key) {
  return key ? { authorization: `Bearer ${key}` } : {};
}

async function failure(response) {
  let error = null;
  try {
    error = (await response.json())?.error;
  } catch {
    // Not JSON: the status has to do.
  }
  const message = error?.message ?? `The server answered with status ${response.status}.`;
  return new ApiError(message, response.status, Number(response.headers.get("retry-after")) || null, error?.code);
}

async function request(path, options) {
  let response;
  try {
    response = await fetch(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError("The server cannot be reached; is it still running?", 0, null);
  }
  if (!response.ok) throw await failure(response);
  return response;
}

export async function getJson(path, key) {
  return (await request(path, { headers: headers(key), cache: "no-store" })).json();
}

// Asks for a model to be loaded or unloaded; resolves when it is.
export async function moveModel(verb, model, key) {
  await request(`/models/${verb}`, {
    method: "POST",
    headers: { "content-type": "application/json", ...headers(key) },
    body: JSON.stringify({ model }),
  });
}

// Splits a byte stream into the data of its server-sent events.
export async function* eventsOf(stream) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    rest += value;
    const blocks = rest.split(/\r?\n\r?\n/);
    rest = blocks.pop();
    for (const block of blocks) {
      const data = block.split(/\r?\n/).filter((line) => line.startsWith("data:"));
      if (data.length) yield data.map((line) => line.slice(5).trimStart()).join("\n");
    }
  }
}

// Yields {text} and {thought} as the completion comes, and once {usage} and {finish}.
export async function* chat(body, key, signal) {
  const response = await request("/v1/chat/completions", {
    method: "POST",
    headers: { "content-type": "application/json", ...headers(key) },
    body: JSON.stringify({ ...body, stream: true, stream_options: { include_usage: true } }),
    signal,
  });
  for await (const data of eventsOf(response.body)) {
    if (data === "[DONE]") return;
    const chunk = JSON.parse(data);
    if (chunk.error) throw new ApiError(chunk.error.message, 500, null, chunk.error.code);
    const choice = chunk.choices?.[0];
    if (choice?.delta?.reasoning_content) yield { thought: choice.delta.reasoning_content };
    if (choice?.delta?.content) yield { text: choice.delta.content };
    if (choice?.finish_reason) yield { finish: choice.finish_reason };
    if (chunk.usage) yield { usage: chunk.usage };
  }
}
