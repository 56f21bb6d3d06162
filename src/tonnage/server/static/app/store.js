// Settings and conversations, which outlive a visit in this browser alone, and the key, which does not.

const SETTINGS = "tonnage.settings";
const KEY = "tonnage.key";
const CONVERSATIONS = "tonnage.conversations";
const MOST_CONVERSATIONS = 100;

export const DEFAULTS = {
  theme: "auto",
  system: "",
  // Those of the command line; a test compares them.
  temperature: 0.8,
  topP: 0.95,
  maxTokens: 512,
  seed: "",
  keep: true,
};

export function loadSettings() {
  try {
    const kept = JSON.parse(localStorage.getItem(SETTINGS) ?? "{}");
    return { ...DEFAULTS, ...kept };
  } catch {
    return { ...DEFAULTS };
  }
}

export function saveSettings(settings) {
  try {
    // What is as usual follows what is usual.
    const own = Object.entries(settings).filter(([name, value]) => value !== DEFAULTS[name]);
    localStorage.setItem(SETTINGS, JSON.stringify(Object.fromEntries(own)));
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

// All kept conversations, the newest first: {id, title, model, at, messages}.
export function loadConversations() {
  try {
    const all = JSON.parse(localStorage.getItem(CONVERSATIONS) ?? "[]");
    return Array.isArray(all) ? all.filter((one) => Array.isArray(one?.messages)) : [];
  } catch {
    return [];
  }
}

// Keeps them; where the browser has no room for all, the oldest go first.
export function saveConversations(all) {
  for (let count = Math.min(all.length, MOST_CONVERSATIONS); count >= 0; count = count > 0 ? Math.floor(count / 2) : -1) {
    try {
      localStorage.setItem(CONVERSATIONS, JSON.stringify(all.slice(0, count)));
      return;
    } catch {
      // Full, or forbidden: then they last as long as the page.
    }
  }
}
