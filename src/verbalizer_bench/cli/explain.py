"""Look at one answer: `explain` a run's, or `ask` a prompt of one's own."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Option

from verbalizer_bench.cli.options import CommandGroup, Json

if TYPE_CHECKING:
    from verbalizer_bench.explaining.explanation import Explanation

commands = CommandGroup()
Full = Annotated[bool, Option("--full")]
ImageOut = Annotated[Path | None, Option("--image-out", metavar="FILE")]
ModelArgs = Annotated[str, Option("--model_args", "--model-args", metavar="key=value,…")]


@commands.command()
def explain(
    run: Path,
    task: Annotated[str | None, Option("--task")] = None,
    doc: Annotated[int | None, Option("--doc", metavar="N", min=0)] = None,
    again: Annotated[bool, Option("--again")] = False,
    model_args: ModelArgs = "",
    device: Annotated[str | None, Option("--device")] = None,
    data: Annotated[str | None, Option("--data", metavar="hub|sample|DIR")] = None,
    full: Full = False,
    as_json: Json = False,
    image_out: ImageOut = None,
) -> None:
    """Look at one answer of a run: the prompt as the model got it, the response, what counts of it.

    verbalizer-bench explain out/llama
    verbalizer-bench explain out/llama --task verbalizer_sst2_neutral_foo_bar --doc 3
    verbalizer-bench explain out/llama --task verbalizer_sst2_neutral_foo_bar --doc 3 --again

    Without --doc it is the first answer of the worst outcome. Weights are read with --again alone.

    Args:
        run: The --output_path of a run.
        task: The task; may be left out where the run has one, or without --doc.
        doc: The document's number: doc_id in the run's samples.
        again: Load the model, ask the same again, and show its beams with their scores.
        model_args: Arguments of the model in place of the run's, such as pretrained=DIR.
        device: Where the model goes, with --again (default: a GPU where there is one).
        data: Where the images of tasks that bring some are (default: where the run found them).
        full: Show long prompts whole.
        as_json: Print JSON, with all token ids.
        image_out: Write the image that was shown as a PNG.
    """
    from verbalizer_bench import api

    given = _model_args(model_args)
    found = api.explain(run, task, doc, again=again, model_args=given, device=device, data=data)
    _print(found, full, as_json, image_out)


@commands.command()
def ask(
    prompt: str,
    model_args: ModelArgs,
    model: Annotated[str, Option("--model")] = "verbalizer-llm",
    image: Annotated[list[Path] | None, Option("--image", metavar="FILE")] = None,
    apply_chat_template: Annotated[
        bool, Option("--apply_chat_template", "--apply-chat-template")
    ] = False,
    system_instruction: Annotated[
        str | None, Option("--system_instruction", "--system-instruction", metavar="TEXT")
    ] = None,
    labels: Annotated[str, Option("--labels", metavar="WORD,WORD")] = "",
    expect: Annotated[str | None, Option("--expect", metavar="WORD")] = None,
    gen_kwargs: Annotated[str, Option("--gen_kwargs", "--gen-kwargs", metavar="key=value,…")] = "",
    device: Annotated[str | None, Option("--device")] = None,
    full: Full = False,
    as_json: Json = False,
    image_out: ImageOut = None,
) -> None:
    r"""Ask a model a prompt of your own, and look at the answer as `explain` does.

    verbalizer-bench ask "Is the sky blue? Answer yes or no." --apply_chat_template \
        --model_args pretrained=DIR,dtype=float32 --labels yes,no --expect yes
    verbalizer-bench ask "What is it?" --model verbalizer-lvlm --image cat.png \
        --model_args pretrained=DIR,dtype=float32 --apply_chat_template --gen_kwargs max_gen_toks=40

    Args:
        prompt: The prompt; `<image>` in it says where images stand, else they stand in front.
        model_args: Arguments of the model, as for `run`.
        model: verbalizer-llm, verbalizer-lvlm, verbalizer-api or a model class of lm-eval.
        image: An image file; more than one: repeat it. Without, an LVLM sees its blank one.
        apply_chat_template: Ask in the checkpoint's chat template.
        system_instruction: The system prompt.
        labels: The two label words that it is asked to choose from.
        expect: The one that counts (default: the first), or a word by itself.
        gen_kwargs: What is asked of the search (default: the suite's 10 beams, 15 new tokens).
        device: Where the model goes (default: a GPU where there is one).
        full: Show long prompts whole.
        as_json: Print JSON, with all token ids.
        image_out: Write the image that was shown as a PNG.
    """
    from verbalizer_bench import api

    found = api.ask(
        *(prompt, model, _model_args(model_args)),
        images=image or (),
        apply_chat_template=apply_chat_template,
        system_instruction=system_instruction,
        labels=[word.strip() for word in labels.split(",")] if labels else (),
        expect=expect,
        gen_kwargs=_model_args(gen_kwargs, "--gen_kwargs"),
        device=device,
    )
    _print(found, full, as_json, image_out)


def _model_args(text: str, option: str = "--model_args") -> dict[str, Any]:
    from verbalizer_bench.running.arguments import model_arguments

    return model_arguments(text, option) if text else {}


def _print(found: "Explanation", full: bool, as_json: bool, image_out: Path | None) -> None:
    written = found.write_image(image_out) if image_out else []
    if as_json:
        files = {"image_files": list(map(str, written))} if written else {}
        print(json.dumps({**found.record(), **files}, indent=2))
        return
    print(found.text(full))
    for file in written:
        print(f"Wrote {file}")
