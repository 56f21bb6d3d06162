"""How a folder of sentence-transformers makes vectors: modules.json and what it names.

Source: the modules of sentence-transformers and the files that they save. Whatever these ask for
is done, or named as what is not.
"""

from collections.abc import Callable, Mapping

from tonnage.core.errors import FileFormatError
from tonnage.core.pooling import Pooling, TrainedPooling

# Reads a JSON file by its path within the folder; None where there is none.
ReadJson = Callable[[str], object]

MODES: Mapping[str, Pooling] = {"mean_tokens": "mean", "lasttoken": "last"}
# The same in newer files, which name one mode.
MODE_NAMES: Mapping[str, Pooling] = {"mean": "mean", "lasttoken": "last"}
MODE_PREFIX = "pooling_mode_"
# What changes no vector here: hidden states come first, vectors have length 1 in any case, and
# nothing is dropped but in training.
WITHOUT_EFFECT = frozenset({"Transformer", "Normalize", "Dropout"})


def pooling_of_folder(read: ReadJson) -> TrainedPooling:
    """Return what a folder says of its vectors. Raises FileFormatError for malformed files."""
    modules = read("modules.json")
    if modules is None:
        return TrainedPooling()
    if not isinstance(modules, list):
        raise FileFormatError("modules.json is no list of modules; download the model again.")
    kind: Pooling | None = None
    unmet = []
    for module in modules:
        name, path = _module(module)
        if name == "Pooling":
            kind, wrong = _mode(_table(read, f"{path}/config.json"))
            unmet += [f"{path}/config.json: {one}" for one in wrong]
        elif name not in WITHOUT_EFFECT:
            unmet.append(f"{path or '.'} ({name})")
    unmet += _text_changes(read)
    return TrainedPooling(kind, ", ".join(unmet))


def _module(module: object) -> tuple[str, str]:
    """Return the class of a module and the folder that it lies in."""
    if isinstance(module, dict):
        name, path = module.get("type"), module.get("path", "")
        if isinstance(name, str) and isinstance(path, str) and ".." not in path.split("/"):
            return name.rpartition(".")[2][:80], path.strip("/")
    raise FileFormatError(
        f"modules.json has the module {str(module)[:80]}, where type and path within the folder "
        "belong; download the model again."
    )


def _table(read: ReadJson, path: str) -> Mapping[str, object]:
    value = read(path)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise FileFormatError(f"{path} holds no JSON object; download the model again.")
    return value


def _mode(config: Mapping[str, object]) -> tuple[Pooling | None, list[str]]:
    """Return the one mode of a pooling module, or what is not implemented of several."""
    named = config.get("pooling_mode")
    if named is not None:
        mode = MODE_NAMES.get(str(named))
        return mode, [] if mode else [f"pooling_mode {str(named)[:80]!r}"]
    flags = {"mean_tokens": config.get(f"{MODE_PREFIX}mean_tokens", True)}
    for key, value in config.items():
        if key.startswith(MODE_PREFIX):
            flags[key.removeprefix(MODE_PREFIX)] = value
    modes = [mode for mode, value in flags.items() if value]
    if len(modes) == 1 and modes[0] in MODES:
        return MODES[modes[0]], []
    return None, [" and ".join(MODE_PREFIX + mode for mode in modes) or "no mode"]


def _text_changes(read: ReadJson) -> list[str]:
    """Return what is to happen to a text before it is encoded."""
    wrong = []
    if _table(read, "sentence_bert_config.json").get("do_lower_case"):
        wrong.append("sentence_bert_config.json: do_lower_case")
    config = _table(read, name := "config_sentence_transformers.json")
    prompts, default = config.get("prompts"), config.get("default_prompt_name")
    if isinstance(default, str) and isinstance(prompts, dict) and prompts.get(default) != "":
        wrong.append(f"{name}: default_prompt_name {default[:80]!r}")
    return wrong
