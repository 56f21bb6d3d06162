// Numbers as people read them.

export function bytes(count) {
  if (!Number.isFinite(count)) return "–";
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  let value = Math.abs(count);
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit += 1;
  }
  const digits = unit === 0 || value >= 100 ? 0 : 1;
  return `${count < 0 ? "−" : ""}${value.toFixed(digits)} ${units[unit]}`;
}

export function number(value, digits = 0) {
  return Number.isFinite(value) ? value.toLocaleString("en", { maximumFractionDigits: digits }) : "–";
}

export function percent(share) {
  return Number.isFinite(share) ? `${Math.round(share * 100)} %` : "–";
}

export function seconds(value) {
  if (!Number.isFinite(value)) return "–";
  return value < 1 ? `${Math.round(value * 1000)} ms` : `${value.toFixed(1)} s`;
}

// An item of the ledger, with the model that it belongs to where there are several.
export function nameOf(item, state) {
  return item.model && state.models?.length > 1 ? `${item.model}: ${item.name}` : item.name;
}
