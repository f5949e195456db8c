"""SteerLM (arXiv 2310.05344) as Li et al. 2024 train it: a question says what its answer is like.

In training the last question ends with the answer's own attributes, in use with the highest of
each. So a checkpoint is saved with a chat template that ends the last question so, for whoever
applies it: lm-eval, a server, our adapters. The template's variable `steerlm_attributes` takes
other values, or "" for none (`chat_template_args` among the model's arguments).
"""

from typing import Any

from verbalizer_bench.io.preferences import ATTRIBUTES, Scores

VARIABLE = "steerlm_attributes"
_ASKED = (
    "\nPlease answer the question such that your response is in the following attributes in "
    "5-point Likert scale:\n"
)
_TEMPLATE = (
    """{%- if VARIABLE is not defined -%}{%- set VARIABLE = 'HIGHEST' -%}{%- endif -%}
{%- if VARIABLE -%}
  {%- set steered = namespace(turns=[], last=-1) -%}
  {%- for message in messages -%}
    {%- if message['role'] == 'user' -%}{%- set steered.last = loop.index0 -%}{%- endif -%}
  {%- endfor -%}
  {%- for message in messages -%}
    {%- if loop.index0 == steered.last -%}
      {%- set text = 'ASKED' ~ VARIABLE -%}
      {%- if message['content'] is string -%}
        {%- set content = message['content'] ~ text -%}
      {%- elif message['content'] and message['content'][-1]['type'] == 'text' -%}
        {%- set text = message['content'][-1]['text'] ~ text -%}
        {%- set content = message['content'][:-1] + [{'type': 'text', 'text': text}] -%}
      {%- else -%}
        {%- set content = message['content'] + [{'type': 'text', 'text': text}] -%}
      {%- endif -%}
      {%- set steered.turns = steered.turns + [dict(message, content=content)] -%}
    {%- else -%}
      {%- set steered.turns = steered.turns + [message] -%}
    {%- endif -%}
  {%- endfor -%}
  {%- set messages = steered.turns -%}
{%- endif -%}
"""
    # What follows may begin with space that counts: an expression strips none of it.
    "{{- '' }}"
)


def attributes_text(scores: Scores) -> str:
    """Return scores as they stand in a question: `Helpfulness:4,Correctness:3,…`."""
    return ",".join(f"{name.capitalize()}:{getattr(scores, name)}" for name in ATTRIBUTES)


def with_attributes(question: str, scores: Scores) -> str:
    """Return a question that ends with the attributes of its answer."""
    return f"{question}{_ASKED}{attributes_text(scores)}"


def steered(template: Any) -> Any:
    """Return a chat template, or several by name, with the highest attributes in questions."""
    if isinstance(template, dict):
        return {name: steered(text) for name, text in template.items()}
    if not template or VARIABLE in template:
        return template
    highest = attributes_text(Scores(**dict.fromkeys(ATTRIBUTES, 4)))
    wrapper = _TEMPLATE.replace("VARIABLE", VARIABLE).replace("HIGHEST", highest)
    return wrapper.replace("ASKED", _ASKED.replace("\n", "\\n")) + template
