"""Where vision fails: `blind-pairs`, `pair-questions` and `vlm-pairs`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Option

from verbalizer_bench.cli.options import CommandGroup, DryRun, Output, Overrides

if TYPE_CHECKING:
    from collections.abc import Mapping

    from verbalizer_bench.vision.embedding import Embedding
    from verbalizer_bench.vision.search import Rule
    from verbalizer_bench.vision.selection import Choice
    from verbalizer_bench.vision.towers import Tower

commands, questions = CommandGroup(), CommandGroup()
commands.add_typer(
    questions,
    name="pair-questions",
    help="From blind pairs to questions as MMVP has them: export, draft, check, finish.",
)
Words = Annotated[int, Option(min=1)]
STAGES = ("features", "search", "pairs")


@commands.command("blind-pairs")
def blind_pairs(
    images: Path,
    output: Output,
    similar: Annotated[str, Option(metavar="MODEL")],
    different: Annotated[str, Option(metavar="MODEL")],
    similar_embedding: str = "projected",
    different_embedding: str = "cls",
    above: float = 0.95,
    below: float = 0.6,
    cap: int = 3,
    crowd: int = 100,
    duplicate: float = 0.95,
    most_pairs: int = 5_000_000,
    memory: int = 1024,
    batch_size: int = 32,
    device: str = "cpu",
    dtype: str = "float32",
    sheet: int = 200,
    stage: Annotated[str | None, Option(metavar="features|search|pairs")] = None,
    shard: str = "1/1",
) -> None:
    r"""Find images that one vision tower takes for the same and another does not.

    verbalizer-bench blind-pairs photographs --similar openai/clip-vit-large-patch14 \
        --different facebook/dinov2-large -o out/blind
    verbalizer-bench blind-pairs … --stage features --shard 3/16

    The second one is a part of a large search: all shards of `features`, then all of `search`, then
    `pairs` once. A command that was ended goes on. Writes pairs.jsonl, duplicates.jsonl,
    left_out.jsonl (each with why), result.json and contact_sheet.html.

    Args:
        images: The folder of the images, searched at any depth.
        output: The folder of features, pairs and contact sheet.
        similar: The tower that takes both for the same: CLIP, SigLIP or SigLIP 2.
        different: The tower that tells them apart: DINOv2, with or without registers, DINOv3.
        similar_embedding: projected, pooled, cls or patches (their mean); of the last two also of a
            layer, such as patches@-2.
        different_embedding: The same of the other tower.
        above: The cosine in the similar tower that a pair is above.
        below: The cosine in the different tower that it is below.
        cap: The most pairs of an image, from the most different on; 0: no cap.
        crowd: An image near to more than this many is a placeholder, whose pairs are left out; 0:
            none is.
        duplicate: The cosine in the different tower from which a near pair is a near duplicate.
        most_pairs: Of pairs above, after which the search gives up.
        memory: MiB for the blocks of the search.
        batch_size: Images that a tower sees at a time.
        device: Where towers and products are computed.
        dtype: In which precision towers compute.
        sheet: The most pairs on the contact sheet.
        stage: One stage alone.
        shard: Which part of features or search: 3/16 is the third of sixteen.
    """
    from verbalizer_bench.leaderboard.pages.contact_sheet import write_contact_sheet
    from verbalizer_bench.vision import blind_pairs as work
    from verbalizer_bench.vision.embedding import parse_embedding
    from verbalizer_bench.vision.image_index import check_folder
    from verbalizer_bench.vision.search import Rule
    from verbalizer_bench.vision.selection import Choice
    from verbalizer_bench.vision.towers import check_computing

    number, shards = _shard(shard, stage)
    rule, choice = Rule(above, most_pairs, memory, device), Choice(below, cap, crowd, duplicate)
    _check(rule, choice, stage, batch_size)
    check_computing(device, dtype)
    asked = {
        "similar": (similar, parse_embedding(similar_embedding, "--similar-embedding")),
        "different": (different, parse_embedding(different_embedding, "--different-embedding")),
    }
    if stage in (None, "features"):
        check_folder(images)
        towers = _towers(asked, device, dtype)
        if stage is None:
            # Features of a large folder take hours.
            work.check_memory(towers, rule)
        for line in work.make_features(images, towers, output, number, shards, batch_size):
            print(line)
    else:
        work.check_towers(output, asked)
    if stage in (None, "search"):
        work.search_shard(output, rule, number, shards)
    if stage in (None, "pairs"):
        found = work.take_pairs(output, rule, choice)
        page = write_contact_sheet(found, images, output, sheet)
        print("\n".join([*found.lines(), f"Wrote {page}"]))


@questions.command()
def export(
    pairs: Path,
    images: Path,
    output: Output,
    most: Annotated[int, Option(min=1)] = 200,
) -> None:
    """Write a form of blind pairs that people fill in.

    verbalizer-bench pair-questions export out/blind photographs -o form

    The form has the images as MMVP has them and Questions.csv: for each pair one Question, its
    Options `(a) Left (b) Right` and a Pattern in both rows, and the Correct Answer of each image,
    (a) or (b). Pairs that are left empty are left out. contact_sheet.html shows them.

    Args:
        pairs: What blind-pairs has written.
        images: The folder of the images.
        output: A new folder.
        most: How many pairs at most, from the most different on.
    """
    from verbalizer_bench.leaderboard.pages.contact_sheet import write_contact_sheet
    from verbalizer_bench.vision.blind_pairs import read_pairs
    from verbalizer_bench.vision.pair_form import export_form

    found = read_pairs(pairs)
    count = export_form(found, images, output, most)
    write_contact_sheet(found, images, output, count)
    print(f"Wrote {output} with {count} pairs; fill in {output / 'Questions.csv'}")


@questions.command()
def draft(
    form: Path,
    overrides: Overrides,
    model: Annotated[str, Option(metavar="MODEL")],
    words: Words = 1,
    dry_run: DryRun = False,
) -> None:
    r"""Have a vision model write a draft of each pair that is empty.

    verbalizer-bench pair-questions draft form --model gpt-4o budget.money=5 \
        input_price=2.5 output_price=10

    Each of its rows has the model's name in Draft, and is not finished until a person has looked at
    it and emptied that cell. Responses are stored in the form; the same command asks for nothing
    twice.

    Args:
        form: The form.
        overrides: Of the model's endpoint (base_url, key_variable, concurrency, input_price, …),
            and budget.tokens or budget.money.
        model: The model's name at its server (default server: OpenAI's).
        words: The most words of an option.
        dry_run: Say how many drafts it would ask for and what they would cost, and ask for none.
    """
    from verbalizer_bench.client.command_line import endpoint_of
    from verbalizer_bench.vision import pair_draft

    endpoint, budget = endpoint_of("--model", model, overrides, pair_draft.MAX_TOKENS)
    if dry_run:
        print(pair_draft.dry_run(form, endpoint, words))
        return
    drafted = pair_draft.draft_form(form, endpoint, budget, words)
    print("\n".join(drafted.lines(form)))
    if drafted.stopped:
        raise ValueError(f"stopped: {drafted.stopped}")


@questions.command()
def check(form: Path, words: Words = 1) -> None:
    """Say what each pair of a form lacks, a line each.

    verbalizer-bench pair-questions check form

    Args:
        form: The form.
        words: The most words of an option.
    """
    from verbalizer_bench.vision.pair_form import check_form

    print("\n".join(check_form(form, words).lines()))


@questions.command()
def finish(form: Path, output: Output, words: Words = 1) -> None:
    """Write the finished pairs of a form as a benchmark in MMVP's layout.

    verbalizer-bench pair-questions finish form -o my-mmvp

    Args:
        form: The form; none of its pairs may lack anything.
        output: A new folder.
        words: The most words of an option.
    """
    from verbalizer_bench.vision.pair_form import finish_form

    checked = finish_form(form, output, words)
    print(f"Wrote {output}: {len(checked.pairs)} pairs; {checked.empty} empty ones are left out")


@commands.command("vlm-pairs")
def vlm_pairs(
    data: Path,
    output: Output,
    model: Annotated[list[str], Option(metavar="MODEL")],
    vlm: Annotated[list[Path], Option(metavar="RUN", default_factory=list, show_default=False)],
    device: str = "cpu",
    dtype: str = "float32",
) -> None:
    r"""Score models of images and texts on MMVP-VLM: nine visual patterns, fifteen pairs of each.

    verbalizer-bench vlm-pairs MMVP_VLM -o out/vlm --model openai/clip-vit-large-patch14 \
        --model google/siglip-so400m-patch14-384

    The text is "a photo of " and the statement. The paper's direction: each statement prefers its
    own image, and a pair is right if both do. The other direction stands beside it. Chance is 25 %.
    Writes result.json, table.md, patterns.png and patterns.svg; with --vlm also correlation.png and
    correlation.svg: which patterns a vision-language model and its encoder get right.

    Args:
        data: Questions.csv and images, in the layout of MMVP/MMVP_VLM.
        output: The folder of the result; one that has a result is refused.
        model: CLIP, SigLIP, SigLIP 2 or OpenCLIP in transformers' form; give one or several.
        vlm: For each --model, in their order, a run of MMVP of a model that sees by it.
        device: Where models compute.
        dtype: In which precision.
    """
    from verbalizer_bench.leaderboard.pages.pattern_figures import correlation_panels, pattern_bars
    from verbalizer_bench.vision import vlm_pairs as work
    from verbalizer_bench.vision.correlation import correlate, mmvp_scores
    from verbalizer_bench.vision.towers import check_computing
    from verbalizer_bench.vision.vlm_benchmark import read_vlm_benchmark

    check_computing(device, dtype)
    if twice := [name for name in model if model.count(name) > 1]:
        raise ValueError(f"--model {twice[0]}: it is there twice; give each once")
    if vlm and len(vlm) != len(model):
        raise ValueError(f"--vlm: {len(vlm)} runs of {len(model)} models; give a run for each")
    work.check_new(output)
    benchmark = read_vlm_benchmark(data)
    for name in model:
        work.check_rates_both(name)
    runs = [mmvp_scores(run) for run in vlm]
    scored = [work.score(work.load_model(name, device, dtype), benchmark) for name in model]
    correlations = [
        correlate(one.name, one.patterns[work.DIRECTIONS[0]], run)
        for one, run in zip(scored, runs, strict=False)
    ]
    file = work.write_scores(scored, benchmark, output, correlations)
    pattern_bars(scored, [output / "patterns.png", output / "patterns.svg"])
    if correlations:
        files = [output / "correlation.png", output / "correlation.svg"]
        correlation_panels(correlations, files)
    print((output / work.TABLE).read_text(encoding="utf-8"))
    print(f"Wrote {file}")


def _shard(text: str, stage: str | None) -> tuple[int, int]:
    """Return which part of how many."""
    first, _, second = text.partition("/")
    number, shards = (int(part) if part.isdecimal() else 0 for part in (first, second))
    if not 1 <= number <= shards:
        raise ValueError(f"--shard {text}: give the number of a part and how many, such as 3/16")
    if shards > 1 and stage not in ("features", "search"):
        raise ValueError(f"--shard {text}: of one stage alone: add --stage features or search")
    return number, shards


def _check(rule: "Rule", choice: "Choice", stage: str | None, batch_size: int) -> None:
    """Raise ValueError for options out of their range."""
    if stage not in (None, *STAGES):
        raise ValueError(f"--stage {stage}: give one of {', '.join(STAGES)}")
    cosines = {"above": rule.above, "below": choice.below, "duplicate": choice.duplicate}
    for name, value in cosines.items():
        if not -1 <= value <= 1:
            raise ValueError(f"--{name} {value}: a cosine is expected, from -1 to 1")
    if choice.duplicate < choice.below:
        raise ValueError(
            f"--duplicate {choice.duplicate}: a duplicate would be a pair; give at least --below"
        )
    least = {"cap": choice.cap, "crowd": choice.crowd}
    least |= {"most-pairs": rule.most - 1, "batch-size": batch_size - 1}
    for name, value in least.items():
        if value < 0:
            raise ValueError(f"--{name}: too small; `blind-pairs --help` says what it is")


def _towers(
    asked: "Mapping[str, tuple[str, Embedding]]", device: str, dtype: str
) -> "dict[str, Tower]":
    from verbalizer_bench.vision.towers import check_tower, load_tower

    for role, (name, embedding) in asked.items():
        check_tower(name, embedding, f"--{role}")
    return {
        role: load_tower(name, embedding, f"--{role}", device, dtype)
        for role, (name, embedding) in asked.items()
    }
