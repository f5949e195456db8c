"""Leakage, duplicates, pairs and mentions."""

import asyncio
import dataclasses
import random
from pathlib import Path

import pytest

from tests.conftest import SHARED
from tests.helpers.data_recipes import write_recipe
from verbalizer_bench.builders.filters import wording
from verbalizer_bench.builders.filters.duplicates import near_duplicates, shingles, similarity
from verbalizer_bench.builders.filters.leakage import EvaluationIndex, evaluation, words
from verbalizer_bench.builders.filters.screening import screen
from verbalizer_bench.builders.pipeline.blocks import Duplicates, Leakage
from verbalizer_bench.builders.pipeline.recipe import read_recipe
from verbalizer_bench.builders.pipeline.sample import TrainingSample, Turn


def test_words_are_normalised() -> None:
    assert words("It's \u201cFINE\u201d,\nisn\u2019t it? \uff21\uff22 2\u00bd") == words(
        "it s fine is n't it ab 21\u20442"
    )
    # SST-2 was cut into tokens, and nobody writes like that.
    assert words("they do n't , wo n't") == words("They don\u2019t, WON'T!")


def test_a_shared_ngram_is_found_and_a_shorter_one_is_not() -> None:
    index = EvaluationIndex([("sst2", "One two three, four five!")], n=4)
    assert index.overlap(["nothing", "ZERO one two  three four"]) == ("one two three four", "sst2")
    assert index.overlap(["one two three", "two three five four"]) is None
    # Words of two texts are not in a row.
    assert index.overlap(["one two", "three four"]) is None


def test_every_prompt_of_the_samples_leaks_in_all_its_label_words() -> None:
    from verbalizer_bench.tasks.data import test_documents as documents
    from verbalizer_bench.tasks.suite import suite_datasets

    index = evaluation(Leakage(data="sample"))
    assert index is not None
    for name, (spec, verbalizers) in suite_datasets().items():
        for doc in documents(spec, "sample").docs:
            for verbalizer in verbalizers:
                assert index.overlap([spec.render(doc, verbalizer)]), (name, doc)
    assert (
        index.overlap(["A dog runs over the green grass of a park and looks at its owner."]) is None
    )
    assert evaluation(Leakage(data="none")) is None


def test_real_rows_leak_and_real_captions_do_not() -> None:
    if not (SHARED / "data/verbalizer/sst2").is_dir():
        pytest.skip("the nine data sets are not there")
    import json

    data = str(SHARED / "data/verbalizer")
    index = evaluation(Leakage(data=data))
    assert index is not None and index.prompts > 7430
    captions = json.loads((SHARED / "data/coco/captions_val2014_subset.json").read_text())
    texts = [one["caption"] for one in captions["annotations"]]
    assert len(texts) == 901
    # SICK and SNLI were made of captions too, of Flickr: 13 words in a row are none of these.
    assert [text for text in texts if index.overlap([text])] == []


def test_documents_that_are_short_are_found_whole() -> None:
    index = EvaluationIndex(
        [],
        13,
        [
            ("snli", ["A dog is sleeping", "A dog is awake"]),
            ("sick", ["Two kids are playing outdoors", "Nobody is there"]),
            ("sst2", ["a gorgeous , witty , seductive movie ."]),
            ("sst2", ["you wo n't like it"]),
            ("emotion", ["i feel fine"]),
        ],
    )
    assert index.overlap(["Look: TWO kids are playing outdoors!"]) == (
        "two kids are playing outdoors",
        "sick",
    )
    assert index.overlap(["Is it 'a gorgeous, witty, seductive movie'?"])
    assert index.overlap(["One isn't made for it. You won't like it, I'm sure."])
    assert index.overlap(["Is it a gorgeous, witty, seductive film?"]) is None
    assert index.overlap(["Two kids are playing", "outdoors"]) is None
    # Of a pair whose sentences may be anybody's, both.
    assert index.overlap(["A dog is sleeping."]) is None
    assert index.overlap(["A dog is sleeping.", "Yes, a dog is awake."])
    assert index.overlap(["I feel fine."]) is None and index.overlap(["Two kids"]) is None
    # Whole words alone.
    assert index.overlap(["forty two kids are playing outdoorsman"]) is None


