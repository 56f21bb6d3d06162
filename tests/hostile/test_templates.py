# ruff: noqa: E501 (templates keep their lines)
"""Chat templates: the same prompts as plain Jinja gives, and an end to every hostile one."""

import json
import resource
import time
from datetime import datetime

import jinja2
import pytest
from jinja2.defaults import DEFAULT_NAMESPACE
from jinja2.filters import FILTERS
from jinja2.sandbox import ImmutableSandboxedEnvironment

from support.template_families import FAMILIES
from tonnage.core.errors import ChatTemplateError
from tonnage.text.template import ChatTemplate

CHAT = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "  Hi <b>&</b> \n"},
    {"role": "assistant", "content": "a<think>b</think>\n\nc"},
    {"role": "user", "content": "x'\"é"},
]
TEMPLATES = {
    "chatml": "{% for m in messages %}{{'<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' + '\n'}}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}",
    "alternate": """{{ bos_token }}
{%- if messages[0]['role'] == 'system' -%}
    {%- set first = messages[0]['content'] | trim + '\n\n' -%}
    {%- set rest = messages[1:] -%}
{%- else -%}
    {%- set first = "" -%}{%- set rest = messages -%}
{%- endif -%}
{%- for message in rest -%}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) -%}
        {{ raise_exception("roles must alternate") }}
    {%- endif -%}
    {%- set role = "model" if message['role'] == 'assistant' else message['role'] -%}
    {{ '<start_of_turn>' ~ role ~ '\n' ~ (first if loop.first else "") ~ message['content'] | trim ~ '<end_of_turn>\n' }}
{%- endfor -%}""",
    "thinking": """{%- set ns = namespace(last=messages|length - 1, n=0) %}
{%- for message in messages[::-1] %}{% set index = (messages|length - 1) - loop.index0 %}
    {%- if message.role == "user" and ns.last == messages|length - 1 %}{% set ns.last = index %}{% endif %}
{%- endfor %}
{%- for message in messages %}
    {%- set content = message.content %}
    {%- if message.role == "assistant" and '</think>' in content %}
        {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
    {%- endif %}
    {%- if loop.index0 > ns.last or (loop.last or (not loop.last and content)) %}{% set ns.n = ns.n + 1 %}{% endif %}
    {%- macro show(a, b='!') %}[{{ a }}|{{ b }}]{% endmacro %}
    {{- show(content) + show(content|upper, b=message.role[:2]) }}{{ ns.n }} {{ ns.last }}
{% endfor %}
{% generation %}x{% endgeneration %}
{{ tools is none }} {{ tools is defined }} {{ nothing is defined }} {{ bos_token ~ eos_token }} {{ strftime_now("%d %b %Y") }}
{{ messages | tojson }} {{ messages[1] | tojson(indent=2) }} {{ {'b': 1, 'a': [1.5, none, true]} | tojson }}
{{ messages | selectattr('role', 'equalto', 'user') | map(attribute='content') | join(', ') }} {{ "%s-%d" | format("a", 3) }}
{% for k, v in {'x': 1, 'y': (2, 3)}.items() %}{% if loop.index > 1 %}{% break %}{% endif %}{{ k }}={{ v }}{% endfor %}
{{ "{} {}".format(1, "b") }} {{ 'a,b'.split(',') | reverse | list }} {{ 'x' * 3 }} {{ 2 ** 8 }} {{ 7 // 2 }} {{ messages is iterable }}""",
}
NOW = datetime(2024, 7, 26)


def plainly(source, **variables):
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    environment.filters["tojson"] = lambda x, indent=None: json.dumps(
        x, ensure_ascii=False, indent=indent
    )
    environment.globals["strftime_now"] = NOW.strftime
    source = source.replace("{% generation %}", "").replace("{% endgeneration %}\n", "")
    return environment.from_string(source).render(
        messages=CHAT,
        tools=None,
        documents=None,
        add_generation_prompt=True,
        bos_token="<s>",
        eos_token="</s>",
        **variables,
    )


@pytest.mark.parametrize("name", TEMPLATES)
def test_prompts_are_those_of_plain_jinja(name):
    prompt = ChatTemplate(TEMPLATES[name]).render(CHAT, bos_token="<s>", eos_token="</s>", now=NOW)
    assert prompt == plainly(TEMPLATES[name])


def test_no_template_is_a_sentence():
    with pytest.raises(ChatTemplateError, match=r"base model.*no chat template.*plain text"):
        ChatTemplate(None)


