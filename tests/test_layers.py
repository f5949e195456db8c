"""Imports go down the layers."""

from tests.helpers.import_graph import cycles, graph, upward


def test_imports_go_down() -> None:
    edges = graph()
    # The folders at the top are in it, whatever links to them.
    assert {"verbalizer_bench.tasks.metrics", "verbalizer_bench.leaderboard.site.build"} <= set(
        edges
    )
    assert (
        "verbalizer_bench.tasks.suite"
        in edges["verbalizer_bench.running.harness"] | edges["verbalizer_bench.results.protocol"]
    )
    assert upward(edges) == [] and cycles(edges) == []


def test_what_goes_up_to_the_side_or_round_is_told() -> None:
    tasks, models, new = (f"verbalizer_bench.{name}.a" for name in ("tasks", "models", "novel"))
    lines = upward({tasks: {models}, models: set(), new: {new}})
    assert lines == [
        "novel: is in no layer; give it one in tests/helpers/import_graph.py",
        f"{tasks} imports {models}: models is not below tasks",
    ]
    assert upward({models: {"verbalizer_bench.io.files"}, tasks: {"verbalizer_bench.results.run"}})
    up = {"verbalizer_bench.builders.pipeline.a": {"verbalizer_bench.builders.build"}}
    assert "which is not below it in builders" in upward(up)[0]
    assert cycles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [["a", "b", "c"]]