def test_every_real_document_is_found_but_the_shortest_and_nothing_else_is() -> None:
    if not (SHARED / "data/verbalizer/sst2").is_dir():
        pytest.skip("the nine data sets are not there")
    import json

    from verbalizer_bench.tasks.data import test_documents as documents
    from verbalizer_bench.tasks.suite import suite_datasets

    data = str(SHARED / "data/verbalizer")
    index = evaluation(Leakage(data=data))
    assert index is not None
    missed = {}
    for name, (spec, _) in suite_datasets().items():
        texts = [[str(doc[field]) for field in spec.fields] for doc in documents(spec, data).docs]
        absent = [one for one in texts if not index.overlap(["What is it?", f"See: {one}"])]
        assert all(len(words(" ".join(one))) < 5 for one in absent), name
        missed[name] = len(absent)
    assert {name: count for name, count in missed.items() if count} == {
        "sst2": 22,
        "emotion": 15,
        "fp": 1,
    }
    samples = (SHARED / "data/gsm8k/test.jsonl").read_text().splitlines()
    assert not [sample for sample in samples if index.overlap([json.loads(sample)["question"]])]
    alpaca = json.loads((SHARED / "data/alpaca/alpaca_en_demo.json").read_text())
    assert not [sample for sample in alpaca if index.overlap(sample.values())]


@pytest.mark.parametrize("method", ["minhash", "ngram"])
def test_near_duplicates_are_dropped_and_the_first_stays(method: str) -> None:
    questions = {
        "a": "What is the man in the red shirt doing on the beach?",
        "b": "What colour is the bus?",
        "c": "What is the man in the red shirt doing on the beach",
        "d": "What colour is the cup?",
        "e": "WHAT colour is the bus",
        "f": "Who?",
        "g": "who",
    }
    dropped = near_duplicates(questions, Duplicates(method=method, threshold=0.9))
    assert dropped == {"c": "a", "e": "b", "g": "f"}


def test_minhash_finds_what_the_index_of_all_ngrams_finds() -> None:
    number = random.Random(0)
    vocabulary = [f"word{place}" for place in range(300)]
    questions = {}
    for place in range(300):
        asked = number.choices(vocabulary, k=14)
        questions[f"{place}"] = " ".join(asked)
        asked[number.randrange(14)] = "other"
        questions[f"{place}-like"] = " ".join([*asked, *number.choices(vocabulary, k=place % 3)])
    settings = [Duplicates(method, threshold=0.5) for method in ("minhash", "ngram")]
    likely, exact = (near_duplicates(questions, one) for one in settings)
    assert len(exact) > 100
    assert set(likely) <= set(exact) and len(likely) > 0.97 * len(exact)
    for key, other in exact.items():
        pair = [shingles(questions[name], 3) for name in (key, other)]
        assert similarity(*pair) >= 0.5


def sample(
    key: str, arm: str, question: str, answer: str = "So it is.", pair: str | None = None
) -> TrainingSample:
    return TrainingSample(id=key, arm=arm, turns=(Turn(question, answer),), pair=pair)


def test_rows_are_screened(tmp_path: Path) -> None:
    recipe = read_recipe(write_recipe(tmp_path))
    leaking = (
        "You are a helpful assistant judging the sentiment of a movie review. If the movie review"
    )
    samples = [
        sample("1", "format", "What is on the table?", pair="1p"),
        sample("1p", "plain", "What is on the table?", pair="1"),
        sample("2", "format", "What is on the table?"),
        sample("3", "format", "Fine?", leaking),
        sample("4", "format", "What is in the sky over there?", leaking, pair="4p"),
        dataclasses.replace(sample("7", "letter", "Which of these?", "A"), context=f"A. {leaking}"),
        sample("4p", "plain", "What is in the sky over there?", pair="4"),
        sample("5", "format", "What is in the sky over there?"),
        sample("6", "plain", "Gone?").reject("items", "empty", "nothing"),
    ]
    screened = asyncio.run(screen(samples, recipe))
    assert [one.id for one in screened] == [one.id for one in samples]
    rejected = {one.id: one.rejection for one in screened if one.rejection}
    assert {key: one.reason for key, one in rejected.items()} == {
        "2": "duplicate",
        "3": "leakage",
        "4": "leakage",
        "7": "leakage",
        "4p": "pair",
        "6": "empty",
    }
    assert rejected["2"].detail == "of 1" and rejected["4p"].detail.startswith(
        "4 is set aside: leakage"
    )
    assert rejected["3"].detail.startswith("sst2 has: you are a helpful")
    kept = asyncio.run(screen(samples, recipe, repeated=("format",)))
    assert kept[2].rejection is None


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("As the caption says", "caption"),
        ("Two Captions.", "captions"),
        ("by its description", "description"),
        ("a prescription and a captain", None),
        ("the bounding box", None),
    ],
)
def test_mentions(text: str, word: str | None) -> None:
    problem = wording.mention_problem(text)
    assert (problem.detail if problem else None) == word


def test_boxes_are_mentions_where_the_model_saw_boxes() -> None:
    assert wording.mention_problem("the bounding box at the left", boxes=True)
    assert wording.question_problem("What is <image>?") == ("placeholder", "<image>")
    for text in (" ", "\n", "\u200b", "\ufeff\u00a0"):
        assert wording.question_problem(text) == ("empty", "the question is empty")
    assert wording.empty_problem("\u2764", "the answer") is None
    assert wording.question_problem("What is it?") is None
