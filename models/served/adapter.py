"""lm-eval adapter `verbalizer-api`: any model behind an OpenAI-compatible chat endpoint.

verbalizer-bench run --model verbalizer-api --tasks verbalizer --apply_chat_template \
        --model_args model=NAME,base_url=http://localhost:8000/v1,image=none --output_path out

The server applies its own chat template. Decoding is greedy, or vLLM's beam search (`beams=10`).
`calls.jsonl` beside the journal has what the server sent, on the disk before it is used: whatever
is in it is paid for, and never asked for again by a run that is resumed. The journal says which
responses the run has, as for all adapters.
"""

import asyncio
import copy
import json
import logging
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from lm_eval.api.model import LM
from lm_eval.api.registry import register_model

from verbalizer_bench.client.budget import BudgetExceeded
from verbalizer_bench.client.chat_client import ChatClient
from verbalizer_bench.client.event_loop import run_to_end
from verbalizer_bench.client.protocol import Reply
from verbalizer_bench.io.images import image_sha256
from verbalizer_bench.models.adapters.chat_prompts import ChatPrompt
from verbalizer_bench.models.adapters.input_log import InputLog
from verbalizer_bench.models.adapters.journal import Journal
from verbalizer_bench.models.adapters.log_lines import show_log_lines
from verbalizer_bench.models.adapters.progress import progress
from verbalizer_bench.models.adapters.scoring import Score
from verbalizer_bench.models.engine.generation_kwargs import GenerationSettings
from verbalizer_bench.models.images import make_image
from verbalizer_bench.models.served.asking import Asker, Call, Unanswered, ask_all, watch
from verbalizer_bench.models.served.payload import (
    Dialect,
    check_generation,
    conversation,
    data_url,
    decoding,
    scoring,
)
from verbalizer_bench.models.served.record import ServedCounts, versions
from verbalizer_bench.models.served.refusals import advice
from verbalizer_bench.models.served.replies import (
    beams_problem,
    reasoning_of,
    response_of,
    score_of,
)
from verbalizer_bench.models.served.settings import read_settings

log = logging.getLogger(__name__)
# As `verbalizer-lvlm` makes it for towers that state no size.
_IMAGE_SIZE = (336, 336)
# So many responses at the beginning without a text are worth a word.
_FIRST = 20


