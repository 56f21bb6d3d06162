"""The small files beside a model's weights, and the small parts of a large one."""

import json
import os
from typing import Any

from tonnage._native import JsonFile
from tonnage.core.errors import TokenizerError

MAX_PART_BYTES = 4 << 20


class JsonParts:
    """Members of the object at the top of a JSON file, parsed one at a time."""

    def __init__(self, path: str) -> None:
        """Scan the file; raises TokenizerError where it is no JSON object."""
        self.path = path
        self.file = JsonFile(path)
        self.members = self.file.members(0)

    def get(self, name: str, default: Any = None) -> Any:
        """Return the value of a member; raises TokenizerError for a part that is too large."""
        span = self.members.get(name)
        return default if span is None else parse_json(self.file, span, self.path)


def optional_parts(folder: str, name: str) -> JsonParts | None:
    """Return the parts of a file of `folder`, None where there is no such file."""
    path = os.path.join(folder, name)
    return JsonParts(path) if os.path.isfile(path) else None


def parse_json(file: JsonFile, span: tuple[int, int], path: str) -> Any:
    """Return the Python value of a part of a JSON file; raises TokenizerError."""
    if span[1] - span[0] > MAX_PART_BYTES:
        raise TokenizerError(
            f"A part of '{path}' has {span[1] - span[0]} bytes; at most {MAX_PART_BYTES} "
            "are expected outside of the vocabulary."
        )
    try:
        return json.loads(file.value(*span))
    except (ValueError, RecursionError) as error:
        raise TokenizerError(f"'{path}' is not valid JSON near byte {span[0]}: {error}.") from None
