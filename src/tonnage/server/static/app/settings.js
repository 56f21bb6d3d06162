// The settings dialog.
import { html, useEffect, useRef } from "/static/vendor/htm-preact.js";
import { DEFAULTS } from "./store.js";

function valuesOf(form) {
  const given = new FormData(form);
  const numeric = (name) => {
    const value = Number(given.get(name));
    return Number.isFinite(value) ? value : DEFAULTS[name];
  };
  return {
    theme: given.get("theme"),
    system: given.get("system"),
    temperature: numeric("temperature"),
    topP: numeric("topP"),
    maxTokens: numeric("maxTokens"),
    seed: given.get("seed").trim(),
    keep: given.has("keep"),
  };
}

export function Settings({ open, settings, apiKey, onApply, onClose }) {
  const dialog = useRef(null);
  useEffect(() => {
    if (open && !dialog.current.open) dialog.current.showModal();
    if (!open && dialog.current.open) dialog.current.close();
  }, [open]);
  const submit = (event) => {
    event.preventDefault();
    onApply(valuesOf(event.target), new FormData(event.target).get("key").trim());
  };
  return html`
    <dialog ref=${dialog} onClose=${onClose} aria-labelledby="settings-title">
      <form onSubmit=${submit}>
        <h2 id="settings-title">Settings</h2>
        <label>System prompt <textarea name="system" rows="3">${settings.system}</textarea></label>
        <label>Temperature
          <input name="temperature" type="number" min="0" max="2" step="0.05" value=${settings.temperature} /></label>
        <label>Top p <input name="topP" type="number" min="0.01" max="1" step="0.01" value=${settings.topP} /></label>
        <label>Most tokens of an answer
          <input name="maxTokens" type="number" min="1" max="1000000" step="1" value=${settings.maxTokens} /></label>
        <label>Seed (empty for another answer each time)
          <input name="seed" inputmode="numeric" pattern="[0-9]*" value=${settings.seed} /></label>
        <label>Appearance
          <select name="theme" value=${settings.theme}>
            <option value="auto">as the system</option>
            <option value="light">light</option>
            <option value="dark">dark</option>
          </select></label>
        <label class="check"><input name="keep" type="checkbox" checked=${settings.keep} />
          Keep conversations in this browser</label>
        <label>API key (kept until this tab closes)
          <input name="key" type="password" autocomplete="off" value=${apiKey} /></label>
        <p class="buttons">
          <button type="button" onClick=${onClose}>Cancel</button>
          <button type="submit" class="primary">Apply</button>
        </p>
      </form>
    </dialog>
  `;
}
