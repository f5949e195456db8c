"""Benchmarks with a judge: `judge mtbench|alpacaeval|pope|mmvet|llava-bench`."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Option

from verbalizer_bench.cli.options import CommandGroup, Overrides

if TYPE_CHECKING:
    from verbalizer_bench.judged.questions import Answer, Question

commands, judge = CommandGroup(), CommandGroup()
commands.add_typer(
    judge,
    name="judge",
    help="Free answers: mtbench, alpacaeval, mmvet, llava-bench, pope.",
)
BenchmarkData = Annotated[Path, Option("--data", metavar="DIR")]
RunOutput = Annotated[Path, Option("--output", "-o", "--output_path")]
JudgeModel = Annotated[str, Option("--judge", metavar="MODEL")]
Model = Annotated[str, Option(metavar="verbalizer-llm|verbalizer-lvlm")]
ModelArguments = Annotated[str | None, Option("--model_args", "--model-args")]
Answers = Annotated[Path | None, Option(metavar="FILE")]


@judge.command()
def mtbench(
    overrides: Overrides,
    data: BenchmarkData,
    judge: JudgeModel,
    output: RunOutput,
    model: Model = "verbalizer-llm",
    model_args: ModelArguments = None,
    answers: Answers = None,
    max_tokens: int = 1024,
    seed: int = 0,
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
        overrides: key=value of the judge's endpoint (base_url, key_variable, concurrency,
            parameters.max_tokens, …), as in an endpoint's block of a data recipe.
        data: FastChat's files: question.jsonl, judge_prompts.jsonl, reference_answer/gpt-4.jsonl.
        judge: The judge's name at its server (default server: OpenAI's).
        output: The folder of the answers; each judge has a folder in it.
        model: The adapter that answers.
        model_args: Its arguments, as in `run`; left out: the answers that are in the folder.
        answers: Answers that were made elsewhere, in FastChat's layout.
        max_tokens: The longest answer.
        seed: Of answers that are sampled (MT-Bench samples in four of its eight categories).
    """
    from verbalizer_bench.judged import mtbench as benchmark

    bench = benchmark.read_mtbench(data)
    source = _Source(model, model_args, answers, max_tokens, seed)
    _judge(benchmark, bench, source, judge, overrides, output)


@judge.command()
def alpacaeval(
    overrides: Overrides,
    data: Annotated[Path, Option(metavar="FILE")],
    references: Annotated[Path, Option(metavar="FILE")],
    prompt: Annotated[Path, Option(metavar="FILE")],
    judge: JudgeModel,
    output: RunOutput,
    model: Model = "verbalizer-llm",
    model_args: ModelArguments = None,
    answers: Answers = None,
    max_tokens: int = 2048,
) -> None:
    r"""Answer AlpacaEval's instructions, and have the answers held against fixed ones (version 1).

    verbalizer-bench judge alpacaeval --data alpaca_eval_instructions.json \
        --references text_davinci_003.json --prompt alpaca_eval_gpt4/alpaca_eval.txt \
        --judge gpt-4-0613 -o out/alpacaeval --model_args pretrained=vicuna,dtype=bfloat16

    Answers, verdicts and what cannot be judged: as in `judge mtbench`. Equal answers are ties. The
    mean length of both sides stands beside the win rate, which rises with it.

    Args:
        overrides: key=value of the judge's endpoint.
        data: The instructions, a JSON list.
        references: The outputs that they are held against: instruction and output each.
        prompt: The judge's prompt as alpaca_eval has it: {instruction}, {output_1}, {output_2}, to
            which the judge answers with ranks of model_1 and model_2.
        judge: The judge's name at its server.
        output: The folder of the answers; each judge has a folder in it.
        model: The adapter that answers.
        model_args: Its arguments, as in `run`; left out: the answers that are in the folder.
        answers: Answers that were made elsewhere: instruction and output each.
        max_tokens: The longest answer.
    """
    from verbalizer_bench.judged import alpacaeval as benchmark

    bench = benchmark.read_alpacaeval(data, references, prompt)
    source = _Source(model, model_args, answers, max_tokens)
    _judge(benchmark, bench, source, judge, overrides, output)


@judge.command()
def pope(
    data: BenchmarkData,
    images: Annotated[Path, Option(metavar="DIR")],
    output: RunOutput,
    model: Model = "verbalizer-lvlm",
    model_args: ModelArguments = None,
    answers: Answers = None,
    max_tokens: int = 16,
) -> None:
    r"""Answer POPE's questions on its three splits; no judge is asked.

    verbalizer-bench judge pope --data pope --images coco/val2014 -o out/pope \
        --model_args pretrained=llava,dtype=bfloat16

    Args:
        data: coco_pope_random.json, coco_pope_popular.json and coco_pope_adversarial.json.
        images: COCO's val2014 images.
        output: The folder of the answers and of result.json.
        model: The adapter that answers.
        model_args: Its arguments, as in `run`; left out: the answers that are in the folder.
        answers: Answers that were made elsewhere, in FastChat's layout; a question's id is its
            split and number: random-1.
        max_tokens: The longest answer.
    """
    from verbalizer_bench.judged.pope import NAME, lines, read_pope, score_pope

    bench = read_pope(data, images)
    source = _Source(model, model_args, answers, max_tokens)
    with _keeping(output):
        given = source.answers(NAME, bench.questions, output)
    found, file = score_pope(bench, given, output)
    print("\n".join(["POPE", *lines(found), f"Wrote {file}"]))


