// The page: a chat and the live memory beside it.
import { html, render, useCallback, useEffect, useState } from "/static/vendor/htm-preact.js";
import { getJson } from "./api.js";
import { Chat } from "./chat.js";
import { Memory } from "./memory.js";
import { Chooser } from "./models.js";
import { Settings } from "./settings.js";
import { loadKey, loadSettings, saveKey, saveSettings } from "./store.js";

function useModels(key) {
  const [models, setModels] = useState([]);
  const [problem, setProblem] = useState(null);
  useEffect(() => {
    getJson("/v1/models", key).then(
      (list) => {
        setModels(list.data.map((model) => model.id));
        setProblem(null);
      },
      setProblem,
    );
  }, [key]);
  return [models, problem];
}

function App() {
  const [settings, setSettings] = useState(loadSettings);
  const [key, setKey] = useState(loadKey);
  const [models, problem] = useModels(key);
  const [chosen, setChosen] = useState(null);
  const [states, setStates] = useState(null);
  const [refusal, setRefusal] = useState(null);
  const [view, setView] = useState("chat");
  const [open, setOpen] = useState(false);
  const model = chosen ?? models[0] ?? null;
  const apply = useCallback((next, nextKey) => {
    setSettings(next);
    saveSettings(next);
    setKey(nextKey);
    saveKey(nextKey);
    setOpen(false);
  }, []);
  useEffect(() => {
    document.documentElement.dataset.theme = settings.theme;
  }, [settings.theme]);
  useEffect(() => {
    if (problem?.status === 401) setOpen(true);
  }, [problem]);

  return html`
    <header>
      <h1><img src="/static/icon.svg" alt="" width="24" height="24" /> Tonnage</h1>
      <${Chooser} names=${models} chosen=${model} models=${states} apiKey=${key} onChoose=${setChosen} onProblem=${setRefusal} />
      <nav aria-label="Views">
        ${["chat", "memory"].map(
          (name) => html`<button type="button" aria-pressed=${view === name} onClick=${() => setView(name)}>
            ${name === "chat" ? "Chat" : "Memory"}
          </button>`,
        )}
      </nav>
      <button type="button" class="settings" onClick=${() => setOpen(true)}>Settings</button>
    </header>
    ${problem && html`<p class="problem" role="alert">${problem.message}</p>`}
    ${refusal && html`<p class="problem" role="alert">${refusal.message}</p>`}
    <main data-view=${view}>
      <${Chat} model=${model} settings=${settings} apiKey=${key} />
      <${Memory} apiKey=${key} model=${model} onModels=${setStates} />
    </main>
    <${Settings} open=${open} settings=${settings} apiKey=${key} onApply=${apply} onClose=${() => setOpen(false)} />
  `;
}

const place = document.getElementById("app");
place.replaceChildren();
render(html`<${App} />`, place);
