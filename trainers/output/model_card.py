"""The model card of a trained checkpoint: what it was made of and how, and how to score it."""

from typing import Any

from verbalizer_bench.io.wording import counted
from verbalizer_bench.models.chat.bos import bos_note
from verbalizer_bench.models.chat.template import DATE, PARTS, ChatTemplate, default_template
from verbalizer_bench.models.mof import MofLlavaConfig
from verbalizer_bench.trainers.checkpoints.load import Checkpoint
from verbalizer_bench.trainers.checkpoints.trainable import describe_trained
from verbalizer_bench.trainers.conversations.steering import VARIABLE
from verbalizer_bench.trainers.conversations.thoughts import thinking_note
from verbalizer_bench.trainers.data.survey_summary import CUT_ANSWERS, seen_twice
from verbalizer_bench.trainers.recipe import Recipe

_CODE = (
    "It sees by two vision towers, by two files of code in this folder: other software loads it "
    "with `trust_remote_code=True`, model and processor; this package needs no such trust."
)


def scoring_command(recipe: Recipe, checkpoint: Checkpoint) -> str:
    """Return the command that scores a checkpoint on the suite."""
    dtype = checkpoint.saved_dtype_name
    adapter, image = ("llm", "") if recipe.text_model else ("lvlm", ",image=white")
    template = "--apply_chat_template " if checkpoint.processor.chat_template else ""
    return (
        f"verbalizer-bench run --model verbalizer-{adapter} "
        f"--model_args pretrained={recipe.output},dtype={dtype}{image} {template}"
        f"--tasks verbalizer --batch_size auto --output_path out/{recipe.output.name}"
    )


def model_card(recipe: Recipe, record: dict[str, Any], command: str) -> str:
    """Return a model card: what it was made of and how, and how to score it."""
    model = recipe.model
    base = model.path or f"{model.towers} + {model.llm}, connector {model.connector}"
    if model.config:
        base = f"random weights, seed {recipe.seed}, of the architecture {model.config}"
    data = "\n".join(
        f"- `{one['file']}`, sha256 {one['sha256']}{_share(one)}" for one in record["data"]
    )
    skipped = "".join(f"; {n} left out: {why}" for why, n in record["skipped"].items())
    parameters = record["parameters"]
    asking = "".join(f"\n\n{note}" for note in record.get("asking", ()))
    return f"""---
library_name: transformers
tags: [verbalizer-bench, {recipe.method}]
---
# {recipe.output.name}

Made by verbalizer-bench {record["versions"]["verbalizer-bench"]}, method `{recipe.method}`, \
from {base}.
What was trained: {describe_trained(recipe)}. These are {parameters["trained"]:,} parameters; \
{parameters["frozen"]:,} were not.\
{_quantized(record.get("quantization"))}

{counted(record["steps"], "step")} of {counted(recipe.global_batch_size, "sample")}\
{_shown_samples(record)}, loss \
{record["loss"].get("first", 0):.4f}
at the first and {record["loss"].get("last", 0):.4f} at the last{_kept_loss(record)} \
([losses.csv](losses.csv)).{_held_out(record["held_out"])}
The whole recipe: [recipe.yaml](recipe.yaml); versions and hashes: [training.json](training.json).

![Loss by step](losses.png)
{_curve(record)}
## Data

{counted(record["records"], "record")}{skipped}. Answers were found by {record["answers"]}.

{data}

## Score it

```bash
{command}
```

It loads in plain transformers; licences are those of the base and of the data.\
{asking}
"""


def _kept_loss(record: dict[str, Any]) -> str:
    """Return the loss at the step whose weights these are, if that is not the last."""
    if "kept" not in record["loss"]:
        return ""
    step = record["evaluation"]["kept"]["step"]
    return f"; {record['loss']['kept']:.4f} at step {step}, whose weights these are"


def _shown_samples(record: dict[str, Any]) -> str:
    """Return in parentheses which records are seen twice, and which are cut; empty for none."""
    notes = []
    if twice := record.get("seen_twice"):
        notes.append(seen_twice(twice, "an epoch's last step"))
    cut = record.get("cut", {})
    if cut.get("records"):
        notes.append(
            f"{counted(cut['records'], 'record of the files is', 'records of the files are')} cut "
            f"to the recipe's `max_length`, by {counted(cut['tokens'], 'token')}: {CUT_ANSWERS}"
        )
    return f" ({'; '.join(notes)})" if notes else ""


def _held_out(scores: dict[str, Any] | None) -> str:
    """Return what was measured on the held-out files, of the weights that are kept."""
    if not scores:
        return ""
    files = ", ".join(f"`{one['file']}`" for one in scores["data"])
    text = (
        f" Held out ({files}): loss {scores['loss']:.4f}, the mean over "
        f"{counted(scores['records'], 'record')}, each alone."
    )
    if shared := scores.get("prompts_trained"):
        text += f" Of these {shared:,} ask what was trained on too, with other answers."
    if "accuracies" in scores:
        text += (
            f" Of these pairs {scores['accuracies']:.1%} have the higher reward on the chosen "
            f"answer; mean margin {scores['margins']:.4f}."
        )
    return text


