"""Where what a judge says is kept."""

from pathlib import Path

from verbalizer_bench.judged.record import judge_folder


def test_no_two_judges_share_a_folder() -> None:
    judges = ("gpt-4", "a/b", "a_b", "a:b", "a/b ", "meta-llama/Llama-3.1-8B:free")
    folders = {judge_folder(Path("out"), judge) for judge in judges}
    assert len(folders) == len(judges)
    assert all(folder.parent == Path("out") for folder in folders)
    assert judge_folder(Path("out"), "gpt-4").name == "judge-gpt-4"
