// The page: a chat and the live memory beside it.
import { html, render, useCallback, useEffect, useState } from "/static/vendor/htm-preact.js";
import { getJson } from "./api.js";
import { Chat } from "./chat.js";
import { Conversations, kept } from "./conversations.js";
import { Memory } from "./memory.js";
import { Chooser } from "./models.js";
import { Settings } from "./settings.js";
import { loadConversations, loadKey, loadSettings, saveConversations, saveKey, saveSettings } from "./store.js";
import { wordsOf } from "./words.js";

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

function fresh() {
  return { id: `${Date.now()}-${Math.random().toString(36).slice(2)}`, messages: [] };
}

// The conversation that is shown, and all that this browser keeps.
function useConversations(settings) {
  const [current, setCurrent] = useState(fresh);
  const [all, setAll] = useState(loadConversations);
  const change = useCallback(
    (next) => {
      setAll(next);
      saveConversations(next);
    },
    [],
  );
  const onChange = (id, messages, model) => settings.keep && change(kept(all, id, model, messages));
  return { current, all, change, onChange, open: setCurrent };
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
  const [listed, setListed] = useState(false);
  const talks = useConversations(settings);
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
      <h1><img src="/static/icon.svg" alt="" width="24" height="24" /> <span class="word">Tonnage</span></h1>
      <${Chooser} names=${models} chosen=${model} models=${states} apiKey=${key} onChoose=${setChosen} onProblem=${setRefusal} />
      <nav aria-label="Views">
        ${["chat", "memory"].map(
          (name) => html`<button type="button" aria-pressed=${view === name} onClick=${() => setView(name)}>
            ${name === "chat" ? "Chat" : "Memory"}
          </button>`,
        )}
      </nav>
      <span class="tools">
        <button type="button" aria-label="Conversations" onClick=${() => setListed(true)}><span aria-hidden="true">☰</span><span class="word"> Conversations</span></button>
        <button type="button" aria-label="Settings" onClick=${() => setOpen(true)}><span aria-hidden="true">⚙</span><span class="word"> Settings</span></button>
      </span>
    </header>
    ${problem && html`<p class="problem" role="alert">${wordsOf(problem)}</p>`}
    ${refusal && html`<p class="problem" role="alert">${wordsOf(refusal, model)}</p>`}
    <main data-view=${view}>
      <${Chat} model=${model} settings=${settings} apiKey=${key} conversation=${talks.current}
        onChange=${(id, messages) => talks.onChange(id, messages, model)} onNew=${() => talks.open(fresh())} />
      <${Memory} apiKey=${key} model=${model} onModels=${setStates} />
    </main>
    <${Conversations} open=${listed} all=${talks.all} onClose=${() => setListed(false)} onClear=${() => talks.change([])}
      onOpen=${(one) => (talks.open(one), setListed(false))}
      onDelete=${(id) => talks.change(talks.all.filter((one) => one.id !== id))} />
    <${Settings} open=${open} settings=${settings} apiKey=${key} onApply=${apply} onClose=${() => setOpen(false)} />
  `;
}

const place = document.getElementById("app");
place.replaceChildren();
render(html`<${App} />`, place);