def _curve(record: dict[str, Any]) -> str:
    """Return the section on what was evaluated while it was trained; empty where nothing was."""
    curve = record.get("evaluation")
    if not curve or not curve["points"]:
        return ""
    asked = ""
    if suite := curve["suite"]:
        documents = "all" if suite["limit"] is None else f"the first {suite['limit']}"
        asked = (
            f" Of {counted(len(suite['tasks']), 'verbalizer task')} {documents} documents each "
            f"were asked, with {suite['num_beams']} beams and weights in {suite['weights']}."
            f"{_over(curve['last'])}"
        )
    kept = ""
    if curve["kept"]:
        kept = f" The weights are those of step {curve['kept']['step']}: {curve['kept']['reason']}."
    return f"""
## While it was trained

{counted(curve["points"], "evaluation")}, steps {curve["first"]["step"]} to \
{curve["last"]["step"]}: \
[curve.csv](curve.csv).{asked}{kept}

![{_drawn(curve["last"])} over the steps](curve.png)

"""


def _over(point: dict[str, Any]) -> str:
    """Return how many documents a point is over, and its F1 with the interval that says so."""
    if "documents" not in point:
        return ""
    documents = counted(point["documents"], "document")
    text = f" A point is over {documents}, {counted(point['responses'], 'response')}"
    name = "f1_all" if "f1_all" in point else next(n for n in point if n.startswith("f1_"))
    low, high = (point.get(f"{name}_{end}") for end in ("low", "high"))
    what = f"{name} of the last {100 * point[name]:.1f}"
    if low is None or high is None:
        return f"{text}; {what}, with no interval, since a data set has one document."
    return f"{text}; {what} [{100 * low:.1f}, {100 * high:.1f}] (95 %, bootstrap over documents)."


def _drawn(point: dict[str, Any]) -> str:
    """Return what the curve shows."""
    shown = ["F1 by label type"] * any(name.startswith("f1_") for name in point)
    shown += ["held-out loss"] * ("held_out_loss" in point)
    text = " and ".join(shown)
    return text[:1].upper() + text[1:]


def _quantized(found: dict[str, Any] | None) -> str:
    """Return that the adapter was trained on a quantised base, if it was."""
    if not found:
        return ""
    bits = "8 bits" if found.get("load_in_8bit") else f"4 bits ({found['bnb_4bit_quant_type']})"
    return (
        f"\nThe adapter was trained on a base with {found['quantized_layers']:,} linear layers of "
        f"its language model in {bits}; the merged weights here are the unquantised base's with "
        "the adapter added, which were never trained together: the score of either is its own."
    )


def _share(file: dict[str, Any]) -> str:
    """Return how much of a file was drawn, if it was not simply all of it."""
    return f": {file['drawn']:,} of {file['of']:,} records drawn" if "drawn" in file else ""


def asking_notes(checkpoint: Checkpoint) -> list[str]:
    """Return notes for those who ask with other software: BOS, contents, the date."""
    template, tokenizer = default_template(checkpoint.processor.chat_template), checkpoint.tokenizer
    code = [_CODE] if isinstance(checkpoint.model.config, MofLlavaConfig) else []
    if not template:
        return code
    sees_images = checkpoint.processor is not tokenizer
    notes = [bos_note(template, tokenizer, sees_images)]
    notes.append(_content_note(template, tokenizer, sees_images))
    notes.append(thinking_note(template, tokenizer))
    if VARIABLE in template:
        notes.append(
            "The chat template ends the last question with SteerLM's attributes, the highest of "
            f'each: `chat_template_args={{"{VARIABLE}": ""}}` among the model\'s arguments '
            "leaves them out, and another text in place of the empty one asks for others."
        )
    if "strftime_now" in template:
        notes.append(
            f"The chat template may write the date: it was trained with {DATE:%Y-%m-%d}, which "
            "`verbalizer-bench run` asks with; other software writes the day's own."
        )
    return code + [note for note in notes if note]


def _content_note(template: str, tokenizer: Any, sees_images: bool) -> str | None:
    """Return a note where the template takes contents otherwise than other software gives them."""
    slot = "<image>" if sees_images else None
    chat = ChatTemplate(template, tokenizer.special_tokens_map, "chat template", image_slot=slot)
    image = [{"type": "image"}] if sees_images else []
    try:
        chat.render([{"role": "user", "content": [*image, {"type": "text", "text": "x"}]}])
    except ValueError:
        return None
    if sees_images and PARTS not in chat.content_formats:
        return (
            "The chat template takes contents as strings alone: plain processors and lm-eval's "
            f"`hf-multimodal` give a list of parts, which it cannot take. Give {slot}, a line "
            "break and the text as one string, as `verbalizer-bench run` does."
        )
    if not sees_images and PARTS in chat.content_formats:
        return (
            "The chat template takes contents as lists of parts alone, and lm-eval's `hf` gives "
            'strings, which it drops. Give `[{"type": "text", "text": …}]`, as `verbalizer-bench '
            "run` does."
        )
    return None
