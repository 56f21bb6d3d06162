// The prefix tree as nested lists, which a keyboard can open and close.
import { html } from "/static/vendor/htm-preact.js";
import { number, seconds } from "./format.js";

function Node({ node }) {
  const text = html`${number(node.tokens)} tokens, ${number(node.pages)} pages, used ${seconds(node.idle_s)} ago`;
  if (!node.children.length) return html`<li>${text}</li>`;
  return html`<li><details open><summary>${text}</summary>
    <ul>${node.children.map((child) => html`<${Node} node=${child} />`)}</ul>
  </details></li>`;
}

export function PrefixTree({ prefix }) {
  if (!prefix.roots.length) return html`<p class="empty">Nothing is cached yet.</p>`;
  return html`
    <ul class="tree">${prefix.roots.map((root) => html`<${Node} node=${root} />`)}</ul>
    ${prefix.hidden_nodes > 0 && html`<p class="facts">${number(prefix.hidden_nodes)} more are not shown.</p>`}
  `;
}
