// One message of a conversation, what it took, and what can be done with it.
import { html, useMemo, useState } from "/static/vendor/htm-preact.js";
import { number, seconds } from "./format.js";
import { Markdown } from "./markdown.js";

function factsOf(answer) {
  const parts = [];
  if (answer.usage) parts.push(`${number(answer.usage.prompt_tokens)} tokens in, ${number(answer.usage.completion_tokens)} out`);
  if (answer.firstS !== undefined) parts.push(`first after ${seconds(answer.firstS)}`);
  if (answer.rate) parts.push(`${number(answer.rate, 1)} tokens/s`);
  if (answer.finish === "length") parts.push("ended at the token limit");
  if (answer.stopped) parts.push("stopped");
  return parts.join(" · ");
}

// Puts text where it can be pasted; without that permission by a selection, as pages without TLS have to.
async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const area = Object.assign(document.createElement("textarea"), { value: text });
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
}

function Copy({ text }) {
  const [done, setDone] = useState(false);
  const onClick = async () => {
    await copy(text);
    setDone(true);
    setTimeout(() => setDone(false), 2000);
  };
  return html`<button type="button" onClick=${onClick}>${done ? "Copied" : "Copy"}</button>`;
}

// onEdit, onAgain: null where they cannot be done now.
export function Message({ message, finished, onEdit, onAgain }) {
  // The same nodes while nothing changed: then there is nothing to compare.
  return useMemo(() => shown(message, finished, onEdit, onAgain), [message, finished, onEdit, onAgain]);
}

function shown(message, finished, onEdit, onAgain) {
  const mine = message.role === "user";
  const who = mine ? "You" : "Model";
  return html`
    <article class=${`message ${message.role}`} aria-label=${who}>
      <h2>${who}</h2>
      ${message.thought &&
      html`<details class="thought"><summary>Thought</summary><p class="plain">${message.thought}</p></details>`}
      ${mine
        ? html`<p class="plain">${message.content}</p>`
        : html`<${Markdown} text=${message.content} finished=${finished} />`}
      ${message.problem && html`<p class="problem" role="alert">${message.problem}</p>`}
      ${factsOf(message) && html`<p class="facts">${factsOf(message)}</p>`}
      ${finished &&
      html`<p class="actions">
        ${message.content && html`<${Copy} text=${message.content} />`}
        ${mine && onEdit && html`<button type="button" onClick=${onEdit}>Edit</button>`}
        ${onAgain && html`<button type="button" onClick=${onAgain}>Regenerate</button>`}
      </p>`}
    </article>
  `;
}
