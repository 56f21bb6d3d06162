# ruff: noqa: E501 (templates keep their lines)
"""More families' chat templates: turns without tools, in words of our own."""

PLAIN_FAMILIES = {
    "qwen 1.5": r"{% for m in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nYou help.<|im_end|>\n' }}{% endif %}{{'<|im_start|>' + m['role'] + '\n' + m['content']}}{% if (loop.last and add_generation_prompt) or not loop.last %}{{ '<|im_end|>' + '\n'}}{% endif %}{% endfor %}{% if add_generation_prompt and messages[-1]['role'] != 'assistant' %}{{ '<|im_start|>assistant\n' }}{% endif %}",
    "qwen 2.5 math": r"""{%- if messages[0]['role'] == 'system' %}{{- '<|im_start|>system\n' + messages[0]['content'] + '<|im_end|>\n' }}{%- else %}{{- '<|im_start|>system\nReason step by step, and box the result.<|im_end|>\n' }}{%- endif %}
{%- for m in messages %}{%- if m.role in ('user', 'assistant') or (m.role == 'system' and not loop.first) %}{{- '<|im_start|>' ~ m.role ~ '\n' ~ m.content ~ '<|im_end|>\n' }}{%- endif %}{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- endif %}""",
    "qwen 3 reranker": r"""{%- set system = messages[0].content if messages[0].role == 'system' else 'Say yes or no.' -%}
<|im_start|>system
{{ system }}<|im_end|>
<|im_start|>user
{% for m in messages if m.role == 'user' %}{{ '<Query>: ' if loop.first else '<Document>: ' }}{{ m.content }}{% if not loop.last %}{{ '\n' }}{% endif %}{% endfor %}<|im_end|>
<|im_start|>assistant
<think>

</think>

""",
    "mistral 7b v0.1": r"{{ bos_token }}{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('Turns must alternate user/assistant') }}{% endif %}{% if m['role'] == 'user' %}{{ '[INST] ' + m['content'] + ' [/INST]' }}{% elif m['role'] == 'assistant' %}{{ m['content'] + eos_token + ' ' }}{% else %}{{ raise_exception('No such role here') }}{% endif %}{% endfor %}",
    "mixtral": r"""{%- if messages[0]['role'] == 'system' %}{%- set first = messages[0]['content'] %}{%- set rest = messages[1:] %}{%- else %}{%- set rest = messages %}{%- endif %}
{{- bos_token }}
{%- for m in rest %}
    {%- if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}{{- raise_exception('After the system message, user and assistant take turns') }}{%- endif %}
    {%- if m['role'] == 'user' %}
        {%- if loop.first and first is defined %}{{- ' [INST] ' + first + '\n\n' + m['content'] + ' [/INST]' }}{%- else %}{{- ' [INST] ' + m['content'] + ' [/INST]' }}{%- endif %}
    {%- elif m['role'] == 'assistant' %}{{- ' ' + m['content'] + eos_token }}
    {%- else %}{{- raise_exception('Only user and assistant roles are known') }}{%- endif %}
{%- endfor %}""",
    "codestral": r"{%- if messages[0]['role'] == 'system' -%}{%- set first = messages[0]['content'] -%}{%- set rest = messages[1:] -%}{%- else -%}{%- set rest = messages -%}{%- endif -%}{{ bos_token }}{%- for m in rest -%}{%- if m['role'] == 'user' -%}{%- if loop.last and first is defined -%}{{ '[INST] ' + first + '\n\n' + m['content'] + '[/INST]' }}{%- else -%}{{ '[INST] ' + m['content'] + '[/INST]' }}{%- endif -%}{%- elif m['role'] == 'assistant' -%}{{ ' ' + m['content'] | trim + eos_token }}{%- endif -%}{%- endfor -%}",
    "code llama": r"""{% if messages[0]['role'] == 'system' %}{% set system = '<<SYS>>\n' + messages[0]['content'] | trim + '\n<</SYS>>\n\n' %}{% set messages = messages[1:] %}{% else %}{% set system = '' %}{% endif %}
{%- for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('take turns') }}{% endif %}{% if loop.index0 == 0 %}{% set content = system + m['content'] %}{% else %}{% set content = m['content'] %}{% endif %}{% if m['role'] == 'user' %}{{ bos_token + '[INST] ' + content | trim + ' [/INST]' }}{% elif m['role'] == 'assistant' %}{{ ' ' + content | trim + ' ' + eos_token }}{% endif %}{% endfor %}""",
    "code llama 70b": r"""{% if messages[0]['role'] == 'system' %}{% set first = 1 %}{% else %}{% set first = 0 %}{% endif %}{{ bos_token }}{% for m in messages %}{% if (m['role'] == 'user') != ((loop.index0 + first) % 2 == 0) and m['role'] != 'system' %}{{ raise_exception('take turns') }}{% endif %}{{ 'Source: ' + m['role'] | trim }}{{ '\n\n ' + m['content'] | trim + ' <step> ' }}{% endfor %}{{ 'Source: assistant' }}{{ '\nDestination: user\n\n ' }}""",
    "llama 3.3 without tools": r"""{{- bos_token }}{%- set day = strftime_now("%d %b %Y") if strftime_now is defined else "26 Jul 2024" %}{%- set first = messages[0]['content'] | trim if messages[0]['role'] == 'system' else "" %}{%- set rest = messages[1:] if first else messages %}
{{- "<|start_header_id|>system<|end_header_id|>\n\nCutting off: December\nToday: " }}{{- day | length }}{{- "\n\n" + first + "<|eot_id|>" }}
{%- for m in rest if m.role in ['user', 'assistant'] and m.content is string %}{{- '<|start_header_id|>' + m['role'] + '<|end_header_id|>\n\n' + m['content'] | trim + '<|eot_id|>' }}{%- endfor %}
{%- if add_generation_prompt %}{{- '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{%- endif %}""",
    "llama guard 3": r"""{% if messages | length % 2 == 0 %}{% set role = 'Agent' %}{% else %}{% set role = 'User' %}{% endif %}{% set places = ["S1: Violence.", "S2: Theft.", "S3: Spam."] %}{{ bos_token }}<|start_header_id|>user<|end_header_id|>

Is there unsafe content in '{{ role }}' messages?

<BEGIN CATEGORIES>
{% if categories %}{% for key in categories %}{{ key }}: {{ categories[key] }}
{% endfor %}{% else %}{% for place in places %}{% if loop.index not in (excluded or [2]) %}{{ place }}
{% endif %}{% endfor %}{% endif %}<END CATEGORIES>

<BEGIN CONVERSATION>

{% for m in messages %}{% if m.role == 'user' %}User: {% else %}Agent: {% endif %}{% if m.content is string %}{{ m.content | trim }}{% else %}{{ m.content[0].text | trim }}{% endif %}

{% endfor %}<END CONVERSATION>

First line: safe or unsafe, for the last {{ role }} message.<|eot_id|><|start_header_id|>assistant<|end_header_id|>

""",
    "tinyllama": r"""{% for m in messages %}
{% if m['role'] == 'user' %}
{{ '<|user|>
' + m['content'] + eos_token }}
{% elif m['role'] == 'system' %}
{{ '<|system|>
' + m['content'] + eos_token }}
{% elif m['role'] == 'assistant' %}
{{ '<|assistant|>
'  + m['content'] + eos_token }}
{% endif %}
{% if loop.last and add_generation_prompt %}
{{ '<|assistant|>' }}
{% endif %}
{% endfor %}""",
    "gemma 2": r"{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('There is no system role') }}{% endif %}{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('user/assistant/user/assistant/...') }}{% endif %}{% set role = 'model' if m['role'] == 'assistant' else m['role'] %}{{ '<start_of_turn>' + role + '\n' + m['content'] | trim + '<end_of_turn>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}",
    "shieldgemma": r"""{%- set human, robot = "Human Question", "Chatbot Response" -%}{%- if messages[-1]['role'] == 'user' -%}{%- set name, what = "a human's question", "Human Question" -%}{%- else -%}{%- set name, what = "what a chatbot said", "Chatbot Response" -%}{%- endif -%}
Does {{ name }} break the rule?

<start_of_turn>
{% for m in messages %}{%- if m.role == 'user' %}{{ human }}: {{ m.content | trim }}
{% elif m.role == 'assistant' %}{{ robot }}: {{ m.content | trim }}
{% endif %}{% endfor %}<end_of_turn>

* {{ guideline if guideline is defined else 'No harm.' }}

Yes or No, about the {{ what }}?
""",
    "gemma with a system turn": r"""{{ bos_token }}{%- set ns = namespace(last='') -%}{%- for m in messages -%}{%- set role = {'assistant': 'model', 'tool': 'user'}.get(m.role, m.role) -%}{%- if role != ns.last -%}{%- if ns.last -%}<end_of_turn>
{% endif -%}<start_of_turn>{{ role }}
{% else -%}{{ '\n\n' }}{%- endif -%}{%- set ns.last = role -%}{%- if m.content is string -%}{{ m.content | trim }}{%- else -%}{%- for p in m.content -%}{%- if p.type in ['image', 'image_url', 'input_image'] -%}<start_of_image>{%- elif p.type == 'audio' -%}<audio_soft_token>{%- else -%}{{ p.text | trim }}{%- endif -%}{%- endfor -%}{%- endif -%}{%- endfor -%}<end_of_turn>
{% if add_generation_prompt -%}<start_of_turn>model
{% endif -%}""",
    "phi 2": r"{% for m in messages %}{% if m.role == 'user' %}Instruct: {{ m.content }}\n{% elif m.role == 'assistant' %}Output: {{ m.content }}\n{% elif m.role == 'system' %}{{ m.content }}\n{% endif %}{% endfor %}{% if add_generation_prompt %}Output:{% endif %}",
    "phi 3 medium": r"{% for m in messages %}{% if (m['role'] == 'user') %}{{'<|user|>' + '\n' + m['content'] + '<|end|>' + '\n' + '<|assistant|>' + '\n'}}{% elif (m['role'] == 'assistant') %}{{m['content'] + '<|end|>' + '\n'}}{% endif %}{% endfor %}",
    "phi 3 small": r"{{ bos_token }}{% for m in messages %}{{'<|' + m['role'] + '|>' + '\n' + m['content'] + '<|end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% else %}{{ eos_token }}{% endif %}",
    "phi 3 vision": r"{% for m in messages %}{{'<|' + m['role'] + '|>' + '\n'}}{% if m.content is string %}{{ m.content }}{% else %}{% set ns = namespace(n=0) %}{% for p in m.content %}{% if p.type == 'image' %}{% set ns.n = ns.n + 1 %}<|image_{{ ns.n }}|>{{ '\n' }}{% else %}{{ p.text }}{% endif %}{% endfor %}{% endif %}{{ '<|end|>\n' }}{% endfor %}{% if add_generation_prompt and messages[-1]['role'] != 'assistant' %}{{- '<|assistant|>\n' -}}{% endif %}",
    "phi 4 reasoning": r"<|im_start|>system<|im_sep|>You think first, between <think> and </think>.<|im_end|>{% for m in messages %}{% if (m['role'] == 'user') %}{{'<|im_start|>user<|im_sep|>' + m['content'] + '<|im_end|>'}}{% elif (m['role'] == 'assistant') %}{{'<|im_start|>assistant<|im_sep|>'}}{% generation %}{{ m['content'] + '<|im_end|>'}}{% endgeneration %}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant<|im_sep|>' }}{% endif %}",
    "deepseek coder": r"""{% if not add_generation_prompt is defined %}
{% set add_generation_prompt = false %}
{% endif %}
{%- set ns = namespace(found=false) -%}
{%- for m in messages -%}
    {%- if m['role'] == 'system' -%}
        {%- set ns.found = true -%}
    {%- endif -%}
{%- endfor -%}
{{bos_token}}{%- if not ns.found -%}
{{'You write programs and say no to all else.\n'}}
{%- endif %}
{%- for m in messages %}
    {%- if m['role'] == 'system' %}
{{ m['content'] }}
    {%- else %}
        {%- if m['role'] == 'user' %}
{{'### Instruction:\n' + m['content'] + '\n'}}
        {%- else %}
{{'### Response:\n' + m['content'] + '\n<|EOT|>\n'}}
        {%- endif %}
    {%- endif %}
{%- endfor %}
{% if add_generation_prompt %}
{{'### Response:'}}
{% endif %}""",
    "deepseek llm": r"{% if not add_generation_prompt is defined %}{% set add_generation_prompt = false %}{% endif %}{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}{{ 'User: ' + m['content'] + '\n\n' }}{% elif m['role'] == 'assistant' %}{{ 'Assistant: ' + m['content'] + eos_token }}{% elif m['role'] == 'system' %}{{ m['content'] + '\n\n' }}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}",
    "deepseek v2.5": r"""{% if not add_generation_prompt is defined %}{% set add_generation_prompt = false %}{% endif %}{% set ns = namespace(is_first=true, system_prompt='') %}{%- for m in messages %}{%- if m['role'] == 'system' %}{%- if ns.is_first %}{% set ns.system_prompt = ns.system_prompt + m['content'] %}{% set ns.is_first = false %}{%- else %}{% set ns.system_prompt = ns.system_prompt + '\n\n' + m['content'] %}{%- endif %}{%- endif %}{%- endfor %}{{ bos_token }}{{ ns.system_prompt }}{% for m in messages %}{% if m['role'] == 'user' %}{{ '<｜User｜>' + m['content'] }}{% elif m['role'] == 'assistant' and m['content'] is not none %}{{ '<｜Assistant｜>' + m['content'] + '<｜end▁of▁sentence｜>' }}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<｜Assistant｜>' }}{% endif %}""",
    "janus": r"{{ bos_token }}{% for m in messages %}{% if m.role == 'system' %}{{ m.content ~ '\n\n' }}{% else %}<|{{ 'User' if m.role == 'user' else 'Assistant' }}|>: {% if m.content is string %}{{ m.content }}{% else %}{% for p in m.content %}{{ '<image_placeholder>\n' if p.type == 'image' else p.text }}{% endfor %}{% endif %}{{ '\n\n' if m.role == 'user' else eos_token }}{% endif %}{% endfor %}{% if add_generation_prompt %}<|Assistant|>:{% endif %}",
    "aya expanse": r"{{ bos_token }}{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}{% set system_message = messages[0]['content'] %}{% elif false == true %}{% set loop_messages = messages %}{% set system_message = 'You are Aya.' %}{% else %}{% set loop_messages = messages %}{% set system_message = false %}{% endif %}{% if system_message != false %}{{ '<|START_OF_TURN_TOKEN|><|SYSTEM_TOKEN|>' + system_message + '<|END_OF_TURN_TOKEN|>' }}{% endif %}{% for m in loop_messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('take turns') }}{% endif %}{% set content = m['content'] %}{% if m['role'] == 'user' %}{{ '<|START_OF_TURN_TOKEN|><|USER_TOKEN|>' + content.strip() + '<|END_OF_TURN_TOKEN|>' }}{% elif m['role'] == 'assistant' %}{{ '<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>' + content.strip() + '<|END_OF_TURN_TOKEN|>' }}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>' }}{% endif %}",
    "openhermes": r"{% for m in messages %}{{'<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}{# no usual system message #}",
    "nous capybara": r"{% for m in messages %}{% if m.role == 'user' %}USER: {{ m.content }} {% elif m.role == 'assistant' %}ASSISTANT: {{ m.content }}{{ eos_token }}{% else %}{{ m.content }} {% endif %}{% endfor %}{{ 'ASSISTANT:' if add_generation_prompt }}",
    "granite code": r"""{% for m in messages %}
{% if m['role'] == 'user' %}
{{ 'Question:
' + m['content'] + '

' }}{% elif m['role'] == 'system' %}
{{ 'System:
' + m['content'] + '

' }}{% elif m['role'] == 'assistant' %}{{ 'Answer:
'  + m['content'] + '

' }}{% endif %}
{% if loop.last and add_generation_prompt %}
{{ 'Answer:
' }}{% endif %}{% endfor %}""",
    "granite guardian": r"""{%- set ids = {'harm': 'Whatever hurts.', 'bias': 'Prejudice of a group.'} %}{%- set risk = guardian_config.risk_name if guardian_config is defined and guardian_config.risk_name is defined else 'harm' %}
{%- if risk not in ids %}{{ raise_exception('No such risk: ' + risk) }}{%- endif %}{%- set last = messages[-1] %}
You are a judge of what the {{ 'Agent' if last.role == 'assistant' else 'User' }} says.
<start_of_turn>
{% for m in messages[-2:] %}{{ m.role | capitalize }} Message: {{ m.content }}

{% endfor %}<end_of_turn>

<start_of_risk_definition>
- {{ ids[risk] }}
<end_of_risk_definition>

Yes or No:""",
    "olmoe": r"{{ bos_token }}{% for m in messages %}\n{% if m['role'] == 'system' %}\n{{ '<|system|>\n' + m['content'] }}\n{% elif m['role'] == 'user' %}\n{{ '<|user|>\n' + m['content'] }}\n{% elif m['role'] == 'assistant' %}\n{{ '<|assistant|>\n'  + m['content'] + eos_token }}\n{% endif %}\n{% if loop.last and add_generation_prompt %}\n{{ '<|assistant|>' }}\n{% endif %}\n{% endfor %}",
    "tulu 2": r"{% for m in messages %}{% if m['role'] == 'user' %}{{ '<|user|>\n' + m['content'].strip() + '\n' }}{% elif m['role'] == 'assistant' %}{{ '<|assistant|>\n' + m['content'].strip() + eos_token + '\n' }}{% elif m['role'] == 'system' %}{{ '<|system|>\n' + m['content'].strip() + '\n' }}{% endif %}{% if loop.last and add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}{% endfor %}",
    "tulu 3": r"{% for m in messages %}{% if m['role'] == 'system' %}{{ '<|system|>\n' + m['content'] + '\n' }}{% elif m['role'] == 'user' %}{{ '<|user|>\n' + m['content'] + '\n' }}{% elif m['role'] == 'assistant' %}{% if not loop.last %}{{ '<|assistant|>\n'  + m['content'] + eos_token + '\n' }}{% else %}{{ '<|assistant|>\n'  + m['content'] + eos_token }}{% endif %}{% endif %}{% if loop.last and add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}{% endfor %}",
    "yi 1.5": r"{% if messages[0]['role'] == 'system' %}{% set system_message = messages[0]['content'] %}{% endif %}{% if system_message is defined %}{{ system_message }}{% endif %}{% for m in messages %}{% set content = m['content'] %}{% if m['role'] == 'user' %}{{ '<|im_start|>user\n' + content + '<|im_end|>\n<|im_start|>assistant\n' }}{% elif m['role'] == 'assistant' %}{{ content + '<|im_end|>' + '\n' }}{% endif %}{% endfor %}",
    "internlm 2": r"{{ bos_token }}{% for m in messages %}{% if m.role == 'assistant' and loop.last and not add_generation_prompt %}{{ '<|im_start|>assistant\n' + m['content'] }}{% else %}{{'<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' + '\n'}}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}",
    "baichuan 2": r"{% for m in messages %}{% if m['role'] == 'system' %}{{ m['content'] }}{% elif m['role'] == 'user' %}{{ '<reserved_106>' + m['content'] + '<reserved_107>' }}{% elif m['role'] == 'assistant' %}{{ m['content'] + eos_token }}{% endif %}{% endfor %}",
    "chatglm 3": r"{% for m in messages %}{% if loop.first %}[gMASK]sop<|{{ m['role'] }}|>\n {{ m['content'] }}{% else %}<|{{ m['role'] }}|>\n {{ m['content'] }}{% endif %}{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}",
    "chatglm 2": r"{% set ns = namespace(round=0) %}{% for m in messages %}{% if m.role == 'user' %}{% set ns.round = ns.round + 1 %}[Round {{ ns.round }}]\n\n问：{{ m.content }}\n\n{% elif m.role == 'assistant' %}答：{{ m.content }}\n\n{% endif %}{% endfor %}{% if add_generation_prompt %}答：{% endif %}",
    "exaone 3.5": r"{% for m in messages %}{% if loop.first and m['role'] != 'system' %}{{ '[|system|]You are kind.[|endofturn|]\n' }}{% endif %}{% set content = m['content'] %}{% if '<thought>' in content %}{% set content = content.split('</thought>')[-1].lstrip('\n') %}{% endif %}{{ '[|' + m['role'] + '|]' + content }}{% if not m['role'] == 'user' %}{{ '[|endofturn|]' }}{% endif %}{% if not loop.last %}{{ '\n' }}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '\n[|assistant|]' }}{% endif %}",
    "stablelm 2": r"{% for m in messages %}{{'<|im_start|>' + m['role'] + '\n' + m['content'] | trim + '<|im_end|>' }}{% if not loop.last %}{{ '\n' }}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '\n<|im_start|>assistant\n' }}{% endif %}",
    "nemotron 4": r"{{ '<extra_id_0>System' }}{% for m in messages %}{% if m['role'] == 'system' %}{{ '\n' + m['content'].strip() }}{% endif %}{% endfor %}{{ '\n' }}{% for m in messages %}{% if m['role'] == 'user' %}{{ '\n<extra_id_1>User\n' + m['content'].strip() + '\n<extra_id_1>Assistant\n' }}{% elif m['role'] == 'assistant' %}{{ m['content'].strip() }}{% endif %}{% endfor %}",
    "minimax text 01": r"{% for m in messages %}{% if m['role'] == 'system' %}{{ '<beginning_of_sentence>system ai_setting=assistant\n' + m['content'][0]['text'] if m['content'] is not string else '<beginning_of_sentence>system ai_setting=assistant\n' + m['content'] }}{{ '<end_of_sentence>\n'}}{% elif m['role'] == 'user' %}{{ '<beginning_of_sentence>user name=user\n' + (m['content'] if m['content'] is string else m['content'][0]['text']) + '<end_of_sentence>\n'}}{% elif m['role'] == 'assistant' %}{{ '<beginning_of_sentence>ai name=assistant\n' }}{% for p in ([{'text': m.content, 'type': 'text'}] if m.content is string else m.content) | selectattr('type', 'equalto', 'text') %}{% generation %}{{ p['text'] }}{% endgeneration %}{% endfor %}{{ '<end_of_sentence>\n' }}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<beginning_of_sentence>ai name=assistant\n' }}{% endif %}",
    "dbrx": r"""{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}{% set system_message = messages[0]['content'] %}{% elif not 'system' in messages[0]['role'] %}{% set loop_messages = messages %}{% set system_message = 'You were last told things in December.' %}{% else %}{% set loop_messages = messages %}{% set system_message = false %}{% endif %}{% for m in loop_messages %}{% if loop.index0 == 0 %}{% if system_message != false %}{{ '<|im_start|>system\n' + system_message | trim + '<|im_end|>\n'}}{% endif %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' }}{% else %}{{ '\n' + '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' }}{% endif %}{% if (add_generation_prompt == true and loop.last) %}{{ '\n' + '<|im_start|>' + 'assistant' + '\n' }}{% endif %}{% endfor %}""",
    "grok 2": r"{% for m in messages %}{% if m['role'] == 'user' %}{{ 'Human: ' + m['content'].strip() + '<|separator|>\n\n' }}{% elif m['role'] == 'system' %}{{ 'System: ' + m['content'].strip() + '<|separator|>\n\n' }}{% elif m['role'] == 'assistant' %}{{ 'Assistant: '  + m['content'] + '<|separator|>\n\n' }}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}",
    "arctic": r"{{ bos_token }}{% for m in messages %}{{'<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% else %}{{ eos_token }}{% endif %}",
    "openchat 3.6": r"{{ bos_token }}{% for m in messages %}{% if m['role'] in ['user', 'assistant'] %}{% set content = '<|start_header_id|>GPT4 Correct ' + m['role'].title() + '<|end_header_id|>\n\n' + m['content'] | trim + '<|eot_id|>' %}{% elif m['role'] == 'system' %}{% set content = '<|start_header_id|>System<|end_header_id|>\n\n' + m['content'] | trim + '<|eot_id|>' %}{% else %}{{ raise_exception('Only user, assistant and system!') }}{% endif %}{{ content }}{% endfor %}{% if add_generation_prompt %}{{ '<|start_header_id|>GPT4 Correct Assistant<|end_header_id|>\n\n' }}{% endif %}",
    "orca 2": r"{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>{% if not loop.last %}\n{% endif %}{% endfor %}{% if add_generation_prompt %}\n<|im_start|>assistant{% endif %}",
    "orca mini": r"""{% if messages[0]['role'] == 'system' %}### System:
{{ messages[0]['content'] }}
{% set messages = messages[1:] %}{% endif %}{% for m in messages %}{% if m['role'] == 'user' %}
### User:
{{ m['content'] | trim }}
{% elif m['role'] == 'assistant' %}
### Assistant:
{{ m['content'] | trim }}{{ eos_token }}
{% endif %}{% endfor %}{% if add_generation_prompt %}
### Assistant:
{% endif %}""",
    "wizardcoder": r"{% if messages[0]['role'] == 'system' %}{{ messages[0]['content'] }}{% set rest = messages[1:] %}{% else %}{{ 'Below is a task. Write what fulfils it.' }}{% set rest = messages %}{% endif %}{% for m in rest %}{% if m['role'] == 'user' %}{{ '\n\n### Instruction:\n' + m['content'] }}{% elif m['role'] == 'assistant' %}{{ '\n\n### Response:\n' + m['content'] }}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '\n\n### Response:' }}{% endif %}",
    "guanaco": r"{% for m in messages %}{{ '### ' ~ {'user': 'Human', 'assistant': 'Assistant', 'system': 'Note'}[m.role] ~ ': ' ~ m.content ~ ('\n' if not loop.last else '') }}{% endfor %}{{ '\n### Assistant:' if add_generation_prompt else '' }}",
    "dolly": r"{%- set ns = namespace(task='', given='') -%}{%- for m in messages -%}{%- if m.role == 'system' -%}{%- set ns.given = m.content -%}{%- elif m.role == 'user' -%}{%- set ns.task = m.content -%}{%- endif -%}{%- endfor -%}### Instruction:\n{{ ns.task }}\n\n{% if ns.given %}Input:\n{{ ns.given }}\n\n{% endif %}### Response:\n",
    "mpt chat": r"{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}{% set system_message = messages[0]['content'] %}{% else %}{% set loop_messages = messages %}{% set system_message = 'A talk of two.' %}{% endif %}{% for m in loop_messages %}{% if loop.index0 == 0 %}{{ '<|im_start|>system\n' + system_message.strip() + '\n'}}{% endif %}{{ '<|im_end|>\n<|im_start|>' + m['role'] + '\n' + m['content'] }}{% if (add_generation_prompt == true) %}{{ '\n' + '<|im_start|>' + 'assistant' + '\n' if loop.last else '' }}{% elif (m['role'] == 'assistant') %}{{ eos_token }}{% endif %}{% endfor %}",
    "redpajama": r"{% for m in messages %}{% if m.role == 'user' %}<human>: {% elif m.role == 'assistant' %}<bot>: {% endif %}{{ m.content | trim }}{{ '\n' }}{% endfor %}{% if add_generation_prompt %}<bot>:{% endif %}",
    "open assistant": r"{% for m in messages %}<|{{ {'user': 'prompter'}.get(m['role'], m['role']) }}|>{{ m['content'] }}{% if m['role'] != 'system' %}{{ eos_token }}{% endif %}{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}",
    "starchat": r"""{% for m in messages %}{% if m['role'] == 'user' %}{{ '<|user|>
' + m['content'] + '<|end|>' }}{% elif m['role'] == 'system' %}{{ '<|system|>
' + m['content'] + '<|end|>' }}{% elif m['role'] == 'assistant' %}{{ '<|assistant|>
'  + m['content'] + '<|end|>' }}{% endif %}{% if loop.last and add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}
{% endfor %}""",
    "starcoder 2 instruct": r"""{% if messages[0]['role'] == 'system' %}{% set first = messages[0]['content'] %}{% set messages = messages[1:] %}{% else %}{% set first = 'You answer with care.' %}{% endif %}{{ bos_token + first + '\n\n' }}
{%- for m in messages %}
{%- if m['role'] == 'user' %}{{- '### Instruction\n' + m['content'] + '\n\n' }}
{%- elif m['role'] == 'assistant' %}{{- '### Response\n' + m['content'] + eos_token + ('\n\n' if not loop.last else '') }}
{%- else %}{{ raise_exception('unknown role ' ~ m['role']) }}{%- endif %}
{%- endfor %}{{- '### Response\n' if add_generation_prompt }}""",
    "magicoder": r"You answer well.{{ '\n\n' }}{% for m in messages %}{% if m['role'] == 'user' %}@@ Instruction\n{{ m['content'] }}\n\n{% elif m['role'] == 'assistant' %}@@ Response\n{{ m['content'] }}\n\n{% endif %}{% endfor %}{% if add_generation_prompt %}@@ Response\n{% endif %}",
    "bailing": r"{% for m in messages %}{% set role = m['role'] | lower %}{% if role == 'user' %}{% set role = 'HUMAN' %}{% endif %}{% set role = role | upper %}{{ '<role>' + role + '</role>' + m['content'] }}{% endfor %}{% if add_generation_prompt %}{{ '<role>ASSISTANT</role>' }}{% endif %}",
    "smolvlm": r"<|im_start|>{% for m in messages %}{{ m['role'] | capitalize }}{% if m['content'] is not string and m['content'][0]['type'] == 'image' %}{{ ':' }}{% else %}{{ ': ' }}{% endif %}{% if m['content'] is string %}{{ m['content'] }}{% else %}{% for p in m['content'] %}{% if p['type'] == 'text' %}{{ p['text'] }}{% elif p['type'] == 'image' %}{{ '<image>' }}{% endif %}{% endfor %}{% endif %}<end_of_utterance>\n{% endfor %}{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}",
    "llava 1.5": r"{% for m in messages %}{% if m['role'] != 'system' %}{{ m['role'].upper() + ': ' }}{% endif %}{% if m['content'] is string %}{{ m['content'] ~ ' ' }}{% else %}{# All images first #}{% for p in m['content'] | selectattr('type', 'equalto', 'image') %}{{ '<image>\n' }}{% endfor %}{# Text behind #}{% for p in m['content'] | selectattr('type', 'equalto', 'text') %}{% if m['role'] != 'assistant' %}{{ p['text'] + ' ' }}{% else %}{% generation %}{{ p['text'] + ' ' }}{% endgeneration %}{% endif %}{% endfor %}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}",
    "llava onevision": r"{% for m in messages %}{{ '<|im_start|>' + m['role'] + ' ' }}{% set parts = [{'type': 'text', 'text': m.content}] if m.content is string else m.content %}{% for p in parts | selectattr('type', 'in', ['image', 'video']) %}{{ '<' ~ p.type ~ '>' }}{% endfor %}{% for p in parts | selectattr('type', 'equalto', 'text') %}{{ '\n' + p['text'] }}{% endfor %}{{ '<|im_end|>' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}",
    "internvl": r"{% for m in messages %}{% if loop.first and m['role'] != 'system' %}<|im_start|>system\nYou see pictures.<|im_end|>\n{% endif %}<|im_start|>{{ m['role'] }}\n{% if m['content'] is string %}{{ m['content'] }}{% else %}{% for p in m['content'] %}{% if p['type'] == 'image' %}<IMG_CONTEXT>\n{% elif 'text' in p %}{{ p['text'] }}{% endif %}{% endfor %}{% endif %}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
    "minicpm": r"{% for m in messages %}{% if m['role'] == 'user' %}{{ '<用户>' + m['content'].strip() + '<AI>' }}{% else %}{{ m['content'].strip() }}{% endif %}{% endfor %}",
    "eurollm": r"{{ bos_token }}{% if messages[0].role != 'system' %}{{ '<|im_start|>system\n<|im_end|>\n' }}{% endif %}{% for m in messages %}{{'<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}",
    "salamandra": r"""{%- if not date_string is defined %}{%- set date_string = "2024-09-30" %}{%- endif %}{%- set system_message = messages[0].content if messages[0].role == "system" else "system message. Today Date: " + date_string -%}{%- if messages[0].role == "system" -%}{%- set messages = messages[1:] -%}{%- endif -%}{{ "<|im_start|>system\n" + system_message + "<|im_end|>\n" }}{% for m in messages %}{%- if (m['role'] != 'user') and (m['role'] != 'assistant') %}{{ raise_exception('Only user and assistant behind the optional system message.') }}{% endif %}{{"<|im_start|>" + m["role"] + "\n" + m["content"] + "<|im_end|>\n"}}{% endfor %}{% if add_generation_prompt %}{{"<|im_start|>assistant\n" }}{% endif %}""",
    "teuken": r"{%- for m in messages %}{%- if m['role']|lower == 'user' %}{{- 'User: ' + m['content'] + '\n' }}{%- elif m['role']|lower == 'assistant' %}{{- 'Assistant: ' + m['content'] + eos_token + '\n' }}{%- else %}{{- 'System: ' + m['content'] + '\n' }}{%- endif %}{%- endfor %}{%- if add_generation_prompt %}{{- 'Assistant: ' }}{%- endif %}",
    "sailor": r"{% for m in messages %}{% if loop.first and m.role != 'system' %}<|im_start|>system\nYou are S.<|im_end|>\n{% endif %}<|im_start|>{{ 'question' if m.role == 'user' else 'answer' if m.role == 'assistant' else m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>answer\n{% endif %}",
    "rwkv world": r"{%- for m in messages -%}{%- set content = m.content | trim | replace('\n\n', '\n') -%}{{ {'user': 'User', 'assistant': 'Assistant', 'system': 'System'}.get(m.role, 'Tool') ~ ': ' ~ content ~ '\n\n' }}{%- endfor -%}{{- 'Assistant:' if add_generation_prompt -}}",
    "falcon mamba": r"{{ '<|begin_of_text|>' }}{% for m in messages %}{{'<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}{% if messages | length > 99 %}{{ raise_exception('too long') }}{% endif %}",
    "zamba 2": r"{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' + '\n' }}{% if loop.last and (m['role'] == 'assistant' or not add_generation_prompt) %}{{ eos_token }}{% endif %}{% if loop.last and m['role'] == 'user' and add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}{% endfor %}",
    "xverse": r"{% for m in messages %}{{ ('Human: ' if m.role == 'user' else 'Assistant: ' if m.role == 'assistant' else '') ~ m.content ~ ('<|endoftext|>' if m.role == 'assistant' else '\n\n') }}{% endfor %}{% if messages[-1].role == 'user' %}Assistant: {% endif %}",
    "aquila": r"{% set sep = ['###', '</s>'] %}{% for m in messages %}{% if loop.first and m.role != 'system' %}{{ 'A chat.' ~ sep[0] }}{% endif %}{{ {'system': '', 'user': 'Human: ', 'assistant': 'Assistant: '}[m.role] ~ m.content ~ sep[loop.index0 % 2] }}{% endfor %}{% if add_generation_prompt %}Assistant: {% endif %}",
    "orion": r"{% for m in messages %}{% if loop.first %}{{ bos_token }}{% endif %}{% if m['role'] == 'user' %}{{ 'Human: ' + m['content'] + '\n\nAssistant: ' + eos_token }}{% elif m['role'] == 'assistant' %}{{ m['content'] + eos_token }}{% endif %}{% endfor %}",
    "telechat": r"{%- set ns = namespace(answers=[]) -%}{%- if messages[0].role == 'system' -%}<_system>{{ messages[0].content }}{{ '\n' }}{%- set messages = messages[1:] -%}{%- endif -%}{%- for m in messages -%}{%- if m.role == 'user' -%}<_user>{{ m.content }}{%- elif m.role == 'assistant' -%}<_bot>{{ m.content }}<_end>{%- set ns.answers = ns.answers + [loop.index] -%}{%- endif -%}{%- endfor -%}{%- if add_generation_prompt -%}<_bot>{%- endif -%}",
    "persimmon": r"{% for m in messages %}{% if m['role'] == 'user' %}{{ 'human: ' + m['content'] | replace('\n', ' ') + '\n\nadept:' }}{% elif m['role'] == 'assistant' %}{{ ' ' + m['content'] + '\n' }}{% endif %}{% endfor %}",
    "bitnet": r"{% set loop_messages = messages %}{% for m in loop_messages %}{% set content = m['role'] | capitalize + ': ' + m['content'] | trim + '<|eot_id|>' %}{% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}{{ content }}{% endfor %}{% if add_generation_prompt %}{{ 'Assistant: ' }}{% endif %}",
    "reka flash": r"{{ bos_token }}{% for m in messages %}{% if loop.first and m.role == 'system' %}{% set sys = m.content ~ '\n\n' %}human: {{ sys }}{% elif m.role == 'user' %}{% if not (loop.index0 == 1 and messages[0].role == 'system') %}human: {% endif %}{{ m.content }} <sep> {% elif m.role == 'assistant' %}assistant: {% set text = m.content %}{% if '<reasoning>' in text and not loop.last %}{% set text = text.split('</reasoning>')[1] %}{% endif %}{{ text }} <sep> {% endif %}{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}",
    "kanana": r"{{- bos_token -}}{%- if messages[0]['role'] == 'system' -%}{%- set system = messages[0]['content'] -%}{%- set messages = messages[1:] -%}{%- endif -%}{%- if system is defined and system | trim -%}<|start_header_id|>system<|end_header_id|>{{ '\n\n' ~ system | trim ~ '<|eot_id|>' }}{%- endif -%}{%- for m in messages if m.role != 'tool' -%}<|start_header_id|>{{ m.role }}<|end_header_id|>{{ '\n\n' ~ (m.content or '') ~ '<|eot_id|>' }}{%- endfor -%}{%- if add_generation_prompt -%}<|start_header_id|>assistant<|end_header_id|>{{ '\n\n' }}{%- endif -%}",
    "dots": r"{% if messages[0]['role'] == 'system' %}<|system|>{{ messages[0]['content'] }}<|endofsystem|>{% set start_idx = 1 %}{% else %}<|system|>You are a helper.<|endofsystem|>{% set start_idx = 0 %}{% endif %}{% for idx in range(start_idx, messages|length) %}{% if messages[idx]['role'] == 'user' %}<|userprompt|>{{ messages[idx]['content'] }}<|endofuserprompt|>{% elif messages[idx]['role'] == 'assistant' %}<|response|>{{ messages[idx]['content'] }}<|endofresponse|>{% endif %}{% endfor %}{% if add_generation_prompt and messages[-1]['role'] == 'user' %}<|response|>{% endif %}",
    "nuextract": r"""<|input|>
{% if template is defined %}### Template:
{{ template | tojson(indent=4) }}
{% endif %}{% for m in messages if m.role == 'user' %}### Text:
{{ m.content }}

{% endfor %}<|output|>
""",
    "reader lm": r"{% for m in messages %}{% if m.role == 'user' %}<|im_start|>user\n{{ m.content | striptags if m.content is string else '' }}<|im_end|>\n{% endif %}{% endfor %}<|im_start|>assistant\n",
}
