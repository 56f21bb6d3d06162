"""What documents name must exist: on a small tree and on this repository."""

from pathlib import Path

import pytest

from tools.check_docs import expanded, links, main, module_exists, named_modules, named_paths

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
    assert list(links(text)) == ["docs/a.md"]
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
        ("tonnage.core.layout.PAGE_TOKENS", True),
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


def test_this_repository() -> None:
    assert main([str(ROOT)]) == 0
