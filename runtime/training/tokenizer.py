"""Tokenizers without downloads: bytes, byte-pair encoding trained on the rows, or one from a local folder."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lossc.grammar.diagnostics import Diagnostic, LosscError, error
from lossc.runtime.files import value_span

_SPECIAL = ("<pad>", "<bos>", "<eos>")


@dataclass(frozen=True)
class Tokenizer:
    """Texts to token numbers; `inner` is a tokenizer of Transformers."""

    inner: Any

    @property
    def vocabulary(self) -> int:
        """The number of tokens, special ones included."""
        return len(self.inner)

    @property
    def start(self) -> list[int]:
        """What stands before a sequence: the token of its beginning, where there is one."""
        return [] if self.inner.bos_token_id is None else [self.inner.bos_token_id]

    @property
    def end(self) -> list[int]:
        return [] if self.inner.eos_token_id is None else [self.inner.eos_token_id]

    def encode(self, text: str) -> list[int]:
        backend = getattr(self.inner, "backend_tokenizer", None)  # the call of the wrapper costs as much again
        if backend is not None:
            return list(backend.encode(text, add_special_tokens=False).ids)
        ids: list[int] = self.inner(text, add_special_tokens=False)["input_ids"]
        return ids

    def save(self, folder: Path) -> None:
        self.inner.save_pretrained(folder)


def make_tokenizer(name: str, texts: Iterable[str], vocabulary: int, folder: Path) -> Tokenizer:
    """`bytes`, `bpe` with at most `vocabulary` tokens trained on `texts`, or the tokenizer of a local folder."""
    if name == "bytes":
        return _byte_pairs((), 0)
    if name == "bpe":
        return _byte_pairs(texts, vocabulary)
    return load_tokenizer(folder / name)


def load_tokenizer(path: Path) -> Tokenizer:
    """The tokenizer that a folder of Transformers holds; E840 where it holds none."""
    from transformers import AutoTokenizer

    try:
        return Tokenizer(AutoTokenizer.from_pretrained(path, local_files_only=True, trust_remote_code=False))
    except (OSError, ValueError) as failure:
        raise LosscError([no_folder(path, "tokenizer", failure)]) from None


def no_folder(path: Path, thing: str, failure: Exception) -> Diagnostic:
    """E840: a local folder does not hold what Transformers wrote there."""
    shown = str(path)
    reason = "there is no such folder" if not path.is_dir() else str(failure).splitlines()[0]
    return error(
        "E840", f"cannot load a {thing} from `{shown}`: {reason}", value_span(shown),
        help="give a local folder that `save_pretrained` wrote; nothing is downloaded",
    )  # fmt: skip


def _byte_pairs(texts: Iterable[str], vocabulary: int) -> Tokenizer:
    """Byte-level pairs; without texts each byte is a token."""
    from tokenizers import Tokenizer as Core
    from tokenizers import decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    core = Core(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=max(vocabulary, 256 + len(_SPECIAL)),
        special_tokens=list(_SPECIAL),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    core.train_from_iterator(texts, trainer)
    pad, start, end = _SPECIAL
    wrapped = PreTrainedTokenizerFast(tokenizer_object=core, pad_token=pad, bos_token=start, eos_token=end)  # type: ignore[no-untyped-call]
    return Tokenizer(wrapped)
