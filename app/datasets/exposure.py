"""Public statements on the images and questions that base models were trained on. Nothing here is measured."""

from __future__ import annotations

from typing import NamedTuple


class Exposure(NamedTuple):
    """`seen` is `yes`, `no` or `unknown`: whether the base model was trained on the dataset or on its images."""

    model: str
    dataset: str
    seen: str
    what: str
    sources: tuple[str, ...]
    """URLs, or files of this project, that state this."""


_CAULDRON = "https://huggingface.co/datasets/HuggingFaceM4/the_cauldron"
_SMOLVLM = "https://huggingface.co/HuggingFaceTB/SmolVLM-256M-Instruct"
_QWEN = "https://arxiv.org/abs/2409.12191"
_TINY = "trainer/tiny/base/README.md"
_BOARD = "trainer/tiny/board/README.md"
_SMOL = "SmolVLM-256M and -500M"
_MIXTURE = "The model card names The Cauldron as training data, which"

KNOWN = (
    Exposure(
        "tiny (embedded)",
        "shapes, train",
        "yes",
        "Pre-trained on drawn scenes whose hash falls into train, with generated captions and informal answers.",
        (_TINY,),
    ),
    Exposure(
        "tiny (embedded)",
        "shapes, val and test",
        "no",
        "A scene's hash decides its split, and pre-training draws from train's hashes only.",
        (_TINY,),
    ),
    Exposure("tiny (embedded)", "all photo datasets", "no", "Trained only on drawn scenes.", (_TINY,)),
    Exposure(
        "tiny-board (embedded)",
        "board, train",
        "yes",
        "Pre-trained on drawn scenes whose hash falls into train: lists, captions, single cells and few questions.",
        (_BOARD,),
    ),
    Exposure(
        "tiny-board (embedded)",
        "board, val and test",
        "no",
        "A scene's hash decides its split, and pre-training draws from train's hashes only.",
        (_BOARD,),
    ),
    Exposure("tiny-board (embedded)", "all photo datasets", "no", "Trained only on drawn scenes.", (_BOARD,)),
    Exposure(
        _SMOL, "tallyqa, train; cauldron", "yes", f"{_MIXTURE} contains TallyQA's train split.", (_SMOLVLM, _CAULDRON)
    ),
    Exposure(
        _SMOL,
        "vqav2, train",
        "yes",
        f"{_MIXTURE} contains VQAv2's train split, whose images are COCO train2014.",
        (_SMOLVLM, _CAULDRON),
    ),
    Exposure(
        _SMOL,
        "tdiuc; quantity-23k",
        "unknown",
        "Not named, but the images come from COCO and Visual Genome, and The Cauldron's VQAv2 part contains COCO "
        "train2014 with other questions: expect that some images were seen.",
        ("https://arxiv.org/abs/1703.09684", _CAULDRON),
    ),
    Exposure(
        _SMOL,
        "tallyqa-test",
        "unknown",
        "Not named. The images come from Visual Genome, many of which are also in COCO: some may have been seen with "
        "other questions.",
        ("https://arxiv.org/abs/1810.12440", _CAULDRON),
    ),
    Exposure(_SMOL, "countqa", "unknown", "Not named in the model card.", (_SMOLVLM,)),
    Exposure(
        "Qwen2-VL-2B",
        "all public datasets",
        "unknown",
        "The report names kinds of data (image-text pairs, visual question answering and others) but no list of "
        "datasets: any public train split may have been seen.",
        (_QWEN,),
    ),
)
