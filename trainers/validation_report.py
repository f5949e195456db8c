"""What `validate-data` found, for people: as text, and as a page with a figure."""

import base64
import html
import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from verbalizer_bench.io import jsonl
from verbalizer_bench.io.conversations import BadRecordError, listed
from verbalizer_bench.io.files import removed_if_empty, write_whole
from verbalizer_bench.io.wording import counted
from verbalizer_bench.trainers.data.survey_summary import (
    CUT_ANSWERS,
    bad_record,
    cut_line,
    seen_twice,
)
from verbalizer_bench.trainers.recipe import Recipe
from verbalizer_bench.trainers.validation import UNRESOLVED, Validation, validate

_BAR = 40
_HEADINGS = {
    "bad": "cannot be trained on",
    "most cut": "lose most by the cut",
    "longest": "have the most tokens",
}
_STYLE = """body{font:15px/1.5 system-ui,sans-serif;max-width:60em;margin:2em auto;padding:0 1em}
table{border-collapse:collapse}td,th{padding:.2em .8em .2em 0;text-align:left;vertical-align:top}
th{font-weight:600;white-space:nowrap}td{overflow-wrap:anywhere}
td.place{white-space:nowrap;color:#555}td.place wbr{white-space:normal}
.stop{color:#a00}.fine{color:#060}.cut{color:#850}img{max-width:100%}"""


def checked(recipe: Recipe, output: Path | None) -> Validation:
    """Check a recipe's data, and write what was found.

    Args:
        recipe: The recipe.
        output: The page; if there are bad records, they are listed in a file beside it.

    Raises:
        OSError: What is needed is not at hand, or the page cannot be written.
        ValueError: The data cannot be read as records at all.
    """
    if output is None:
        return validate(recipe)
    with removed_if_empty(output.parent):
        output.parent.mkdir(parents=True, exist_ok=True)
        found = _listed(recipe, output)
    write_whole(output, page(found))
    return found


def _listed(recipe: Recipe, output: Path) -> Validation:
    """Check a recipe's data, and list the bad records beside a page."""
    listing = output.with_name(f"{output.stem}.bad_records.jsonl")
    part = listing.with_name(f"{listing.name}.part")
    try:
        with part.open("w", encoding="utf-8") as stream:

            def note(key: str, error: BadRecordError) -> None:
                stream.write(jsonl.dumps([{"key": key} | bad_record(error)], ascii_only=True))

            found = validate(recipe, note)
        if part.stat().st_size:
            part.replace(listing)
        else:
            listing.unlink(missing_ok=True)
    finally:
        part.unlink(missing_ok=True)
    return found


def text(record: Mapping[str, Any]) -> str:
    """Return what was found, line by line."""
    lines = [("method", f"{record['method']}, format {record['format']}")]
    lines.append(("tokenizer", record["tokenizer"]))
    lines += [("note", note) for note in record["notes"]]
    blocks = ["\n".join(f"{name:<12}{line}" for name, line in lines)]
    for key in ("data", "held_out"):
        if part := record.get(key):
            blocks.append("\n".join(f"{name:<12}{line}" for name, line in part_lines(key, part)))
            blocks += [_histogram(part)] if key == "data" and part["usable"] else []
            blocks += _worst(key, part)
    ends = [("epoch", _epoch(record["epoch"]))] if "epoch" in record else []
    ends += [("WOULD STOP", stop) for stop in record["stops"]]
    ends += [] if record["stops"] else [("fine", _fine(record))]
    return "\n\n".join([*blocks, "\n".join(f"{name:<12}{line}" for name, line in ends)])


def _fine(record: Mapping[str, Any]) -> str:
    unknown = any(note.startswith(UNRESOLVED) for note in record["notes"])
    said = f"training would stop at no record{', as far as could be told' if unknown else ''}"
    cut = _cut(record)
    return f"{said}, and cut {counted(cut, 'record')}: {CUT_ANSWERS}" if cut else said


def _cut(record: Mapping[str, Any]) -> int:
    """Return how many records `max_length` cuts."""
    return sum(record[key]["cut"]["records"] for key in ("data", "held_out") if key in record)


