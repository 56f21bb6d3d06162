// The conversation: streaming completions, stop, edit, once more.
import { html, useCallback, useEffect, useMemo, useRef, useState } from "/static/vendor/htm-preact.js";
import { chat } from "./api.js";
import { Message } from "./messages.js";
import { wordsOf } from "./words.js";

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

// Goes through what was asked before, as a terminal does; returns what `key` leads to, or null.
function recalled(messages, draft, key, place) {
  const asked = messages.filter((one) => one.role === "user").map((one) => one.content);
  const at = place.current === null ? asked.length : place.current;
  const begins = draft === "" || (place.current !== null && draft === asked[at]);
  const next = key === "ArrowUp" ? at - 1 : at + 1;
  if (!begins || next < 0 || (key === "ArrowDown" && place.current === null)) return null;
  place.current = next < asked.length ? next : null;
  return asked[next] ?? "";
}

export function Chat({ model, settings, apiKey, conversation, onChange, onNew }) {
  const [messages, setMessages] = useState(conversation.messages);
  const [draft, setDraft] = useState("");
  const [running, setRunning] = useState(null);
  const log = useRef(null);
  const box = useRef(null);
  const place = useRef(null); // of the question that was recalled
  const atEnd = useRef(true);
  const shown = useRef(conversation.id);

  useEffect(() => {
    if (shown.current === conversation.id) return;
    shown.current = conversation.id;
    running?.abort();
    setMessages(conversation.messages);
    setDraft("");
  }, [conversation, running]);
  useEffect(() => {
    if (atEnd.current) log.current.scrollTop = log.current.scrollHeight;
  }, [messages]);
  useEffect(() => {
    if (running === null && messages.length) onChange(conversation.id, messages);
  }, [messages, running]);

  const answer = useCallback(
    async (history) => {
      if (running || !model) return;
      const own = conversation.id;
      const control = new AbortController();
      const update = perFrame((changes) => {
        if (shown.current === own) setMessages((now) => [...now.slice(0, -1), { ...now[now.length - 1], ...changes }]);
      });
      setRunning(control);
      atEnd.current = true;
      setMessages([...history, { role: "assistant", content: "" }]);
      try {
        await complete(requestOf(model, settings, history), apiKey, control.signal, update.add);
      } catch (error) {
        update.add(error.name === "AbortError" ? { stopped: true } : { problem: wordsOf(error, model) });
      } finally {
        update.flush();
        setRunning(null);
        box.current?.focus();
      }
    },
    [running, model, settings, apiKey, conversation.id],
  );
  const send = () => {
    const text = draft.trim();
    if (!text || running || !model) return;
    setDraft("");
    place.current = null;
    answer([...messages, { role: "user", content: text }]);
  };
  const idle = running === null;
  // One function for each message, that stays the same while a completion grows.
  const edits = useMemo(
    () =>
      messages.map((message, i) => () => {
        setMessages(messages.slice(0, i));
        setDraft(message.content);
        box.current.focus();
      }),
    [messages.length, idle],
  );
  const again = useCallback(() => answer(messages.slice(0, -1)), [answer, messages.length, idle]);

  const onKey = (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      send();
    }
    if (event.key === "Escape") running?.abort();
    if (event.key === "ArrowUp" || event.key === "ArrowDown") {
      const text = recalled(messages, draft, event.key, place);
      if (text === null) return;
      event.preventDefault();
      setDraft(text);
    }
  };
  const onScroll = () => {
    const { scrollTop, scrollHeight, clientHeight } = log.current;
    atEnd.current = scrollHeight - scrollTop - clientHeight < 40;
  };
  const last = messages.length - 1;

  return html`
    <section class="chat" aria-label="Chat">
      <div class="log" role="log" aria-label="Conversation" aria-live="polite" aria-busy=${!idle} ref=${log} onScroll=${onScroll} tabindex="0">
        ${messages.length === 0 &&
        html`<p class="empty">Ask ${model ?? "a model"} something. What it takes in memory shows in the memory view.</p>`}
        ${messages.map(
          (message, i) => html`<${Message} key=${i} message=${message} finished=${idle || i < last}
            onEdit=${idle && message.role === "user" ? edits[i] : null}
            onAgain=${idle && i === last && message.role === "assistant" ? again : null} />`,
        )}
      </div>
      <form class="composer" onSubmit=${(event) => (event.preventDefault(), send())}>
        <label class="hidden" for="prompt">Your message</label>
        <textarea id="prompt" ref=${box} rows="2" value=${draft} placeholder="Enter sends, Shift+Enter begins a new line"
          onInput=${(event) => setDraft(event.target.value)} onKeyDown=${onKey}></textarea>
        ${running
          ? html`<button type="button" class="stop" onClick=${() => running.abort()}>Stop</button>`
          : html`<button type="submit" class="primary" disabled=${!draft.trim() || !model}>Send</button>`}
        <button type="button" disabled=${!idle || !messages.length} onClick=${onNew}>New</button>
      </form>
    </section>
  `;
}
