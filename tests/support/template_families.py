# ruff: noqa: E501 (templates keep their lines)
"""Chat templates in the shapes of well-known families, in words of our own."""

_CALLS = """{%- if m.tool_calls %}{%- for c in m.tool_calls %}{%- set f = c.function if c.function is defined else c %}
<tool_call>
{"name": "{{ f.name }}", "arguments": {{ f.arguments if f.arguments is string else f.arguments | tojson }}}
</tool_call>{%- endfor %}{%- endif %}"""

FAMILIES = {
    "chatml": "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' + '\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}",
    "chatml with a usual system message": "{% if messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nYou are kind.<|im_end|>\n' }}{% endif %}{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
    "smollm2": """{%- for m in messages -%}
{%- if loop.first and m['role'] != 'system' -%}
{{ '<|im_start|>system\nYou are a small helper.<|im_end|>\n' }}
{%- endif -%}
{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' + '\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\n' }}{%- endif -%}""",
    "llama 2": """{% if messages[0]['role'] == 'system' %}{% set rest = messages[1:] %}{% set first = messages[0]['content'] %}{% else %}{% set rest = messages %}{% set first = false %}{% endif %}
{%- for m in rest %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('user and assistant have to take turns') }}{% endif %}
{%- if loop.index0 == 0 and first != false %}{% set text = '<<SYS>>\n' + first + '\n<</SYS>>\n\n' + m['content'] %}{% else %}{% set text = m['content'] %}{% endif %}
{%- if m['role'] == 'user' %}{{ bos_token + '[INST] ' + text.strip() + ' [/INST]' }}{% elif m['role'] == 'assistant' %}{{ ' ' + text.strip() + ' ' + eos_token }}{% endif %}{% endfor %}""",
    "llama 3": "{% set loop_messages = messages %}{% for m in loop_messages %}{% set content = '<|start_header_id|>' + m['role'] + '<|end_header_id|>\n\n' + m['content'] | trim + '<|eot_id|>' %}{% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}{{ content }}{% endfor %}{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}",
    "llama 3.1": """{{- bos_token }}
{%- if custom_tools is defined %}{%- set tools = custom_tools %}{%- endif %}
{%- if not tools_in_user_message is defined %}{%- set tools_in_user_message = true %}{%- endif %}
{%- if not date_string is defined %}{%- set date_string = "26 Jul 2024" %}{%- endif %}
{%- if not tools is defined %}{%- set tools = none %}{%- endif %}
{%- if messages[0]['role'] == 'system' %}{%- set first = messages[0]['content']|trim %}{%- set messages = messages[1:] %}{%- else %}{%- set first = "" %}{%- endif %}
{{- "<|start_header_id|>system<|end_header_id|>\\n\\n" }}
{%- if tools is not none %}{{- "Environment: ipython\\n" }}{%- endif %}
{{- "Today Date: " + date_string + "\\n\\n" }}{{- first }}{{- "<|eot_id|>" }}
{%- if tools_in_user_message and not tools is none %}
    {%- if messages | length != 0 %}{%- set user = messages[0]['content']|trim %}{%- set messages = messages[1:] %}
    {%- else %}{{- raise_exception("There is no user message to put the tools into") }}{%- endif %}
    {{- '<|start_header_id|>user<|end_header_id|>\\n\\n' -}}
    {%- for t in tools %}{{- t | tojson(indent=4) }}{{- "\\n\\n" }}{%- endfor %}{{- user + "<|eot_id|>" }}
{%- endif %}
{%- for m in messages %}
    {%- if not (m.role == 'ipython' or m.role == 'tool' or 'tool_calls' in m) %}
        {{- '<|start_header_id|>' + m['role'] + '<|end_header_id|>\\n\\n'+ m['content'] | trim + '<|eot_id|>' }}
    {%- elif 'tool_calls' in m %}
        {%- if not m.tool_calls|length == 1 %}{{- raise_exception("One call at a time") }}{%- endif %}
        {%- set call = m.tool_calls[0].function %}
        {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' -}}{{- '{"name": "' + call.name + '", ' }}{{- '"parameters": ' }}{{- call.arguments | tojson }}{{- "}" }}{{- "<|eot_id|>" }}
    {%- elif m.role == "tool" or m.role == "ipython" %}
        {{- "<|start_header_id|>ipython<|end_header_id|>\\n\\n" }}
        {%- if m.content is mapping or m.content is iterable %}{{- m.content | tojson }}{%- else %}{{- m.content }}{%- endif %}{{- "<|eot_id|>" }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{%- endif %}""",
    "llama 3.2": """{{- bos_token }}{%- if strftime_now is defined %}{%- set day = strftime_now("%d %b %Y") %}{%- else %}{%- set day = "26 Jul 2024" %}{%- endif %}
Today Date: {{ day | length > 8 }}
{% for m in messages %}{% if m.role != 'tool' %}<|start_header_id|>{{ m.role }}<|end_header_id|>

{{ m.content | trim }}<|eot_id|>{% endif %}{% endfor %}""",
    "mistral 7b": "{{ bos_token }}{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles must alternate') }}{% endif %}{% if m['role'] == 'user' %}{{ '[INST] ' + m['content'] + ' [/INST]' }}{% elif m['role'] == 'assistant' %}{{ m['content'] + eos_token }}{% else %}{{ raise_exception('Only user and assistant!') }}{% endif %}{% endfor %}",
    "mistral nemo": """{%- if messages[0]["role"] == "system" %}{%- set first = messages[0]["content"] %}{%- set rest = messages[1:] %}{%- else %}{%- set rest = messages %}{%- endif %}
{%- if not tools is defined %}{%- set tools = none %}{%- endif %}
{%- set users = rest | selectattr("role", "equalto", "user") | list %}
{%- set ns = namespace() %}{%- set ns.index = 0 %}
{%- for m in rest %}{%- if not (m.role == "tool" or m.role == "tool_results" or (m.tool_calls is defined and m.tool_calls is not none)) %}
{%- if (m["role"] == "user") != (ns.index % 2 == 0) %}{{- raise_exception("take turns") }}{%- endif %}{%- set ns.index = ns.index + 1 %}{%- endif %}{%- endfor %}
{{- bos_token }}
{%- for m in rest %}
    {%- if m["role"] == "user" %}
        {%- if tools is not none and (m == users[-1]) %}{{- "[AVAILABLE_TOOLS][" }}{%- for tool in tools %}{%- set tool = tool.function %}{{- '{"type": "function", "function": {' }}{%- for key, val in tool.items() if key != "return" %}{%- if val is string %}{{- '"' + key + '": "' + val + '"' }}{%- else %}{{- '"' + key + '": ' + val|tojson }}{%- endif %}{%- if not loop.last %}{{- ", " }}{%- endif %}{%- endfor %}{{- "}}" }}{%- if not loop.last %}{{- ", " }}{%- else %}{{- "]" }}{%- endif %}{%- endfor %}{{- "[/AVAILABLE_TOOLS]" }}{%- endif %}
        {%- if loop.last and first is defined %}{{- "[INST]" + first + "\\n\\n" + m["content"] + "[/INST]" }}{%- else %}{{- "[INST]" + m["content"] + "[/INST]" }}{%- endif %}
    {%- elif (m.tool_calls is defined and m.tool_calls is not none) %}{{- "[TOOL_CALLS][" }}{%- for c in m.tool_calls %}{%- set out = c.function|tojson %}{{- out[:-1] }}{%- if c.id is not defined or c.id|length != 9 %}{{- ', "short": true' }}{%- endif %}{{- ', "id": "' + c.id + '"}' }}{%- if not loop.last %}{{- ", " }}{%- else %}{{- "]" + eos_token }}{%- endif %}{%- endfor %}
    {%- elif m["role"] == "assistant" %}{{- m["content"] + eos_token}}
    {%- elif m["role"] == "tool_results" or m["role"] == "tool" %}{%- if m.content is defined and m.content.content is defined %}{%- set content = m.content.content %}{%- else %}{%- set content = m.content %}{%- endif %}{{- '[TOOL_RESULTS]{"content": ' + content|string + ', "call_id": "' + m.tool_call_id + '"}[/TOOL_RESULTS]' }}
    {%- else %}{{- raise_exception("Only user, assistant, tool") }}{%- endif %}
{%- endfor %}""",
    "mistral small": """{%- set today = strftime_now("%Y-%m-%d") %}{%- set usual = "You are Le Kind. Today is " + today %}
{{- bos_token }}
{%- if messages[0]['role'] == 'system' %}{%- if messages[0]['content'] is string %}{%- set first = messages[0]['content'] %}{%- else %}{%- set first = messages[0]['content'][0]['text'] %}{%- endif %}{%- set rest = messages[1:] %}{%- else %}{%- set first = usual | length %}{%- set rest = messages %}{%- endif %}
{{- '[SYSTEM_PROMPT]' + first | string + '[/SYSTEM_PROMPT]' }}
{%- for m in rest %}{%- if m['role'] == 'user' %}{%- if m['content'] is string %}{{- '[INST]' + m['content'] + '[/INST]' }}{%- else %}{{- '[INST]' }}{%- for b in m['content'] %}{%- if b['type'] == 'text' %}{{- b['text'] }}{%- elif b['type'] in ['image', 'image_url'] %}{{- '[IMG]' }}{%- else %}{{- raise_exception('Only text and images') }}{%- endif %}{%- endfor %}{{- '[/INST]' }}{%- endif %}{%- elif m['role'] == 'assistant' %}{%- if m['content'] is string %}{{- m['content'] + eos_token }}{%- else %}{{- m['content'][0]['text'] + eos_token }}{%- endif %}{%- elif m['role'] != 'tool' %}{{- raise_exception('Only user, system and assistant') }}{%- endif %}{%- endfor %}""",
    "qwen 2.5": """{%- if tools %}{{- '<|im_start|>system\\n' }}{%- if messages[0]['role'] == 'system' %}{{- messages[0]['content'] }}{%- else %}{{- 'You are Q.' }}{%- endif %}{{- "\\n\\n# Tools\\n<tools>" }}{%- for t in tools %}{{- "\\n" }}{{- t | tojson }}{%- endfor %}{{- "\\n</tools><|im_end|>\\n" }}
{%- else %}{%- if messages[0]['role'] == 'system' %}{{- '<|im_start|>system\\n' + messages[0]['content'] + '<|im_end|>\\n' }}{%- else %}{{- '<|im_start|>system\\nYou are Q.<|im_end|>\\n' }}{%- endif %}{%- endif %}
{%- for m in messages %}
    {%- if (m.role == "user") or (m.role == "system" and not loop.first) or (m.role == "assistant" and not m.tool_calls) %}{{- '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>' + '\\n' }}
    {%- elif m.role == "assistant" %}{{- '<|im_start|>' + m.role }}{%- if m.content %}{{- '\\n' + m.content }}{%- endif %}{%- for c in m.tool_calls %}{%- if c.function is defined %}{%- set c = c.function %}{%- endif %}{{- '\\n<tool_call>\\n{"name": "' }}{{- c.name }}{{- '", "arguments": ' }}{{- c.arguments | tojson }}{{- '}\\n</tool_call>' }}{%- endfor %}{{- '<|im_end|>\\n' }}
    {%- elif m.role == "tool" %}{%- if (loop.index0 == 0) or (messages[loop.index0 - 1].role != "tool") %}{{- '<|im_start|>user' }}{%- endif %}{{- '\\n<tool_response>\\n' }}{{- m.content }}{{- '\\n</tool_response>' }}{%- if loop.last or (messages[loop.index0 + 1].role != "tool") %}{{- '<|im_end|>\\n' }}{%- endif %}{%- endif %}
{%- endfor %}{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}""",
    "qwen 3": """{%- set ns = namespace(multi=true, last=messages|length - 1) %}
{%- for m in messages[::-1] %}{%- set index = (messages|length - 1) - loop.index0 %}{%- if ns.multi and m.role == "user" and m.content is string and not(m.content.startswith('<tool_response>') and m.content.endswith('</tool_response>')) %}{%- set ns.multi = false %}{%- set ns.last = index %}{%- endif %}{%- endfor %}
{%- for m in messages %}{%- if m.content is string %}{%- set content = m.content %}{%- else %}{%- set content = '' %}{%- endif %}
    {%- if m.role == "user" or (m.role == "system" and not loop.first) %}{{- '<|im_start|>' + m.role + '\\n' + content + '<|im_end|>\\n' }}
    {%- elif m.role == "assistant" %}{%- set reasoning = '' %}{%- if m.reasoning_content is string %}{%- set reasoning = m.reasoning_content %}{%- else %}{%- if '</think>' in content %}{%- set reasoning = content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}{%- set content = content.split('</think>')[-1].lstrip('\\n') %}{%- endif %}{%- endif %}
        {%- if loop.index0 > ns.last and (loop.last or (not loop.last and reasoning)) %}{{- '<|im_start|>assistant\\n<think>\\n' + reasoning.strip('\\n') + '\\n</think>\\n\\n' + content.lstrip('\\n') }}{%- else %}{{- '<|im_start|>assistant\\n' + content }}{%- endif %}"""
    + _CALLS
    + """{{- '<|im_end|>\\n' }}
    {%- elif m.role == "tool" %}{%- if loop.first or (messages[loop.index0 - 1].role != "tool") %}{{- '<|im_start|>user' }}{%- endif %}{{- '\\n<tool_response>\\n' + content + '\\n</tool_response>' }}{%- if loop.last or (messages[loop.index0 + 1].role != "tool") %}{{- '<|im_end|>\\n' }}{%- endif %}{%- endif %}
{%- endfor %}{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- if enable_thinking is defined and enable_thinking is false %}{{- '<think>\\n\\n</think>\\n\\n' }}{%- endif %}{%- endif %}""",
    "gemma 1": "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('take turns') }}{% endif %}{% if (m['role'] == 'assistant') %}{% set role = 'model' %}{% else %}{% set role = m['role'] %}{% endif %}{{ '<start_of_turn>' + role + '\n' + m['content'] | trim + '<end_of_turn>\n' }}{% endfor %}{% if add_generation_prompt %}{{'<start_of_turn>model\n'}}{% endif %}",
    "gemma 3": """{{ bos_token }}
{%- if messages[0]['role'] == 'system' -%}{%- if messages[0]['content'] is string -%}{%- set first = messages[0]['content'] + '\n\n' -%}{%- else -%}{%- set first = messages[0]['content'][0]['text'] + '\n\n' -%}{%- endif -%}{%- set rest = messages[1:] -%}{%- else -%}{%- set first = "" -%}{%- set rest = messages -%}{%- endif -%}
{%- for m in rest -%}
    {%- if (m['role'] == 'user') != (loop.index0 % 2 == 0) -%}{{ raise_exception("take turns") }}{%- endif -%}
    {%- if (m['role'] == 'assistant') -%}{%- set role = "model" -%}{%- else -%}{%- set role = m['role'] -%}{%- endif -%}
    {{ '<start_of_turn>' + role + '\n' + (first if loop.first else "") }}
    {%- if m['content'] is string -%}{{ m['content'] | trim }}
    {%- elif m['content'] is iterable -%}{%- for item in m['content'] -%}{%- if item['type'] == 'image' -%}{{ '<start_of_image>' }}{%- elif item['type'] == 'text' -%}{{ item['text'] | trim }}{%- endif -%}{%- endfor -%}
    {%- else -%}{{ raise_exception("Invalid content type") }}{%- endif -%}
    {{ '<end_of_turn>\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{'<start_of_turn>model\n'}}{%- endif -%}""",
    "phi 3": "{% for m in messages %}{% if m['role'] == 'system' and m['content'] %}{{'<|system|>\n' + m['content'] + '<|end|>\n'}}{% elif m['role'] == 'user' %}{{'<|user|>\n' + m['content'] + '<|end|>\n'}}{% elif m['role'] == 'assistant' %}{{'<|assistant|>\n' + m['content'] + '<|end|>\n'}}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% else %}{{ eos_token }}{% endif %}",
    "phi 4": "{% for m in messages %}{% if (m['role'] == 'system') %}{{'<|im_start|>system<|im_sep|>' + m['content'] + '<|im_end|>'}}{% elif (m['role'] == 'user') %}{{'<|im_start|>user<|im_sep|>' + m['content'] + '<|im_end|>'}}{% elif (m['role'] == 'assistant') %}{{'<|im_start|>assistant<|im_sep|>' + m['content'] + '<|im_end|>'}}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant<|im_sep|>' }}{% endif %}",
    "phi 4 mini": "{% for m in messages %}{% if m['role'] == 'system' and 'tools' in m and m['tools'] is not none %}{{ '<|' + m['role'] + '|>' + m['content'] + '<|tool|>' + m['tools'] + '<|/tool|>' + '<|end|>' }}{% else %}{{ '<|' + m['role'] + '|>' + m['content'] + '<|end|>' }}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% else %}{{ eos_token }}{% endif %}",
    "smollm3": """{%- set defaults = {"prompt": "You are small.", "mode": "/think"} -%}
{%- set mode = "/no_think" if enable_thinking is defined and not enable_thinking else defaults.mode -%}
{%- set ns = namespace(mode=mode, system="") -%}
{%- if messages[0].role == "system" -%}{%- set ns.system = messages[0].content -%}{%- if "/no_think" in ns.system -%}{%- set ns.mode = "/no_think" -%}{%- elif "/think" in ns.system -%}{%- set ns.mode = "/think" -%}{%- endif -%}{%- set ns.system = ns.system.replace("/no_think", "").replace("/think", "").rstrip() -%}{%- endif -%}
{{- "<|im_start|>system\\n" -}}{%- if ns.system -%}{{- ns.system -}}{%- else -%}{{- defaults["prompt"] -}}{%- endif -%}{{- "\\nMode: " ~ ns.mode ~ "\\n" -}}
{%- if tools -%}{{- "### Tools\\n" -}}{%- for t in tools -%}{{- t | string | length > 9 -}}{%- endfor -%}{%- endif -%}{{- "<|im_end|>\\n" -}}
{%- for m in messages -%}{%- set content = m.content if m.content is string else "" -%}
{%- if m.role == "user" -%}{{ "<|im_start|>" + m.role + "\\n" + content + "<|im_end|>\\n" }}{%- elif m.role == "assistant" -%}{% generation %}{%- if ns.mode == "/think" -%}{{ "<|im_start|>assistant\\n" + content.lstrip("\\n") + "<|im_end|>\\n" }}{%- else -%}{{ "<|im_start|>assistant\\n" + "<think>\\n\\n</think>\\n" + content.lstrip("\\n") + "<|im_end|>\\n" }}{%- endif -%}{% endgeneration %}{%- elif m.role == "tool" -%}{{ "<|im_start|>user\\n" + content + "<|im_end|>\\n" }}{%- endif -%}{%- endfor -%}
{%- if add_generation_prompt -%}{%- if ns.mode == "/think" -%}{{ "<|im_start|>assistant\\n" }}{%- else -%}{{ "<|im_start|>assistant\\n<think>\\n\\n</think>\\n" }}{%- endif -%}{%- endif -%}""",
    "deepseek v2": "{% if not add_generation_prompt is defined %}{% set add_generation_prompt = false %}{% endif %}{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}{{ 'User: ' + m['content'] + '\n\n' }}{% elif m['role'] == 'assistant' %}{{ 'Assistant: ' + m['content'] + eos_token }}{% elif m['role'] == 'system' %}{{ m['content'] + '\n\n' }}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}",
    "deepseek r1": """{% if not add_generation_prompt is defined %}{% set add_generation_prompt = false %}{% endif %}{% set ns = namespace(is_first=false, is_tool=false, is_output_first=true, system_prompt='') %}
{%- for m in messages %}{%- if m['role'] == 'system' %}{% set ns.system_prompt = m['content'] %}{%- endif %}{%- endfor %}{{ bos_token }}{{ ns.system_prompt }}
{%- for m in messages %}{%- if m['role'] == 'user' %}{%- set ns.is_tool = false -%}{{ '<｜User｜>' + m['content'] }}{%- endif %}
{%- if m['role'] == 'assistant' and m['tool_calls'] is defined and m['tool_calls'] %}{%- set ns.is_tool = false -%}{%- for tool in m['tool_calls'] %}{%- if not ns.is_first %}{{ '<｜Assistant｜><｜tool▁calls▁begin｜>' + tool['type'] + '<｜tool▁sep｜>' + tool['function']['name'] + '\\n' + '```json' + '\\n' + tool['function']['arguments'] | tojson + '\\n' + '```' }}{%- set ns.is_first = true -%}{%- else %}{{ '\\n' + tool['type'] + tool['function']['name'] }}{%- endif %}{%- endfor %}
{%- elif m['role'] == 'assistant' %}{% set content = m['content'] %}{% if '</think>' in content %}{% set content = content.split('</think>')[-1] %}{% endif %}{{ '<｜Assistant｜>' + content + '<｜end▁of▁sentence｜>' }}{%- endif %}
{%- if m['role'] == 'tool' %}{%- set ns.is_tool = true -%}{%- if ns.is_output_first %}{{ '<｜tool▁outputs▁begin｜>' + m['content'] }}{%- set ns.is_output_first = false %}{%- else %}{{ '\\n' + m['content'] }}{%- endif %}{%- endif %}{%- endfor -%}
{% if ns.is_tool %}{{ '<｜tool▁outputs▁end｜>' }}{% endif %}{% if add_generation_prompt and not ns.is_tool %}{{ '<｜Assistant｜><think>\\n' }}{% endif %}""",
    "command r": "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}{% set system_message = messages[0]['content'] %}{% elif false == true %}{% set loop_messages = messages %}{% set system_message = 'You are C.' %}{% else %}{% set loop_messages = messages %}{% set system_message = false %}{% endif %}{% if system_message != false %}{{ '<|START_OF_TURN_TOKEN|><|SYSTEM_TOKEN|>' + system_message + '<|END_OF_TURN_TOKEN|>' }}{% endif %}{% for m in loop_messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('take turns') }}{% endif %}{% set content = m['content'] %}{% if m['role'] == 'user' %}{{ '<|START_OF_TURN_TOKEN|><|USER_TOKEN|>' + content.strip() + '<|END_OF_TURN_TOKEN|>' }}{% elif m['role'] == 'assistant' %}{{ '<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>'  + content.strip() + '<|END_OF_TURN_TOKEN|>' }}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>' }}{% endif %}",
    "command r tools": r"""{%- macro json_to_python_type(spec) %}
{%- set basic = {"string": "str", "number": "float", "integer": "int", "boolean": "bool"} %}
{%- if basic[spec.type] is defined %}{{- basic[spec.type] }}{%- elif spec.type == "array" %}{{- "List[" + json_to_python_type(spec["items"]) + "]"}}{%- elif spec.type == "object" %}{{- "Dict[str, Any]" }}{%- elif spec.type is iterable %}{{- "Union[" }}{%- for t in spec.type %}{{- json_to_python_type({"type": t}) }}{%- if not loop.last %}{{- "," }}{%- endif %}{%- endfor %}{{- "]" }}{%- else %}{{- "Any" }}{%- endif %}
{%- endmacro %}
{%- macro old(tools) %}{%- for t in tools %}{%- if loop.index0 != 0 %}{{- "\n\n" }}{%- endif %}{{- "```python\ndef " + t.function.name + "(" }}{%- for name, f in t.function.parameters.properties|items %}{%- if loop.index0 != 0 %}{{- ", " }}{%- endif %}{{- name + ": " }}{%- if not name in t.function.parameters.required %}{{- "Optional[" + json_to_python_type(f) + "] = None" }}{%- else %}{{- json_to_python_type(f) }}{%- endif %}{%- endfor %}{{- ") -> List[Dict]:\n    \"\"\"" + t.function.description }}{{- "\"\"\"\n    pass\n```" }}{%- endfor %}{%- endmacro %}
{{- bos_token }}{%- if tools %}{{- old(tools) }}{%- endif %}{% for m in messages %}{{ m.role|capitalize }}: {{ m.content }}
{% endfor %}""",
    "hermes": """{%- macro kind(spec) %}{%- if spec.type is string %}{{- spec.type }}{%- elif spec.type is iterable %}{{- spec.type | join(' or ') }}{%- endif %}{%- endmacro %}
{{- bos_token }}<|im_start|>system
{% if messages[0].role == 'system' %}{{ messages[0].content }}{% endif %}{% if tools %} <tools> {% for t in tools %}{% set f = t.function %}{{ {"type": "function", "function": {"name": f.name, "args": f.parameters.properties | length}} | tojson }} {% for n, s in f.parameters.properties | items %}{{ n }}: {{ kind(s) }}{% if not loop.last %}, {% endif %}{% endfor %}{% endfor %}</tools>{% endif %}<|im_end|>
{% for m in messages %}{% if m.role == "assistant" and m.tool_calls is defined %}<|im_start|>assistant
"""
    + _CALLS
    + """<|im_end|>
{% elif m.role == "tool" %}{% if loop.previtem and loop.previtem.role != "tool" %}<|im_start|>tool
{% endif %}<tool_response>{{ m.content }}</tool_response>{% if not loop.last %}
{% endif %}{% if not loop.last and loop.nextitem.role != "tool" %}<|im_end|>{% elif loop.last %}<|im_end|>{% endif %}{% elif m.role != "system" %}<|im_start|>{{ m.role }}
{{ m.content }}<|im_end|>
{% endif %}{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}""",
    "olmo": "{{ eos_token }}{% for m in messages %}\n{% if m['role'] == 'user' %}\n{{ '<|user|>\n' + m['content'] }}\n{% elif m['role'] == 'assistant' %}\n{{ '<|assistant|>\n'  + m['content'] + eos_token }}\n{% endif %}\n{% if loop.last and add_generation_prompt %}\n{{ '<|assistant|>' }}\n{% endif %}\n{% endfor %}",
    "olmo 2": "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'system' %}{{ '<|system|>\n' + m['content'] + '\n' }}{% elif m['role'] == 'user' %}{{ '<|user|>\n' + m['content'] + '\n' }}{% elif m['role'] == 'assistant' %}{% if not loop.last %}{{ '<|assistant|>\n' + m['content'] + eos_token + '\n' }}{% else %}{{ '<|assistant|>\n' + m['content'] + eos_token }}{% endif %}{% endif %}{% if loop.last and add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}{% endfor %}",
    "granite 3": """{%- if messages[0]['role'] == 'system' %}{%- set system_message = messages[0]['content'] %}{%- set loop_messages = messages[1:] %}{%- else %}{%- set system_message = "Knowledge ends in April." %}{%- if tools and documents %}{%- set system_message = system_message + " Use tools and documents." %}{%- elif tools %}{%- set system_message = system_message + " Use tools." %}{%- endif %}{%- set loop_messages = messages %}{%- endif %}
{{- '<|start_of_role|>system<|end_of_role|>' + system_message + '<|end_of_text|>\n' }}
{%- if tools %}{{- '<|start_of_role|>tools<|end_of_role|>' }}{{- tools | tojson(indent=4) }}{{- '<|end_of_text|>\n' }}{%- endif %}
{%- if documents %}{{- '<|start_of_role|>documents<|end_of_role|>' }}{%- for d in documents %}{{- 'Document ' + loop.index0 | string + '\n' }}{{- d['text'] }}{%- endfor %}{%- endif %}
{%- for m in loop_messages %}{{- '<|start_of_role|>' + m['role'] + '<|end_of_role|>' + m['content'] + '<|end_of_text|>\n' }}{%- if loop.last and add_generation_prompt %}{{- '<|start_of_role|>assistant' }}{%- if controls %}{{- ' ' + controls | tojson()}}{%- endif %}{{- '<|end_of_role|>' }}{%- endif %}{%- endfor %}""",
    "zephyr": "{% for m in messages %}\n{% if m['role'] == 'user' %}\n{{ '<|user|>\n' + m['content'] + eos_token }}\n{% elif m['role'] == 'system' %}\n{{ '<|system|>\n' + m['content'] + eos_token }}\n{% elif m['role'] == 'assistant' %}\n{{ '<|assistant|>\n'  + m['content'] + eos_token }}\n{% endif %}\n{% if loop.last and add_generation_prompt %}\n{{ '<|assistant|>' }}\n{% endif %}\n{% endfor %}",
    "vicuna": "{% if messages[0]['role'] == 'system' %}{% set rest = messages[1:] %}{{ messages[0]['content'] }}{% else %}{% set rest = messages %}A chat.{% endif %}{% for m in rest %}{% if m['role'] == 'user' %}{{ ' USER: ' + m['content'].strip() }}{% elif m['role'] == 'assistant' %}{{ ' ASSISTANT: ' + m['content'].strip() + eos_token }}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ ' ASSISTANT:' }}{% endif %}",
    "alpaca": "{% for m in messages %}{% if m.role == 'system' %}{{ m.content }}\n\n{% elif m.role == 'user' %}### Instruction:\n{{ m.content }}\n\n{% elif m.role == 'assistant' %}### Response:\n{{ m.content }}{{ eos_token }}\n\n{% endif %}{% endfor %}{% if add_generation_prompt %}### Response:\n{% endif %}",
    "falcon": "{% for m in messages %}{% if not loop.first %}{{ '\n' }}{% endif %}{% if m['role'] == 'system' %}{{ 'System: ' }}{% elif m['role'] == 'user' %}{{ 'User: ' }}{% elif m['role'] == 'assistant' %}{{ 'Falcon: ' }}{% endif %}{{ m['content'] }}{% endfor %}{% if add_generation_prompt %}{{ '\n' + 'Falcon:' }}{% endif %}",
    "falcon 3": "{% if tools %}{% for m in messages %}{% if m['role'] in ['user', 'tool'] %}{{ '<|' + m['role'] + '|>\n' + m['content'] + '\n' }}{% elif m['role'] == 'assistant' %}{% if not loop.last %}{{ '<|assistant|>\n' + (m['content'] or '') + eos_token + '\n' }}{% else %}{{ '<|assistant|>\n' + m['content'] + eos_token }}{% endif %}{% endif %}{% endfor %}{{ tools | tojson }}{% else %}{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}\n{% endfor %}{% endif %}{% if add_generation_prompt %}<|assistant|>\n{% endif %}",
    "gpt-oss": """{%- macro render_type(s, required, is_nullable=false) -%}
{%- if s.type == "array" -%}{%- if s['items'] -%}{%- if s['items']['type'] == "string" -%}{{- "string[]" }}{%- elif s['items']['type'] == "number" -%}{{- "number[]" }}{%- else -%}{%- set inner = render_type(s['items'], required) -%}{%- if inner == "object | object" or inner|length > 50 -%}{{- "any[]" }}{%- else -%}{{- inner + "[]" }}{%- endif -%}{%- endif -%}{%- if s.nullable -%}{{- " | null" }}{%- endif -%}{%- else -%}{{- "any[]" }}{%- endif -%}
{%- elif s.type is defined and s.type is iterable and s.type is not string and s.type is not mapping and s.type[0] is defined -%}{%- if s.type | length > 1 -%}{{- s.type | join(" | ") }}{%- else -%}{{- s.type[0] }}{%- endif -%}
{%- elif s.oneOf -%}{%- for v in s.oneOf -%}{{- render_type(v, required) -}}{%- if not loop.last -%}{{- " | " }}{%- endif -%}{%- endfor -%}
{%- elif s.type == "string" -%}{%- if s.enum -%}{{- '"' + s.enum|join('" | "') + '"' -}}{%- else -%}{{- "string" }}{%- endif -%}
{%- elif s.type == "object" -%}{%- if s.properties -%}{{- "{\n" }}{%- for n, p in s.properties.items() -%}{{- n -}}{%- if n not in (s.required or []) -%}{{- "?" }}{%- endif -%}{{- ": " }}{{ render_type(p, s.required or []) }}{%- if not loop.last -%}{{-", " }}{%- endif -%}{%- endfor -%}{{- "}" }}{%- else -%}{{- "object" }}{%- endif -%}
{%- else -%}{{- s.type or "any" }}{%- endif -%}{%- endmacro -%}
{%- macro namespace_of(name, tools) -%}{{- "namespace " + name + " {\n" }}{%- for t in tools -%}{%- set f = t.function -%}{{- "// " + f.description + "\ntype " + f.name + " = (_: " }}{{ render_type(f.parameters, []) }}{{- ") => any;\n" }}{%- endfor -%}{{- "}" }}{%- endmacro -%}
{{- "<|start|>system<|message|>" }}{{- "Reasoning: " + (reasoning_effort | default("medium")) + "\n# Valid channels" }}{{- "<|end|>" }}
{%- if messages[0].role == "developer" or messages[0].role == "system" %}{%- set developer = messages[0].content %}{%- set rest = messages[1:] %}{%- else %}{%- set developer = "" %}{%- set rest = messages %}{%- endif %}
{%- if developer or tools %}{{- "<|start|>developer<|message|>" }}{%- if developer %}{{- "# Instructions\n\n" + developer }}{%- endif %}{%- if tools -%}{{- "\n# Tools\n" }}{{- namespace_of("functions", tools) }}{%- endif -%}{{- "<|end|>" }}{%- endif %}
{%- set last_tool_call = namespace(name=none) %}
{%- for m in rest -%}
  {%- if m.role == 'assistant' -%}
    {%- if "content" in m and "thinking" in m and "<|channel|>analysis" in m.content %}{{- raise_exception("no channel in content") }}{%- endif %}
    {%- if "tool_calls" in m %}
      {%- set future = namespace(found=false) %}{%- for f in rest[loop.index:] %}{%- if f.role == 'assistant' and "tool_calls" not in f %}{%- set future.found = true %}{%- endif %}{%- endfor %}
      {%- set call = m.tool_calls[0] %}{%- if call.function %}{%- set call = call.function %}{%- endif %}
      {%- if m.thinking and not future.found %}{{- "<|start|>assistant<|channel|>analysis<|message|>" + m.thinking + "<|end|>" }}{%- endif %}
      {{- "<|start|>assistant to=" }}{{- "functions." + call.name + "<|channel|>commentary " }}{{- (call.content_type if call.content_type is defined else "json") + "<|message|>" }}{{- call.arguments|tojson }}{{- "<|call|>" }}{%- set last_tool_call.name = call.name %}
    {%- elif loop.last and not add_generation_prompt %}{{- "<|start|>assistant<|channel|>final<|message|>" + m.content + "<|return|>" }}
    {%- else %}{{- "<|start|>assistant<|channel|>final<|message|>" + m.content + "<|end|>" }}{%- set last_tool_call.name = none %}{%- endif %}
  {%- elif m.role == 'tool' -%}{%- if last_tool_call.name is none %}{{- raise_exception("a result without a call") }}{%- endif %}{{- "<|start|>functions." + last_tool_call.name }}{{- " to=assistant<|channel|>commentary<|message|>" + m.content|tojson + "<|end|>" }}
  {%- elif m.role == 'user' -%}{{- "<|start|>user<|message|>" + m.content + "<|end|>" }}{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}<|start|>assistant{%- endif -%}""",
    "glm 4": """[gMASK]<sop>
{%- if tools -%}<|system|>
{% for t in tools %}
{%- if not loop.first %}
{% endif %}## {{ t['function']['name'] }}

{{ t['function'] | tojson(indent=4, ensure_ascii=False) }}{% endfor %}
{%- endif -%}
{%- for m in messages -%}
{%- if m.role == 'assistant' and m.tool_calls -%}{%- for c in m.tool_calls -%}<|assistant|>{{ c.function.name }}
{{ c.function.arguments | tojson }}{%- endfor -%}
{%- elif m.role == 'tool' -%}<|observation|>
{{ m.content }}
{%- else -%}<|{{ m['role'] }}|>{% if m['metadata'] is defined %}{{ m['metadata'] }}{% endif %}
{{ m['content'] }}
{%- endif -%}
{%- endfor -%}
{{- '<|assistant|>' if add_generation_prompt else '' -}}""",
    "exaone": "{% for m in messages %}{% if loop.first and m['role'] != 'system' %}{{ '[|system|][|endofturn|]\n' }}{% endif %}{{ '[|' + m['role'] + '|]' + m['content'] }}{% if m['role'] == 'user' %}{{ '\n' }}{% else %}{{ '[|endofturn|]\n' }}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '[|assistant|]' }}{% endif %}",
    "yi": "{% if not add_generation_prompt is defined %}{% set add_generation_prompt = false %}{% endif %}{% if messages[0]['role'] == 'system' %}{% set system_message = messages[0]['content'] %}{% endif %}{% if system_message is defined %}{{ system_message }}{% endif %}{% for m in messages %}{% set content = m['content'] %}{% if m['role'] == 'user' %}{{ '<|im_start|>user\\n' + content + '<|im_end|>\\n<|im_start|>assistant\\n' }}{% elif m['role'] == 'assistant' %}{{ content + '<|im_end|>' + '\\n' }}{% endif %}{% endfor %}",
    "openchat": "{{ bos_token }}{% for m in messages %}{{ 'GPT4 Correct ' + m['role'].title() + ': ' + m['content'] + '<|end_of_turn|>'}}{% endfor %}{% if add_generation_prompt %}{{ 'GPT4 Correct Assistant:' }}{% endif %}",
    "starling with weave": "{% for m in messages %}{{ ('Code ' if 'code' in m.content | lower else 'GPT ') ~ m.role | title ~ ': ' ~ m.content | trim ~ '\n' }}{% endfor %}",
    "solar": "{% for m in messages %}{% if m['role'] == 'system' %}{% if m['content'] %}{{ '### System:\n' + m['content'] + '\n\n' }}{% endif %}{% elif m['role'] == 'user' %}{{ '### User:\n' + m['content'] + '\n\n' }}{% elif m['role'] == 'assistant' %}{{ '### Assistant:\n' + m['content'] }}{% endif %}{% if loop.last and add_generation_prompt %}{{ '### Assistant:\n' }}{% endif %}{% endfor %}",
    "internlm": "{{ bos_token }}{% for m in messages %}{{'<|im_start|>' ~ m.role ~ '\n' ~ m.content ~ '<|im_end|>' ~ '\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}",
    "baichuan": "{% set roles = {'user': '<reserved_106>', 'assistant': '<reserved_107>', 'system': ''} %}{% for m in messages %}{{ roles.get(m.role, '?') }}{{ m.content }}{% endfor %}{{ roles['assistant'] if add_generation_prompt }}",
    "stablelm": "{% for m in messages %}{{ '<|' ~ m['role'] ~ '|>\n' ~ m['content'] | trim ~ (eos_token if m['role'] in ('user', 'assistant') else '') ~ '\n' }}{% endfor %}{% if add_generation_prompt and messages[-1].role == 'user' %}{{ '<|assistant|>\n' }}{% endif %}",
    "nemotron": """{%- set ns = namespace(thinking=true) -%}{%- for m in messages -%}{%- if m.role in ['user', 'system'] -%}{%- if '/think' in m.content.replace('</think>', '') -%}{%- set ns.thinking = true -%}{%- elif '/no_think' in m.content -%}{%- set ns.thinking = false -%}{%- endif -%}{%- endif -%}{%- endfor -%}
{%- if messages | length != 0 and messages[0].role == 'system' -%}{{- '<SPECIAL_10>System\n' + (messages[0].content | replace('/think', '') | replace('/no_think', '') | trim) + '\n' -}}{%- endif -%}
{%- for m in messages -%}{%- if m.role == 'user' -%}{{- '<SPECIAL_11>User\n' + (m.content | trim) + '\n' -}}{%- elif m.role == 'assistant' -%}{{- '<SPECIAL_11>Assistant\n' + m.content.split('</think>')[-1].strip() + '\n' -}}{%- endif -%}{%- endfor -%}{%- if add_generation_prompt -%}{{- '<SPECIAL_11>Assistant\n' + ('<think>\n' if ns.thinking else '<think></think>') -}}{%- endif -%}""",
    "kimi": """{% macro content_of(m) -%}{% if m.content is string %}{{ m.content }}{% elif m.content is not none %}{% for c in m.content %}{% if c.type == 'image' %}<|media|>{% else %}{{ c.text }}{% endif %}{% endfor %}{% endif %}{%- endmacro -%}
{%- if tools -%}<|im_system|>tool_declare<|im_middle|>{{ tools | tojson(separators=(',', ':')) }}<|im_end|>{%- endif -%}
{%- for m in messages -%}{%- if loop.first and messages[0]['role'] != 'system' -%}<|im_system|>system<|im_middle|>K<|im_end|>{%- endif -%}
{%- if m['role'] == 'system' -%}<|im_system|>{%- elif m['role'] == 'assistant' -%}<|im_assistant|>{%- else -%}<|im_user|>{%- endif -%}{{ m.get('name') or m['role'] }}<|im_middle|>{{ content_of(m) }}{%- for c in m.get('tool_calls') or [] -%}<|call|>{{ c['id'] }}<|arg|>{% if c['function']['arguments'] is string %}{{ c['function']['arguments'] }}{% else %}{{ c['function']['arguments'] | tojson }}{% endif %}{%- endfor -%}<|im_end|>{%- endfor -%}
{%- if add_generation_prompt -%}<|im_assistant|>assistant<|im_middle|>{%- endif -%}""",
    "minimax": """{%- macro render_tool(t) %}<tool>{{ t.function | tojson(ensure_ascii=False) }}</tool>{% endmacro -%}
{%- set ns = namespace(last=-1) %}{% for m in messages %}{% if m.role == 'user' %}{% set ns.last = loop.index0 %}{% endif %}{% endfor -%}
{{- ']~!b[' ~ ']~b]system' ~ '\n' }}{%- if tools %}{% for t in tools %}{{- render_tool(t) ~ '\n' }}{% endfor %}{% endif -%}
{%- for m in messages %}{%- if m.role == 'assistant' %}{{- ']~b]ai\n' }}{%- if loop.index0 > ns.last and m.reasoning_content %}{{- '<think>\n' ~ m.reasoning_content ~ '\n</think>\n' }}{% endif %}{{- m.content }}{%- for c in m.tool_calls | default([]) %}{%- for k, v in c.function.arguments.items() %}<parameter name="{{ k }}">{{ v if v is string else v | tojson }}</parameter>{% endfor %}{% endfor %}[e~[
{%- else %}{{- ']~b]' ~ m.role ~ '\n' ~ m.content ~ '[e~[\n' }}{%- endif %}{%- endfor %}""",
    "jamba": """{# the date comes first #}{%- set sys = messages | selectattr('role', 'equalto', 'system') | map(attribute='content') | join('\n') -%}
{{- '<|bom|><|system|> ' ~ sys ~ '<|eom|>' if sys -}}{%- for m in messages | rejectattr('role', 'equalto', 'system') -%}{{- '<|bom|><|' ~ m.role ~ '|> ' ~ (m.content or '') -}}{%- if m.tool_calls -%}<tool_calls>[{%- for c in m.tool_calls -%}{{ '\n  ' ~ {'name': c.function.name, 'arguments': c.function.arguments} | tojson }}{%- if not loop.last %},{% endif -%}{%- endfor -%}]</tool_calls>{%- endif -%}<|eom|>{%- endfor -%}""",
    "aya": "{{ bos_token }}{% for m in messages %}{% if loop.index0 % 2 == 0 and m.role == 'assistant' %}{% continue %}{% endif %}<|{{ {'user': 'USER', 'assistant': 'BOT', 'system': 'SYS', 'tool': 'TOOL'}[m.role] }}|>{{ m.content | trim }}{% if loop.index > 8 %}{% break %}{% endif %}{% endfor %}",
    "functionary": """{%- for m in messages %}{%- if m.role == 'tool' -%}<|from|>{{ m.name }}
<|content|>{{ m.content }}{%- else -%}<|from|>{{ m.role }}{%- if m.tool_calls is defined and m.tool_calls %}{% for c in m.tool_calls %}
<|recipient|>{{ c.function.name }}
<|content|>{{ c.function.arguments | tojson if c.function.arguments is mapping else c.function.arguments }}{% endfor %}{% else %}
<|content|>{{ m.content }}{% endif %}{%- endif %}
{% endfor %}""",
    "seed": """{%- set budgets = {0: 0, 512: 128, 1024: 256} %}{%- set ns = namespace(interval=none) %}{%- if thinking_budget is defined %}{%- for k, v in budgets | dictsort -%}{%- if ns.interval is none and thinking_budget <= k -%}{%- set ns.interval = v -%}{%- endif -%}{%- endfor -%}{%- else -%}{%- set thinking_budget = -1 -%}{%- endif -%}
{%- macro py_type(t) -%}{%- if t == "string" -%}str{%- elif t in ("number", "integer") -%}int{%- elif t == "boolean" -%}bool{%- elif t == "array" -%}list{%- else -%}Any{%- endif -%}{%- endmacro -%}
{%- for t in tools or [] %}def {{ t.function.name }}({% for n, s in t.function.parameters.properties.items() %}{{ n }}: {{ py_type(s.type) }}{% if not loop.last %}, {% endif %}{% endfor %}):
{% endfor %}{%- for m in messages %}{{ bos_token }}{{ m.role }}
{%- if m.reasoning_content is defined and m.reasoning_content is string and m.reasoning_content | trim | length > 0 %}{{ '\n<think>' + m.reasoning_content | trim + '</think>' }}{%- endif %}
{{ m.content | trim }}{{ eos_token }}{%- endfor %}{{ thinking_budget }}{{ ns.interval }}""",
    "lfm": "{{ bos_token }}{%- set first = '' -%}{%- set ns = namespace(system_prompt='') -%}{%- if messages[0]['role'] == 'system' -%}{%- set ns.system_prompt = messages[0]['content'] -%}{%- set messages = messages[1:] -%}{%- endif -%}{%- if tools -%}{%- set ns.system_prompt = ns.system_prompt + ('\n' if ns.system_prompt else '') + 'List of tools: [' -%}{%- for tool in tools -%}{%- if tool is not string -%}{%- set tool = tool | tojson -%}{%- endif -%}{%- set ns.system_prompt = ns.system_prompt + tool -%}{%- if not loop.last -%}{%- set ns.system_prompt = ns.system_prompt + ', ' -%}{%- endif -%}{%- endfor -%}{%- set ns.system_prompt = ns.system_prompt + ']' -%}{%- endif -%}{%- if ns.system_prompt -%}{{- '<|im_start|>system\n' + ns.system_prompt + '<|im_end|>\n' -}}{%- endif -%}{%- for m in messages -%}{{- '<|im_start|>' + m['role'] + '\n' -}}{%- set content = m['content'] -%}{%- if content is not string -%}{%- set content = content | tojson -%}{%- endif -%}{{- content + '<|im_end|>\n' -}}{%- endfor -%}",
    "ernie": "{%- if not cls_token is defined -%}{%- set cls_token = '<|begin_of_sentence|>' -%}{%- endif -%}{{- cls_token -}}{%- for m in messages -%}{%- if m['role'] == 'user' -%}{{- 'User: ' + m['content'] + '\n' -}}{%- elif m['role'] == 'assistant' -%}{{- 'Assistant: ' + m['content'] + (sep_token if sep_token is defined else '<|end_of_sentence|>') -}}{%- elif m['role'] == 'system' -%}{{- m['content'] + '\n' -}}{%- endif -%}{%- endfor -%}{%- if add_generation_prompt -%}{{- 'Assistant: ' -}}{%- endif -%}",
    "hunyuan": "{% set context = {'has_head': true} %}{% for m in messages %}{% set content = m['content'] %}{% if loop.index0 == 0 %}{% if m['role'] == 'system' %}{% set _ = context.get('has_head') %}{% set content = '<|startoftext|>' + content + '<|extra_4|>' %}{% else %}{% set content = '<|startoftext|>' + content %}{% endif %}{% endif %}{% if m['role'] == 'user' %}{% set content = content + '<|extra_0|>' %}{% elif m['role'] == 'assistant' %}{% set content = content + '<|eos|>' %}{% endif %}{{ content }}{% endfor %}",
    "llama 4": """{{- bos_token }}{%- macro text_of(content) %}{%- if content is string %}{{- content | trim }}{%- else %}{%- for c in content %}{%- if c['type'] == 'image' %}{{- '<|image|>' }}{%- elif c['type'] == 'text' %}{{- c['text'] | trim }}{%- endif %}{%- endfor %}{%- endif %}{%- endmacro %}
{%- for m in messages %}{%- if not (m.role == 'ipython' or m.role == 'tool' or ('tool_calls' in m and m.tool_calls|length != 0)) %}{{- '<|header_start|>' + m['role'] + '<|header_end|>\n\n' }}{{- text_of(m['content']) }}{{- "<|eot|>" }}{%- elif 'tool_calls' in m and m.tool_calls|length > 0 %}{{- '<|header_start|>assistant<|header_end|>\n\n' -}}{{- text_of(m['content']) }}{%- for c in m.tool_calls %}{{- '{"name": "' + c.function.name + '", "parameters": ' + c.function.arguments | tojson + '}' }}{%- endfor %}{{- "<|eot|>" }}{%- else %}{{- "<|header_start|>ipython<|header_end|>\n\n" + (m.content | tojson) + "<|eot|>" }}{%- endif %}{%- endfor %}""",
}
