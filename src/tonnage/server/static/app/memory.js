// The live memory view: budget, items, pages, prefix tree, speed over time, what was given up under memory pressure.
import { html, useEffect, useState } from "/static/vendor/htm-preact.js";
import { getJson } from "./api.js";
import { bytes, nameOf, number, percent, seconds } from "./format.js";
import { Budget } from "./budget.js";
import { Models } from "./models.js";
import { Pages } from "./pages.js";
import { PrefixTree } from "./prefix.js";
import { Speed } from "./speed.js";
import { wordsOf } from "./words.js";

const PERIOD_MS = 1000;
const MOST_SAMPLES = 300;

function sampleOf(state) {
  const speed = state.speed ?? {};
  return {
    at: Date.now() / 1000,
    rate: speed.decode_tokens_per_s ?? null,
    forecast: speed.forecast_tokens_per_s ?? null,
    share: speed.bandwidth_share ?? null,
    rss: state.rss_bytes,
  };
}

// Asks once a period while the page is seen; the last state stays on the page when the server does not answer.
function useMemory(apiKey, model, onModels) {
  const [state, setState] = useState(null);
  const [history, setHistory] = useState([]);
  const [problem, setProblem] = useState(null);
  useEffect(() => {
    let timer = null;
    let ended = false;
    const ask = async () => {
      if (!document.hidden) {
        try {
          const next = await getJson(model ? `/memory?model=${encodeURIComponent(model)}` : "/memory", apiKey);
          if (ended) return;
          setState(next);
          onModels(next.models);
          setHistory((all) => [...all.slice(1 - MOST_SAMPLES), sampleOf(next)]);
          setProblem(null);
        } catch (error) {
          if (!ended) setProblem(error);
        }
      }
      if (!ended) timer = setTimeout(ask, PERIOD_MS);
    };
    ask();
    return () => {
      ended = true;
      clearTimeout(timer);
    };
  }, [apiKey, model]);
  return [state, history, problem];
}

function Pressure({ events }) {
  if (!events.length) return html`<p class="empty">Memory was never short.</p>`;
  return html`<ol class="ladder" reversed>
    ${[...events].reverse().map(
      (event) => html`<li><span class="when">${seconds(event.age_s)} ago</span> ${event.text}</li>`,
    )}
  </ol>`;
}

// What was measured, beside what was to be expected where this machine was measured before.
function Figures({ speed }) {
  const rate = html`<b>${number(speed.decode_tokens_per_s, 1)}</b> tokens/s`;
  const known = Number.isFinite(speed.forecast_tokens_per_s);
  if (speed.decode_tokens_per_s != null && !known) {
    return html`<p class="figures">
      ${rate}. What this machine could do is not known: <code>tonnage doctor --measure</code> finds it out, in 2 s, for servers
      that are started after it.
    </p>`;
  }
  return html`<p class="figures">
    ${rate}, forecast ${number(speed.forecast_tokens_per_s, 1)}, <b>${percent(speed.bandwidth_share)}</b> of what the memory can give
  </p>`;
}

function PageStore({ counts }) {
  return html`<p class="figures">
    <b>${number(counts.hits)}</b> found, <b>${number(counts.misses)}</b> not found (${number(counts.damaged)} of them damaged),
    ${` ${number(counts.written)} written, ${number(counts.evicted)} evicted`}
  </p>`;
}

function Items({ state }) {
  return html`<table>
    <caption class="hidden">Items of the process, planned beside measured</caption>
    <thead><tr><th scope="col">item</th><th scope="col">planned</th><th scope="col">now</th><th scope="col">peak</th></tr></thead>
    <tbody>
      ${state.items.map(
        (item) => html`<tr>
          <th scope="row"><span class=${`swatch kind-${item.kind}`}></span> ${nameOf(item, state)}</th>
          <td>${bytes(item.planned_bytes)}</td>
          <td>${bytes(item.now_bytes)}</td>
          <td>${bytes(item.peak_bytes)}</td>
        </tr>`,
      )}
    </tbody>
  </table>`;
}

function Panel({ title, children }) {
  return html`<section class="panel" aria-label=${title}><h2>${title}</h2>${children}</section>`;
}

export function Memory({ apiKey, model, onModels }) {
  const [state, history, problem] = useMemory(apiKey, model, onModels);
  const several = state?.models?.length > 1;
  return html`
    <section class="memory" aria-label="Memory" tabindex="0">
      ${problem && html`<p class="problem" role="status">${wordsOf(problem)}</p>`}
      ${state &&
      html`
        <${Panel} title="Budget"><${Budget} state=${state} /><//>
        ${several && html`<${Panel} title="Models"><${Models} models=${state.models} /><//>`}
        <${Panel} title="Speed">
          <${Figures} speed=${state.speed ?? {}} />
          <${Speed} history=${history} />
        <//>
        ${state.pages?.total > 0 && html`<${Panel} title="Pages"><${Pages} pages=${state.pages} /><//>`}
        ${state.prefix && html`<${Panel} title="Shared prefixes"><${PrefixTree} prefix=${state.prefix} /><//>`}
        ${state.page_store && html`<${Panel} title="Pages on disk"><${PageStore} counts=${state.page_store} /><//>`}
        <${Panel} title="Items"><${Items} state=${state} /><//>
        ${state.ladder && html`<${Panel} title="When memory ran short"><${Pressure} events=${state.ladder} /><//>`}
      `}
    </section>
  `;
}