def test_the_words_of_a_refusal_are_kept():
    template = ChatTemplate(TEMPLATES["alternate"])
    with pytest.raises(ChatTemplateError, match="roles must alternate"):
        template.render([{"role": "assistant", "content": "x"}])


@pytest.mark.parametrize(
    "messages", [[], [{"role": "user"}], [{"content": "x"}], [{"role": 3, "content": "x"}]]
)
def test_malformed_messages_are_refused(messages):
    with pytest.raises(ChatTemplateError, match=r"message|Message"):
        ChatTemplate("x").render(messages)


def test_a_thousand_long_messages_are_fine():
    chat = [{"role": ("user", "assistant")[i % 2], "content": "word " * 200} for i in range(1000)]
    prompt = ChatTemplate(TEMPLATES["thinking"], time_limit_s=20).render(chat)
    assert len(prompt) > 1_000_000


HOSTILE = {
    "endless loop": "{% for i in range(9999) %}{% for j in range(9999) %}{% endfor %}{% endfor %}",
    "endless output": "{% for i in range(9999) %}{% for j in range(9999) %}{{ 'xxxxxxxxxxxxxxxxxxxxxxxxx' }}{% endfor %}{% endfor %}",
    "long string": "{{ 'a' * 10**9 }}",
    "long list": "{{ [1] * 10**9 }}",
    "long tuple": "{{ (1, 2) * 10**9 }}",
    "power": "{{ 10 ** (10 ** 10) }}",
    "power chain": "{{ 9 ** 9 ** 9 ** 9 ** 9 }}",
    "product": "{% set ns = namespace(x=3) %}{% for i in range(99) %}{% set ns.x = ns.x * ns.x %}{% endfor %}",
    "doubling ~": "{% set ns = namespace(x='aa') %}{% for i in range(99) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
    "doubling +": "{% set ns = namespace(x='aa') %}{% for i in range(99) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
    "doubling %": "{% set ns = namespace(x='aa') %}{% for i in range(99) %}{% set ns.x = '%s%s' % (ns.x, ns.x) %}{% endfor %}",
    "doubling format": "{% set ns = namespace(x='aa') %}{% for i in range(99) %}{% set ns.x = '{0}{0}'.format(ns.x) %}{% endfor %}",
    "doubling join": "{% set ns = namespace(x='aa') %}{% for i in range(99) %}{% set ns.x = [ns.x, ns.x] | join %}{% endfor %}",
    "doubling list": "{% set ns = namespace(x=[1]) %}{% for i in range(99) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x }}",
    "doubling dict": "{% set ns = namespace(x={}) %}{% for i in range(99) %}{% set ns.x = {1: ns.x, 2: ns.x} %}{% endfor %}{{ ns.x == 1 }}",
    "doubling tuple": "{% set ns = namespace(x=1) %}{% for i in range(99) %}{% set ns.x = (ns.x, ns.x) %}{% endfor %}{{ ns.x | tojson }}",
    "doubling block": "{% set ns = namespace(x='aa') %}{% for i in range(99) %}{% set y %}{{ ns.x }}{{ ns.x }}{% endset %}"
    "{% set ns.x = y %}{% endfor %}",
    "deep list": "{% set ns = namespace(x=1) %}{% for i in range(9999) %}{% set ns.x = [ns.x] %}{% endfor %}{{ ns.x }}",
    "center": "{{ 'a' | center(10**9) }}",
    "ljust": "{{ 'a'.ljust(10**9) }}",
    "zfill": "{{ '1'.zfill(10**9) }}",
    "expandtabs": "{{ ('\\t' * 99999).expandtabs(99999) }}",
    "indent": "{{ ('a\\n' * 99999) | indent(99999) }}",
    "percent": "{{ '%999999999d' % 1 }}",
    "percent star": "{{ '%*d' % (999999999, 1) }}",
    "format filter": "{{ '%999999999d' | format(1) }}",
    "braces": "{{ '{:999999999}'.format(1) }}",
    "nested braces": "{{ '{:{w}}'.format(1, w=999999999) }}",
    "format map": "{{ '{x:999999999}'.format_map({'x': 1}) }}",
    "attr format": "{{ ('{:999999999}' | attr('format'))(1) }}",
    "replace": "{{ ('a' * 99999) | replace('a', 'b' * 99999) }}",
    "str.replace": "{{ ('a' * 99999).replace('', 'b' * 99999) }}",
    "str.join": "{{ ('a' * 999999).join('b' * 999999) }}",
    "translate": "{{ ('a' * 99999).translate({97: 'b' * 99999}) }}",
    "range": "{{ range(10**18) | list }}",
    "json indent": "{{ messages | tojson(indent=10**9) }}",
    "wordwrap": "{{ ('a ' * 99999) | wordwrap(1, true, 'b' * 99999) }}",
    "batch": "{{ [1] | batch(10**9, 0) | list }}",
    "to_bytes": "{{ (1).to_bytes(10**9, 'big') }}",
    "doubling sum": "{% set ns = namespace(x=[1]) %}{% for i in range(99) %}{% set ns.x = [ns.x, ns.x] | sum(start=[]) %}{% endfor %}",
    "many sums": "{% set x = [[1] * 999] * 9999 %}{{ x | sum(start=[]) }}",
    "pprint": "{{ ([[1] * 99] * 999) | pprint }}",
    "striptags": "{{ ('<!---->' * 99999) | striptags }}",
    "urlize": "{{ ('http://a.b ' * 99999) | urlize }}",
    "lipsum": "{{ lipsum(n=10**9) }}",
    "long lipsum": "{{ lipsum(n=99, max=10**9) }}",
    "slice": "{{ [1] | slice(10**9) | list }}",
    "cycler": "{% set c = cycler('x' * 9999999, 1) %}{% for i in range(9999) %}{{ c.next() }}{% endfor %}",
    "comparisons": "{% set a = [1] * 999999 %}{% set b = [1] * 999999 %}{% for i in range(99999) %}{% if a == b %}{% endif %}{% endfor %}",
    "written comparisons": "{% set a = [1] * 999999 %}{% set b = [1] * 999999 %}"
    + "{% if a == b %}{% endif %}" * 4000,
    "slices": "{% set a = [1] * 999999 %}{% for i in range(99999) %}{% set b = a[1:] %}{% endfor %}",
    "written slices": "{% set a = 'a' * 9999999 %}" + "{% set b = a[1:] %}" * 5000,
    "round": "{{ 1.5 | round(10**9, 'ceil') }}",
    "known": "{% set ns = namespace(x=messages) %}{% for i in range(99) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
    "recursion": "{% macro f() %}{{ f() }}{{ f() }}{% endmacro %}{{ f() }}",
    "loop recursion": "{% for x in [1] recursive %}{{ loop([1]) }}{% endfor %}",
    "wide recursion": "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(90) }}",
    "internals": "{{ ''.__class__.__mro__ }}",
    "globals": "{{ raise_exception.__globals__.x }}",
    "attr": "{{ '' | attr('__class__') | attr('x') }}",
    "mutation": "{{ messages.append(1) }}",
    "include": "{% include 'x' %}",
    "import": "{% import 'x' as y %}",
    "extends": "{% extends 'x' %}",
    "undefined": "{{ a.b.c }}",
    "unclosed": "{% for x in y %}",
    "bad tag": "{% nonsense %}",
    "parentheses": "{{ " + "(" * 9999 + " }}",
    "nots": "{{ " + "not " * 30000 + "1 }}",
    "sums": "{{ 1" + "+ 1" * 30000 + " }}",
    "nested loops": "{% for a in b %}" * 300 + "{% endfor %}" * 300,
    "lists": "{{ " + "[" * 5000 + "]" * 5000 + " }}",
    "size": "x" * 200_000,
    "surrogates": "{{ '\\ud800' | tojson }}{{ 1 / 0 }}",
}


