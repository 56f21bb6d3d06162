"""The official JSON Schema test suite through structured output: is what is accepted obeyed?

    pip download --no-deps --no-binary jsonschema jsonschema   # its source holds the suite
    PYTHONPATH=tests python bench/schema_suite.py jsonschema-*.tar.gz

For each schema that is accepted texts are drawn at random from what its grammar allows, and have to
be valid for the package jsonschema. The suite's own instances have to be allowed where they are
valid, and only there. Schemas that are refused are counted by keyword.
"""

import json
import re
import sys
import tarfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import islice, permutations, product
from pathlib import Path
from typing import Any

from support.bound_samples import allows, matcher_of, samples
from tonnage.server.http.failures import HttpError

DRAFTS = {
    "draft4": "http://json-schema.org/draft-04/schema#",
    "draft6": "http://json-schema.org/draft-06/schema#",
    "draft7": "http://json-schema.org/draft-07/schema#",
    "draft2019-09": "https://json-schema.org/draft/2019-09/schema",
    "draft2020-12": "https://json-schema.org/draft/2020-12/schema",
}
SAMPLES = 20


# What is allowed is one spelling of a number, and formats are obeyed: no fault of a schema's.
STRICTER = ("format.json", "vocabulary.json")
MOST_SPELLINGS = 60


@dataclass
class Result:
    """What came of a draft's schemas. empty: accepted, but nothing satisfies them.

    wrong: schemas with a text that is not valid. misjudged: instances that are valid and not
    allowed, or the other way round.
    """

    accepted: int = 0
    empty: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    texts: int = 0
    cut: int = 0
    wrong: list[str] = field(default_factory=list)
    verdicts: int = 0
    misjudged: list[str] = field(default_factory=list)


def groups(archive: Path, draft: str) -> Iterator[tuple[str, dict]]:
    """Yield each group of tests of a draft, without those that are optional."""
    with tarfile.open(archive) as tar:
        for member in tar:
            folder, _, name = member.name.partition(f"/json/tests/{draft}/")
            if folder and name.endswith(".json") and "/" not in name:
                for group in json.load(tar.extractfile(member)):
                    yield name, group


def run(archive: Path, draft: str) -> Result:
    """Draw from every schema of a draft, and judge what comes."""
    from jsonschema import validators

    result = Result()
    for name, group in groups(archive, draft):
        schema = group["schema"]
        if isinstance(schema, dict) and "$schema" not in schema:
            schema = {"$schema": DRAFTS[draft], **schema}
        judge = validators.validator_for(
            schema, validators.validator_for({"$schema": DRAFTS[draft]})
        )
        where = f"{draft}/{name}: {group['description']}"
        try:
            found = list(samples(schema, SAMPLES))
        except HttpError as error:
            result.refused[reason_of(error.sentence)] += 1
            continue
        except ValueError as error:
            result.empty += 1
            print(f"empty  {where}: {str(error)[:90]}")
            continue
        result.accepted += 1
        judge_instances(result, schema, group["tests"], where)
        result.texts += len(found)
        result.cut += found.count(None)
        for text in filter(None, found):
            if not judge(exact(json.dumps(schema))).is_valid(exact(text)):
                result.wrong.append(f"{where}: {text[:60]}")
                break
    return result


def judge_instances(result: Result, schema: Any, tests: list[dict], where: str) -> None:
    """Ask whether a schema's grammar allows what the suite calls valid, and nothing else."""
    first = matcher_of(schema)
    for test in tests:
        spelled = json.dumps(test["data"])
        if re.search(r"\d\.0\b", spelled) or f"/{where.partition('/')[2]}".startswith(
            tuple(f"/{name}" for name in STRICTER)
        ):
            continue
        texts = islice(spellings(test["data"]), MOST_SPELLINGS)
        is_allowed = any(allows(first, text) for text in texts)
        result.verdicts += 1
        if is_allowed != test["valid"]:
            result.misjudged.append(f"{where}: {test['description']}: {spelled[:60]}")


def spellings(value: Any) -> Iterator[str]:
    """Yield JSON texts of a value, with members in several orders: grammars have one."""
    if isinstance(value, dict):
        for order in islice(permutations(value.items()), MOST_SPELLINGS):
            each = [list(islice(spellings(one), 6)) for _, one in order]
            names = [json.dumps(name, ensure_ascii=False) for name, _ in order]
            for parts in product(*each):
                members = (f"{name}: {part}" for name, part in zip(names, parts, strict=True))
                yield f"{{{', '.join(members)}}}"
    elif isinstance(value, list):
        for parts in product(*[list(islice(spellings(one), 6)) for one in value]):
            yield f"[{', '.join(parts)}]"
    else:
        yield json.dumps(value, ensure_ascii=False)


def exact(text: str) -> Any:
    """Return what JSON says, fractions as decimals: 8.5826 is a multiple of 0.0001."""

    def number(digits: str) -> int | Decimal:
        mantissa, _, exponent = digits.lower().partition("e")
        if len(exponent) > 15:  # more than decimals have: 0, or beyond all bounds of the suite
            digits = f"{mantissa}e{exponent[0] if exponent[0] in '+-' else ''}999999"
        value = Decimal(digits)
        is_whole = value.adjusted() < 60 and value == value.to_integral_value()
        return int(value) if is_whole else value

    return json.loads(text, parse_float=number)


def reason_of(sentence: str) -> str:
    """Return the keyword that a refusal names, or its words."""
    _, found, rest = sentence.partition("the keyword '")
    return rest.partition("'")[0] if found else sentence.partition(": ")[2][:90]


def main() -> None:
    """Print the counts of every draft, or of those that are named."""
    archive = Path(sys.argv[1])
    for draft in sys.argv[2:] or DRAFTS:
        one = run(archive, draft)
        print(
            f"{draft}: {one.accepted} accepted, {one.texts} texts, {one.cut} of them cut, "
            f"{len(one.wrong)} schemas with a wrong one; {one.empty} that nothing satisfies; "
            f"{sum(one.refused.values())} refused; {one.verdicts} instances, "
            f"{len(one.misjudged)} misjudged"
        )
        for reason, count in one.refused.most_common():
            print(f"   refused {count:3} {reason}")
        for line in [*one.wrong, *one.misjudged]:
            print(f"   WRONG {line}")


if __name__ == "__main__":
    main()
