"""Sizes of functions and files, on small sources and on this repository."""

import json
from pathlib import Path

import pytest

from tools.size import MAX_FILE_LINES, MAX_FUNCTION_LINES, cpp_functions, main, python_functions

ROOT = Path(__file__).parents[2]


def test_python_functions_and_methods() -> None:
    source = "def a():\n    return 1\n\nclass B:\n    async def c(self):\n        def d(): ...\n"
    assert list(python_functions(source)) == [("a", 1, 2), ("c", 5, 2), ("d", 6, 1)]


CPP = """\
// void commented() {
#define MACRO(x) \\
  { x }
namespace n {
struct S {
  int y = 0;
  S(int x) : y(x) {
    if (x) { y = 2; }
  }
  int get() const { return y; }
};
constexpr int kTable[] = {1, 2, 3};
enum class E : int { A, B };
template <class F>
[[gnu::always_inline]] inline void each(F&& f,
                                        int n) {
  for (int i = 0; i < n; ++i) {
    f([&](int j) { return "{" + std::to_string(j); });
  }
  char c = '}';
}
int64_t big = 1'000'000;
S made() { return S{1}; }
const char* text = R"(void raw() {)";
auto trailing(int a) -> std::pair<int, int> {
  return {a, a};
}
}
"""


def test_cpp_functions_with_their_lines() -> None:
    assert list(cpp_functions(CPP)) == [
        ("S", 7, 3),
        ("get", 10, 1),
        ("each", 14, 8),
        ("made", 23, 1),
        ("trailing", 25, 3),
    ]


def tree(tmp_path: Path, name: str, text: str) -> Path:
    for folder in ("src", "native", "tools"):
        (tmp_path / folder).mkdir()
    (tmp_path / name).write_text(text)
    return tmp_path


@pytest.mark.parametrize(
    ("name", "head", "tail", "limit"),
    [
        ("src/a.py", "def long():\n", "    x = 1\n", MAX_FUNCTION_LINES),
        ("native/a.cc", "void long_one() {\n", "  f();\n", MAX_FUNCTION_LINES - 1),
        ("tools/a.py", "x = 1\n", "y = 1\n", MAX_FILE_LINES),
        ("native/a.h", "// a\n", "int f();\n", MAX_FILE_LINES),
    ],
)
def test_limits(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, head: str, tail: str, limit: int
) -> None:
    end = "}\n" if name.endswith(".cc") else ""
    root = tree(tmp_path, name, head + tail * (limit - 1) + end)
    assert main([str(root)]) == 0
    assert "<- over" not in capsys.readouterr().out
    (root / name).write_text(head + tail * limit + end)
    assert main([str(root)]) == 1
    (over,) = [line for line in capsys.readouterr().out.splitlines() if "<- over" in line]
    assert name in over


def test_the_spread_of_each_package(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Ten functions of 1 to 10 lines: the median is 5.5, nine of them have at most 9."""
    source = "".join(f"def f{n}():\n" + "    x = 1\n" * (n - 1) for n in range(2, 11))
    root = tree(tmp_path, "tools/a.py", "def f1(): ...\n" + source)
    for name in (
        "src/tonnage/core",
        "src/tonnage/planner/cost",
        "native/include",
        "native/kernels",
    ):
        (root / name).mkdir(parents=True)
    (root / "src/tonnage/a.py").write_text("def a(): ...\n")
    (root / "src/tonnage/planner/cost/a.py").write_text("def b():\n    return 1\n")
    (root / "native/a.cc").write_text("void c() {\n}\n")
    (root / "native/include/a.h").write_text("inline void d() { f(); }\n")
    (root / "native/kernels/a.cc").write_text("void e() {}\n")
    assert main([str(root), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert list(found) == ["native", "native/kernels", "planner", "tonnage", "tools"]
    assert found["tools"] == {
        "count": 10, "median": 5.5, "p90": 9, "largest": 10, "where": "tools/a.py:46 f10",
    }  # fmt: skip
    assert (found["native"]["count"], found["native"]["largest"]) == (2, 2)
    assert found["planner"]["where"] == "src/tonnage/planner/cost/a.py:1 b"
    assert main([str(root)]) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("planner")]
    assert line.split() == ["planner", "1", "2", "2", "2", "src/tonnage/planner/cost/a.py:1", "b"]


def test_this_repository_and_that_its_functions_are_seen(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main([str(ROOT)]) == 0
    assert "functions: " in capsys.readouterr().out
    names = {name for name, _, _ in cpp_functions((ROOT / "native/program.cc").read_text())}
    assert {"reject", "check_span", "check_step", "run", "share", "at"} <= names