@judge.command()
def mmvet(
    overrides: Overrides,
    data: Annotated[Path, Option(metavar="FILE")],
    images: Annotated[Path, Option(metavar="DIR")],
    prompt: Annotated[Path, Option(metavar="FILE")],
    judge: JudgeModel,
    output: RunOutput,
    model: Model = "verbalizer-lvlm",
    model_args: ModelArguments = None,
    answers: Answers = None,
    max_tokens: int = 1024,
) -> None:
    r"""Answer MM-Vet's questions, and have each answer's correctness judged from 0 to 1.

    verbalizer-bench judge mmvet --data mm-vet.json --images mm-vet/images --prompt prompt.txt \
        --judge gpt-4-0613 -o out/mmvet --model_args pretrained=llava,dtype=bfloat16

    Answers, verdicts and what cannot be judged: as in `judge mtbench`.

    Args:
        overrides: key=value of the judge's endpoint.
        data: MM-Vet's mm-vet.json.
        images: Its images.
        prompt: What MM-Vet's evaluator says to the judge, up to the last example.
        judge: The judge's name at its server.
        output: The folder of the answers; each judge has a folder in it.
        model: The adapter that answers.
        model_args: Its arguments, as in `run`; left out: the answers that are in the folder.
        answers: Answers that were made elsewhere, in FastChat's layout.
        max_tokens: The longest answer.
    """
    from verbalizer_bench.judged import mmvet as benchmark

    bench = benchmark.read_mmvet(data, images, prompt)
    source = _Source(model, model_args, answers, max_tokens)
    _judge(benchmark, bench, source, judge, overrides, output)


@judge.command("llava-bench")
def llava_bench(
    overrides: Overrides,
    data: BenchmarkData,
    references: Annotated[Path, Option(metavar="FILE")],
    rules: Annotated[Path, Option(metavar="FILE")],
    judge: JudgeModel,
    output: RunOutput,
    model: Model = "verbalizer-lvlm",
    model_args: ModelArguments = None,
    answers: Answers = None,
    max_tokens: int = 1024,
) -> None:
    r"""Answer LLaVA-Bench's questions, and have the answers rated beside GPT-4's.

    verbalizer-bench judge llava-bench --data llava-bench-in-the-wild \
        --references answers_gpt4.jsonl --rules rule.json --judge gpt-4-0613 -o out/llava-bench \
        --model_args pretrained=llava,dtype=bfloat16

    Answers, verdicts and what cannot be judged: as in `judge mtbench`.

    Args:
        overrides: key=value of the judge's endpoint.
        data: questions.jsonl, context.jsonl and images.
        references: GPT-4's answers, a row with `text` for each question.
        rules: LLaVA's llava/eval/table/rule.json.
        judge: The judge's name at its server.
        output: The folder of the answers; each judge has a folder in it.
        model: The adapter that answers.
        model_args: Its arguments, as in `run`; left out: the answers that are in the folder.
        answers: Answers that were made elsewhere, in FastChat's layout.
        max_tokens: The longest answer.
    """
    from verbalizer_bench.judged import llava_bench as benchmark

    bench = benchmark.read_llava_bench(data, references, rules)
    source = _Source(model, model_args, answers, max_tokens)
    _judge(benchmark, bench, source, judge, overrides, output)


@judge.command()
def table(folders: list[Path]) -> None:
    """Print checkpoints by benchmark: judged ones, and the F1 of verbalizer runs.

    verbalizer-bench judge table out

    A row is a checkpoint, by its weights. Another judge, other prompts, references or questions are
    another column.

    Args:
        folders: Where `judge` and `run` wrote.
    """
    from verbalizer_bench.leaderboard.reports.methods import methods_table

    print(methods_table(folders))


def _judge(
    benchmark: Any,
    bench: Any,
    source: "_Source",
    judge: str,
    overrides: "Sequence[str]",
    output: Path,
) -> None:
    """Get answers, have them judged, and print the scores.

    Args:
        benchmark: The benchmark's module.
        bench: Its files.
        source: Where the answers come from.
        judge: The judge's name.
        overrides: key=value of its endpoint.
        output: The folder.
    """
    from verbalizer_bench.judged.judge import judge_endpoint

    endpoint = judge_endpoint(judge, overrides, benchmark.VERDICT_TOKENS)
    # A key that is missing is said before a checkpoint answers for hours.
    endpoint.key()
    with _keeping(output):
        given = source.answers(benchmark.NAME, bench.questions, output)
        found, file = benchmark.judge_answers(bench, given, endpoint, output)
    title = f"{benchmark.TITLE}, judged by {judge}"
    print("\n".join([title, *benchmark.lines(found), f"Wrote {file}"]))


@dataclass(frozen=True)
class _Source:
    """Where answers come from: a checkpoint, a file, or what the folder has."""

    model: str
    model_args: str | None
    file: Path | None
    max_tokens: int
    seed: int = 0

    def answers(
        self, benchmark: str, questions: "Sequence[Question]", output: Path
    ) -> "dict[str, Answer]":
        """Return the answers to a benchmark's questions."""
        from verbalizer_bench.judged import answering
        from verbalizer_bench.running.arguments import model_arguments

        if self.file and self.model_args:
            raise ValueError("--answers and --model_args: give one of them")
        if self.file:
            return answering.take_answers(self.file, questions, output)
        if self.model_args is None:
            return answering.kept_answers(questions, output)
        arguments = model_arguments(self.model_args)
        how = answering.Answering(benchmark, self.model, arguments, self.max_tokens, self.seed)
        return answering.answer_all(how, questions, output)


@contextmanager
def _keeping(output: Path) -> Iterator[None]:
    """Say what is kept where Ctrl-C ends a command."""
    from verbalizer_bench.errors import Interrupted

    try:
        yield
    except KeyboardInterrupt as error:
        raise Interrupted(
            f"answers and verdicts so far are kept in {output}; the same command goes on"
        ) from error
