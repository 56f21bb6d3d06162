// The conversations that this browser keeps: open, export, delete.
import { html, useEffect, useRef } from "/static/vendor/htm-preact.js";
import { number } from "./format.js";

const TITLE_LETTERS = 60;

export function titleOf(messages) {
  const first = messages.find((one) => one.role === "user")?.content ?? "";
  const line = first.trim().split("\n")[0];
  return line.length > TITLE_LETTERS ? `${line.slice(0, TITLE_LETTERS)}…` : line || "Without a word";
}

// Returns the conversations with this one as the newest.
export function kept(all, id, model, messages) {
  const own = { id, title: titleOf(messages), model, at: Date.now(), messages };
  return [own, ...all.filter((one) => one.id !== id)];
}

// Hands `value` to the user as a file of JSON.
function download(name, value) {
  const file = new Blob([JSON.stringify(value, null, 2)], { type: "application/json" });
  const link = Object.assign(document.createElement("a"), { href: URL.createObjectURL(file), download: name });
  link.click();
  URL.revokeObjectURL(link.href);
}

function Row({ one, onOpen, onDelete }) {
  return html`<li>
    <button type="button" class="title" onClick=${() => onOpen(one)}>${one.title}</button>
    <span class="when">${new Date(one.at).toLocaleString()} · ${number(one.messages.length)} messages</span>
    <button type="button" aria-label=${`Export ${one.title}`} onClick=${() => download("conversation.json", one)}>Export</button>
    <button type="button" aria-label=${`Delete ${one.title}`} onClick=${() => onDelete(one.id)}>Delete</button>
  </li>`;
}

export function Conversations({ open, all, onOpen, onDelete, onClear, onClose }) {
  const dialog = useRef(null);
  useEffect(() => {
    if (open && !dialog.current.open) dialog.current.showModal();
    if (!open && dialog.current.open) dialog.current.close();
  }, [open]);
  return html`
    <dialog ref=${dialog} onClose=${onClose} aria-labelledby="conversations-title">
      <h2 id="conversations-title">Conversations</h2>
      ${all.length
        ? html`<ul class="conversations">
            ${all.map((one) => html`<${Row} key=${one.id} one=${one} onOpen=${onOpen} onDelete=${onDelete} />`)}
          </ul>`
        : html`<p class="empty">None is kept. They stay in this browser; the server keeps none.</p>`}
      <p class="buttons">
        <button type="button" disabled=${!all.length} onClick=${() => download("conversations.json", all)}>Export all</button>
        <button type="button" disabled=${!all.length} onClick=${onClear}>Delete all</button>
        <button type="button" class="primary" onClick=${onClose}>Close</button>
      </p>
    </dialog>
  `;
}
