// The budget as two bars: what was planned, and what is there now.
import { html } from "/static/vendor/htm-preact.js";
import { bytes, nameOf, percent } from "./format.js";

function Bar({ state, label, items, field, total, rest }) {
  const width = (count) => ({ width: `${Math.max(0, (100 * count) / total)}%` });
  const said = items.filter((item) => item[field]).map((item) => `${nameOf(item, state)} ${bytes(item[field])}`);
  return html`
    <div class="bar-row">
      <span class="bar-label">${label}</span>
      <div class="bar" role="img" aria-label=${`${label}: ${said.join(", ")}; ${bytes(rest)} left`}>
        ${items.map(
          (item, i) => html`<span class=${`part kind-${item.kind}${items[i - 1] && items[i - 1].model !== item.model ? " next-model" : ""}`} style=${width(item[field] ?? 0)}
            title=${`${nameOf(item, state)}: ${bytes(item[field])}`}></span>`,
        )}
      </div>
    </div>
  `;
}

export function Budget({ state }) {
  const planned = state.items.reduce((sum, item) => sum + item.planned_bytes, 0);
  const total = Math.max(state.budget_bytes, planned, state.rss_bytes);
  const unaccounted = { name: "unaccounted", kind: "unaccounted", now_bytes: Math.max(0, state.unaccounted_bytes) };
  return html`
    <p class="figures">
      <b>${bytes(state.rss_bytes)}</b> of ${bytes(state.budget_bytes)} (${percent(state.rss_bytes / state.budget_bytes)}),
      peak ${bytes(state.peak_rss_bytes)}, unaccounted ${bytes(state.unaccounted_bytes)}
    </p>
    <${Bar} state=${state} label="planned" items=${state.items} field="planned_bytes" total=${total} rest=${state.budget_bytes - planned} />
    <${Bar} state=${state} label="now" items=${[...state.items, unaccounted]} field="now_bytes" total=${total}
      rest=${state.budget_bytes - state.rss_bytes} />
    <ul class="legend">
      ${[["weight", "weights"], ["kv", "KV pages"], ["scratch", "scratch"], ["load", "loading"], ["host", "process"]].map(
        ([kind, name]) => html`<li><span class=${`swatch kind-${kind}`}></span> ${name}</li>`,
      )}
    </ul>
  `;
}
