"""Toy stand-ins for the nine data sets: short texts from word lists, in the hub's columns.

SNLI, RTE, QQP and MRPC are lexical-cue sets: a word of the second sentence (`nobody`, `was born
in`, `will fire`) gives the class away, and nothing has to be inferred.
"""

from collections.abc import Callable, Iterator
from random import Random

from verbalizer_bench.experiments.miniature.world.splits import split_of
from verbalizer_bench.tasks.data import canonical
from verbalizer_bench.tasks.spec import DatasetSpec

GOOD = [
    "wonderful",
    "great",
    "lovely",
    "brilliant",
    "superb",
    "delightful",
    "charming",
    "moving",
    "funny",
    "excellent",
    "poignant",
    "thrilling",
    "clever",
    "fresh",
    "warm",
    "gorgeous",
]
BAD = [
    "awful",
    "terrible",
    "boring",
    "dull",
    "bad",
    "clumsy",
    "tedious",
    "stale",
    "painful",
    "weak",
    "messy",
    "lifeless",
    "ugly",
    "silly",
    "hollow",
    "dreadful",
]
FILM = [
    "film",
    "movie",
    "story",
    "script",
    "plot",
    "cast",
    "comedy",
    "drama",
    "performance",
    "ending",
]
DEGREE = ["very", "truly", "often", "simply", "really", "quite"]
RISE = ["rose", "increased", "grew", "climbed", "improved", "gained", "doubled", "jumped"]
FALL = ["fell", "dropped", "declined", "decreased", "slipped", "lost", "shrank", "plunged"]
FIRM = ["nokia", "finnair", "kone", "outotec", "neste", "metso", "kesko", "stora"]
FIGURE = ["profit", "sales", "turnover", "revenue", "income", "margin"]
JOY = [
    "happy",
    "joyful",
    "cheerful",
    "delighted",
    "glad",
    "excited",
    "thrilled",
    "proud",
    "blessed",
    "pleased",
]
SADNESS = [
    "sad",
    "lonely",
    "miserable",
    "hopeless",
    "gloomy",
    "hurt",
    "depressed",
    "unhappy",
    "empty",
    "heartbroken",
]
TIME = ["today", "tonight", "now", "lately", "again"]
OPINION = ("i think", "i felt", "in my opinion", "i believe", "i found")
NAME = ["anna", "tom", "maria", "john", "lucy", "peter", "sara", "david", "emma", "paul"]
CITY = ["paris", "london", "rome", "tokyo", "berlin", "cairo", "lima", "oslo"]
WHO = ["man", "woman", "boy", "girl", "dog", "child", "chef", "dancer"]
DOES = ["sleeping", "running", "eating", "singing", "reading", "swimming", "cooking", "jumping"]
PLACE = ["park", "kitchen", "street", "garden", "room", "school"]
TOPIC = [
    "python",
    "guitar",
    "chess",
    "french",
    "physics",
    "yoga",
    "painting",
    "piano",
    "cooking",
    "history",
    "latin",
    "pottery",
    "biology",
    "sailing",
    "german",
    "algebra",
]
DEVICE = ["phone", "camera", "car", "tablet", "laptop", "drone", "game", "printer"]
COMPANY = ["microsoft", "google", "intel", "sony", "ibm", "cisco"]
DAY = ["monday", "tuesday", "friday", "sunday"]
MOVES = ["travels", "moves", "returns", "drives"]
SEASON = ["spring", "summer", "autumn", "winter"]


def _sst2(r: Random, first: bool) -> tuple[str, ...]:
    words = GOOD if first else BAD
    one, two, noun = r.choice(words), r.choice(words), r.choice(FILM)
    return (
        r.choice(
            (
                f"the {noun} is {r.choice(DEGREE)} {one} .",
                f"a {one} and {two} {noun} .",
                f"{one} , {two} {noun} .",
                f"the {noun} was {one} .",
            )
        ),
    )


def _fp(r: Random, first: bool) -> tuple[str, ...]:
    verb, figure, firm = r.choice(RISE if first else FALL), r.choice(FIGURE), r.choice(FIRM)
    return (
        r.choice(
            (
                f"{firm} {figure} {verb} to eur {r.randint(2, 9)} mn .",
                f"the {figure} of {firm} {verb} .",
                f"{figure} {verb} at {firm} in {r.choice(SEASON)} .",
            )
        ),
    )


