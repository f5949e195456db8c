"""Name the protocol of a run, from what was run and not from what is claimed.

`paper`: beam width 10, 15 tokens, EOS only, zero-shot, one BOS, a white image, our adapters, as
many documents of each data set as Table 1 has.
`stock-beams`: lm-eval's own `hf` models, whose beams depend on the batch size. `vllm-beams`,
`greedy` and `toy` (made data) are what they say: a served model is greedy, whatever the tasks ask
for, unless vLLM was asked for beams. `own-set` has tasks that are not the suite's; anything else is
`other`. A protocol is how a model was asked; a run of less than the suite is marked `partial`
besides. Results of different protocols are not to be compared.
"""

from collections import Counter
from typing import Any, NamedTuple

from verbalizer_bench.models.engine.generation_config import influential_settings
from verbalizer_bench.results.endings import ending_warnings
from verbalizer_bench.results.rendering import rendering_text
from verbalizer_bench.results.run import Run
from verbalizer_bench.results.served import (
    BEAMS,
    served_differences,
    served_settings,
    served_text,
    served_warnings,
)
from verbalizer_bench.tasks.identity import TABLE_1, is_made
from verbalizer_bench.tasks.spec import protocol as task_protocol
from verbalizer_bench.tasks.suite import suite

# A share of equal responses that no model reaches that reads its prompts, and from how many on.
_NEARLY_ALL, _FEW = 0.9, 20
NO_BOS = "prompts without BOS"


class Protocol(NamedTuple):
    """A protocol's name, and in what the run differs from `paper`."""

    name: str
    differences: tuple[str, ...]


def derive_protocol(run: Run) -> Protocol:
    """Return the protocol of a run."""
    paper = task_protocol()["generation_kwargs"]
    asked, served = _generation_kwargs(run), run.record.served
    if served:
        asked = served_settings(asked, served)
    differences = [f"{key}={asked.get(key)}" for key in paper if asked.get(key) != paper[key]] + [
        f"{key}={value}" for key, value in asked.items() if key not in paper
    ]
    record = run.record
    differences += [
        f"the checkpoint sets {key}={str(value)[:200]}"
        for key, value in influential_settings(record.generation_config, asked).items()
    ]
    if shots := max(run.results.n_shot.get(task.task) or 0 for task in run.tasks):
        differences.append(f"{shots} few-shot examples")
    if run.results.system_instruction:
        differences.append("a system instruction")
    if record.image and record.image.mode != "white":
        differences.append(f"image={record.image.mode}")
    least, most = record.bos_counts or (1, 1)
    if least < 1:
        differences.append(NO_BOS)
    if most > 1:
        differences.append(f"up to {most} BOS tokens at the start of a prompt")
    if record.truncated_prompts:
        differences.append(
            f"{record.truncated_prompts} prompts did not fit and lost text at the left"
        )
    made = {t.source for t in run.tasks if is_made(t.source, t.verification().known_as)}
    if made:
        differences.append(f"made data ({', '.join(sorted(made))})")
    else:
        differences += _size_differences(run)
    others = _other_sets(run)
    if others:
        differences.append(f"data sets that are not the suite's: {', '.join(others)}")
    if not run.is_ours:
        differences.append(f"model class {run.results.config.model}")
    if served:
        differences += served_differences(served)
    if _has_vllm_beams(run, asked):
        differences.append(BEAMS)
    name = "toy" if made else "own-set" if others else _name(asked, differences, run)
    return Protocol(name, tuple(differences))


def _size_differences(run: Run) -> list[str]:
    """Say which of the paper's data sets have another number of documents than its Table 1."""
    counts = run.results.n_samples
    sizes = {task.dataset: counts[task.task].original for task in run.tasks}
    return [
        f"{sizes[name]} documents of {name}, Table 1 has {wanted}"
        for name, wanted in TABLE_1.items()
        if sizes.get(name, wanted) != wanted
    ]


def _other_sets(run: Run) -> list[str]:
    """Return the data sets of a run that are not the suite's."""
    return sorted({task.dataset for task in run.tasks if task.task not in suite()})


def _name(asked: dict[str, Any], differences: list[str], run: Run) -> str:
    if not differences:
        return "paper"
    if asked.get("num_beams", 1) == 1 and not asked.get("do_sample"):
        return "greedy"
    if _has_vllm_beams(run, asked):
        return "vllm-beams"
    if not run.is_ours and asked.get("num_beams", 1) > 1:
        return "stock-beams"
    return "other"


def _has_vllm_beams(run: Run, asked: dict[str, Any]) -> bool:
    """Say whether vLLM searched, whose beams end otherwise than those of `generate`."""
    by_vllm = run.record.served is not None or "vllm" in run.results.config.model.lower()
    return by_vllm and asked.get("num_beams", 1) > 1 and not asked.get("do_sample")


def is_partial(run: Run) -> bool:
    """Say whether less than the suite was run: fewer tasks, or fewer documents (`--limit`).

    A set of one's own by itself is no part of the suite: only its documents can be fewer.
    """
    return bool(_missing_tasks(run)) or bool(_count_warnings(run)) or bool(_shard(run))


def _missing_tasks(run: Run) -> int:
    """Return how many tasks of the suite were not run; 0 where none of them was asked for."""
    asked = {task.task for task in run.tasks} & set(suite())
    return len(suite()) - len(asked) if asked else 0