HONEST = {
    "large numbers": ("{{ 1700000000 | string }}{{ 20240101 | abs }}{{ '%d' | format(1000000) }}", "17000000002024010110" + "00000"),
    "a long count": ("{{ 'a,b'.split(',', 999999) }}{{ 'aXa'.replace('X', '-', 999999) }}", "['a', 'b']a-a"),
    "JSON by format": ("{{ '{{\"a\": {}, \"b\": 12345}}'.format(1) }}", '{"a": 1, "b": 12345}'),
    "sum of lists": ("{{ [[1], [2]] | sum(start=[]) }}", "[1, 2]"),
    "sum by attribute": ("{{ [{'a': 1}, {'a': 2.5}] | sum(attribute='a') }}", "3.5"),
    "slice": ("{{ [1, 2, 3, 4, 5] | slice(2, '-') | list }}", "[[1, 2, 3], [4, 5, '-']]"),
    "cycler": ("{% set c = cycler('a', 'b') %}{{ c.next() }}{{ c.next() }}{{ c.next() }}{{ c.current }}", "abab"),
    "joiner": ("{% set j = joiner(', ') %}{% for m in messages %}{{ j() }}{{ m.role[0] }}{% endfor %}", "s, u, a, u"),
    "pprint": ("{{ {'b': 'x', 'a': [1]} | pprint }}", "{'a': [1], 'b': 'x'}"),
    "xmlattr": ("{{ {'a': 1, 'b': none, 'c': '<'} | xmlattr }}", ' a="1" c="&lt;"'),
    "filesizeformat": ("{{ 1000 | filesizeformat }} {{ 2097152 | filesizeformat(true) }}", "1.0 kB 2.0 MiB"),
    "striptags": ("{{ '<p>x <!-- y --> &amp;</p>' | striptags }}", "x &"),
    "urlize": ("{{ 'see http://a.com' | urlize }}", 'see <a href="http://a.com" rel="noopener">http://a.com</a>'),
    "random": ("{{ [7] | random }}", "7"),
    "lipsum": ("{{ lipsum(n=1, html=false, min=1, max=2) | length > 0 }}", "True"),
}  # fmt: skip