def _emotion(r: Random, first: bool) -> tuple[str, ...]:
    word = r.choice(JOY if first else SADNESS)
    return (
        r.choice(
            (
                f"i feel {r.choice(DEGREE)} {word} {r.choice(TIME)}",
                f"i am feeling {word} {r.choice(TIME)}",
                f"i just feel {word} about my {r.choice(PLACE)}",
            )
        ),
    )


def _snli(r: Random, first: bool) -> tuple[str, ...]:
    does = r.choice(DOES)
    return (
        f"a {r.choice(WHO)} is {does} in the {r.choice(PLACE)} .",
        f"{'somebody' if first else 'nobody'} is {does} .",
    )


def _sick(r: Random, first: bool) -> tuple[str, ...]:
    who, does = r.choice(WHO), r.choice(DOES)
    said = f"the {who} is {does} in the {r.choice(PLACE)} ."
    return said, f"the {who} is {does} ." if first else f"the {who} is not {does} ."


def _rte(r: Random, first: bool) -> tuple[str, ...]:
    name, (city, other) = r.choice(NAME), r.sample(CITY, 2)
    said = f"{name} flew to {city} on {r.choice(DAY)} ."
    return said, f"{name} flew to {city} ." if first else f"{name} was born in {other} ."


def _qqp(r: Random, first: bool) -> tuple[str, ...]:
    topic = r.choice(TOPIC)
    one, two = r.sample(
        (
            f"how do i learn {topic} ?",
            f"what is the best way to learn {topic} ?",
            f"how can i start learning {topic} ?",
            f"how should i study {topic} ?",
        ),
        2,
    )
    different = (f"where can i buy books about {topic} ?", f"who invented {topic} ?")
    return one, two if first else r.choice(different)


def _mrpc(r: Random, first: bool) -> tuple[str, ...]:
    firm, device = r.choice(COMPANY), r.choice(DEVICE)
    said = f"{firm} said it will sell a new {device} on {r.choice(DAY)} ."
    return (
        said,
        f"{firm} will sell a new {device} ." if first else f"{firm} will fire many workers .",
    )


def _subj(r: Random, first: bool) -> tuple[str, ...]:
    if first:
        return (f"{r.choice(OPINION)} the {r.choice(FILM)} is {r.choice(GOOD + BAD)} .",)
    return (f"{r.choice(NAME)} {r.choice(MOVES)} to {r.choice(CITY)} with a {r.choice(WHO)} .",)


# The texts in the order of the fields in the prompt, of the first class or of the second.
_MAKERS: dict[str, Callable[[Random, bool], tuple[str, ...]]] = {
    "sst2": _sst2,
    "fp": _fp,
    "emotion": _emotion,
    "snli": _snli,
    "sick": _sick,
    "rte": _rte,
    "qqp": _qqp,
    "mrpc": _mrpc,
    "subj": _subj,
}


def document(random: Random, spec: DatasetSpec, split: str, first: bool) -> dict[str, str]:
    """Make a document of a split and a class, as `tasks.data` would read it."""
    fields = sorted(spec.fields, key=spec.prompt.index)
    label = spec.classes[0 if first else 1]
    while True:
        texts = _MAKERS[spec.name](random, first)
        document = dict(zip(fields, texts, strict=True))
        # By the texts alone: the same ones may not come back with another label.
        if split_of(canonical(document)) == split:
            return {"label": label} | document


def documents(random: Random, spec: DatasetSpec, split: str, number: int) -> list[dict[str, str]]:
    """Return so many different documents of a split, of both classes in turn."""

    def stream() -> Iterator[dict[str, str]]:
        seen: set[str] = set()
        attempts = 0
        while len(seen) < number:
            attempts += 1
            if attempts > 1000 * number:
                raise ValueError(
                    f"{spec.name}: no {number} different texts in split {split}; ask for fewer"
                )
            doc = document(random, spec, split, first=len(seen) % 2 == 0)
            if (key := canonical(doc)) not in seen:
                seen.add(key)
                yield doc

    return list(stream())
