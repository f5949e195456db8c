"""What the commands of `judge` do: get answers from where they are, and have them judged."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from verbalizer_bench.judged.mmvp import StoredResponses
    from verbalizer_bench.judged.questions import Answer, Question
    from verbalizer_bench.judged.record import JudgedBenchmark


@dataclass(frozen=True)
class Source:
    """Where answers come from: a checkpoint, a file, or what the folder has."""

    model: str
    model_args: str | None
    file: Path | None
    max_tokens: int
    folder: Path
    limit: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.file and self.model_args:
            raise ValueError("--answers and --model_args: give one of them")

    def answers(self, benchmark: str, questions: "Sequence[Question]") -> "dict[str, Answer]":
        """Return the answers to a benchmark's questions, whose images have to be there."""
        from verbalizer_bench.judged import answering
        from verbalizer_bench.judged.questions import check_images
        from verbalizer_bench.running.arguments import model_arguments

        check_images(questions)
        if self.file:
            return answering.take_answers(self.file, questions, self.folder, self.limit)
        if self.model_args is None:
            return answering.kept_answers(questions, self.folder, self.limit)
        arguments = model_arguments(self.model_args)
        how = answering.Answering(
            benchmark, self.model, arguments, self.max_tokens, self.seed, self.limit
        )
        return answering.answer_all(how, questions, self.folder)

    def present(self, questions: "Sequence[Question]") -> "dict[str, Answer] | None":
        """Return the answers that are there already; None if they are not."""
        from verbalizer_bench.judged import answering

        if self.file:
            return answering.read_answers(self.file, questions)
        if self.model_args is None or (self.folder / answering.RECORD).is_file():
            return answering.kept_answers(questions, self.folder, self.limit)
        return None


def answer_and_judge(
    bench: "JudgedBenchmark",
    source: "Source | StoredResponses",
    name: str,
    overrides: "Sequence[str]",
    verdict_tokens: int,
    dry_run: bool,
) -> None:
    """Get answers, have them judged, and print the scores.

    Args:
        bench: The benchmark's files.
        source: Where the answers come from.
        name: The judge's name.
        overrides: key=value of its endpoint and budget.
        verdict_tokens: The longest verdict.
        dry_run: Say what would be asked instead.
    """
    from verbalizer_bench.judged.dry_run import describe
    from verbalizer_bench.judged.judge import make_judge
    from verbalizer_bench.judged.record import TITLES, judge_answers, part_of

    judge = make_judge(name, overrides, verdict_tokens)
    if dry_run:
        given = source.present(bench.questions)
        print(describe(bench, given, judge, source.folder, source.max_tokens))
        return
    # A key that is missing is said before a checkpoint answers for hours.
    judge.endpoint.key()
    with keeping(source.folder):
        answers = source.answers(bench.name, bench.questions)
        found, file = judge_answers(bench, answers, judge, source.folder)
    part = filter(None, [part_of(bench.name, len(bench.questions))])
    title = f"{TITLES[bench.name]}, judged by {name}"
    print("\n".join([title, *part, *found.lines(), f"Wrote {file}"]))


@contextmanager
def keeping(output: Path) -> Iterator[None]:
    """Say what is kept where Ctrl-C ends a command; of one that failed no empty folder."""
    from verbalizer_bench.errors import Interrupted
    from verbalizer_bench.io.files import removed_if_empty

    try:
        with removed_if_empty(output):
            yield
    except KeyboardInterrupt as error:
        raise Interrupted(
            f"answers and verdicts so far are kept in {output}; the same command goes on"
        ) from error
