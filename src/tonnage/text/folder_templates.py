"""The chat templates of a Hugging Face folder, in every place that transformers reads and wrote."""

import os
from collections.abc import Mapping
from typing import Any

from tonnage.core.errors import TokenizerError
from tonnage.text.json_parts import MAX_PART_BYTES, optional_parts

_MORE_TEMPLATES = "additional_chat_templates"
_MAX_TEMPLATES = 64


def folder_templates(folder: str) -> Mapping[str, str]:
    """Return the templates by name; `default` is the usual one, `tool_use` reads tools.

    Files of their own (chat_template.jinja, additional_chat_templates/NAME.jinja) go before
    chat_template.json, that before tokenizer_config.json; `default` is looked for in all of them.
    Raises TokenizerError for a malformed file.
    """
    found = [
        _template_files(folder),
        _templates_in(folder, "chat_template.json"),
        _templates_in(folder, "tokenizer_config.json"),
    ]
    first = next((templates for templates in found if templates), {})
    usual = next((templates["default"] for templates in found if "default" in templates), None)
    return first if usual is None else {**first, "default": usual}


def _template_files(folder: str) -> dict[str, str]:
    paths = {"default": os.path.join(folder, "chat_template.jinja")}
    more = os.path.join(folder, _MORE_TEMPLATES)
    for name in sorted(os.listdir(more))[:_MAX_TEMPLATES] if os.path.isdir(more) else ():
        if name.endswith(".jinja"):
            paths[name.removesuffix(".jinja")] = os.path.join(more, name)
    return {name: _read_template(path) for name, path in paths.items() if os.path.isfile(path)}


def _templates_in(folder: str, name: str) -> dict[str, str]:
    """Return what `chat_template` of a JSON file holds: a text, or several by name."""
    parts = optional_parts(folder, name)
    value = parts.get("chat_template") if parts else None
    if value is None:
        return {}
    templates = _by_name(value)
    if not all(isinstance(template, str) for template in templates.values()):
        raise TokenizerError(f"The chat template of '{folder}' is not a text.")
    return templates


def _by_name(value: Any) -> dict[str, Any]:
    if isinstance(value, dict):
        return value
    if isinstance(value, list):
        return {str(t.get("name")): t.get("template") for t in value if isinstance(t, dict)}
    return {"default": value}


def _read_template(path: str) -> str:
    with open(path, "rb") as file:
        data = file.read(MAX_PART_BYTES + 1)
    if len(data) > MAX_PART_BYTES:
        raise TokenizerError(f"'{path}' exceeds {MAX_PART_BYTES} bytes.")
    try:
        # As transformers reads it: every end of a line is \n.
        return data.decode().replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError as error:
        raise TokenizerError(f"'{path}' is not valid UTF-8 at byte {error.start}.") from None
