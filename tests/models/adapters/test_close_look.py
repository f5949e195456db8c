"""A look at one request: the prompt as the model gets it, its response, all beams."""

from pathlib import Path

import pytest

from tests.helpers.asking import STORY, load, requests
from tests.helpers.asking_lvlm import load as load_lvlm
from tests.helpers.references import score_of
from verbalizer_bench.models.adapters.chat_prompts import RenderedPrompt
from verbalizer_bench.models.adapters.llm import VerbalizerLLM


@pytest.mark.parametrize("beams", [1, 4])
def test_either_engine_ends_with_the_same(toys: tuple[Path, Path], beams: int) -> None:
    looks = []
    for engine in ("shared_prefix", "generate"):
        lm = load(VerbalizerLLM, toys[0], engine=engine)
        (request,) = requests([STORY], num_beams=beams, max_gen_toks=6)
        looks.append(lm.look(request, ["good"]))
        assert lm.responses([request], True) == [looks[-1].response]
    shared, plain = looks
    assert shared.response.text == plain.response.text == shared.hypotheses[0][1]
    assert (shared.response.engine, plain.response.engine) == ("shared_prefix", "generate")
    assert len(shared.hypotheses) == len(plain.hypotheses) == beams
    for (one, text), (other, same_text) in zip(shared.hypotheses, plain.hypotheses, strict=True):
        assert text == same_text and one.tokens == other.tokens
        assert one.score == pytest.approx(other.score, abs=1e-5)
        assert one.log_prob == pytest.approx(one.score * len(one.tokens), abs=1e-4)
    chances = [token.probability for token in shared.likeliest]
    assert chances == sorted(chances, reverse=True) and shared.likeliest[0].rank == 1
    one, other = shared.words["good"], plain.words["good"]
    assert other.whole is None and other.first.rank <= one.first.rank
    assert one.text.strip().lower() == "good" and one.whole
    assert (
        lm.tokenizer.decode(one.whole.tokens, skip_special_tokens=True).strip() == one.text.strip()
    )
    wanted = score_of(lm.model, lm.tok_encode(STORY), one.whole.tokens, 1.0)
    assert one.whole.score == pytest.approx(wanted, abs=1e-5)


def test_stop_strings_end_a_hypothesis(toys: tuple[Path, Path]) -> None:
    looks = []
    for engine in ("shared_prefix", "generate"):
        lm = load(VerbalizerLLM, toys[0], engine=engine)
        (request,) = requests([STORY], until=["e"], max_gen_toks=12, num_beams=3)
        looks.append(lm.look(request))
        assert lm.responses([request], True) == [looks[-1].response]
    assert [one.tokens for one, _ in looks[0].hypotheses] == [
        one.tokens for one, _ in looks[1].hypotheses
    ]


def test_the_prompt_is_what_the_model_gets(toys: tuple[Path, Path]) -> None:
    lm = load(VerbalizerLLM, toys[0], max_length=30)
    seen = lm.seen(*requests([STORY], max_gen_toks=5))
    assert STORY.endswith(seen.text.removeprefix("<s>")) and len(seen.ids) == 25
    assert seen.cut == len(lm.tok_encode(STORY)) - 25
    assert seen.ids[0] == lm.tokenizer.bos_token_id and not seen.images


def test_images_stand_where_the_processor_puts_them(toys: tuple[Path, Path]) -> None:
    lm = load_lvlm(toys[1])
    (request,) = requests(["good or bad?"], max_gen_toks=4, num_beams=3)
    look = lm.look(request)
    assert lm.responses([request], True) == [look.response]
    places = look.prompt.image_places
    assert len(places) == lm._shown.image_tokens(lm.image) and lm.image
    assert list(places) == list(range(places[0], places[0] + len(places)))
    assert look.prompt.images == (lm.image,)
    # What a run stores of a conversation is asked as it stands.
    again = requests([RenderedPrompt(look.prompt.text)], max_gen_toks=4, num_beams=3)
    assert lm.look(*again) == look
