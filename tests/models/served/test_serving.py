"""Once against a real model server on this machine: `transformers serve`, with tiny checkpoints."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from benchmarks.served import asked_both_ways, compared
from tests.helpers.asking import load
from tests.helpers.model_server import needs_server, serving
from tests.helpers.served import asked, scored
from verbalizer_bench.models.adapters.lvlm import VerbalizerLVLM
from verbalizer_bench.models.images import make_image
from verbalizer_bench.models.served.adapter import VerbalizerAPI

pytestmark = pytest.mark.slow


def with_bos(checkpoint: Path, folder: Path) -> Path:
    """Copy a checkpoint with a template that writes BOS: servers add none that it does not."""
    shutil.copytree(checkpoint, folder)
    template = folder / "chat_template.jinja"
    template.write_text("{{ bos_token }}" + template.read_text())
    return folder


def test_a_served_checkpoint_answers_as_it_does_here(
    tmp_path: Path, toys: tuple[Path, Path]
) -> None:
    needs_server()
    options: dict[str, Any] = {"tasks": "verbalizer_sst2", "data": "sample", "limit": 4}
    llama, llava = with_bos(toys[0], tmp_path / "llama"), toys[1]
    with serving(tmp_path / "serve.log") as url:
        here, served = asked_both_ways(llama, url, str(llama), tmp_path, **options)
        count, found = compared(here, served)
        assert count == 48 and found == []
        assert here.record.endings == served.record.endings
        model = VerbalizerAPI(model=str(llama), base_url=url, image="none")
        with pytest.raises(ValueError, match="the server gives no log probabilities"):
            model.loglikelihood(scored([("Is it?", " yes")]))
        with pytest.raises(ValueError, match=r"422: .*use_beam_search.*leave beams= out"):
            VerbalizerAPI(model=str(llama), base_url=url, image="none", beams=4).generate_until(
                asked(["Is it?"])
            )
        # The image that a LLaVA is shown.
        turns = [[{"role": "user", "content": f"Say {word}."}] for word in ("foo", "bar", "yes")]
        image = str(tmp_path / "noise.png")
        noise = make_image("noise", (40, 24))
        assert noise
        noise.save(image)
        shown = VerbalizerAPI(model=str(llava), base_url=url, image=image)
        prompts = [shown.apply_chat_template(one) for one in turns]
        responses = shown.generate_until(asked(prompts))
        local = load(VerbalizerLVLM, llava, image=image)
        wanted = local.generate_until(
            asked([local.apply_chat_template(one) for one in turns], num_beams=1)
        )
    assert responses == wanted