def warnings(run: Run) -> list[str]:
    """Return what a reader must know before using the numbers, a sentence each."""
    texts = []
    protocol = derive_protocol(run)
    if protocol.name == "stock-beams":
        texts.append(
            "stock-beams: lm-eval's own stop criterion ends beams early, so that outputs depend on "
            "the batch size; use --model verbalizer-llm or verbalizer-lvlm"
        )
    texts += _count_warnings(run)
    if shard := _shard(run):
        texts.append(f"shard {shard} of a run; `verbalizer-bench merge` puts them together")
    count = len(suite())
    if missing := _missing_tasks(run):
        were = "was" if count - missing == 1 else "were"
        texts.append(f"{count - missing} of the suite's {count} tasks {were} run")
    others = _other_sets(run)
    if others and any(task.task in suite() for task in run.tasks):
        texts.append(f"the means hold data sets that are not the suite's: {', '.join(others)}")
    texts += _sources(run, verified=False)
    record = run.record
    texts += served_warnings(record)
    asked = record.engine if record.served else record.first_input_ids
    if run.is_ours and not asked:
        texts.append("no prompt reached the model: the responses came from a cache, unverified")
    if record.escaped_prompts:
        texts.append(f"{record.escaped_prompts} prompts held a literal image token, escaped")
    if record.unknown_prompts:
        texts.append(
            f"{record.unknown_prompts} prompts held text that the tokenizer does not know: the "
            "model sees the unknown token in its place, and cannot say it"
        )
    texts += [
        f"{count} prompts held {token!r} in their text, which the model reads as a special token"
        for token, count in sorted(record.special_tokens.items())
    ]
    texts += _same_responses(run)
    texts += ending_warnings(record, _generation_kwargs(run).get("max_gen_toks"))
    if run.older:
        texts.append(f"not read: older results in {run.folder} ({run.older})")
    return texts


def same_responses(run: Run) -> str | None:
    """Say how many of a run's responses are the same text, if nearly all are; else None."""
    said: Counter[str] = Counter()
    for task in run.tasks:
        if task.common:
            said[task.common[0]] += task.common[1]
    total = sum(len(task.doc_ids) for task in run.tasks)
    text, times = said.most_common(1)[0] if said else ("", 0)
    if total < _FEW or times < _NEARLY_ALL * total:
        return None
    return f"{times} of {total} responses are the same text, {ascii(text)[:60]}"


def _same_responses(run: Run) -> list[str]:
    """Name a run that says the same whatever it is asked, as weights of NaN do."""
    same = same_responses(run)
    if not same:
        return []
    if cut := run.record.truncated_prompts:
        return [
            f"{same}: {cut} prompts did not fit its context and lost text at the left, which may "
            "be why; if it is not, the prompts do not matter to this model, and are its weights "
            "numbers?"
        ]
    return [f"{same}: the prompts do not matter to this model; are its weights numbers?"]


def facts(run: Run) -> list[str]:
    """Return what a reader may want to know and need not mind, a sentence each."""
    rendering = [rendering_text(run.record)] if run.is_ours else []
    if run.record.served:
        rendering = [served_text(run.record.served)]
    return _sources(run, verified=True) + _fewshot_pools(run) + rendering


def _shard(run: Run) -> str | None:
    return run.metadata(run.tasks[0].task).shard


def _count_warnings(run: Run) -> list[str]:
    counts = [run.results.n_samples[task.task] for task in run.tasks]
    effective, original = (sum(c.effective for c in counts), sum(c.original for c in counts))
    if effective == original:
        return []
    limit = run.results.config.limit
    cause = "" if limit is None else f" (--limit {limit:g})"
    return [f"{effective} of {original} prompts were run{cause}: not the benchmark"]


def _sources(run: Run, verified: bool) -> list[str]:
    """Say where rows are from: those verified as the suite's, or all others."""
    verdicts: dict[str, set[str]] = {}
    for task in run.tasks:
        verification = task.verification()
        # The miniature's nine are one source with nine names.
        is_toy = task.source == f"toy_{task.dataset}"
        text = verification.text("toy_<data set>" if is_toy else task.source)
        stands_in = verification.known_as not in (None, "hub", "snapshot", "sample")
        if stands_in:
            text += "; a stand-in, not comparable with the rows that it stands for"
        if verified is (verification.verdict == "equal" and not stands_in):
            verdicts.setdefault(text, set()).add(task.dataset)
    return [f"rows of {', '.join(sorted(names))}: {text}" for text, names in verdicts.items()]


def _fewshot_pools(run: Run) -> list[str]:
    pools: dict[str | None, set[str]] = {}
    for task in run.tasks:
        if run.results.n_shot.get(task.task):
            pools.setdefault(run.metadata(task.task).fewshot_from, set()).add(task.dataset)
    return [f"examples of {', '.join(sorted(names))}: from {p}" for p, names in pools.items()]


def _generation_kwargs(run: Run) -> dict[str, Any]:
    """Return the arguments that all tasks were generated with.

    Raises:
        ValueError: Tasks of one run differ in them.
    """
    configs = run.results.configs
    first = configs[run.tasks[0].task].generation_kwargs
    if first is None:
        raise ValueError(
            f"{run.file}: configs.{run.tasks[0].task}.generation_kwargs is missing; run it again"
        )
    for task in run.tasks:
        if configs[task.task].generation_kwargs != first:
            raise ValueError(
                f"{run.folder}: {task.task} was generated with other arguments than "
                f"{run.tasks[0].task}; report them apart"
            )
    return first
