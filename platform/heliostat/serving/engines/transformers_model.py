"""A transformers model with its tokenizer and adapters, used by one thread at a time."""

from collections.abc import Iterator
from functools import cached_property
from itertools import count
from pathlib import Path
from typing import Any

from heliostat.errors import ServingError
from heliostat.models.loading import load_tokenizer
from heliostat.serving.engines.grammar_matching import TokenGrammar, token_vocabulary
from heliostat.serving.engines.interface import SamplingParameters, TokenLogprob
from heliostat.serving.engines.lora_folder import read_lora_folder
from heliostat.serving.engines.sampling import Sampler, token_logprob

UNKNOWN = ""
"""What is on behind a load or an unload, where PEFT turns adapters on or leaves them off as it likes: the
next answer settles it."""


class EngineModel:
    """Answers, embeds, and puts adapters on and off."""

    def __init__(self, model: Any, folder: Path) -> None:
        """`folder` is where the model's tokenizer lies, which only grammars need."""
        self._model = model
        self._folder = folder
        self._linear_layers = _linear_layers(model)
        self._with_adapters: Any = None
        self._worn: str | None = None
        self._peft_names: dict[str, str] = {}
        self._numbers = count()
        self.end_token_ids = _end_token_ids(model)

    def answer(
        self, prompt_ids: list[int], parameters: SamplingParameters, adapter: str | None
    ) -> Iterator[tuple[int, tuple[TokenLogprob, ...], bool]]:
        """Tokens without end, with their logprobs if asked for, and whether the answer is complete.

        Raises:
            ServingError: no such adapter, or no such grammar.
        """
        import torch

        grammar = TokenGrammar(parameters.grammar, self._vocabulary) if parameters.grammar else None
        sampler = Sampler(prompt_ids, parameters, grammar)
        self._put_on(adapter)
        fed, cache, asked = torch.tensor([prompt_ids]), None, parameters.logprobs
        while True:
            with torch.inference_mode():
                output = self._model(input_ids=fed, past_key_values=cache, use_cache=True, logits_to_keep=1)
                cache, logits = output.past_key_values, output.logits[0, -1]
                token = sampler.next_token(logits)
                logprobs = () if asked is None else (token_logprob(logits, token, asked),)
            yield token, logprobs, sampler.complete
            fed = torch.tensor([[token]])

    def embed(self, prompt_ids: list[int]) -> list[float]:
        """The mean of the last layer's states over the prompt's tokens, made of length 1.

        Raises:
            ServingError: there are no tokens.
        """
        import torch

        if not prompt_ids:
            raise ServingError("nothing to embed: the text has no tokens")
        self._put_on(None)
        with torch.inference_mode():
            output = self._model(
                input_ids=torch.tensor([prompt_ids]),
                output_hidden_states=True,
                use_cache=False,
                logits_to_keep=1,
            )
        mean = output.hidden_states[-1][0].float().mean(dim=0)
        return [float(value) for value in mean / mean.norm().clamp_min(1e-12)]

    def load_adapter(self, name: str, folder: Path) -> None:
        """Put a LoRA adapter beside the weights, in place of another of that name.

        Raises:
            ServingError: it is more than plain LoRA, or of another model.
        """
        from peft import PeftModel

        lora = read_lora_folder(folder)
        lora.check_fits(self._linear_layers)  # PEFT would find out with half of it put on
        peft_name = f"adapter{next(self._numbers)}"  # a module's name: without dots, unlike ours
        if self._with_adapters is None:
            self._with_adapters = PeftModel.from_pretrained(self._model, str(folder), peft_name).eval()
        else:
            self._with_adapters.load_adapter(str(folder), peft_name)
        self.unload_adapter(name)
        self._peft_names[name] = peft_name
        self._worn = UNKNOWN

    def unload_adapter(self, name: str) -> None:
        """Take an adapter off; nothing happens when it is not there."""
        peft_name = self._peft_names.pop(name, None)
        if peft_name:
            self._with_adapters.delete_adapter(peft_name)
            self._worn = UNKNOWN

    def _put_on(self, adapter: str | None) -> None:
        """Leave the model with one adapter on, or none."""
        if adapter is not None and adapter not in self._peft_names:
            raise ServingError(
                f"adapter {adapter} is not loaded; load it, or ask for one of the model's list"
            )
        if adapter == self._worn:
            return
        if adapter is None:
            self._with_adapters.base_model.disable_adapter_layers()
        else:
            self._with_adapters.base_model.enable_adapter_layers()
            self._with_adapters.set_adapter(self._peft_names[adapter])
        self._worn = adapter

    @cached_property
    def _vocabulary(self) -> Any:
        return token_vocabulary(load_tokenizer(self._folder), self._model.config.vocab_size)


def _linear_layers(model: Any) -> dict[str, tuple[int, int]]:
    """Inputs and outputs of each linear layer, by its name."""
    import torch

    return {
        name: (layer.in_features, layer.out_features)
        for name, layer in model.named_modules()
        if isinstance(layer, torch.nn.Linear)
    }


def _end_token_ids(model: Any) -> set[int]:
    given = model.generation_config.eos_token_id
    if given is None:
        return set()
    return {given} if isinstance(given, int) else set(given)