@register_model("verbalizer-api")
class VerbalizerAPI(LM):
    """A served model; `settings.ServedSettings` are its arguments.

    Attributes:
        journal: Where responses are noted; `verbalizer-bench run` sets it.
    """

    adapter = "verbalizer-api"
    MULTIMODAL = True
    journal: Journal | None = None

    def __init__(self, **arguments: Any) -> None:
        """Check the arguments, and that the key is in the environment; nothing is sent yet.

        Raises:
            ValueError: An argument is missing, wrong or unknown, the key is not there, or torchrun
                started several processes.
        """
        show_log_lines()
        super().__init__()
        self.settings = read_settings(arguments)
        self.settings.endpoint.key()
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            raise ValueError(
                "verbalizer-api: torchrun started several processes, and one sends everything; run "
                "it without torchrun, and give concurrency=N for N requests at a time"
            )
        if arguments.get("batch_size") not in (None, "", 1, "1", "auto"):
            log.warning(
                "--batch_size %s: the server batches itself; concurrency=%d requests are sent at a "
                "time",
                arguments["batch_size"],
                self.settings.concurrency,
            )
        self.image = make_image(self.settings.image, _IMAGE_SIZE)
        self._image_url = data_url(self.image) if self.image else None
        self._counts, self._dialect = ServedCounts(), Dialect()
        self._conversation, self._escaped = False, 0
        self._called, self._inputs = 0, InputLog(None)
        self._asked: dict[str, GenerationSettings] = {}

    @property
    def tokenizer_name(self) -> str:
        """Return what lm-eval knows prompts by that are built for this model."""
        return f"served-{self.settings.model}".replace("/", "__")

    def chat_template(self, chat_template: bool | str = False) -> str:
        """Return "": the server has the template.

        Raises:
            ValueError: One of several is chosen by name.
        """
        if isinstance(chat_template, str) and chat_template:
            raise ValueError(
                f"--apply_chat_template {chat_template}: the server applies its own template; give "
                "the option without a name, and start the server with that template"
            )
        return ""

    def apply_chat_template(
        self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True
    ) -> str:
        """Return a conversation as its JSON, which remembers the messages.

        Raises:
            ValueError: The conversation ends in the middle of an answer.
        """
        if not add_generation_prompt:
            raise ValueError(
                "verbalizer-api: the task begins the answer itself (gen_prefix), and a chat "
                "endpoint goes on with no answer; ask it with verbalizer-llm"
            )
        self._conversation = True
        messages = copy.deepcopy(chat_history)
        prompt = ChatPrompt(json.dumps(messages, ensure_ascii=False))
        prompt.messages, prompt.add_generation_prompt = messages, True
        return prompt

    def generate_until(self, requests: list[Any], disable_tqdm: bool = False) -> list[str]:
        """Return a response to every request; what is stored or journaled is not asked for again.

        Raises:
            ValueError: The server gives no reply, the budget is spent, or a request asks for what
                is not sent.
        """
        calls = [self._call(place, request) for place, request in enumerate(requests)]
        responses, journal = [""] * len(requests), self.journal
        keys = journal.keys(requests) if journal else []
        if journal:
            journal.check_model(self._fingerprint())

        def take(call: Call, reply: Reply | None) -> None:
            request, known = requests[call.place], journal.known if journal else {}
            stops = self._generation(request).stops
            response = (
                response_of(reply, stops, self.settings.think_end_token)
                if reply
                else known[keys[call.place]]
            )
            responses[call.place] = response.text
            self._counts.count_response(response)
            self.cache_hook.add_partial("generate_until", request.args, response.text)
            if journal and keys[call.place] not in known:
                journal.add(keys[call.place], request, response)

        known = {place for place, key in enumerate(keys) if journal and key in journal.known}
        self._ask("Asking", calls, take, known, disable_tqdm)
        return responses

    def _call(self, place: int, request: Any) -> Call:
        settings = self._generation(request)
        cut = self.settings.think_end_token is not None
        parameters = partial(decoding, settings, beams=self.settings.beams, cut_thoughts=cut)
        return self._asking(place, request, lambda dialect: parameters(dialect=dialect))

    def _asking(
        self, place: int, request: Any, parameters: Callable[[Dialect], dict[str, Any]]
    ) -> Call:
        visuals = request.args[2].get("visual", ()) if len(request.args) > 2 else ()
        where = f"{request.task_name}, document {request.doc_id}"
        try:
            messages, escaped = conversation(request.args[0], self._image_url, visuals)
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from error
        self._escaped += escaped
        self._called += 1
        self._inputs.own_images += bool(visuals)
        self._inputs.own_sha256 |= {image_sha256(image) for image in visuals}
        return Call(place, where, tuple(messages), parameters)

    def _generation(self, request: Any) -> GenerationSettings:
        """Return what a request asks of the decoding, checked."""
        key = json.dumps(request.args[1], sort_keys=True, default=str)
        if key not in self._asked:
            default = self.settings.max_gen_toks
            settings = GenerationSettings.from_request(request.args[1], default, ())
            check_generation(settings)
            self._asked[key] = settings
            beams = self.settings.beams
            how = f"{beams} beams of vLLM's" if beams > 1 else "greedy"
            log.info("decoding: %s, up to %d new tokens", how, settings.max_new_tokens)
        return self._asked[key]

    def loglikelihood(self, requests: list[Any], disable_tqdm: bool = False) -> list[Score]:
        """Return how likely each continuation of one token is as the first of the answer.

        Raises:
            ValueError: The server gives no log probabilities, or not a continuation's.
        """
        scores: dict[int, Score] = {}

        def take(call: Call, reply: Reply | None) -> None:
            request = requests[call.place]
            assert reply is not None
            try:
                scores[call.place] = score_of(reply, request.args[1])
            except ValueError as error:
                raise ValueError(f"{call.where}: {error}") from error
            self.cache_hook.add_partial("loglikelihood", request.args, scores[call.place])

        calls = [self._asking(place, one, scoring) for place, one in enumerate(requests)]
        self._ask("Scoring", calls, take, set(), disable_tqdm)
        return [scores[place] for place in range(len(requests))]

    def loglikelihood_rolling(self, requests: list[Any], disable_tqdm: bool = False) -> list[float]:
        """Refuse: a chat endpoint scores no text that it did not write.

        Raises:
            ValueError: Always.
        """
        raise ValueError(
            f"{requests[0].task_name}: verbalizer-api cannot score whole texts "
            "(loglikelihood_rolling): a chat endpoint says only how likely its own answer is; use "
            "verbalizer-llm"
        )

    def _ask(
        self,
        title: str,
        calls: Sequence[Call],
        take: Callable[[Call, Reply | None], None],
        known: set[int],
        quiet: bool,
    ) -> None:
        """Hand every call's reply to `take`, or None where only the journal has it (`known`)."""
        with ExitStack() as stack:
            folder = self._folder(stack)
            bar = stack.enter_context(progress(title, len(calls), quiet=quiet))
            try:
                run_to_end(self._replies(folder, calls, take, known, bar))
                bar.set_postfix_str("")
            except Unanswered as error:
                shown = self.image is not None
                raise ValueError(f"{error}{advice(error, shown)}{self._kept(folder)}") from error
            except BudgetExceeded as error:
                raise ValueError(f"stopped: {error}") from error
        if len(self._counts.reported) > 1:
            log.warning(
                "%s: the server gave it several names: %s; are these the same weights?",
                self.settings.model,
                ", ".join(f"{name} ({count})" for name, count in self._counts.reported.items()),
            )

    async def _replies(
        self,
        folder: Path,
        calls: Sequence[Call],
        take: Callable[[Call, Reply | None], None],
        known: set[int],
        bar: Any,
    ) -> None:
        def noted(call: Call, reply: Reply | None) -> None:
            if reply:
                self._counts.count_reply(reply)
                self._check_first(reply)
            take(call, reply)

        def came(call: Call, reply: Reply) -> None:
            noted(call, reply)
            bar.update()

        resume = f" with --resume {self.journal.path.parent}" if self.journal else ""
        goes_on = f"run the same command{resume}"
        client = ChatClient({}, folder, budget=self.settings.budget, goes_on=goes_on)
        asker = Asker(client, self.settings, self._dialect)
        try:
            async with client:
                watching = asyncio.create_task(watch(client, bar))
                waiting = []
                for call in calls:
                    if (reply := asker.stored(call)) or call.place in known:
                        noted(call, reply)
                        bar.keep()
                    else:
                        waiting.append(call)
                if self.journal:
                    self.journal.say_kept(len(calls) - len(waiting), len(calls), "replies")
                await ask_all(asker, waiting, came, 2 * self.settings.concurrency)
                watching.cancel()
        finally:
            self._dialect = asker.dialect
            self._counts.note_sent(asker.sent)
            self._counts.note_spent(client)

    def _check_first(self, reply: Reply) -> None:
        """Look at the first replies: whether beams are beams, and whether they say anything."""
        beams, count = self.settings.beams, self._counts.replies
        if beams > 1 and count == 1 and (problem := beams_problem(reply, beams)):
            raise ValueError(
                f"beams={beams}: {self.settings.model} at {self.settings.endpoint.address} has no "
                f"beam search: {problem}; leave beams out, or serve it with vLLM"
            )
        if count == self._counts.empty == _FIRST:
            why = "its tokens go into thoughts" if reasoning_of(reply) else "it ends at once"
            log.warning(
                "%s: the first %d responses are empty (finish_reason=%s: %s); stop it, and switch "
                "thinking off, if it thinks (parameters=…, as the server has it)",
                *(self.settings.model, _FIRST, reply.finish_reason, why),
            )

    def _folder(self, stack: ExitStack) -> Path:
        """Return where replies are stored."""
        if self.settings.store:
            return Path(self.settings.store).expanduser()
        if self.journal:
            return self.journal.path.parent
        log.warning(
            "responses are kept until this process ends only; model_args store=DIR keeps them"
        )
        return Path(stack.enter_context(tempfile.TemporaryDirectory()))

    def _kept(self, folder: Path) -> str:
        """Return how many responses are kept, and how to go on."""
        calls = self._counts.spent.get("calls", 0)
        if not calls or not (self.settings.store or self.journal):
            return ""
        how = f"--resume {self.journal.path.parent}" if self.journal else "the same command"
        return f"; {calls} responses are kept in {folder}, {how} goes on"

    def get_model_info(self) -> dict[str, Any]:
        """Return the run's record for lm-eval's results file, under `verbalizer_bench`."""
        record = {
            "adapter": self.adapter,
            **self._counts.record(),
            "image": self._inputs.own_record(self._called) or self._image_record(),
            **self._inputs.task_images(),
            "world_size": 1,
            "served": {
                "address": self.settings.endpoint.address,
                "model": self.settings.model,
                "protocol": self._protocol,
                "beams": self.settings.beams,
                "conversation": self._conversation,
                **self._counts.served(),
            },
            "fingerprint": self._fingerprint(),
            # What nobody but the server knows.
            **dict.fromkeys(("chat_template_sha256", "rendering", "bos_counts", "first_input_ids")),
            **{"truncated_prompts": 0, "escaped_prompts": self._escaped, "special_tokens": {}},
            "versions": versions(),
        }
        return {"verbalizer_bench": record}

    @property
    def _protocol(self) -> str:
        return "vllm-beams" if self.settings.beams > 1 else "greedy"

    def _image_record(self) -> dict[str, Any] | None:
        if self.image is None:
            return None
        size = list(self.image.size)
        return {"mode": self.settings.image, "sha256": image_sha256(self.image), "size": size}

    def _fingerprint(self) -> Mapping[str, Any]:
        """Return what a response depends on beside the request; the server may move."""
        return {
            "adapter": self.adapter,
            "model": self.settings.model,
            "protocol": self._protocol,
            "beams": self.settings.beams,
            "parameters": self.settings.parameters,
            "image": image_sha256(self.image) if self.image else None,
            "think_end_token": self.settings.think_end_token,
            "versions": versions(),
        }
