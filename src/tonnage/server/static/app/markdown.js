// Markdown of an answer that grows: a block that cannot change any more is rendered once.
import { html, useRef } from "/static/vendor/htm-preact.js";
import { lexer, parser } from "/static/vendor/marked.js";

const OPTIONS = { gfm: true, breaks: true };
// Answers are the model's words, and a model may write anything: nothing of it may load or run.
const ALLOWED = {
  FORBID_TAGS: ["img", "video", "audio", "source", "iframe", "form", "input", "button", "style", "svg", "math"],
  FORBID_ATTR: ["style", "srcset", "class", "id"],
};
// A link may be defined behind the text that uses it.
const DEFINITION = /^ {0,3}\[[^\]]+\]:/m;

function safe(tokens) {
  return window.DOMPurify.sanitize(parser(tokens, OPTIONS), ALLOWED);
}

// Returns the blocks at the front of `rest` that nothing behind them changes any more, and their
// length: all but the last of the whole lines. What half a line means is not known yet.
function settledOf(rest) {
  const lines = rest.slice(0, rest.lastIndexOf("\n") + 1);
  const tokens = lexer(lines, OPTIONS);
  const last = tokens.findLastIndex((token) => token.type !== "space");
  const length = (some) => some.reduce((sum, token) => sum + token.raw.length, 0);
  // A lexer that drops letters cannot tell where to go on.
  if (last <= 0 || length(tokens) !== lines.length) return { blocks: [], length: 0 };
  const done = tokens.slice(0, last);
  return { blocks: done.filter((token) => token.type !== "space"), length: length(done) };
}

export class Growing {
  constructor() {
    this.text = "";
    this.begin = 0; // of what may still change
    this.settled = [];
    this.open = "";
  }

  // Returns the blocks of `text` as HTML; cheap when it continues the text before.
  blocks(given, finished) {
    const text = given.includes("\r") ? given.replace(/\r\n?/g, "\n") : given;
    const whole = finished && DEFINITION.test(text);
    if (whole) return [safe(lexer(text, OPTIONS))];
    if (!text.startsWith(this.text)) Object.assign(this, new Growing());
    if (text !== this.text) {
      const { blocks, length } = settledOf(text.slice(this.begin));
      this.settled.push(...blocks.map((block) => safe([block])));
      this.begin += length;
      this.open = safe(lexer(text.slice(this.begin), OPTIONS));
      this.text = text;
    }
    return [...this.settled, this.open];
  }
}

export function Markdown({ text, finished }) {
  const growing = useRef(null);
  growing.current ??= new Growing();
  const blocks = growing.current.blocks(text, finished);
  return html`<div class="markdown">
    ${blocks.map((block, i) => html`<div key=${i} dangerouslySetInnerHTML=${{ __html: block }}></div>`)}
  </div>`;
}
