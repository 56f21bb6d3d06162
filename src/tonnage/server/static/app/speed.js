// Tokens per second, its forecast and the share of the bandwidth over the last minutes.
import { html, useEffect, useRef } from "/static/vendor/htm-preact.js";

const HEIGHT = 160;
const LEAST_S = 60; // that the time axis spans, so that its marks differ

function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

function optionsFor(width) {
  const axis = { stroke: () => colour("--text-soft"), grid: { stroke: () => colour("--line"), width: 1 } };
  const points = { show: false };
  return {
    width,
    height: HEIGHT,
    legend: { show: false },
    cursor: { show: false },
    scales: {
      x: { range: (_, least, most) => [Math.min(least, most - LEAST_S), most] },
      share: { range: [0, 1] },
      rate: { range: (_, __, most) => [0, Math.max(1, most * 1.1)] },
    },
    axes: [
      { ...axis, space: 80, values: (_, all) => all.map((at) => new Date(at * 1000).toLocaleTimeString()) },
      { ...axis, scale: "rate", size: 48 },
      { ...axis, scale: "share", side: 1, size: 58, grid: { show: false }, values: (_, all) => all.map((v) => `${Math.round(v * 100)}%`) },
    ],
    series: [
      {},
      { scale: "rate", stroke: () => colour("--rate"), width: 2, points },
      { scale: "rate", stroke: () => colour("--rate"), width: 1, dash: [4, 4], points },
      { scale: "share", stroke: () => colour("--share"), width: 2, points },
    ],
  };
}

export function Speed({ history }) {
  // One sample is no line, and none has no time.
  return history.length > 1 ? html`<${Chart} history=${history} />` : html`<p class="empty">The chart begins in a moment.</p>`;
}

function Chart({ history }) {
  const place = useRef(null);
  const plot = useRef(null);
  useEffect(() => {
    const chart = new window.uPlot(optionsFor(place.current.clientWidth || 300), [[], [], [], []], place.current);
    const watch = new ResizeObserver(() => chart.setSize({ width: place.current.clientWidth, height: HEIGHT }));
    plot.current = chart;
    watch.observe(place.current);
    return () => {
      watch.disconnect();
      chart.destroy();
    };
  }, []);
  useEffect(() => {
    const column = (field) => history.map((sample) => sample[field]);
    plot.current?.setData([column("at"), column("rate"), column("forecast"), column("share")]);
  }, [history]);
  return html`<figure aria-label="Speed over time">
    <div ref=${place} aria-hidden="true"></div>
    <figcaption>
      <span class="line rate"></span> tokens/s <span class="line rate dashed"></span> forecast
      <span class="line share"></span> share of the bandwidth
    </figcaption>
  </figure>`;
}
