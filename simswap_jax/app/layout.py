"""What stands where on the page, in gradio's elements, and what is written there."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from simswap_jax.app.studio import FORMATS, picture_suffixes, video_suffixes
from simswap_jax.inference.options import STRONGEST
from simswap_jax.provenance import c2pa
from simswap_jax.provenance.certificates import EXTRA

TERMS = """\
**Only with consent:** swap only faces of people who consented. Results are synthetic and are marked as such. Pictures
stay on the computer that runs this program.
"""
MORE_TERMS = """\
Do not deceive with results, and do not use them to harass, to impersonate or to get past an identity check. Whoever
disables a mark has to say in another way that the picture is synthetic (in the EU, Article 50 of the AI Act). Model
weights may have terms of their own: see the model's card.

Pictures lie in a folder that only this browser can read. They are removed when they were not used for an hour, and when
the program ends. Nothing is sent anywhere.
"""
AGREE = "The people in these pictures agreed to this, or are examples."
EVERYBODY = "all chosen faces"
KEEPS = {"mouth": "its mouth", "hair": "its hairline", "front": "glasses and what else is in front"}
BLENDINGS = {"feather": "soft edge", "poisson": "by gradients"}
# What a box disables: a field of `MarkOptions`.
DROPS = {
    "label": "Drop the visible label",
    "xmp": "Drop the XMP metadata",
    "c2pa": "Drop the C2PA manifest",
    "watermark": "Drop the invisible watermark",
}
HIGH = 164  # pixels of an element that takes files, and of the examples beside it
OPENED = 4  # percent of the width at which the slider stands first: the swap is what is seen
# Run in the browser: the result comes into sight where the columns stand below each other.
SHOW_RESULT = "() => document.getElementById('result').scrollIntoView({behavior: 'smooth', block: 'nearest'})"


@dataclass(frozen=True)
class Offer:
    """What the page offers.

    Attributes:
      photos: the model takes whole photos, not only aligned faces.
      sources, targets: example pictures.
      credit: of the examples; empty where they show nobody.
      megabytes: how much may be uploaded at once.
      model: which model this is, and where it runs, in words.
    """

    photos: bool
    sources: Sequence[Path]
    targets: Sequence[Path]
    credit: str = ""
    megabytes: int = 200
    model: str = ""


def lay_out(offer: Offer) -> SimpleNamespace:
    """All elements by name: what is put in to the left, the result to the right."""
    import gradio as gr

    parts = SimpleNamespace()
    gr.Markdown("# Face swap\nTransfer the identity of another person onto a face. " + offer.model, elem_id="head")
    gr.Markdown(TERMS, elem_id="terms")
    with gr.Accordion("More on terms and privacy", open=False, elem_id="more-terms"):
        gr.Markdown(MORE_TERMS)
    with gr.Row(equal_height=False):
        with gr.Column(min_width=340):
            lay_out_source(parts, offer)
            lay_out_target(parts, offer)
            lay_out_options(parts, offer.photos)
        with gr.Column(min_width=340, elem_id="result"):
            lay_out_result(parts)
    parts.problem = gr.HTML(visible=False, elem_id="problem")
    return parts


def lay_out_source(parts: SimpleNamespace, offer: Offer) -> None:
    """Whose face appears."""
    import gradio as gr

    gr.Markdown("### 1. Source: whose face appears")
    with gr.Row():
        parts.source_files = gr.File(
            label=f"Pictures (up to {offer.megabytes} MB)",
            file_count="multiple",
            file_types=picture_suffixes(),
            type="filepath",
            height=HIGH,
            scale=2,
            min_width=110,
            elem_id="source",
        )
        parts.source_gallery = gallery(gr, offer.sources, "source-examples")
    parts.source_faces = gr.Gallery(
        label="Faces that were found",
        columns=6,
        height=106,
        object_fit="cover",
        allow_preview=False,
        interactive=False,
        buttons=[],
        visible=False,
        elem_id="source-faces",
    )
    parts.source_text = gr.Markdown(elem_id="source-said")
    parts.whom = gr.Dropdown(
        [EVERYBODY], value=EVERYBODY, label="Who gets this source", visible=False, elem_id="whom", filterable=False
    )


def lay_out_target(parts: SimpleNamespace, offer: Offer) -> None:
    """What is to be changed."""
    import gradio as gr

    gr.Markdown("### 2. Target: what is to be changed")
    with gr.Row():
        parts.target_file = gr.File(
            label=f"Photo or video (up to {offer.megabytes} MB)" if offer.photos else "Square, aligned face",
            file_types=[*picture_suffixes(), *(video_suffixes() if offer.photos else [])],
            type="filepath",
            height=HIGH,
            scale=2,
            min_width=110,
            elem_id="target",
        )
        parts.target_gallery = gallery(gr, offer.targets, "target-examples")
    if offer.credit:
        gr.Markdown(f"<small>Examples: {offer.credit}</small>", elem_id="credit")
    parts.faces = gr.Image(
        label="Click on the faces to swap (of a video: a frame)",
        type="filepath",
        interactive=False,
        buttons=[],
        height=230,
        visible=False,
        elem_id="faces",
    )
    parts.faces_text = gr.Markdown(elem_id="faces-said")


def lay_out_options(parts: SimpleNamespace, photos: bool) -> None:
    """Consent, the button, and how a face is changed and marked; ``photos``: the model takes whole photos."""
    import gradio as gr

    parts.agreed = gr.Checkbox(label=AGREE, elem_id="agreed")
    parts.button = gr.Button("Swap", variant="primary", elem_id="swap")
    with gr.Accordion("Advanced options and marks", open=False, elem_id="advanced"):
        parts.source_face = gr.Number(
            0,
            label="Source pictures with several faces: number from the left (0: the largest)",
            precision=0,
            minimum=0,
            visible=photos,
            elem_id="source-face",
        )
        parts.strength = gr.Slider(
            0, STRONGEST, 1, step=0.05, label="Strength (0: own identity, 1: the source's, more: away from their own)"
        )
        parts.match_colour = gr.Checkbox(label="Give the new face the colours of the one it replaces", visible=photos)
        parts.kept = gr.CheckboxGroup(list(KEEPS.values()), label="Keep of the target", visible=photos, elem_id="kept")
        parts.blending = gr.Radio(
            list(BLENDINGS.values()),
            value=BLENDINGS["feather"],
            label="How the face goes into the photo",
            visible=photos,
        )
        parts.wanted = gr.Radio(list(FORMATS), value=FORMATS[0], label="File format")
        parts.dropped = gr.CheckboxGroup(
            list(DROPS.values()),
            label="Marks that say the result is synthetic; all are there unless dropped"
            + ("" if c2pa.available() else f". No C2PA manifest here: it needs more packages; {EXTRA}"),
            elem_id="dropped",
        )


def lay_out_result(parts: SimpleNamespace) -> None:
    """What came of it."""
    import gradio as gr

    gr.Markdown("### Result")
    parts.compared = gr.ImageSlider(
        label="Move the line to compare",
        type="filepath",
        interactive=False,
        buttons=[],
        slider_position=OPENED,
        max_height=620,
        elem_id="compared",
    )
    parts.video = gr.HTML(visible=False, elem_id="video")
    parts.marks_text = gr.Markdown(elem_id="said")
    parts.download = gr.DownloadButton("Download the result", interactive=False, elem_id="download")


def gallery(gr: Any, files: Sequence[Path], name: str) -> Any:
    """Small pictures to click on."""
    return gr.Gallery(
        [str(path) for path in files],
        label="Or an example",
        columns=5,
        height=HIGH,
        object_fit="cover",
        allow_preview=False,
        interactive=False,
        buttons=[],
        scale=3,
        min_width=170,
        elem_id=name,
    )


STYLE = """\
.gallery-container .grid-container { grid-template-columns: repeat(auto-fill, 58px) !important; gap: 5px;
  grid-template-rows: none !important; grid-auto-rows: 58px !important; height: auto !important; }
.gallery-container .grid-wrap { padding-top: 28px; }
.gallery-container .thumbnail-item { aspect-ratio: 1 / 1 !important; height: auto !important; }
#source .or, #target .or { display: none; }
#result { position: sticky; top: 8px; align-self: flex-start; }
#terms, #head { margin-bottom: -10px; }
#problem { position: fixed; left: 50%; bottom: 12px; transform: translateX(-50%); z-index: 1000;
  width: min(92vw, 640px);
  padding: 12px 16px; border-radius: 8px; background: #b3261e; color: #fff; box-shadow: 0 4px 16px #0006;
  pointer-events: none; }
#problem * { color: #fff; }
@media (max-width: 767px) { #result { position: static; } }
"""


def theme() -> Any:
    """Letters of the computer itself: gradio's own themes fetch theirs from the network."""
    import gradio as gr

    return gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"])
