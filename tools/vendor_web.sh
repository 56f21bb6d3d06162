#!/usr/bin/env bash
# Fetches the web page's libraries into src/tonnage/server/static/vendor. Needs npm; run by hand to update.
set -euo pipefail
vendor="$(cd "$(dirname "$0")/.." && pwd)/src/tonnage/server/static/vendor"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# take PACKAGE@VERSION FILE_INSIDE NAME
take() {
  (cd "$work" && npm pack --silent "$1" >package.txt && tar -xzf "$(tail -n 1 package.txt)")
  sed '/sourceMappingURL/d' "$work/package/$2" >"$vendor/$3"
  rm -rf "$work/package"
}

take htm@3.1.1 preact/standalone.module.js htm-preact.js
take marked@18.2.1 lib/marked.esm.js marked.js
take dompurify@3.4.18 dist/purify.min.js purify.js
take uplot@1.6.32 dist/uPlot.iife.min.js uplot.js
take uplot@1.6.32 dist/uPlot.min.css uplot.css
