"""What documents name must exist: on a small tree and on this repository."""

from pathlib import Path

import pytest

from tools.check_docs import (
    anchors,
    expanded,
    links,
    main,
    mean_words,
    module_exists,
    named_modules,
    named_paths,
    sentences,
)

ROOT = Path(__file__).parents[2]


def test_which_words_are_paths() -> None:
    text = (
        "`src/a.py`, `tests/{unit,golden}/`, `native/*.cc`, `a.md`, `python tools/size.py`, "
        "`hf:owner/name[/file]`, `tokens/s`, `make test`, `1.5`, plain/word, `Engine.open`"
    )
    assert list(named_paths(text)) == [
        "src/a.py", "tests/{unit,golden}/", "native/*.cc", "a.md", "tools/size.py", "tokens/s",
    ]  # fmt: skip


def test_modules_links_and_braces() -> None:
    assert list(named_modules("`tonnage.core.plan` and `tonnage run`")) == ["tonnage.core.plan"]
    text = "[a](docs/a.md#x) [b](https://example.org/b) [c](#here)"
    assert list(links(text)) == ["docs/a.md#x", "#here"]
    assert expanded("a/{b,c}.{py,md}") == ["a/b.py", "a/b.md", "a/c.py", "a/c.md"]


@pytest.mark.parametrize(
    ("name", "exists"),
    [
        ("tonnage.core.plan", True),
        ("tonnage.core", True),
        ("tonnage.core.plan.Plan", True),
        ("tonnage.core.plan.Plan.to_json", True),
        ("tonnage.core.plan.Plan.arena_bytes", True),
        ("tonnage.core.plan.Nothing", False),
        ("tonnage.core.absent", False),
        ("tonnage._native.Arena", True),
        ("tonnage._native.Arenas", False),
        ("tonnage.core.kv_format.PAGE_TOKENS", True),
    ],
)
def test_modules_and_their_names(name: str, exists: bool) -> None:
    assert module_exists(ROOT, name) is exists


def test_missing_things_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "src/tonnage/core").mkdir(parents=True)
    (tmp_path / "src/tonnage/core/a.py").write_text("class A:\n    x: int = 1\n")
    (tmp_path / "README.md").write_text("`core/a.py` `tonnage.core.a.A.x` [d](docs/d.md)\n")
    (tmp_path / "docs/d.md").write_text("`d.md` `.venv/bin/tonnage`\n")
    assert main([str(tmp_path)]) == 0
    (tmp_path / "docs/d.md").write_text("fine\n`core/b.py` `tonnage.core.a.B` [e](e.md)\n")
    capsys.readouterr()
    assert main([str(tmp_path)]) == 1
    assert capsys.readouterr().out.splitlines() == [
        f"docs/d.md:2: {word} does not exist" for word in ("core/b.py", "tonnage.core.a.B", "e.md")
    ]


def test_headings_and_their_anchors() -> None:
    text = "# The plan, and `why`\n\n```sh\n# no heading\n```\n## Two words\n"
    assert anchors(text) == {"the-plan-and-why", "two-words"}


def test_links_lead_to_documents_and_headings_that_exist(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "docs/a").mkdir(parents=True)
    (tmp_path / "README.md").write_text("# Top\n[a](#top) [b](docs/a/b.md#some-words)\n")
    (tmp_path / "docs/a/b.md").write_text("## Some words\n[up](../../README.md)\n")
    assert main([str(tmp_path)]) == 0
    (tmp_path / "README.md").write_text("# Top\n[a](#bottom) [b](docs/a/b.md#no-words)\n")
    capsys.readouterr()
    assert main([str(tmp_path)]) == 1
    assert capsys.readouterr().out.splitlines() == [
        "README.md:2: #bottom does not exist",
        "README.md:2: docs/a/b.md#no-words does not exist",
    ]


def test_a_document_that_only_links_to_itself_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs/alone.md").write_text("# Alone\n[me](alone.md)\n")
    assert main([str(tmp_path)]) == 1
    assert capsys.readouterr().out == "docs/alone.md: no document links to it\n"


def test_sentences_are_counted_in_prose_alone() -> None:
    text = (
        "# A heading of five words\n\nOne two three. Four\nfive `six seven` [eight](nine.md).\n"
        "- Ten eleven\n- twelve 1.5 thirteen\n\n| a | table |\n|---|---|\n\n```\nsome code\n```\n"
    )
    assert [len(one.split()) for one in sentences(text)] == [3, 4, 2, 3]
    assert mean_words(text) == 3.0
    assert mean_words("# Nothing") == 0


def test_long_sentences_are_refused_but_in_records(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "docs/results").mkdir(parents=True)
    long = "word " * 26 + "end.\n"
    (tmp_path / "docs/results/r.md").write_text(long)
    (tmp_path / "README.md").write_text("word " * 24 + "[r](docs/results/r.md).\n")
    assert main([str(tmp_path)]) == 0
    capsys.readouterr()
    (tmp_path / "README.md").write_text("[r](docs/results/r.md) " + long)
    assert main([str(tmp_path)]) == 1
    assert capsys.readouterr().out.startswith("README.md: 28.0 words per sentence")


def test_packages_are_those_of_the_import_rules(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "tools").mkdir()
    (tmp_path / "README.md").write_text("[a](docs/architecture.md)\n")
    (tmp_path / "tools/check_imports.py").write_text(
        "from types import SimpleNamespace as P\n"
        "TABLE = {'core': P(others=(), third_party=()),"
        " 'a.b': P(others=('core',), third_party='x')}\n"
    )
    rows = "## Packages\n| package | holds | imports |\n|---|---|---|\n"
    true = "| `core` | all | nothing of ours |\n| `a.b` | b, too | core; late: x |\n"
    (tmp_path / "docs/architecture.md").write_text("# A\n" + rows + true + "\n## Next\n")
    assert main([str(tmp_path)]) == 0
    untrue = "| `core` | all | os |\n| `c` | gone | core |\n"
    (tmp_path / "docs/architecture.md").write_text("# A\n" + rows + untrue)
    capsys.readouterr()
    assert main([str(tmp_path)]) == 1
    assert capsys.readouterr().out.splitlines() == [
        "docs/architecture.md: imports of `core`: nothing of ours",
        "docs/architecture.md: imports of `a.b`: core; late: x",
        "docs/architecture.md: imports of `c`: no such package",
    ]


def test_this_repository() -> None:
    assert main([str(ROOT)]) == 0
