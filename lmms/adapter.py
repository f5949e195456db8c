"""lmms-eval adapter `verbalizer-lvlm`: our LVLM adapter, asked by lmms-eval's tasks.

    lmms-eval --model verbalizer-lvlm --model_args pretrained=DIR,image=white \
        --include_path "$(verbalizer-bench tasks path --for lmms)" --tasks verbalizer

It needs the extra `lmms`. Like lmms-eval's own adapters, and unlike `verbalizer-bench run`, it
applies a checkpoint's chat template without being told to.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lm_eval.api.instance import Instance
from lm_eval.models.hf_vlms import DEFAULT_IMAGE_PLACEHOLDER
from lmms_eval.api.model import lmms
from PIL import Image

from verbalizer_bench.models.adapters.lvlm import VerbalizerLVLM
from verbalizer_bench.models.images import is_task_image

# What tasks say beside `generate`'s arguments: how LLaVA's own code pads an image, which a
# checkpoint's processor decides here.
_NOT_GENERATES = ("image_aspect_ratio",)


class LmmsVerbalizerLVLM(lmms):
    """Hands lmms-eval's requests to VerbalizerLVLM, and takes its arguments.

    Where a task brings no image, or the suite's blank one, the adapter shows its own: `image`, at
    the size of the vision tower. Tasks with images of their own are asked with those.
    """

    is_simple = False

    def __init__(self, pretrained: str, **kwargs: Any) -> None:
        """Load a checkpoint.

        Args:
            pretrained: A checkpoint folder or a hub id.
            kwargs: VerbalizerLVLM's other arguments.
        """
        super().__init__()
        self.lvlm = VerbalizerLVLM(pretrained, **kwargs)

    def generate_until(self, requests: Sequence[Any]) -> list[str]:
        """Generate a response to every request."""
        return self.lvlm.generate_until([self._request(request.args) for request in requests])

    def _request(self, args: tuple[Any, ...]) -> Instance:
        """Translate the arguments of a chat request to those of an lm-eval request."""
        _, doc_to_messages, gen_kwargs, doc_id, task, split = args
        settings = {key: value for key, value in gen_kwargs.items() if key not in _NOT_GENERATES}
        messages = doc_to_messages(self.task_dict[task][split][doc_id])
        images = [
            self._image(part, task)
            for message in messages
            for part in message["content"]
            if part["type"] != "text"
        ]
        if all(map(is_task_image, images)):
            images = []
        templated = bool(self.lvlm._chat_templates())
        separator = "" if templated else "\n"
        history = [
            {
                "role": message["role"],
                "content": separator.join(self._texts(message["content"], bool(images))),
            }
            for message in messages
        ]
        if templated:
            context = self.lvlm.apply_chat_template(history)
        else:
            context = separator.join(message["content"] for message in history)
        return Instance(
            request_type="generate_until",
            doc={},
            arguments=(context, settings, {"visual": images}),
            idx=0,
        )

    @staticmethod
    def _image(part: Mapping[str, Any], task: str) -> Image.Image:
        image = part["url"]
        if not isinstance(image, Image.Image):
            raise ValueError(
                f"{task}: a message has {part['type']} content ({type(image).__name__}); "
                "verbalizer-lvlm is asked with text and PIL images only: choose another --model"
            )
        return image

    def _texts(self, parts: Sequence[Mapping[str, Any]], has_images: bool) -> Iterator[str]:
        """Yield a message's parts as lm-eval writes them, with placeholders for the task's images.

        Without such images the adapter itself escapes literal image tokens, and counts them.
        """
        for part in parts:
            if part["type"] == "text":
                yield self.lvlm.escape(part["text"]) if has_images else part["text"]
            elif has_images:
                yield DEFAULT_IMAGE_PLACEHOLDER

    def loglikelihood(self, requests: Sequence[Any]) -> list[tuple[float, bool]]:
        """Refuse: lmms-eval sends such requests to adapters without messages only."""
        raise NotImplementedError("verbalizer-lvlm generates; it does not score under lmms-eval")

    def generate_until_multi_round(self, requests: Sequence[Any]) -> list[str]:
        """Refuse: no task of ours has rounds."""
        raise NotImplementedError("verbalizer-lvlm answers in one round under lmms-eval")

    def clean(self) -> None:
        """Free the checkpoint; lmms-eval calls this after the last response."""
        del self.lvlm
        super().clean()
