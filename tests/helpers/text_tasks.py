"""Small local tasks of the two kinds that lm-eval has for text."""

import json
from collections.abc import Sequence
from pathlib import Path


def write_text_tasks(folder: Path, asked: Sequence[tuple[str, str, str]]) -> str:
    """Write a task that chooses an answer and one that says it; return their names for `--tasks`.

    Args:
        folder: Where; made where it is missing.
        asked: Questions, each with its answer and a wrong one.
    """
    folder.mkdir(exist_ok=True)
    rows = [
        {"question": text, "choices": [right, wrong], "answer": 0} for text, right, wrong in asked
    ]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    common = (
        f"dataset_path: json\ndataset_kwargs: {{data_files: {{test: {folder}/rows.jsonl}}}}\n"
        'test_split: test\ndoc_to_text: "{{question}}"\n'
    )
    (folder / "choose.yaml").write_text(
        f"task: choose\noutput_type: multiple_choice\n{common}doc_to_target: answer\n"
        'doc_to_choice: "{{choices}}"\nmetric_list: [{metric: acc}]\n'
    )
    (folder / "say.yaml").write_text(
        f"task: say\noutput_type: generate_until\n{common}"
        'doc_to_target: "{{choices[answer]}}"\n'
        "generation_kwargs: {until: ['.'], max_gen_toks: 4, do_sample: false}\n"
        "metric_list: [{metric: exact_match, aggregation: mean, higher_is_better: true}]\n"
    )
    return "choose,say"
