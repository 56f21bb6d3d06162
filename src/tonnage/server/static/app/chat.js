// The conversation: streaming completions, stop, and what each took.
import { html, useCallback, useEffect, useMemo, useRef, useState } from "/static/vendor/htm-preact.js";
import { chat } from "./api.js";
import { number, seconds } from "./format.js";
import { Markdown } from "./markdown.js";

function requestOf(model, settings, messages) {
  const history = messages.map(({ role, content, thought }) =>
    thought ? { role, content, reasoning_content: thought } : { role, content },
  );
  const system = settings.system ? [{ role: "system", content: settings.system }] : [];
  return {
    model,
    messages: [...system, ...history],
    temperature: settings.temperature,
    top_p: settings.topP,
    max_tokens: settings.maxTokens,
    ...(settings.seed ? { seed: Number(settings.seed) } : {}),
  };
}

function factsOf(answer) {
  const parts = [];
  if (answer.usage) parts.push(`${number(answer.usage.prompt_tokens)} tokens in, ${number(answer.usage.completion_tokens)} out`);
  if (answer.firstS !== undefined) parts.push(`first after ${seconds(answer.firstS)}`);
  if (answer.rate) parts.push(`${number(answer.rate, 1)} tokens/s`);
  if (answer.finish === "length") parts.push("ended at the token limit");
  if (answer.stopped) parts.push("stopped");
  return parts.join(" · ");
}

function Message({ message, finished }) {
  // The same nodes while nothing changed: then there is nothing to compare.
  return useMemo(() => shown(message, finished), [message, finished]);
}

function shown(message, finished) {
  const who = message.role === "user" ? "You" : "Model";
  return html`
    <article class=${`message ${message.role}`} aria-label=${who}>
      <h2>${who}</h2>
      ${message.thought &&
      html`<details class="thought"><summary>Thought</summary><p class="plain">${message.thought}</p></details>`}
      ${message.role === "user"
        ? html`<p class="plain">${message.content}</p>`
        : html`<${Markdown} text=${message.content} finished=${finished} />`}
      ${message.problem && html`<p class="problem" role="alert">${message.problem}</p>`}
      ${factsOf(message) && html`<p class="facts">${factsOf(message)}</p>`}
    </article>
  `;
}

// Runs one completion; `update` gets the fields that changed.
async function complete(request, apiKey, signal, update) {
  const begin = performance.now();
  let content = "";
  let thought = "";
  let first = null;
  for await (const event of chat(request, apiKey, signal)) {
    if (event.thought) {
      thought += event.thought;
      first ??= performance.now();
      update({ thought, firstS: (first - begin) / 1000 });
    }
    if (event.text) {
      content += event.text;
      first ??= performance.now();
      update({ content, firstS: (first - begin) / 1000 });
    }
    if (event.finish) update({ finish: event.finish });
    if (event.usage) {
      const after = (performance.now() - (first ?? begin)) / 1000;
      const count = event.usage.completion_tokens - 1;
      update({ usage: event.usage, rate: count > 0 && after > 0 ? count / after : null });
    }
  }
}

// Gathers changes and shows them once per frame; `flush` shows the last ones.
function perFrame(show) {
  let waiting = {};
  let frame = 0;
  const flush = () => {
    cancelAnimationFrame(frame);
    frame = 0;
    show(waiting);
    waiting = {};
  };
  const add = (changes) => {
    Object.assign(waiting, changes);
    frame ||= requestAnimationFrame(flush);
  };
  return { add, flush };
}

function problemOf(error) {
  const wait = error.retryAfterS ? ` Try again in ${error.retryAfterS} s.` : "";
  return `${error.message}${wait}`;
}

export function Chat({ model, settings, apiKey }) {
  const [messages, setMessages] = useState([]);
  const [draft, setDraft] = useState("");
  const [running, setRunning] = useState(null);
  const log = useRef(null);
  const box = useRef(null);
  const atEnd = useRef(true);

  useEffect(() => {
    if (atEnd.current) log.current.scrollTop = log.current.scrollHeight;
  }, [messages]);

  const send = useCallback(async () => {
    const text = draft.trim();
    if (!text || running || !model) return;
    const history = [...messages, { role: "user", content: text }];
    const control = new AbortController();
    const update = perFrame((changes) =>
      setMessages((now) => [...now.slice(0, -1), { ...now[now.length - 1], ...changes }]),
    );
    setDraft("");
    setRunning(control);
    atEnd.current = true;
    setMessages([...history, { role: "assistant", content: "" }]);
    try {
      await complete(requestOf(model, settings, history), apiKey, control.signal, update.add);
    } catch (error) {
      update.add(error.name === "AbortError" ? { stopped: true } : { problem: problemOf(error) });
    } finally {
      update.flush();
      setRunning(null);
      box.current?.focus();
    }
  }, [draft, running, model, messages, settings, apiKey]);

  const onKey = (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      send();
    }
    if (event.key === "Escape") running?.abort();
  };
  const onScroll = () => {
    const { scrollTop, scrollHeight, clientHeight } = log.current;
    atEnd.current = scrollHeight - scrollTop - clientHeight < 40;
  };

  return html`
    <section class="chat" aria-label="Chat">
      <div class="log" role="log" aria-label="Conversation" aria-live="polite" aria-busy=${running !== null} ref=${log} onScroll=${onScroll} tabindex="0">
        ${messages.length === 0 &&
        html`<p class="empty">Ask ${model ?? "a model"} something. What it takes in memory shows in the memory view.</p>`}
        ${messages.map((message, i) => html`<${Message} key=${i} message=${message} finished=${running === null || i < messages.length - 1} />`)}
      </div>
      <form class="composer" onSubmit=${(event) => (event.preventDefault(), send())}>
        <label class="hidden" for="prompt">Your message</label>
        <textarea id="prompt" ref=${box} rows="2" value=${draft} placeholder="Enter sends, Shift+Enter begins a new line"
          onInput=${(event) => setDraft(event.target.value)} onKeyDown=${onKey}></textarea>
        ${running
          ? html`<button type="button" class="stop" onClick=${() => running.abort()}>Stop</button>`
          : html`<button type="submit" class="primary" disabled=${!draft.trim() || !model}>Send</button>`}
        <button type="button" disabled=${running !== null || !messages.length} onClick=${() => setMessages([])}>New</button>
      </form>
    </section>
  `;
}
