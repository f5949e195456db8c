"""The two kinds of preference records: read strictly, and by `datasets` as they are."""

import json
import re

import pytest
from datasets import load_dataset

from verbalizer_bench.io.preferences import (
    PreferencePair,
    RatedCompletions,
    RecordFault,
    make,
    read,
    write,
)

ASKED = [{"role": "user", "content": "What is it?"}]
PAIR = {
    "id": "7",
    "prompt": ASKED,
    "chosen": [{"role": "assistant", "content": "A red cat."}],
    "rejected": [{"role": "assistant", "content": "A dog."}],
    "images": ["7.jpg"],
    "score_chosen": 11,
    "score_rejected": None,
    "source": "annotated",
}
SCORES = {"helpfulness": 4, "correctness": 3, "coherence": 2, "complexity": 1, "verbosity": 0}
RATED = {
    "id": "7",
    "prompt": [{"role": "system", "content": "Be brief."}, *ASKED],
    "images": [],
    "completions": [
        {"text": "A red cat.", "scores": SCORES, "ending": "stop"},
        {"text": "A dog.", "scores": None, "ending": "length"},
    ],
    "source": "llava",
}


ENDED = PAIR | {"ending_chosen": "stop", "ending_rejected": "length"}


@pytest.mark.parametrize(
    ("kind", "value"),
    [(PreferencePair, PAIR), (PreferencePair, ENDED), (RatedCompletions, RATED)],
)
def test_what_is_written_is_read_and_datasets_has_the_same_columns(tmp_path, kind, value):
    file, record = tmp_path / "records.jsonl", make(kind, value)
    write(file, [record, record])
    assert list(read(kind, file)) == [("line 1", record), ("line 2", record)]
    assert json.loads(file.read_text().splitlines()[0]) == value
    rows = load_dataset("json", data_files=str(file), split="train", cache_dir=str(tmp_path / "c"))
    assert rows[1] == value


def test_completions_are_ranked_by_the_first_three_attributes():
    assert make(RatedCompletions, RATED).completions[0].scores.quality == 9


def test_equal_scores_are_taken():
    assert make(PreferencePair, PAIR | {"score_rejected": 11}).score_rejected == 11


def _without(key):
    return {name: value for name, value in PAIR.items() if name != key}


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        (
            _without("images"),
            "missing key: images (there are id, prompt, chosen, rejected, score_chosen, "
            "score_rejected, source); write it, or null or [] where nothing is known",
        ),
        (PAIR | {"image": "7.jpg"}, "unknown key: image; leave it out"),
        (PAIR | {"score_chosen": "11"}, "wrong value: score_chosen='11': Input should be a valid"),
        (PAIR | {"id": 7}, "wrong value: id=7: Input should be a valid string"),
        ([PAIR], "wrong value: [{'id': '7', "),
        (None, "wrong value: None is no record; give an object of JSON"),
        (
            PAIR | {"score_rejected": 11.5},
            "scores: score_chosen=11 is below score_rejected=11.5; exchange the answers",
        ),
        (PAIR | {"prompt": []}, "turn order: prompt: no turn"),
        (PAIR | {"prompt": [*ASKED, *ASKED]}, "turn order: prompt: user, user"),
        (PAIR | {"prompt": [*ASKED, *PAIR["chosen"]]}, "turn order: prompt: user, assistant"),
        (
            PAIR | {"chosen": [*ASKED, *PAIR["chosen"]]},
            "malformed answer: chosen: user, assistant; write one assistant turn, and those before "
            "it in prompt",
        ),
        (PAIR | {"chosen": []}, "malformed answer: chosen: no turn; write one assistant turn"),
        (
            PAIR | {"rejected": [{"role": "assistant", "content": " \n"}]},
            "empty text: rejected: it has no text; leave the record out",
        ),
        (
            PAIR | {"rejected": [{"role": "assistant", "content": "A red cat.\n"}]},
            "same answer: chosen and rejected are both 'A red cat.'; leave it out",
        ),
        (
            PAIR | {"prompt": [{"role": "user", "content": "<image>\nWhat?"}]},
            "image token: prompt: <image> stands in '<image>\\nWhat?'; name the image in images",
        ),
        (
            PAIR | {"chosen": [{"role": "assistant", "content": "A cat.", "name": "x"}]},
            "unknown key: chosen.0.name; leave it out",
        ),
    ],
)
def test_a_pair_that_is_none_says_key_value_and_fix(value, fault):
    with pytest.raises(RecordFault, match=re.escape(fault)):
        make(PreferencePair, value)


@pytest.mark.parametrize(
    ("completions", "fault"),
    [
        ([], "wrong value: completions=[]"),
        ([{"text": "", "scores": None, "ending": "stop"}], "empty text: completions.0.text"),
        ([{"text": "A", "ending": "stop"}], "missing key: completions.0.scores"),
        (
            [{"text": "A", "scores": SCORES | {"verbosity": 5}, "ending": "stop"}],
            "wrong value: completions.0.scores.verbosity=5",
        ),
        (
            [{"text": "A", "scores": SCORES | {"verbosity": 2.5}, "ending": "stop"}],
            "wrong value: completions.0.scores.verbosity=2.5",
        ),
    ],
)
def test_completions_that_are_none_say_which_and_why(completions, fault):
    with pytest.raises(RecordFault, match=re.escape(fault)):
        make(RatedCompletions, RATED | {"completions": completions})


def test_a_file_names_itself_and_the_line(tmp_path):
    file = tmp_path / "pairs.jsonl"
    file.write_text(json.dumps(PAIR) + "\n\n" + json.dumps(_without("source")) + "\n")
    with pytest.raises(ValueError, match=rf"^{file}, line 3: missing key: source \(") as raised:
        list(read(PreferencePair, file))
    assert "\n" not in str(raised.value)
