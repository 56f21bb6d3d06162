// Settings that outlive a visit, and the key, which does not.

const SETTINGS = "tonnage.settings";
const KEY = "tonnage.key";

export const DEFAULTS = {
  theme: "auto",
  system: "",
  temperature: 0.7,
  topP: 1,
  maxTokens: 512,
  seed: "",
};

export function loadSettings() {
  try {
    return { ...DEFAULTS, ...JSON.parse(localStorage.getItem(SETTINGS) ?? "{}") };
  } catch {
    return { ...DEFAULTS };
  }
}

export function saveSettings(settings) {
  try {
    localStorage.setItem(SETTINGS, JSON.stringify(settings));
  } catch {
    // Storage may be forbidden; the settings then last as long as the page.
  }
}

export function loadKey() {
  try {
    return sessionStorage.getItem(KEY) ?? "";
  } catch {
    return "";
  }
}

export function saveKey(key) {
  try {
    sessionStorage.setItem(KEY, key);
  } catch {
    // As above.
  }
}
