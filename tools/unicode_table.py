"""Writes native/text/unicode_table.cc: the general category of every code point, as runs.

Usage: python tools/unicode_table.py [OUTPUT]. Takes the package `unicodedata2` where it is
installed (its releases are named after the Unicode versions), else the interpreter's own
`unicodedata`.
"""

import sys
from pathlib import Path

try:
    import unicodedata2 as unicodedata
except ImportError:
    import unicodedata

# "Cw" is ours: the control characters that are white space, so that \s is a set of categories.
_NAMES = (
    "Lu Ll Lt Lm Lo Mn Mc Me Nd Nl No Pc Pd Ps Pe Pi Pf Po Sm Sc Sk So Zs Zl Zp Cc Cf Cs Co Cn Cw"
)
CATEGORIES = _NAMES.split(" ")
CONTROL_SPACES = {0x09, 0x0A, 0x0B, 0x0C, 0x0D, 0x85}
PER_LINE = 12


def category_runs() -> list[int]:
    """Return `first code point << 5 | category` of each run of one category, ascending."""
    runs: list[int] = []
    last = ""
    for code_point in range(0x110000):
        name = unicodedata.category(chr(code_point))
        name = "Cw" if code_point in CONTROL_SPACES else name
        if name != last:
            runs.append(code_point << 5 | CATEGORIES.index(name))
            last = name
    return runs


def main() -> None:
    """Write the table to the path given, or to its place in the repository."""
    default = Path(__file__).parent.parent / "native" / "text" / "unicode_table.cc"
    output = Path(sys.argv[1]) if len(sys.argv) > 1 else default
    runs = category_runs()
    rows = [runs[i : i + PER_LINE] for i in range(0, len(runs), PER_LINE)]
    body = "\n".join("".join(f"{run}," for run in row) for row in rows)
    output.write_text(
        "// Written by tools/unicode_table.py from Unicode "
        f"{unicodedata.unidata_version}; not edited by hand.\n"
        '#include "text/unicode.h"\n\nnamespace tonnage::text {\n\n'
        "// First code point of a run << 5 | category.\n"
        f"const uint32_t kCategoryRuns[] = {{\n{body}\n}};\n\n"
        f"const uint32_t kNumCategoryRuns = {len(runs)};\n\n}}  // namespace tonnage::text\n"
    )


if __name__ == "__main__":
    main()
