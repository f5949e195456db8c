"""Prompts: YAML files beside the recipes, with a version that every record's provenance has.

A prompt has placeholders in braces (`{caption}`); each kind of data set says which it fills, and a
file with others is an error before any call.
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from verbalizer_bench.config import OneOrMore, read

_PLACEHOLDER = re.compile(r"\{([a-z_]+)\}")


@dataclass(frozen=True)
class PromptTemplate:
    """The messages of a request, with placeholders.

    Attributes:
        user: The user's turn.
        system: The system's message; "": none.
        reply_tokens: Of an average response, for `--dry-run`.
    """

    user: str
    system: str = ""
    reply_tokens: int = 150


@dataclass(frozen=True)
class PromptTemplates:
    """A file of prompts.

    Attributes:
        version: Raised by hand whenever a text changes.
        prompts: By role.
        records: Texts of the sets' records.
        questions: Questions to choose from, by arm.
        failures: How a failure is named in the next attempt, by reason.
    """

    version: str
    prompts: dict[str, PromptTemplate] = field(default_factory=dict)
    records: dict[str, str] = field(default_factory=dict)
    questions: dict[str, OneOrMore[str]] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)

    @property
    def sha256(self) -> str:
        """Return the hash of all texts."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()

    def messages(
        self, name: str, values: Mapping[str, str], image: Path | None = None
    ) -> tuple[dict[str, Any], ...]:
        """Return the messages of a prompt, with an image before its text."""
        prompt = self.prompts[name]
        text = fill(prompt.user, values)
        content: Any = text
        if image:
            content = [
                {"type": "image_file", "path": str(image)},
                {"type": "text", "text": text},
            ]
        user = {"role": "user", "content": content}
        if not prompt.system:
            return (user,)
        return ({"role": "system", "content": fill(prompt.system, values)}, user)


def fill(text: str, values: Mapping[str, str]) -> str:
    """Replace placeholders; other braces, and those within a value, stay as they are."""
    return _PLACEHOLDER.sub(lambda match: values.get(match[1], match[0]), text).strip()


def read_prompts(
    path: Path | None, needed: Mapping[str, Mapping[str, Sequence[str]]]
) -> PromptTemplates:
    """Read and check a file of prompts.

    Args:
        path: The file; None where nothing is needed.
        needed: The required texts by block (`prompts`, `records` …) and name, with the placeholders
            that each may have; those of `records` must have all of them.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: A text is missing or has a placeholder that nothing fills.
    """
    if path is None:
        if needed:
            raise ValueError("prompts: missing; give the file, such as ./prompts/preference.yaml")
        return PromptTemplates("none")
    if not path.is_file():
        raise FileNotFoundError(f"prompts={path}: no such file")
    templates = read(PromptTemplates, path)
    for block, names in needed.items():
        texts = getattr(templates, block)
        for name, allowed in names.items():
            if name not in texts:
                raise ValueError(f"{path}: {block}.{name}: missing; give its text")
            _check(texts[name], allowed, f"{path}: {block}.{name}", block == "records")
    return templates


def check_records(
    path: Path | None, templates: PromptTemplates, needed: Mapping[str, Sequence[str]]
) -> None:
    """Check texts of `records` that only some recipes of a kind need.

    Raises:
        ValueError: One is missing, or has not the placeholders that it needs.
    """
    for name, placeholders in needed.items():
        if name not in templates.records:
            raise ValueError(f"{path}: records.{name}: missing; give its text")
        _check(templates.records[name], placeholders, f"{path}: records.{name}", True)


def _check(text: Any, allowed: Sequence[str], where: str, all_of_them: bool) -> None:
    whole = f"{text.system}\n{text.user}" if isinstance(text, PromptTemplate) else str(text)
    used = set(_PLACEHOLDER.findall(whole))
    if strange := sorted(used - set(allowed)):
        known = ", ".join(f"{{{name}}}" for name in allowed) or "none"
        raise ValueError(f"{where}: {{{strange[0]}}}: nothing fills it; there is {known}")
    if all_of_them and (missing := sorted(set(allowed) - used)):
        raise ValueError(f"{where}: {{{missing[0]}}} is missing; the record needs it")
