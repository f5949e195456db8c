"""In what two runs differ beside their answers, and what of it may be let through.

Runs are compared where they were asked alike. Four differences can be let through by name, one or
more at a time (`compare --allow`), and then stand in the answer:

- `image`: what an LVLM was shown (white, noise, none, a file).
- `template`: with a chat template or without; for one checkpoint, with which. A BOS that prompts
  have in one of them alone is a part of it: SmolLM2's template writes one, its tokenizer does not.
- `engine`: what made the responses: lm-eval's own model class, a served model or our adapters;
  below float32, where they give other responses, the shared prefix or `generate`.
- `precision`: of the weights, where both runs say it.

Few-shot examples, a system instruction, generation settings, rows and prompts stay as they are. An
LVLM with a white image against a text model is the paper's own comparison, and an LVLM without an
image is asked as a text model is: neither has to be let through, and the answer names the image.
"""

import dataclasses
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from verbalizer_bench.results.protocol import NO_BOS, derive_protocol
from verbalizer_bench.results.rendering import rendering_difference
from verbalizer_bench.results.run import Run, model_args
from verbalizer_bench.results.served import SERVED
from verbalizer_bench.tasks.spec import protocol as task_protocol

ALLOWABLE = ("image", "template", "engine", "precision")
NO_IMAGE = "no image"
LMMS = "lmms-eval"
# What a protocol says of these, which are compared by themselves.
_OWN_WORDS = ("image=", "model class ", SERVED)
_OURS = "our adapters"
# In which the shared prefix and `generate` give the same responses.
_EXACT = ("float32", "float64")


@dataclasses.dataclass(frozen=True)
class Contrast:
    """In what a run differs from the one that it is compared with.

    Attributes:
        tuning: Whether the weights differ, or may: they are not known of both.
        image: What the base was shown and what the run; None where the same, as below.
        template: With a chat template or without.
        engine: What made the responses.
        precision: Of the weights.
    """

    tuning: bool = True
    image: tuple[str, str] | None = None
    template: tuple[str, str] | None = None
    engine: tuple[str, str] | None = None
    precision: tuple[str, str] | None = None

    @property
    def changed(self) -> tuple[str, ...]:
        """Return what differs, by the names that a reader knows."""
        bos = " with its BOS" if NO_BOS in "".join(self.template or ()) else ""
        names = {key: f"chat template{bos}" if key == "template" else key for key in ALLOWABLE}
        settings = tuple(name for key, name in names.items() if getattr(self, key))
        return ("tuning", *settings) if self.tuning else settings


def parse_allowed(given: Sequence[str]) -> frozenset[str]:
    """Return what `--allow` names; each can be a list with commas.

    Raises:
        ValueError: It is none of ALLOWABLE.
    """
    names = [name.strip() for text in given for name in text.split(",")]
    for name in names:
        if name not in ALLOWABLE:
            raise ValueError(
                f"--allow {name}: one of {', '.join(ALLOWABLE)}; other differences cannot be "
                "let through"
            )
    return frozenset(names)


def contrast(base: Run, run: Run) -> Contrast:
    """Say in what a run differs from another, allowed or not."""
    pairs = {
        key: (one, other)
        for key, shown in (("image", image), ("template", template))
        if (one := shown(base)) != (other := shown(run))
    }
    first, second = precision(base), precision(run)
    if first and second and first != second:
        pairs["precision"] = first, second
    engines = engine(base), engine(run)
    if engines[0] != engines[1] and not (_both_ours(base, run) and {first, second} & set(_EXACT)):
        pairs["engine"] = engines
    same = same_weights(base, run)
    if same and "template" not in pairs and (texts := _other_texts(base, run)):
        pairs["template"] = texts
    if "template" in pairs and _has_bos(base) != _has_bos(run):
        one, other = pairs["template"]
        pairs["template"] = one + _bos_words(base), other + _bos_words(run)
    return Contrast(tuning=not same, **pairs)


def unlike(base: Run, run: Run) -> Iterator[tuple[str, str, str]]:
    """Yield in what two runs were not asked alike: what it is, the base's value, the run's."""
    one, other = _settings(base), _settings(run)
    contrasts = contrast(base, run)
    if contrasts.template:
        one, other = (tuple(text for text in texts if text != NO_BOS) for texts in (one, other))
    if one != other:
        yield "protocol", _told(base, one, other), _told(run, other, one)
    if found := rendering_difference(base, run):
        yield found
    for key in ALLOWABLE:
        pair = getattr(contrasts, key)
        if pair and not (key == "image" and _papers_own(base, run)):
            yield key, *pair


