// The pool of pages, as runs of cells: running sequences, cached prefixes, free.
import { html } from "/static/vendor/htm-preact.js";
import { bytes, number } from "./format.js";

const MOST_CELLS = 512;

function Cells({ pages }) {
  const scale = Math.max(1, Math.ceil(pages.total / MOST_CELLS));
  const cells = (count) => Math.ceil(count / scale);
  const runs = [
    ...pages.sequences.map((one, i) => ({ name: `sequence ${one.id}`, count: one.pages - one.shared_pages, style: `seq seq-${i % 6}` })),
    { name: "cached prefixes", count: pages.cached, style: "cached" },
    { name: "free", count: pages.free, style: "free" },
  ];
  const said = runs.filter((run) => run.count).map((run) => `${run.name} ${number(run.count)}`).join(", ");
  return html`
    <div class="cells" role="img" aria-label=${`Pages: ${said}`}>
      ${runs.map((run) =>
        Array.from({ length: cells(run.count) }, () => html`<span class=${run.style} title=${run.name}></span>`),
      )}
    </div>
    ${scale > 1 && html`<p class="facts">One square stands for ${scale} pages.</p>`}
  `;
}

export function Pages({ pages }) {
  return html`
    <p class="figures">
      <b>${number(pages.used)}</b> in use, <b>${number(pages.cached)}</b> cached,
      ${` ${number(pages.free)} free of ${number(pages.total)} pages of ${bytes(pages.page_bytes)}`}
    </p>
    <${Cells} pages=${pages} />
    <ul class="sequences">
      ${pages.sequences.map(
        (one, i) => html`<li><span class=${`swatch seq seq-${i % 6}`}></span>
          ${` ${one.id}: ${one.state}, ${number(one.tokens)} tokens in ${number(one.pages)} pages`}</li>`,
      )}
    </ul>
  `;
}