def part_lines(key: str, part: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield a name and what is said for each kind of finding about some files."""
    yield key, ", ".join(part["files"])
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in part["kinds"].items() if count)
    yield "records", f"{part['records']:,}; usable {part['usable']:,}{': ' if kinds else ''}{kinds}"
    if part["usable"]:
        many = ", ".join(f"{n} in {count:,}" for n, count in list(part["answers"].items())[:6])
        more = len(part["answers"]) - 6
        yield "answers", many + (f", and {more} more numbers" if more > 0 else "")
        spread, tokens = part["lengths"], part["tokens"]
        yield (
            "tokens",
            f"median {spread['median']:,}, 95 % at most {spread['percentile_95']:,}, longest "
            f"{spread['longest']:,}; {tokens['seen']:,} in all, {tokens['trained']:,} trained on",
        )
    cut, images = part["cut"], part["images"]
    if cut["records"]:
        yield "cut off", cut_line(cut["records"], cut["tokens"], cut["max_length"])
    if images["distinct"]:
        yield "images", _images(images)
    if part["duplicates"]:
        repeat = counted(part["duplicates"], "record repeats", "records repeat")
        yield "duplicates", f"{repeat} an earlier one, such as"
        yield from (("", f"{one}, which is {other}") for one, other in part["repeated"])
    if number := part["repeated ids"]:
        stand = counted(number, "id stands", "ids stand")
        yield "ids", f"{stand} at several records; that changes nothing in training"
    if within := part.get("in data"):
        yield (
            "in data too",
            f"{counted(within['records'], 'record')}, and of {within['prompts']:,} more what they "
            "ask, with other answers",
        )
    yield from (("not read", line) for line in part["unread"])
    for reason, count in part["bad"].items():
        yield "bad records", f"{count:,}: {reason} ({part['fate']})"


def _images(images: Mapping[str, Any]) -> str:
    sides = " ".join(
        f"{name} {side['shortest']:,} to {side['longest']:,}, median {side['median']:,};"
        for name, side in (("width", images["width"]), ("height", images["height"]))
    )
    most, turned = images["most common"][0], images["exif turned"]
    said = (
        f"{images['distinct']:,} distinct, shown {counted(images['shown'], 'time')}; {sides} most "
        f"common {most['width']} x {most['height']}"
    )
    if not turned:
        return said
    have = counted(turned, "has an EXIF orientation", "have an EXIF orientation")
    return f"{said}; {have}, which is not applied: turn the pixels where they matter"


def _epoch(epoch: Mapping[str, Any]) -> str:
    drawn = ", ".join(
        f"{one['drawn']:,} of {one['of']:,} of {one['file']}" for one in epoch.get("drawn", ())
    )
    twice = ""
    if epoch["seen_twice"]:
        twice = f"; {seen_twice(epoch['seen_twice'], 'the last step')}"
    return (
        f"{counted(epoch['records'], 'record')}, {counted(epoch['tokens'], 'token')}, "
        f"{epoch['trained']:,} of them "
        f"trained on{'; drawn ' if drawn else ''}{drawn}; steps in all: "
        f"{epoch['steps']:,}, of {epoch['global_batch_size']:,} each{twice}"
    )


def _histogram(part: Mapping[str, Any]) -> str:
    bins = part["lengths"]["histogram"]
    most = max(one["records"] for one in bins)
    lines = ["tokens of a record"]
    for one in bins:
        bar = "#" * -(-one["records"] * _BAR // most)
        span = f"{one['from']:,} to {one['below'] - 1:,}"
        lines.append(f"{span:>19} {bar:<{_BAR}} {one['records']:,}")
    return "\n".join(lines)


def _worst(key: str, part: Mapping[str, Any]) -> Iterator[str]:
    for name, heading in _HEADINGS.items():
        if found := part["worst"][name]:
            lines = [f"{key}: records that {heading}"]
            said = [f"{one['place']} (id {one['id']!r}): {one['why']}" for one in found]
            count = sum(part["bad"].values()) if name == "bad" else len(said)
            lines += [f"  {line}" for line in listed(said, count)]
            yield "\n".join(lines)


def page(found: Validation) -> str:
    """Return what was found as a page of HTML that needs no other file."""
    record = found.record
    said = [("method", f"{record['method']}, format {record['format']}")]
    said += [("tokenizer", record["tokenizer"]), *(("note", note) for note in record["notes"])]
    said += [("epoch", _epoch(record["epoch"]))] if "epoch" in record else []
    verdict = "".join(f'<p class="stop">Training would stop: {_text(s)}</p>' for s in found.stops)
    fine = "cut" if _cut(record) else "fine"
    body = verdict or f'<p class="{fine}">{_fine(record).capitalize()}.</p>'
    body += _table(said)
    if len(found.lengths):
        body += f'<img alt="tokens of a record" src="{_figure(found)}">'
    for key in ("data", "held_out"):
        if part := record.get(key):
            body += f"<h2>{key}</h2>{_table(list(part_lines(key, part)))}"
            body += "".join(_worst_table(name, part["worst"][name]) for name in _HEADINGS)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>Data</title>'
        f"<style>{_STYLE}</style></head><body><h1>Data, checked</h1>{body}</body></html>\n"
    )


def _table(rows: Sequence[tuple[str, str]]) -> str:
    cells = "".join(f"<tr><th>{_text(name)}</th><td>{_text(line)}</td></tr>" for name, line in rows)
    return f"<table>{cells}</table>"


def _worst_table(name: str, found: Sequence[Mapping[str, Any]]) -> str:
    if not found:
        return ""
    rows = "".join(
        f'<tr><td class="place">{_place(one["place"])}</td><td>{_text(one["id"])}</td>'
        f"<td>{_text(one['why'])}</td></tr>"
        for one in found
    )
    head = "<tr><th>place</th><th>id</th><th>why</th></tr>"
    return f"<h3>Records that {_HEADINGS[name]}</h3><table>{head}{rows}</table>"


def _text(value: Any) -> str:
    return html.escape(str(value))


def _place(place: str) -> str:
    """Return a place that is broken behind slashes alone."""
    return _text(place).replace("/", "/<wbr>")


def _figure(found: Validation) -> str:
    """Return the lengths' histogram as a data URL."""
    from matplotlib.figure import Figure

    limit = found.record["data"]["cut"]["max_length"]
    figure = Figure(figsize=(8, 3), layout="constrained")
    axes = figure.subplots()
    axes.hist(found.lengths, bins=60, color="0.45")
    if found.lengths.max() > limit / 4:
        axes.axvline(limit, color="tab:red", linewidth=1, label=f"max_length {limit:,}")
        axes.legend(frameon=False)
    axes.set(xlabel="tokens of a record, images expanded", ylabel="records", xlim=(0, None))
    axes.spines[["top", "right"]].set_visible(False)
    stream = io.BytesIO()
    figure.savefig(stream, dpi=120)
    return f"data:image/png;base64,{base64.b64encode(stream.getvalue()).decode()}"
