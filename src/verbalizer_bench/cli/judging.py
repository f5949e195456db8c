"""Benchmarks with a judge: `judge mtbench|alpacaeval|pope|mmvet|llava-bench|mmvp`."""

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from verbalizer_bench.cli.judging_steps import Source, answer_and_judge, keeping
from verbalizer_bench.cli.options import CommandGroup

commands, judge = CommandGroup(), CommandGroup()
commands.add_typer(
    judge,
    name="judge",
    help="Free answers: mtbench, alpacaeval, mmvet, llava-bench, pope, mmvp.",
)
BenchmarkData = Annotated[Path, Option("--data", metavar="DIR")]
BenchmarkFile = Annotated[Path, Option(metavar="FILE")]
Images = Annotated[Path, Option(metavar="DIR")]
JudgeKeys = Annotated[
    list[str],
    Argument(
        metavar="key=value...",
        default_factory=list,
        show_default=False,
        help="Of the judge's endpoint (base_url, key_variable, concurrency, input_price, "
        "parameters.max_tokens, …), as in an endpoint's block of a data recipe; and budget.tokens "
        "or budget.money, for all verdicts in the judge's folder.",
    ),
]
JudgeModel = Annotated[
    str,
    Option(
        "--judge",
        metavar="MODEL",
        help="The judge's name at its server (default server: OpenAI's).",
    ),
]
RunOutput = Annotated[
    Path,
    Option(
        "--output",
        "-o",
        "--output_path",
        help="The folder of the answers; each judge has a folder in it.",
    ),
]
Model = Annotated[
    str, Option(metavar="verbalizer-llm|verbalizer-lvlm", help="The adapter that answers.")
]
ModelArguments = Annotated[
    str | None,
    Option(
        "--model_args",
        "--model-args",
        help="Its arguments, as in `run`; left out: the answers that are in the folder.",
    ),
]
Answers = Annotated[
    Path | None,
    Option(
        metavar="FILE",
        help="Answers that were made elsewhere, in FastChat's layout, or with `instruction` and "
        "`output`.",
    ),
]
MaxTokens = Annotated[int, Option(help="The longest answer.")]
Limit = Annotated[
    int | None,
    Option(min=1, help="Ask the first so many questions alone (of POPE in each split)."),
]
DryRun = Annotated[
    bool,
    Option(
        "--dry-run", help="Say how much would be asked, and at what cost; load and ask nothing."
    ),
]


@judge.command()
def mtbench(
    overrides: JudgeKeys,
    data: BenchmarkData,
    judge: JudgeModel,
    output: RunOutput,
    model: Model = "verbalizer-llm",
    model_args: ModelArguments = None,
    answers: Answers = None,
    max_tokens: MaxTokens = 1024,
    seed: int = 0,
    limit: Limit = None,
    dry_run: DryRun = False,
) -> None:
    r"""Answer MT-Bench's 80 questions, and have the answers rated.

    verbalizer-bench judge mtbench --data mtbench --judge gpt-4-0613 -o out/mtbench \
        --model verbalizer-lvlm --model_args pretrained=llava,dtype=bfloat16,image=none
    verbalizer-bench judge mtbench --data mtbench --judge NAME -o out/mtbench \
        base_url=http://localhost:8000/v1 key_variable='""'

    The second one has answers that are there judged once more. Answers and verdicts are stored:
    the same command goes on, and asks for nothing twice. A verdict that cannot be had is asked for
    three times, then left out and counted; with more than 1 % left out there is no score.

    Args:
        data: FastChat's files: question.jsonl, judge_prompts.jsonl, reference_answer/gpt-4.jsonl.
        seed: Of answers that are sampled (MT-Bench samples in four of its eight categories).
    """
    from verbalizer_bench.judged import mtbench as benchmark

    source = Source(model, model_args, answers, max_tokens, output, limit, seed)
    bench = benchmark.read_mtbench(data)
    bench = bench._replace(questions=bench.questions[:limit])
    answer_and_judge(bench, source, judge, overrides, benchmark.VERDICT_TOKENS, dry_run)


