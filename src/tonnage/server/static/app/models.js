// Which model answers, where each of them is, and moving the chosen one in and out of memory.
import { html, useState } from "/static/vendor/htm-preact.js";
import { moveModel } from "./api.js";
import { bytes, number, percent } from "./format.js";

export function called(models, name) {
  return models?.find((one) => one.names.includes(name)) ?? null;
}

// Loads what is not there and unloads what is; says nothing of a model that is the only one.
function Mover({ one, apiKey, onProblem }) {
  const [asked, setAsked] = useState(false);
  if (one.pinned) return html`<span class="facts">pinned</span>`;
  const verb = one.state === "loaded" || one.state === "unloading" ? "unload" : "load";
  const busy = asked || one.state === "loading" || one.state === "unloading";
  const move = async () => {
    setAsked(true);
    onProblem(null);
    try {
      await moveModel(verb, one.id, apiKey);
    } catch (error) {
      onProblem(error);
    } finally {
      setAsked(false);
    }
  };
  return html`<button type="button" disabled=${busy} onClick=${move}>
    ${verb === "load" ? (busy ? "Loading…" : "Load") : busy ? "Unloading…" : "Unload"}
  </button>`;
}

export function Chooser({ names, chosen, models, apiKey, onChoose, onProblem }) {
  const one = called(models, chosen);
  const label = (name) => {
    const found = called(models, name);
    return models?.length > 1 && found ? `${name} · ${found.state}` : name;
  };
  return html`
    <label class="model">
      <span class="hidden">Model</span>
      <select value=${chosen} onChange=${(e) => onChoose(e.target.value)} disabled=${!names.length}>
        ${names.map((name) => html`<option value=${name}>${label(name)}</option>`)}
      </select>
    </label>
    ${models?.length > 1 && one && html`<${Mover} one=${one} apiKey=${apiKey} onProblem=${onProblem} />`}
  `;
}

// Whether a model has the others beside it, where not all of them fit.
function place(one, models) {
  if (models.every((other) => other.side_by_side)) return "";
  if (one.side_by_side) return " · side by side";
  return one.in_place_of ? ` · in place of ${number(one.in_place_of)}` : " · in turns";
}

export function Models({ models }) {
  return html`<ul class="models">
    ${models.map(
      (one) => html`<li>
        <b>${one.id}</b> ${one.pinned ? "pinned" : one.state}${one.state === "loading" &&
        ` ${percent(one.placed_bytes / one.planned_bytes)}`}, ${bytes(one.planned_bytes)}${place(one, models)}
        ${one.requests_running > 0 && ` · ${number(one.requests_running)} in progress`}
        ${one.requests_waiting > 0 && ` · ${number(one.requests_waiting)} waiting`}
      </li>`,
    )}
  </ul>`;
}
