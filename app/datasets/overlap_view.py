"""Show the images shared by a training set and a benchmark, and the accuracy without them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import attrgetter

import numpy as np
import streamlit as st

from app.datasets import overlap
from app.datasets.grid import image
from app.datasets.overlap import Overlap, Score
from app.shared import format
from app.shared.trace_text import excerpt, visible
from store.datasets import list_pictures, list_verdicts
from store.db.engine import Store
from store.db.rows import IndexRow, Pictures, StoredExample
from store.examples import get_examples

PAIRS_A_PAGE = 12
MOST_BITS = 12
WHY = {overlap.FILE: "same file", overlap.NUMBER: "same number in COCO or Visual Genome"}
HASH_HELP = (
    "A perceptual hash describes the coarse structure of the greyscale image in 64 bits. Resized or recompressed "
    "copies differ by up to 4 bits, copies cropped by 2 % at each edge by up to 8, different images by 14 or more "
    "(measured on drawn test images, not on photos). "
    "The hash does not recognize mirrored, rotated or heavily cropped copies, nor two photos of the same scene. Drawn "
    "scenes look similar to it, since they have few shapes on a plain background: near matches among them are mostly "
    "different scenes. Many images of Visual Genome are also in COCO; their numbers are not mapped to each other, so "
    "such pairs are found only by hash."
)
Link = Callable[[StoredExample], str]


@st.cache_data(max_entries=4, show_spinner="Comparing images", hash_funcs={Store: attrgetter("url")})
def _compare_images(store: Store, training: IndexRow, benchmark: IndexRow) -> tuple[Pictures, Pictures, Overlap]:
    """Return the images of both sides and their overlap, cached until one of them is indexed again."""
    training_pictures, benchmark_pictures = _pictures(store, training), _pictures(store, benchmark)
    return training_pictures, benchmark_pictures, overlap.compare(training_pictures, benchmark_pictures)


def _pictures(store: Store, index: IndexRow) -> Pictures:
    return list_pictures(store, index.dataset or "", index.split)


def overlap_view(store: Store, indexes: Sequence[IndexRow], link: Link) -> None:
    """Show the overlap; `indexes` are the finished ones."""
    if len(indexes) < 2:
        st.info("To compare images, index two splits: a training set and a benchmark.", icon=":material/compare:")
        return
    training, benchmark, max_bits = _choose(indexes)
    training_pictures, benchmark_pictures, compared = _compare_images(store, training, benchmark)
    same = compared.within(max_bits)
    ids = overlap.overlapping_examples(compared, benchmark_pictures, max_bits)
    _numbers(compared, same, len(np.unique(benchmark_pictures.example_id)), len(ids))
    partial = [index for index in (training, benchmark) if not index.complete]
    if partial:
        parts = " and ".join(f"{index.dataset} ({index.split}): {format.count(index.usable)}" for index in partial)
        st.caption(format.literal(f"Only partly indexed, so that other images are not compared: {parts} questions."))
    with st.expander("What the hash can and cannot detect", icon=":material/info:"):
        st.markdown(HASH_HELP)
    _accuracy(store, benchmark, benchmark_pictures, ids)
    _pairs(store, training_pictures, benchmark_pictures, compared, np.flatnonzero(same), link)


def _choose(indexes: Sequence[IndexRow]) -> tuple[IndexRow, IndexRow, int]:
    """Show and return the choice of two splits and of the number of bits by which hashes may differ."""
    names = {f"{index.dataset} · {index.split}": index for index in indexes}
    first = sorted(names, key=lambda name: (names[name].split != "train", name))
    second = sorted(names, key=lambda name: (names[name].split == "train", name == first[0], name))
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        training = st.selectbox("Training set", first, key="training", bind="query-params", width=280)
        benchmark = st.selectbox("Benchmark", second, key="benchmark", bind="query-params", width=280)
        max_bits = st.slider(
            "Max differing bits",
            0,
            MOST_BITS,
            overlap.LIKELY_COPY,
            key="bits",
            bind="query-params",
            width=220,
            help="Of the 64 bits of the perceptual hash. A higher limit finds more copies, and more false matches.",
        )
    return names[training], names[benchmark], max_bits


def _numbers(compared: Overlap, same: np.ndarray, examples: int, hit: int) -> None:
    kinds = np.where(same, compared.kind, -1)
    numbers = {
        "Benchmark images": format.count(len(kinds)),
        "Same file": format.count((kinds == overlap.FILE).sum()),
        "Same number": format.count((kinds == overlap.NUMBER).sum()),
        "Near duplicates": format.count((kinds == overlap.LOOKS).sum()),
        "Affected benchmark questions": f"{format.count(hit)} of {format.count(examples)}",
    }
    with st.container(horizontal=True, gap="medium"):
        for name, value in numbers.items():
            st.metric(name, value, width="content")


def _accuracy(store: Store, benchmark: IndexRow, pictures: Pictures, ids: np.ndarray) -> None:
    st.header("Accuracy without shared images", anchor=False)
    tests = list_verdicts(store, benchmark.dataset or "", benchmark.split)
    if not tests:
        st.caption("No run has been tested on this benchmark yet.")
        return
    rows = []
    for test in tests:
        scores = overlap.scores(test, pictures, ids)
        rows.append(
            {
                "run": test.run_name,
                "step": test.step,
                "all": _score_text(scores.everything),
                "without shared images": _score_text(scores.clean),
                "difference": _difference(scores.everything, scores.clean),
                "only shared images": _score_text(scores.shared),
                "not indexed": scores.unknown,
                "traces": f"traces?run={test.run_uid}&view=Predictions&evaluation={test.evaluation_id}",
            }
        )
    st.dataframe(
        rows,
        hide_index=True,
        column_config={"traces": st.column_config.LinkColumn("traces", display_text="open")},
        alt="Exact match of each test with and without the shared images",
    )
    st.caption(
        "Exact match with 95 % Wilson interval and number of examples. The difference is in percentage points. Both "
        "shares are based on mostly the same answers: to judge it, compare shared images with the others. Tested "
        "examples that are not indexed count only under “all”."
    )


def _score_text(score: Score) -> str:
    return f"{format.interval(score.share, score.low, score.high)} · n {format.count(score.n)}"


def _difference(everything: Score, clean: Score) -> str:
    if everything.share is None or clean.share is None:
        return format.UNKNOWN
    return f"{100 * (clean.share - everything.share):+.1f}".replace("-", "−")


def _pairs(
    store: Store, training: Pictures, benchmark: Pictures, compared: Overlap, places: np.ndarray, link: Link
) -> None:
    st.header("Side by side", anchor=False)
    if not len(places):
        st.caption("No indexed benchmark image matches one of the training set within this number of bits.")
        return
    order = places[np.lexsort((compared.distance[places], compared.kind[places]))]
    pages = -(-len(order) // PAIRS_A_PAGE)
    page = st.pagination(pages, key=f"pairs-{hash((len(order), pages))}") if pages > 1 else 1
    page_order = order[(page - 1) * PAIRS_A_PAGE : page * PAIRS_A_PAGE]
    sides = [(compared.training[i], compared.benchmark[i]) for i in page_order]
    ids = [int(training.example_id[a]) for a, _ in sides] + [int(benchmark.example_id[b]) for _, b in sides]
    examples = get_examples(store, ids)
    cards = []
    for i, (a, b) in zip(page_order, sides, strict=True):
        left, right = examples.get(int(training.example_id[a])), examples.get(int(benchmark.example_id[b]))
        if left and right:
            bits = f"{compared.distance[i]} of {overlap.BITS} bits differ"
            why = WHY.get(int(compared.kind[i]))
            head = f'<span class="eg-why">{f"{why} · {bits}" if why else bits}</span>'
            both = _side(left, str(training.sha256[a]), link(left)) + _side(
                right, str(benchmark.sha256[b]), link(right)
            )
            cards.append(f'<div class="eg-card">{head}<div class="eg-two">{both}</div></div>')
    st.caption("Left: training set. Right: benchmark.")
    st.html(f'<div class="eg eg-pairs">{"".join(cards)}</div>')


def _side(example: StoredExample, sha256: str, link: str) -> str:
    return (
        f'<a class="eg-side" target="_self" href="{visible(link)}">'
        f'<span class="eg-frame">{image(sha256)}</span>'
        f"<span>{excerpt(example.question, 80)}</span></a>"
    )
