// The JavaScript clients of OpenAI, Anthropic and Vercel against a server whose completions are known.
// node check.mjs BASE MODEL TEXT; packages are those of package-lock.json beside this file.
import assert from "node:assert/strict";

const [base, model, text] = process.argv.slice(2);
const messages = [{ role: "user", content: "Hi" }];
// Its warnings would stand among what this prints.
globalThis.AI_SDK_LOG_WARNINGS = false;
const page = "https://chat.example.org";

// What a browser asks before it lets a page of another origin send these fields.
async function preflight(url, init) {
  const names = [...new Headers(init.headers).keys()].filter((name) => !["accept", "user-agent", "host", "content-length"].includes(name));
  const answer = await fetch(url, {
    method: "OPTIONS",
    headers: { Origin: page, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": names.sort().join(",") },
  });
  const allowed = (answer.headers.get("access-control-allow-headers") ?? "").split(",");
  assert.deepEqual(names.filter((name) => !allowed.includes(name)), [], "a browser would refuse these");
  return fetch(url, init);
}

async function openai() {
  const { default: OpenAI } = await import("openai");
  const client = new OpenAI({ baseURL: `${base}/v1`, apiKey: "none", maxRetries: 0, dangerouslyAllowBrowser: true, fetch: preflight });
  const whole = await client.chat.completions.create({ model, messages });
  assert.equal(whole.choices[0].message.content, text);
  let streamed = "";
  for await (const chunk of await client.chat.completions.create({ model, messages, stream: true })) streamed += chunk.choices[0]?.delta?.content ?? "";
  assert.equal(streamed, text);
  assert.equal((await client.responses.create({ model, input: "Hi" })).output_text, text);
  assert.equal((await client.responses.stream({ model, input: "Hi" }).finalResponse()).output_text, text);
}

async function anthropic() {
  const { default: Anthropic } = await import("@anthropic-ai/sdk");
  const client = new Anthropic({ baseURL: base, apiKey: "none", maxRetries: 0, dangerouslyAllowBrowser: true, fetch: preflight });
  const whole = await client.messages.create({ model, messages, max_tokens: 99 });
  assert.equal(whole.content[0].text, text);
  assert.equal(await client.messages.stream({ model, messages, max_tokens: 99 }).finalText(), text);
}

async function vercel() {
  const { generateText, streamText } = await import("ai");
  const { createOpenAICompatible } = await import("@ai-sdk/openai-compatible");
  const { createOpenAI } = await import("@ai-sdk/openai");
  const { createAnthropic } = await import("@ai-sdk/anthropic");
  const models = [
    createOpenAICompatible({ name: "tonnage", baseURL: `${base}/v1`, apiKey: "none" })(model),
    createOpenAI({ baseURL: `${base}/v1`, apiKey: "none" })(model), // /v1/responses
    createAnthropic({ baseURL: `${base}/v1`, apiKey: "none" })(model),
  ];
  for (const one of models) {
    assert.equal((await generateText({ model: one, prompt: "Hi", maxRetries: 0 })).text, text);
    let streamed = "";
    for await (const part of streamText({ model: one, prompt: "Hi", maxRetries: 0 }).textStream) streamed += part;
    assert.equal(streamed, text);
  }
}

for (const check of [openai, anthropic, vercel]) {
  await check();
  console.log(`${check.name}: ok`);
}