@pytest.mark.parametrize("name", HONEST)
def test_what_is_harmless_is_as_in_jinja(name):
    source, expected = HONEST[name]
    assert ChatTemplate(source).render(CHAT) == expected
    assert plainly(source) == expected


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_template_ends_with_an_error(name):
    begun, memory = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ChatTemplateError):
        ChatTemplate(HOSTILE[name], time_limit_s=0.5).render(CHAT)
    assert time.monotonic() - begun < 10
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory < 400 * 1024


def test_jinja_is_recent_enough_for_its_sandbox():
    assert tuple(map(int, jinja2.__version__.split(".")[:3])) >= (3, 1, 6)


LOOKING_FORWARD = (
    "{% for m in messages %}{% set ns = namespace(found=false) %}{% for n in messages[loop.index:] %}"
    "{% if n.role == 'assistant' %}{% set ns.found = true %}{% break %}{% endif %}{% endfor %}"
    "{% if ns.found %}+{% endif %}{{ m.content }}{% endfor %}"
)
GROWING = "{% set ns = namespace(l=[], s='') %}{% for m in messages %}{% set ns.l = ns.l + [m] %}{% set ns.s = ns.s + m.content %}{% endfor %}{{ ns.l | length }}{{ ns.s }}"
LAST = "{% set us = messages | selectattr('role', 'equalto', 'user') | list %}{% for m in messages %}{{ m == us[-1] }}{{ m.content | trim }}{% endfor %}"
LONG = {"forward": LOOKING_FORWARD, "growing": GROWING, "last": LAST, **TEMPLATES} | {
    name: FAMILIES[name] for name in ("qwen 3", "gpt-oss", "gemma 3", "mistral nemo", "llama 3.1")
}


@pytest.mark.parametrize("name", LONG)
def test_four_thousand_messages_are_inside_the_limits(name):
    told = [
        {"role": ("user", "assistant")[i % 2], "content": f"{i} " + "word " * 40}
        for i in range(4001)
    ]
    prompt = ChatTemplate(LONG[name]).render(told)
    assert prompt.count("word") >= 40 * len(told)


VALUES = {"'ab'": str, "'ab'.encode()": bytes, "7": int, "1.5": float, "[1]": list, "(1, 2)": tuple,
          "{'a': 1}": dict, "range(3)": range}  # fmt: skip
METHODS = [(value, name) for value, kind in VALUES.items() for name in dir(kind) if name[0] != "_"]
FUNCTIONS = [
    *(f"{{{{ {value}.{name}(ARGS) }}}}" for value, name in METHODS),
    *(f"{{{{ {value} | {name}(ARGS) }}}}" for value in VALUES for name in sorted(FILTERS)),
    *(f"{{{{ {name}(ARGS) }}}}" for name in sorted(DEFAULT_NAMESPACE)),
]
ARGUMENTS = ("10**9", "10**9, 'x'", "'x', 10**9", "10**9, 10**9", "'big', 10**9", "1, 10**9, 1")


def test_no_function_makes_as_much_as_a_number_says():
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for source in FUNCTIONS:
        for arguments in ARGUMENTS:
            try:
                prompt = ChatTemplate(source.replace("ARGS", arguments)).render(CHAT)
            except ChatTemplateError:
                continue
            assert len(prompt) < 10_000, (source, arguments)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory < 64 * 1024
