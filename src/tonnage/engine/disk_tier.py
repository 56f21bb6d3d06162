"""The disk tier of an engine: prefixes that survive eviction and restarts, where asked for."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from tonnage.backends.protocol import Runtime
from tonnage.core.record import record
from tonnage.text.tokenizer import Tokenizer

if TYPE_CHECKING:
    from tonnage.kvcache.page_tier import PageTier


@record
class DiskOptions:
    """max_bytes: of all page files in `folder`, which is shared with other processes and models.

    folder: None for $XDG_CACHE_HOME/tonnage/pages. What prompts said can be read from the files,
    so they are readable by their user alone, and nothing is written unless asked for.
    """

    max_bytes: int
    folder: Path | None = None


def note_model(options: DiskOptions | None, model: Path) -> str | None:
    """Return what identifies the weights at `model`; None without the tier or the files.

    To be called before the model is read.
    """
    if options is None:
        return None
    from tonnage.store.identity import strict_identity

    try:
        return strict_identity(model)
    except OSError:
        return None


def open_tier(
    options: DiskOptions | None, noted: str | None, model: Path, runtime: Runtime,
    tokenizer: Tokenizer,
) -> "PageTier | None":  # fmt: skip
    """Return the tier behind the pages of `runtime`, None where none was asked for.

    noted: from `note_model`. A model that was changed while it was read gets none either: whose
    weights were loaded is not known then. Raises CacheError without a home folder.
    """
    if options is None or noted is None or note_model(options, model) != noted:
        return None
    from tonnage.kvcache.page_identity import page_identity
    from tonnage.kvcache.page_store import PageStore
    from tonnage.kvcache.page_tier import PageTier
    from tonnage.store.cache import models_folder

    plan = runtime.plan
    vocabulary = f"{tokenizer.vocab_size} {sorted(tokenizer.eos_ids)}"
    identity = page_identity(noted, vocabulary, tokenizer.chat_template, plan)
    folder = options.folder or models_folder(os.environ).with_name("pages")
    page_bytes = [runtime.page_bytes(group) for group in range(len(plan.kv.groups))]
    has_states = bool(plan.slots.blocks)
    if has_states:
        page_bytes.append(runtime.state_bytes)
    store = PageStore(folder, identity, page_bytes, options.max_bytes)
    return PageTier(store, runtime, runtime if has_states else None)
