"""Text to embeddings: the bank is asked first, the text model is asked as it was trained."""

import hashlib
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.support.models import Spelling
from voxtell.errors import ModelError
from voxtell.text.encoders import INSTRUCTION, Bank, QwenEncoder


@pytest.fixture
def bank_file(tmp_path: Path) -> Path:
    path = tmp_path / "bank.npz"
    embeddings = np.random.default_rng(0).normal(size=(2, 10)).astype(np.float16)
    np.savez(path, labels=np.array(["Liver", "left kidney"]), embeddings=embeddings)
    return path


class TextModelMustNotLoad(Spelling):
    def embed(self, prompts: object) -> torch.Tensor:
        raise AssertionError(f"the text model was asked for {prompts}")


def test_a_bank_names_itself_and_the_text_model_only_where_embeddings_came_from_them(bank_file: Path) -> None:
    bank = Bank(bank_file, Spelling())
    its = f"bank=sha256:{hashlib.sha256(bank_file.read_bytes()).hexdigest()}"
    assert bank.sources(["Liver"]) == (its,)
    assert bank.sources(["liver", "spleen"]) == (its, "text=spelling")
    assert bank.sources(["spleen"]) == ("text=spelling",)


def test_the_text_model_is_never_asked_when_the_bank_answers_all(bank_file: Path) -> None:
    bank = Bank(bank_file, TextModelMustNotLoad())
    embedded = bank.embed(["Left Kidney", "liver"])
    with np.load(bank_file) as file:
        np.testing.assert_array_equal(embedded.numpy(), file["embeddings"][[1, 0]].astype(np.float32))
    assert embedded.dtype == torch.float32
    assert bank.labels == ["liver", "left kidney"]


def test_what_the_bank_lacks_goes_to_the_text_model_once(bank_file: Path) -> None:
    text = Spelling()
    embedded = Bank(bank_file, text).embed(["spleen", "liver", "aorta", "Spleen"])
    assert text.asked == ["spleen", "aorta"]
    torch.testing.assert_close(embedded[[0, 2, 3]], Spelling().embed(["spleen", "aorta", "spleen"]))


def test_a_wrong_bank_is_refused_in_one_sentence(bank_file: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="does not exist"):
        Bank(tmp_path / "nowhere.npz", Spelling())
    with pytest.raises(ModelError, match=r"holds \(2, 10\), this model needs \(2, 12\)"):
        Bank(bank_file, Spelling(dim=12))
    bank_file.write_bytes(b"PK not a zip")
    with pytest.raises(ModelError, match="is no embedding bank"):
        Bank(bank_file, Spelling())


@pytest.fixture(scope="module")
def small_qwen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Qwen3 of two layers with a byte-level tokenizer, saved as the published text model is."""
    sys.modules.setdefault("torchvision", None)  # as voxtell.text.encoders does, for the same reason
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3Model

    folder = tmp_path_factory.mktemp("qwen")
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={letter: i for i, letter in enumerate(letters)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="Ġ").save_pretrained(folder)
    torch.manual_seed(1)
    config = Qwen3Config(
        vocab_size=300, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=8, max_position_embeddings=512,
    )  # fmt: skip
    Qwen3Model(config).save_pretrained(folder)
    return folder


@pytest.mark.long
def test_a_text_model_that_takes_the_memory_of_volumes_is_let_go_after_use(
    small_qwen: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder, loads = QwenEncoder(small_qwen, dim=32), []
    load = encoder._load
    monkeypatch.setattr(encoder, "_load", lambda: loads.append(encoder._loaded is None) or load())
    for free, loaded in ((2**40, True), (2**40, False), (1000, False), (1000, True)):
        monkeypatch.setattr("voxtell.text.encoders.free_bytes", lambda _device, free=free: free)
        encoder.embed(["liver"])
        assert loads.pop() is loaded


@pytest.mark.long
def test_an_embedding_is_the_last_hidden_state_after_the_instruction(small_qwen: Path) -> None:
    from transformers import AutoTokenizer, Qwen3Model

    prompts = ["Liver", "left kidney of the transplant"]
    encoder = QwenEncoder(small_qwen, dim=32)
    embedded = encoder.embed(prompts)
    tokenizer, model = AutoTokenizer.from_pretrained(small_qwen), Qwen3Model.from_pretrained(small_qwen).eval()
    for prompt, ours in zip(prompts, embedded, strict=True):
        tokens = tokenizer(f"Instruct: {INSTRUCTION}\nQuery: {prompt.lower()}", return_tensors="pt")
        with torch.no_grad():
            alone = model(**tokens).last_hidden_state[0, -1]
        torch.testing.assert_close(ours, alone, rtol=0, atol=1e-5)
    assert embedded.shape == (2, encoder.dim)


@pytest.mark.long
def test_the_text_model_leaves_the_gpu_after_use_and_works_on_the_cpu_when_it_does_not_fit(
    small_qwen: Path, monkeypatch
) -> None:
    from transformers import Qwen3Model

    places: list[str] = []
    move = Qwen3Model.to

    def to(model: Qwen3Model, place: object) -> Qwen3Model:
        places.append(str(place))
        if str(place).startswith("cuda"):
            raise torch.OutOfMemoryError("CUDA out of memory")
        return move(model, "cpu")

    monkeypatch.setattr(Qwen3Model, "to", to)
    expected = QwenEncoder(small_qwen, dim=32).embed(["liver"])
    assert places == ["cpu", "cpu"]
    places.clear()
    found = QwenEncoder(small_qwen, device="cuda", dim=32).embed(["liver"])
    assert places == ["cuda", "cpu", "cpu", "cpu"]
    torch.testing.assert_close(found, expected, rtol=0, atol=0.5)  # bfloat16, as on a GPU


def test_a_text_model_that_is_not_here_is_said(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot be loaded; fetch it while there is a network"):
        QwenEncoder(tmp_path / "nowhere").embed(["liver"])


def test_a_text_model_of_another_width_is_refused(small_qwen: Path) -> None:
    with pytest.raises(ModelError, match="32 numbers per prompt, not 2560"):
        QwenEncoder(small_qwen).embed(["liver"])