@judge.command()
def alpacaeval(
    overrides: JudgeKeys,
    data: BenchmarkFile,
    references: BenchmarkFile,
    prompt: BenchmarkFile,
    judge: JudgeModel,
    output: RunOutput,
    model: Model = "verbalizer-llm",
    model_args: ModelArguments = None,
    answers: Answers = None,
    max_tokens: MaxTokens = 2048,
    limit: Limit = None,
    dry_run: DryRun = False,
) -> None:
    r"""Answer AlpacaEval's instructions, and have the answers held against fixed ones (version 1).

    verbalizer-bench judge alpacaeval --data alpaca_eval_instructions.json \
        --references text_davinci_003.json --prompt alpaca_eval_gpt4/alpaca_eval.txt \
        --judge gpt-4-0613 -o out/alpacaeval --model_args pretrained=vicuna,dtype=bfloat16

    Answers, verdicts and what cannot be judged: as in `judge mtbench`. Equal answers are ties. The
    mean length of both sides stands beside the win rate, which rises with it.

    Args:
        data: The instructions, a JSON list.
        references: The outputs that they are held against: instruction and output each.
        prompt: The judge's prompt as alpaca_eval has it: {instruction}, {output_1}, {output_2}, to
            which the judge answers with ranks of model_1 and model_2.
    """
    from verbalizer_bench.judged import alpacaeval as benchmark

    source = Source(model, model_args, answers, max_tokens, output, limit)
    bench = benchmark.read_alpacaeval(data, references, prompt)
    bench = bench._replace(questions=bench.questions[:limit])
    answer_and_judge(bench, source, judge, overrides, benchmark.VERDICT_TOKENS, dry_run)


@judge.command()
def pope(
    data: BenchmarkData,
    images: Images,
    output: RunOutput,
    model: Model = "verbalizer-lvlm",
    model_args: ModelArguments = None,
    answers: Answers = None,
    max_tokens: MaxTokens = 16,
    limit: Limit = None,
    dry_run: DryRun = False,
) -> None:
    r"""Answer POPE's questions on its three splits; no judge is asked.

    verbalizer-bench judge pope --data pope --images coco/val2014 -o out/pope \
        --model_args pretrained=llava,dtype=bfloat16

    Args:
        data: coco_pope_random.json, coco_pope_popular.json and coco_pope_adversarial.json.
        images: COCO's val2014 images.
        output: The folder of the answers and of result.json.
        answers: Answers that were made elsewhere, in FastChat's layout; a question's id is its
            split and number: random-1.
    """
    from verbalizer_bench.judged.pope import limited, lines, read_pope, score_pope
    from verbalizer_bench.judged.questions import missing_images
    from verbalizer_bench.judged.record import part_of

    bench = limited(read_pope(data, images), limit)
    part = filter(None, [part_of(bench.name, len(bench.questions))])
    source = Source(model, model_args, answers, max_tokens, output, limit)
    if dry_run:
        asked = f"POPE: {len(bench.questions):,} answers of up to {max_tokens} tokens; no judge"
        missing = missing_images(bench.questions)
        needed = [f"{missing}: the command will need them."] if missing else []
        print("\n".join([asked, *part, *needed]))
        return
    with keeping(output):
        given = source.answers(bench.name, bench.questions)
    found, file = score_pope(bench, given, output)
    print("\n".join(["POPE", *part, *lines(found), f"Wrote {file}"]))


