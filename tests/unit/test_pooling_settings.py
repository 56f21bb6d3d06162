"""What a folder of sentence-transformers says of its vectors is done, or named."""

from pathlib import Path

import pytest

from tonnage.core.errors import FileFormatError
from tonnage.core.pooling import TrainedPooling
from tonnage.engine.headers import read_config
from tonnage.models.sentence_transformers import pooling_of_folder

OLD = "sentence_transformers.models."
POOLING = "1_Pooling/config.json"


def modules(*names: str, prefix: str = OLD) -> list[dict[str, object]]:
    """Return modules.json of these classes, the first in the folder itself."""
    return [
        {"idx": i, "name": str(i), "path": f"{i}_{name}" if i else "", "type": prefix + name}
        for i, name in enumerate(names)
    ]


def pooling(files: dict[str, object]) -> TrainedPooling:
    return pooling_of_folder(files.get)


def flags(**modes: bool) -> dict[str, object]:
    written = {"pooling_mode_cls_token": False, "pooling_mode_mean_tokens": False}
    return {"word_embedding_dimension": 64, **written, **modes}


PLAIN = modules("Transformer", "Pooling", "Normalize")


def test_a_folder_without_modules_says_nothing() -> None:
    assert pooling({}) == TrainedPooling()
    assert pooling({POOLING: flags(pooling_mode_lasttoken=True)}) == TrainedPooling()


@pytest.mark.parametrize(
    ("config", "kind"),
    [
        (flags(pooling_mode_lasttoken=True), "last"),
        (flags(pooling_mode_mean_tokens=True), "mean"),
        ({"word_embedding_dimension": 64}, "mean"),
        (None, "mean"),
        ({"pooling_mode": "lasttoken"}, "last"),
        ({"pooling_mode": "mean", "pooling_mode_lasttoken": True}, "mean"),
    ],
)
def test_the_mode_is_taken(config: object, kind: str) -> None:
    assert pooling({"modules.json": PLAIN, POOLING: config}) == TrainedPooling(kind)
    newer = modules("Transformer", "Pooling", "Normalize", prefix="sentence_transformers.base.x.")
    assert pooling({"modules.json": newer, POOLING: config}) == TrainedPooling(kind)


@pytest.mark.parametrize(
    ("config", "told"),
    [
        (flags(pooling_mode_cls_token=True), "pooling_mode_cls_token"),
        (flags(pooling_mode_weightedmean_tokens=True), "pooling_mode_weightedmean_tokens"),
        (
            flags(pooling_mode_mean_tokens=True, pooling_mode_lasttoken=True),
            "pooling_mode_mean_tokens and pooling_mode_lasttoken",
        ),
        # A mean that is not written is on.
        ({"pooling_mode_lasttoken": True}, "pooling_mode_mean_tokens and pooling_mode_lasttoken"),
        (flags(), "no mode"),
        ({"pooling_mode": "max"}, "pooling_mode 'max'"),
    ],
)
def test_other_modes_are_named(config: object, told: str) -> None:
    found = pooling({"modules.json": PLAIN, POOLING: config})
    assert found == TrainedPooling(None, f"{POOLING}: {told}")


def test_other_modules_are_named() -> None:
    names = ("Transformer", "Pooling", "Dense", "Normalize", "LayerNorm", "Dropout")
    found = pooling({"modules.json": modules(*names), POOLING: {"pooling_mode": "mean"}})
    assert found == TrainedPooling("mean", "2_Dense (Dense), 4_LayerNorm (LayerNorm)")


@pytest.mark.parametrize(
    ("files", "told"),
    [
        ({"sentence_bert_config.json": {"do_lower_case": True}}, "do_lower_case"),
        ({"sentence_bert_config.json": {"do_lower_case": False, "max_seq_length": 512}}, ""),
        (
            {
                "config_sentence_transformers.json": {
                    "prompts": {"query": "Find: "}, "default_prompt_name": "query",
                }
            },
            "config_sentence_transformers.json: default_prompt_name 'query'",
        ),
        (
            {
                "config_sentence_transformers.json": {
                    "prompts": {"query": "Find: ", "document": ""}, "default_prompt_name": None,
                }
            },
            "",
        ),
        (
            {
                "config_sentence_transformers.json": {
                    "prompts": {"document": ""}, "default_prompt_name": "document",
                }
            },
            "",
        ),
    ],
)  # fmt: skip
def test_what_changes_texts_is_named(files: dict[str, object], told: str) -> None:
    found = pooling({"modules.json": PLAIN, POOLING: {"pooling_mode": "mean"}, **files})
    assert found.kind == "mean"
    assert found.unmet.endswith(told)
    assert bool(found.unmet) == bool(told)


@pytest.mark.parametrize(
    "files",
    [
        {"modules.json": {}},
        {"modules.json": ["x"]},
        {"modules.json": [{"type": 3}]},
        {"modules.json": [{"type": OLD + "Pooling", "path": "../1_Pooling"}]},
        {"modules.json": PLAIN, POOLING: []},
        {"modules.json": PLAIN, "sentence_bert_config.json": "x"},
    ],
)
def test_malformed_files_are_errors(files: dict[str, object]) -> None:
    with pytest.raises(FileFormatError, match="download the model again"):
        pooling(files)


def test_a_config_that_is_no_object_is_an_error(tmp_path: Path) -> None:
    (path := tmp_path / "config.json").write_text("[]")
    with pytest.raises(FileFormatError, match="no JSON object"):
        read_config(path)
