"""`tonnage audit` on tiny models, against float64 references and as a user meets it."""

import json
import os
import pty
import random
import signal
import subprocess
from pathlib import Path

import numpy as np
import pytest

from oracles.transformer import forward
from support.checkpoints import matrices, tiny_config, tiny_model, write_gguf, write_hf
from support.command import COMMAND, environment, refused, tonnage
from support.containers import read_gguf, weights_of
from support.described import described
from tonnage.core.errors import AuditError
from tonnage.core.quality import Estimate
from tonnage.engine.engine import Engine, Span
from tonnage.engine.headers import read_model
from tonnage.models.registry import spec_from_gguf
from tonnage.quality.audit import AuditText, Subject, prepare
from tonnage.store.source import ModelSource

CHUNK, FIRST = 512, 256
EPS = np.finfo(np.float64).eps


def words(count: int, seed: int = 0) -> str:
    rng = random.Random(seed)
    return " ".join("".join(rng.choices("etaonihsrdlu", k=5)) for _ in range(count))


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Holds one model in three files, another vocabulary, and a text of 3 chunks."""
    folder = tmp_path_factory.mktemp("audit")
    model = tiny_model(tiny_config("llama"))
    write_gguf(folder / "f32.gguf", model)
    write_gguf(folder / "q4.gguf", model, matrices("Q4_0"))
    write_hf(folder / "hf", model)
    write_gguf(folder / "other.gguf", tiny_model(tiny_config("llama", vocab_size=311)))
    (folder / "text").write_text(words(550))
    return folder


def subject(path: Path, precision: str | None = None) -> Subject:
    return Subject(ModelSource(path.name, path, "folder" if path.is_dir() else "gguf"), precision)


def run(model: Subject, reference: Subject | None, text: str, chunks: int = 20):
    return prepare(model, reference, AuditText("text", text), chunks).run(threads=1)


def text_chunks(path: Path, text: str) -> list[list[int]]:
    _, tokenizer = read_model(ModelSource("m", path, "gguf"))
    tokens = tokenizer.encode(text, add_special=True, parse_special=False)
    return [tokens[i : i + CHUNK] for i in range(0, len(tokens) - CHUNK + 1, CHUNK)]


def all_logits(path: Path, tokens: list[int]) -> np.ndarray:
    """Return float64 logits (T, vocab), computed token by token: the slow way round."""
    with Engine.open(str(path), context=CHUNK, threads=1) as engine:
        pages = [list(range(group.num_pages)) for group in engine.plan.kv.groups]
        rows = []
        for position, token in enumerate(tokens):
            engine.runtime.step([token], [Span(pages, 1, position)], [0])
            rows.append(np.frombuffer(engine.runtime.logits(0), np.float32))
    return np.array(rows, np.float64)


def log_softmax(logits: np.ndarray) -> np.ndarray:
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def reference_figures(model: Path, reference: Path, text: str) -> dict[str, float]:
    """Return the figures of an audit over whole arrays of logits."""
    nll, kld, same, five = [], [], [], []
    for chunk in text_chunks(model, text):
        q, p = (log_softmax(all_logits(x, chunk)[FIRST:-1]) for x in (model, reference))
        nll.append(-q[np.arange(len(q)), chunk[FIRST + 1 :]])
        kld.append((np.exp(p) * (p - q)).sum(axis=1))
        same.append(p.argmax(1) == q.argmax(1))
        best = [np.argsort(-x, axis=1)[:, :5] for x in (p, q)]
        five += [len(set(a) & set(b)) / 5 for a, b in zip(*best, strict=True)]
    return {
        "perplexity": np.exp(np.mean(nll)),
        "mean_kld": np.mean(kld),
        "kld_median": np.median(kld),
        "kld_p99": np.quantile(kld, 0.99),
        "kld_p999": np.quantile(kld, 0.999),
        "top5_agreement": np.mean(five),
        "top1_agreement": np.mean(same),
        "num_scored": np.size(nll),
    }


def test_figures_are_those_of_whole_arrays(folder):
    text = (folder / "text").read_text()
    result = run(subject(folder / "q4.gguf"), subject(folder / "f32.gguf"), text)
    exact = reference_figures(folder / "q4.gguf", folder / "f32.gguf", text)
    found = result.comparison
    bound = 1000 * 307 * EPS
    assert result.num_scored == exact["num_scored"] == 255 * result.num_chunks
    assert result.num_chunks >= 3
    assert result.perplexity.value == pytest.approx(exact["perplexity"], rel=bound)
    assert result.perplexity.low < result.perplexity.value < result.perplexity.high
    assert found.mean_kld.value == pytest.approx(exact["mean_kld"], rel=bound)
    assert found.kld_p999 == pytest.approx(exact["kld_p999"], rel=bound)
    assert found.top1_agreement == exact["top1_agreement"]
    assert found.top5_agreement == pytest.approx(exact["top5_agreement"])
    assert found.kld_median == pytest.approx(exact["kld_median"], rel=bound)
    assert found.kld_p99 == pytest.approx(exact["kld_p99"], rel=bound)
    assert 0 < found.mean_kld.value < found.kld_p999
    assert 0 < found.top1_agreement < 1


def test_perplexity_is_the_reference_models_within_twice_the_error_of_its_logits(folder):
    (chunk,) = text_chunks(folder / "f32.gguf", (folder / "text").read_text())[:1]
    spec = spec_from_gguf(*read_gguf(folder / "f32.gguf"))
    exact = forward(described(spec), weights_of(spec), chunk)[FIRST:-1]
    expected = -log_softmax(exact)[np.arange(len(exact)), chunk[FIRST + 1 :]].mean()
    error = np.abs(all_logits(folder / "f32.gguf", chunk)[FIRST:-1] - exact).max()
    result = run(subject(folder / "f32.gguf"), None, (folder / "text").read_text(), 1)
    assert result.comparison is None
    # A log-softmax moves by at most twice what its logits move by.
    assert abs(np.log(result.perplexity.value) - expected) <= 2 * error
    assert error < 0.1 * np.abs(exact).max()


def test_a_model_does_not_diverge_from_itself_in_any_container(folder, tmp_path):
    # Of qwen3: the GGUF files of llama have the rows of Q and K in another order, to sum otherwise.
    model = tiny_model(tiny_config("qwen3"))
    file, other = write_gguf(tmp_path / "m.gguf", model), write_hf(tmp_path / "hf", model)
    for ours, theirs in ((folder / "q4.gguf", folder / "q4.gguf"), (file, other)):
        found = run(subject(ours), subject(theirs), words(300, seed=1)).comparison
        assert found.mean_kld == Estimate(0.0, 0.0, 0.0)
        assert found.kld_p999 == 0.0
        assert found.top1_agreement == 1.0


def test_the_same_checkpoint_at_two_precisions(folder):
    text = words(300, seed=2)
    stored, eight, four = (subject(folder / "hf", p) for p in (None, "8bit", "4bit"))
    near, far = (run(model, stored, text).comparison for model in (eight, four))
    assert 0 < near.mean_kld.value < far.mean_kld.value
    assert run(four, eight, text).comparison.reference_precision == "8bit"


def test_tokens_of_a_text_have_to_be_the_same(folder, tmp_path):
    write_hf(tmp_path / "hf", tiny_model(tiny_config("llama")))
    file = tmp_path / "hf" / "tokenizer.json"
    parts = json.loads(file.read_text())
    parts["model"]["merges"] = parts["model"]["merges"][:3]
    file.write_text(json.dumps(parts))
    with pytest.raises(AuditError, match="into different tokens"):
        prepare(subject(folder / "f32.gguf"), subject(tmp_path / "hf"),
                AuditText("text", words(900)), 20)  # fmt: skip
    # The same number of tokens, one of them another.
    vocab = parts["model"]["vocab"]
    vocab["!"], vocab["?"] = vocab["?"], vocab["!"]
    file.write_text(json.dumps(parts))
    with pytest.raises(AuditError, match=r"token 33 is '!' in f32.gguf and '\?' in hf"):
        prepare(subject(folder / "f32.gguf"), subject(tmp_path / "hf"),
                AuditText("text", words(900)), 20)  # fmt: skip


def audit(home: Path, *args: object, **more: str) -> dict:
    done = tonnage(home, "audit", *args, "--json", **more)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return json.loads(done.stdout)


def test_json_and_the_cache(folder, tmp_path):
    args = (folder / "q4.gguf", "--reference", folder / "f32.gguf", "--text", folder / "text")
    first = audit(tmp_path, *args)
    assert first["cached"] is False
    assert first["model"] == str(folder / "q4.gguf")
    assert first["perplexity"].keys() == {"value", "low", "high"}
    assert first["comparison"].keys() == {
        "reference", "reference_precision", "reference_kv_format", "perplexity", "mean_kld",
        "kld_median", "kld_p99", "kld_p999", "top1_agreement", "top5_agreement",
    }  # fmt: skip
    assert audit(tmp_path, *args) == {**first, "cached": True}
    # The same file by another name shows that name.
    (tmp_path / "link.gguf").symlink_to(folder / "q4.gguf")
    again = audit(tmp_path, tmp_path / "link.gguf", *args[1:])
    assert again == {**first, "cached": True, "model": str(tmp_path / "link.gguf")}
    for more in (("--chunks", 1), ("--fresh",), ("--reference-precision", "8bit")):
        assert audit(tmp_path, *args, *more)["cached"] is False
    fresh = audit(tmp_path, *args, "--fresh", "--threads", 2, TONNAGE_ISA="scalar")
    assert fresh["isa"] == "scalar"
    assert {**fresh, "seconds": 0, "isa": ""} == {**first, "seconds": 0, "isa": ""}


def test_lines_for_a_reader_on_the_text_of_python(folder, tmp_path):
    args = ("audit", folder / "q4.gguf", "--chunks", 2, "--reference", folder / "f32.gguf")
    done = tonnage(tmp_path, *args)
    assert (done.returncode, done.stderr) == (0, "")
    head, *rest = done.stdout.splitlines()
    assert "on the reference of Python 3." in head
    assert head.endswith("510 tokens in 2 chunks")
    assert [line[:20].strip() for line in rest] == [
        "perplexity", "of the reference", "mean KL divergence", "half of tokens",
        "99 % of tokens", "99.9 % of tokens", "top-1 agreement", "top-5 agreement",
    ]  # fmt: skip
    assert max(map(len, (head, *rest))) < 250
    alone = tonnage(tmp_path, "audit", folder / "q4.gguf", "--chunks", 1)
    assert "(one chunk: no interval)" in alone.stdout


def test_only_the_precision_of_the_reference_compares_with_itself(folder, tmp_path):
    args = (folder / "hf", "--precision", "4bit", "--reference-precision", "8bit", "--chunks", 1)
    against = audit(tmp_path, *args)["comparison"]
    assert against["reference"] == str(folder / "hf")
    assert against["mean_kld"]["value"] > 0


def test_pages_in_int8_compare_with_pages_in_f16(folder, tmp_path):
    args = (folder / "f32.gguf", "--kv", "int8", "--reference-kv", "f16", "--chunks", 1)
    found = audit(tmp_path, *args)
    assert (found["kv_format"], found["comparison"]["reference_kv_format"]) == ("int8", "f16")
    assert 0 < found["comparison"]["mean_kld"]["value"] < 0.1
    lines = tonnage(tmp_path, "audit", *args).stdout.splitlines()
    assert "f32.gguf with int8 pages on" in lines[0]
    assert lines[2].endswith("f32.gguf)")


def test_a_plan_shows_what_was_measured_of_just_its_mix(tmp_path):
    config = tiny_config("llama", hidden_size=512, num_hidden_layers=6)
    model = write_gguf(tmp_path / "m.gguf", tiny_model(config, seed=1), matrices("Q8_0"))
    sizes = ("--context", 64, "--max-batch-tokens", 16, "--quality", 1000)

    def plan(memory: object) -> dict:
        done = tonnage(tmp_path, "plan", model, "--json", "--memory", memory, *sizes)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    budget = plan("1GiB")["total_bytes"] - (2 << 20)
    before = plan(budget)
    assert before["quality"]["basis"] == "estimate"
    args = (model, "--chunks", 1, "--memory", budget, *sizes)
    alone = audit(tmp_path, *args)
    assert alone["mix"]
    assert plan(budget) == {**before, "audits": [alone_in_json(alone)]}
    found = audit(tmp_path, *args, "--reference", model)
    assert (found["mix"], found["kv_format"]) == (alone["mix"], before["kv_format"])
    quality = plan(budget)["quality"]
    assert quality["basis"] == "measured"
    assert quality["mean_kld"] == found["comparison"]["mean_kld"]["value"] > 0
    assert quality["estimated_kld"] == before["quality"]["mean_kld"]
    assert plan("1GiB")["quality"]["basis"] == "exact"
    shown = tonnage(tmp_path, "plan", model, "--memory", budget, *sizes).stdout
    assert f"measured (estimated {quality['estimated_kld']:.2g})" in shown


def alone_in_json(printed: dict) -> dict:
    return {name: value for name, value in printed.items() if name != "cached"}


def test_a_plan_that_does_not_fit_cannot_be_audited(folder, tmp_path):
    args = ("audit", folder / "q4.gguf", "--chunks", 1)
    assert "The process needs" in refused(tonnage(tmp_path, *args, "--memory", "1MiB"))
    assert "add its --memory" in refused(tonnage(tmp_path, *args, "--context", 64))


def test_figures_outlive_a_cache_that_cannot_be_written(folder, tmp_path):
    (tmp_path / "file").write_text("")
    done = tonnage(
        tmp_path, "audit", folder / "q4.gguf", "--chunks", 1, XDG_CACHE_HOME=str(tmp_path / "file")
    )
    assert done.returncode == 0
    assert "perplexity" in done.stdout
    assert done.stderr.startswith("tonnage: This audit is not kept. The model cache")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--reference", "other.gguf"), "q4.gguf has 307 tokens and other.gguf 311; give"),
        (("--text", "short"), "short has 2 tokens and one chunk takes 512; give a longer --text."),
        (("--text", "empty"), "empty has 0 tokens"),
        (("--text", "binary"), "The text binary is not UTF-8 (byte 2)"),
        (("--text", "missing"), "missing: No such file or directory"),
        (("--text", "hf"), "hf: Is a directory"),
        (("--text", "/dev/zero"), "The text /dev/zero is larger than 64 MiB"),
        (("--reference", "missing.gguf"), "There is no file or folder missing.gguf"),
        (("--chunks", "0"), "0 chunks were asked for; an audit needs at least 1."),
        (("--reference-precision", "9bit"), "The precision '9bit' is unknown"),
        (("--threads", "0"), "0 threads were asked for"),
    ],
)  # fmt: skip
def test_what_cannot_be_measured_is_a_sentence(folder, tmp_path, monkeypatch, options, sentence):
    monkeypatch.chdir(folder)
    (folder / "short").write_text("hi")
    (folder / "empty").write_text("")
    (folder / "binary").write_bytes(b"ab\xff" * 400)
    assert sentence in refused(tonnage(tmp_path, "audit", "q4.gguf", *options))


def test_without_numpy_a_sentence_names_it(folder, tmp_path):
    (tmp_path / "numpy.py").write_text("raise ModuleNotFoundError('No numpy', name='numpy')")
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    done = tonnage(tmp_path, "audit", folder / "q4.gguf", PYTHONPATH=path)
    assert "An audit needs numpy" in refused(done)


def test_a_terminal_shows_the_chunks_and_ctrl_c_ends_it(folder, tmp_path):
    (tmp_path / "long").write_text(words(200_000))
    command = [*COMMAND, "audit", str(folder / "q4.gguf"), "--chunks", "99999", "--text"]
    main, inner = pty.openpty()
    process = subprocess.Popen(
        [*command, str(tmp_path / "long")],
        stdin=inner, stdout=subprocess.PIPE, stderr=inner, env=environment(tmp_path),
    )  # fmt: skip
    os.close(inner)
    with process, os.fdopen(main, "rb", buffering=0) as screen:
        shown = b""
        while b"chunk " not in shown:
            shown += screen.read(4096)
        assert b", perplexity " in shown
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
        assert process.stdout.read() == b""
        assert b"Traceback" not in screen.read(4096)
    assert not (tmp_path / "cache" / "tonnage" / "audits").exists()


def test_gates_are_an_exit_code(folder, tmp_path):
    args = ("audit", folder / "q4.gguf", "--reference", folder / "f32.gguf", "--chunks", 1)
    held = tonnage(tmp_path, *args, "--gate", "mean_kld<=1000", "--gate", "top1_agreement >= 0")
    assert (held.returncode, held.stderr) == (0, "")
    missed = tonnage(tmp_path, *args, "--gate", "mean_kld<=0.0", "--gate", "top5_agreement>=2")
    assert missed.returncode == 4
    assert missed.stdout == held.stdout
    first, second = missed.stderr.splitlines()
    assert first.startswith("tonnage: The gate mean_kld<=0 is missed: mean_kld is ")
    assert second.startswith("tonnage: The gate top5_agreement>=2 is missed: top5_agreement is ")
    for words, sentence in (
        ("kld<=1", "one of perplexity, mean_kld"),
        ("mean_kld<=x", "no number"),
        ("mean_kld<1", "not understood"),
        ("mean_kld<=nan", "no number"),
    ):
        assert sentence in refused(tonnage(tmp_path, *args, "--gate", words))
    alone = tonnage(tmp_path, "audit", folder / "q4.gguf", "--gate", "mean_kld<=1")
    assert "needs a --reference" in refused(alone)