@judge.command()
def mmvet(
    overrides: JudgeKeys,
    data: BenchmarkFile,
    images: Images,
    prompt: BenchmarkFile,
    judge: JudgeModel,
    output: RunOutput,
    model: Model = "verbalizer-lvlm",
    model_args: ModelArguments = None,
    answers: Answers = None,
    max_tokens: MaxTokens = 1024,
    limit: Limit = None,
    dry_run: DryRun = False,
) -> None:
    r"""Answer MM-Vet's questions, and have each answer's correctness judged from 0 to 1.

    verbalizer-bench judge mmvet --data mm-vet.json --images mm-vet/images --prompt prompt.txt \
        --judge gpt-4-0613 -o out/mmvet --model_args pretrained=llava,dtype=bfloat16

    Answers, verdicts and what cannot be judged: as in `judge mtbench`.

    Args:
        data: MM-Vet's mm-vet.json.
        images: Its images.
        prompt: What MM-Vet's evaluator says to the judge, up to the last example.
    """
    from verbalizer_bench.judged import mmvet as benchmark

    source = Source(model, model_args, answers, max_tokens, output, limit)
    bench = benchmark.read_mmvet(data, images, prompt)
    bench = bench._replace(questions=bench.questions[:limit])
    answer_and_judge(bench, source, judge, overrides, benchmark.VERDICT_TOKENS, dry_run)


@judge.command("llava-bench")
def llava_bench(
    overrides: JudgeKeys,
    data: BenchmarkData,
    references: BenchmarkFile,
    rules: BenchmarkFile,
    judge: JudgeModel,
    output: RunOutput,
    model: Model = "verbalizer-lvlm",
    model_args: ModelArguments = None,
    answers: Answers = None,
    max_tokens: MaxTokens = 1024,
    limit: Limit = None,
    dry_run: DryRun = False,
) -> None:
    r"""Answer LLaVA-Bench's questions, and have the answers rated beside GPT-4's.

    verbalizer-bench judge llava-bench --data llava-bench-in-the-wild \
        --references answers_gpt4.jsonl --rules rule.json --judge gpt-4-0613 -o out/llava-bench \
        --model_args pretrained=llava,dtype=bfloat16

    Answers, verdicts and what cannot be judged: as in `judge mtbench`.

    Args:
        data: questions.jsonl, context.jsonl and images.
        references: GPT-4's answers, a row with `text` for each question.
        rules: LLaVA's llava/eval/table/rule.json.
    """
    from verbalizer_bench.judged import llava_bench as benchmark

    source = Source(model, model_args, answers, max_tokens, output, limit)
    bench = benchmark.read_llava_bench(data, references, rules)
    bench = bench._replace(questions=bench.questions[:limit])
    answer_and_judge(bench, source, judge, overrides, benchmark.VERDICT_TOKENS, dry_run)


@judge.command()
def mmvp(
    overrides: JudgeKeys,
    run: Annotated[Path, Option(metavar="DIR")],
    judge: JudgeModel,
    task: str = "mmvp_options",
    prompt: Annotated[Path | None, Option(metavar="FILE")] = None,
    dry_run: DryRun = False,
) -> None:
    r"""Have the responses of a run of MMVP judged: does each say the right option?

    verbalizer-bench run --model verbalizer-lvlm --tasks mmvp_options --output_path out/mmvp …
    verbalizer-bench judge mmvp --run out/mmvp --judge gpt-4-0613

    Pair accuracy as the paper has it, beside the rule's, and how far both agree. The judge sees no
    image. Verdicts and what cannot be judged: as in `judge mtbench`; they are kept in DIR.

    Args:
        run: The folder that the run's results_*.json is in.
        task: Which of the run's tasks of MMVP.
        prompt: What the judge is asked, with {question}, {options}, {answer} and {response};
            left out: ours (src/verbalizer_bench/judged/mmvp_prompt.txt).
    """
    from verbalizer_bench.judged import mmvp as benchmark

    bench = benchmark.read_mmvp(run, task, prompt or benchmark.PROMPT)
    source = benchmark.StoredResponses(bench)
    answer_and_judge(bench, source, judge, overrides, benchmark.VERDICT_TOKENS, dry_run)