def refusal(base: Run, run: Run, allowed: Collection[str] = ()) -> str | None:
    """Say why two runs were not asked alike; None where they were."""
    for what, one, other in unlike(base, run):
        if what in allowed:
            continue
        text = (
            f"the runs differ in {what}: {one} in {base.folder}, {other} in {run.folder}; "
            "run both alike"
        )
        if what in ALLOWABLE:
            text += f", or let it through with `compare --allow {what}`: the answer then names it"
        return text
    return None


def same_weights(one: Run, other: Run) -> bool:
    """Say whether two runs are of the same weights, as far as they state them."""
    hashes = [run.record.fingerprint.get("weights") for run in (one, other)]
    if all(hashes):
        return hashes[0] == hashes[1] and not str(hashes[0]).startswith("unknown")
    paths = [_pretrained(run) for run in (one, other)]
    return paths[0] is not None and paths[0] == paths[1]


def image(run: Run) -> str:
    """Return what was shown with every prompt."""
    if run.results.config.harness == LMMS:
        # The task's image is white, and our adapter's own white too unless it is told otherwise.
        given = model_args(run.results).get("image", "white")
        return NO_IMAGE if given == "none" else f"{given} image"
    shown = run.record.image
    if shown is None or shown.mode == "none":
        return NO_IMAGE
    if shown.mode == "own":
        return "the questions' own images"
    if shown.mode in ("white", "gray", "black", "noise"):
        return f"{shown.mode} image"
    # The same name can be of another file, and the same file have another name.
    return f"image {Path(shown.mode).name} ({shown.sha256[:12]})"


def is_lvlm(run: Run) -> bool:
    """Say whether a run is of a model that can be shown an image."""
    return run.record.image is not None


def template(run: Run) -> str:
    """Return whether a chat template was applied, as our record or lm-eval's results say."""
    if run.results.config.harness == LMMS:
        return "with the adapter's chat template"
    has = run.record.chat_template_sha256 or run.results.chat_template_sha or run.record.served
    return "with a chat template" if has else "without a chat template"


def engine(run: Run) -> str:
    """Return what made the responses, where that can change them."""
    if not run.is_ours:
        return f"{run.results.config.harness}'s {run.results.config.model}"
    if run.record.served:
        return "a served model"
    if precision(run) in (None, *_EXACT):
        return _OURS
    used = [name for name, count in run.record.engine.items() if count]
    return f"{_OURS} by {' and '.join(sorted(used))}" if used else _OURS


def precision(run: Run) -> str | None:
    """Return the type of a run's weights; None where the run does not say it."""
    given = run.record.dtype if run.is_ours else run.results.config.model_dtype
    return str(given).removeprefix("torch.") if given else None


def _both_ours(*runs: Run) -> bool:
    return all(run.is_ours and not run.record.served for run in runs)


def _other_texts(base: Run, run: Run) -> tuple[str, str] | None:
    """Return which templates one checkpoint was asked with; None where with the same.

    Another checkpoint's template is its own affair: it is part of what was tuned.
    """
    ours = [one.record.chat_template_sha256 for one in (base, run)]
    stock = [one.results.chat_template_sha for one in (base, run)]
    for one, other in (ours, stock):
        if one and other and one != other:
            return f"chat template {one[:12]}", f"chat template {other[:12]}"
    return None


def _papers_own(base: Run, run: Run) -> bool:
    """Say whether a text model is compared with an LVLM that was shown white."""
    return {image(base), image(run)} == {NO_IMAGE, "white image"} and (
        is_lvlm(base) != is_lvlm(run)
    )


def _settings(run: Run) -> tuple[str, ...]:
    """Return how a run differs from the paper's protocol, but for what ALLOWABLE names."""
    return tuple(
        text for text in derive_protocol(run).differences if not text.startswith(_OWN_WORDS)
    )


def _has_bos(run: Run) -> bool:
    return NO_BOS not in derive_protocol(run).differences


def _bos_words(run: Run) -> str:
    return "" if _has_bos(run) else f" ({NO_BOS})"


def _told(run: Run, settings: Sequence[str], others: Sequence[str]) -> str:
    """Return a run's protocol, with what of its settings another run's have not."""
    paper = task_protocol()["generation_kwargs"]
    own = [text for text in settings if text not in others]
    # What a run does not differ in from the paper is not among its settings.
    given, asked = ({text.partition("=")[0] for text in texts} for texts in (settings, others))
    own += [f"{key}={value}" for key, value in paper.items() if key in asked - given]
    return f"{derive_protocol(run).name} ({'; '.join(own) or 'without that'})"


def _pretrained(run: Run) -> tuple[str | None, ...] | None:
    given = model_args(run.results)
    if not given.get("pretrained"):
        return None
    return tuple(map(given.get, ("pretrained", "gguf_file", "peft", "revision", "delta")))
