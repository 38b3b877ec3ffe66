"""The page itself, in gradio: what stands where, and which click does what. The work is done by `studio`."""

import argparse
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import wraps
from pathlib import Path
from typing import Any
from urllib.parse import quote

from simswap_jax.app.examples import draw_examples
from simswap_jax.app.gate import COOKIE, EXPIRED, FILE
from simswap_jax.app.sessions import Session, Sessions
from simswap_jax.app.studio import FORMATS, Manner, Marks, Studio, Target, output_suffix, read, shown, still_of
from simswap_jax.cli.swap import marks_sentence
from simswap_jax.errors import UserError
from simswap_jax.provenance import c2pa
from simswap_jax.provenance.certificates import EXTRA
from simswap_jax.provenance.writer import write_picture

TERMS = """\
**Only with consent.** Use pictures only of people who agreed to be swapped, or of nobody: the example faces are drawn
by this program. Do not deceive with results, and do not use them to harass, to impersonate or to get past an identity
check. Results are synthetic and are marked as such; whoever drops a mark has to say in another way that the picture is
synthetic (in the EU, Article 50 of the AI Act). Model weights may have terms of their own: see the model's card.

Pictures stay on the computer that runs this program, in a folder that only this browser can read. They are removed when
they were not used for an hour, and when the program ends. Nothing is sent anywhere.
"""
AGREE = "The people in these pictures agreed to this, or are drawn."
NO_CONSENT = "Please confirm first that the people in the pictures agreed; the box is above the button."
UNEXPECTED = "Something went wrong inside the program; the terminal that it was started from says what."
SECONDS = 20  # that a sentence about a mistake stays, unless it is closed
NOT_PLAYED = "This browser cannot play it; download it."
KEEPS = {"mouth": "its mouth", "hair": "its hairline", "front": "glasses and what else is in front"}
BLENDINGS = {"feather": "soft edge", "poisson": "by gradients"}
# What a box drops, as `swap`'s flags are named.
DROPS = {
    "no_visible_label": "Drop the visible label",
    "no_metadata": "Drop the XMP metadata",
    "no_c2pa_manifest": "Drop the C2PA manifest",
    "no_invisible_mark": "Drop the invisible mark",
}


@dataclass(frozen=True)
class Tab:
    """What one open page has chosen. ``example`` says that the sources are an example face, not uploads."""

    sources: tuple[Path, ...] = ()
    target: Target | None = None
    example: bool = False


@dataclass(frozen=True)
class Answers:
    """What the page's elements call; each raises UserError for what the user can mend."""

    studio: Studio
    sessions: Sessions
    source_examples: Sequence[Path]
    target_examples: Sequence[Path]

    def session(self, request: Any) -> Session:
        """Whose request this is (gradio's)."""
        session = self.sessions.find(request.cookies.get(COOKIE))
        if session is None:
            raise UserError(EXPIRED)
        return session

    def own(self, request: Any, files: Sequence[str]) -> tuple[Path, ...]:
        """Paths that this browser may name. The gate has looked at them already; this does not rely on it."""
        session = self.session(request)
        if not all(self.sessions.readable(session, file) for file in files):
            raise UserError("A file is not yours, or not there any more; add it again.")
        return tuple(Path(file) for file in files)

    def sources(self, files: Sequence[str] | None, tab: Tab, request: Any) -> tuple[Tab, str]:
        """Pictures of the source were added or taken away."""
        if not files:
            return (tab if tab.example else replace(tab, sources=())), said_of_sources(tab if tab.example else Tab())
        tab = replace(tab, sources=self.own(request, files), example=False)
        try:
            _, odd = self.studio.identity(tab.sources)
        except UserError as error:
            raise UserError(f"Source: {error}") from error
        return tab, said_of_sources(tab, odd)

    def source_example(self, number: int, tab: Tab) -> tuple[Tab, str, None]:
        """An example face was clicked to be the source; uploads make way."""
        tab = replace(tab, sources=(self.source_examples[number],), example=True)
        return tab, said_of_sources(tab), None

    def target(self, path: Path | None, tab: Tab, request: Any) -> tuple[Tab, str | None, str]:
        """Another target photo, or none: its faces are found and shown."""
        if path is None:
            return replace(tab, target=None), None, ""
        try:
            tab = replace(tab, target=self.studio.look(path))
        except UserError as error:
            raise UserError(f"Target: {error}") from error
        return tab, self._show(tab.target, request), said_of_faces(tab.target, self.studio)

    def click(self, place: Sequence[float], tab: Tab, request: Any) -> tuple[Tab, str | None, str]:
        """A click on the shown photo: the face there is chosen, or not any more."""
        if tab.target is None:
            return tab, None, ""
        tab = replace(tab, target=tab.target.clicked(*place))
        return tab, self._show(tab.target, request), said_of_faces(tab.target, self.studio)

    def swap(
        self,
        tab: Tab,
        manner: Manner,
        dropped: Sequence[str],
        wanted: str,
        agreed: bool,
        say: Callable[[float, str], None],
        request: Any,
    ) -> tuple[tuple[str, str], str, str, str]:
        """Swap; returns the two pictures to compare, the file to download, what to say of its marks, and a player."""
        session = self.session(request)
        if tab.target is None:
            raise UserError("There is no target photo yet; add one, or click on an example.")
        if not agreed:
            raise UserError(NO_CONSENT)
        if not tab.target.path.is_file() or not all(path.is_file() for path in tab.sources):
            raise UserError("These pictures are not here any more; add them again.")
        output = session.place(f"swapped{output_suffix(tab.target.path, wanted)}")
        marks = Marks(*(text not in dropped for text in DROPS.values()))
        with self.sessions.working(session):
            carried = self.studio.swap(tab.sources, tab.target, output, marks, manner, say)
            before = session.place("before.jpg")
            write_picture(before, read(tab.target.still), quality=92)
            after = output
            if tab.target.frame is not None:
                after = session.place("after.jpg")
                write_picture(after, still_of(output, tab.target.frame), quality=92)
        flags = argparse.Namespace(**{name: text in dropped for name, text in DROPS.items()})
        plays = player(output) if tab.target.frame is not None else ""
        return (str(before), str(after)), str(output), marks_sentence(flags, [carried]), plays

    def _show(self, target: Target | None, request: Any) -> str | None:
        if target is None:
            return None
        path = self.session(request).place("faces.jpg")
        write_picture(path, shown(target), quality=88)
        return str(path)


def said_of_sources(tab: Tab, odd: Sequence[Path] = ()) -> str:
    """Who gives the identity, in words."""
    if tab.example:
        return "Source: an example face."
    count = len(tab.sources)
    if not count:
        return ""
    if count == 1:
        return "Source: 1 picture."
    said = f"Source: {count - len(odd)} pictures of one person, averaged."
    names = ", ".join(path.name for path in odd)
    return f"{said} Left out, somebody else: {names}." if odd else said


def said_of_faces(target: Target | None, studio: Studio) -> str:
    """What was found in a photo and is chosen, in words."""
    if target is None:
        return ""
    if not studio.whole_photos:
        return "This model takes the whole picture as one aligned face."
    count = len(target.faces)
    found = "1 face found" if count == 1 else f"{count} faces found"
    numbers = [str(i + 1) for i in sorted(target.chosen)]
    chosen = f"chosen: {', '.join(numbers)}" if numbers else "none chosen"
    return f"{found}, {chosen}. Click on a face to choose it or not."


def player(film: Path) -> str:
    """HTML that plays a film of this browser's folder."""
    address = quote(f"{FILE}{film}", safe="/=_-.")
    return f'<video controls preload="auto" style="width: 100%" src="{address}">{NOT_PLAYED}</video>'


def build(studio: Studio, sessions: Sessions, megabytes: int) -> Any:
    """The page as gradio's Blocks.

    Args:
      studio: does the work.
      sessions: keeps the files.
      megabytes: how much may be uploaded at once, for the words on the page.
    """
    import gradio as gr

    answers = Answers(studio, sessions, *draw_examples(sessions.examples, studio.whole_photos))
    pictures = ["image", ".heic", ".heif", ".avif", ".tif", ".tiff"]

    def told(handler: Callable[..., Any]) -> Callable[..., Any]:
        """The handler, its UserError shown on the page as a sentence and nothing else ever."""

        @wraps(handler)
        def telling(*arguments: Any, **named: Any) -> Any:
            try:
                return handler(*arguments, **named)
            except UserError as error:
                raise gr.Error(capital(str(error)), duration=SECONDS, print_exception=False) from error
            except Exception as error:
                logging.getLogger(__name__).exception("an event of the page failed")
                raise gr.Error(UNEXPECTED, duration=SECONDS, print_exception=False) from error

        return telling

    @told
    def sources_changed(files: list[str] | None, tab: Tab, request: gr.Request) -> Any:
        return answers.sources(files, tab, request)

    @told
    def source_example(tab: Tab, event: gr.SelectData) -> Any:
        return answers.source_example(event.index, tab)

    @told
    def target_changed(file: str | None, tab: Tab, request: gr.Request) -> Any:
        path = answers.own(request, [file])[0] if file else None
        return answers.target(path, tab, request)

    @told
    def target_example(tab: Tab, event: gr.SelectData, request: gr.Request) -> Any:
        return *answers.target(answers.target_examples[event.index], tab, request), None

    @told
    def photo_clicked(tab: Tab, event: gr.SelectData, request: gr.Request) -> Any:
        return answers.click(event.index, tab, request)

    @told
    def swap_clicked(
        tab: Tab,
        strength: float,
        match_colour: bool,
        kept: list[str],
        blending: str,
        dropped: list[str],
        wanted: str,
        agreed: bool,
        request: gr.Request,
        progress: gr.Progress = gr.Progress(),  # noqa: B008  # gradio looks for it there
    ) -> Any:
        def say(share: float, what: str) -> None:
            progress(share, desc=what)

        manner = Manner(
            strength,
            match_colour,
            tuple(name for name, text in KEEPS.items() if text in kept),
            next(name for name, text in BLENDINGS.items() if text == blending),
        )
        two, file, sentence, plays = answers.swap(tab, manner, dropped, wanted, agreed, say, request)
        return two, gr.DownloadButton(value=file, interactive=True), sentence, gr.HTML(plays, visible=bool(plays))

    with gr.Blocks(title="SimSwap in JAX", analytics_enabled=False) as page:
        tab = gr.State(Tab())
        gr.Markdown("# Face swap\nRe-draw a face with the identity of another person.")
        gr.Markdown(TERMS, elem_id="terms")
        with gr.Row():
            with gr.Column():
                gr.Markdown("### 1. Source: whose face appears")
                source_files = gr.File(
                    label=f"Pictures of one person (up to {megabytes} MB)",
                    file_count="multiple",
                    file_types=pictures,
                    type="filepath",
                    height=140,
                    elem_id="source",
                )
                gr.Markdown("Or an example face:")
                source_gallery = gallery(gr, answers.source_examples, "source-examples")
                source_said = gr.Markdown(elem_id="source-said")
            with gr.Column():
                gr.Markdown("### 2. Target: what is to be changed")
                target_file = gr.File(
                    label=f"A photo or video (up to {megabytes} MB)"
                    if studio.whole_photos
                    else "A square, aligned face",
                    file_types=[*pictures, *(["video"] if studio.whole_photos else [])],
                    type="filepath",
                    height=140,
                    elem_id="target",
                )
                gr.Markdown("Or an example:")
                target_gallery = gallery(gr, answers.target_examples, "target-examples")
        faces = gr.Image(
            label="Click on the faces to swap (of a video: a frame)",
            type="filepath",
            interactive=False,
            buttons=[],
            elem_id="faces",
        )
        faces_said = gr.Markdown(elem_id="faces-said")
        gr.Markdown("### 3. How")
        with gr.Row():
            with gr.Column():
                strength = gr.Slider(0, 1, 1, step=0.05, label="Strength (0: own identity, 1: the source's)")
                match_colour = gr.Checkbox(
                    label="Give the new face the colours of the one it replaces", visible=studio.whole_photos
                )
                kept = gr.CheckboxGroup(
                    list(KEEPS.values()), label="Keep of the target", visible=studio.whole_photos, elem_id="kept"
                )
                blending = gr.Radio(
                    list(BLENDINGS.values()),
                    value=BLENDINGS["feather"],
                    label="How the face goes into the photo",
                    visible=studio.whole_photos,
                )
            with gr.Column():
                wanted = gr.Radio(list(FORMATS), value=FORMATS[0], label="File format")
                dropped = gr.CheckboxGroup(
                    list(DROPS.values()),
                    label="Marks that say the result is synthetic; all are there unless dropped"
                    + ("" if c2pa.available() else f". No C2PA manifest here: it needs more packages; {EXTRA}"),
                    elem_id="dropped",
                )
        agreed = gr.Checkbox(label=AGREE, elem_id="agreed")
        button = gr.Button("Swap", variant="primary", elem_id="swap")
        compared = gr.ImageSlider(
            label="Before and after: move the line", type="filepath", interactive=False, buttons=[], elem_id="compared"
        )
        film = gr.HTML(visible=False, elem_id="film")
        said = gr.Markdown(elem_id="said")
        download = gr.DownloadButton("Download the result", interactive=False, elem_id="download")

        # Each answer writes back the whole tab that it read, so no two may be under way: source and target are often
        # added at the same moment. They are short; swapping has a queue of its own.
        in_turn: dict[str, Any] = {"concurrency_id": "tab", "concurrency_limit": 1}
        shown_target = [tab, faces, faces_said]
        source_files.change(sources_changed, [source_files, tab], [tab, source_said], **in_turn)
        source_gallery.select(source_example, [tab], [tab, source_said, source_files], **in_turn)
        target_file.upload(target_changed, [target_file, tab], shown_target, **in_turn)
        target_file.clear(target_changed, [target_file, tab], shown_target, **in_turn)
        target_gallery.select(target_example, [tab], [*shown_target, target_file], **in_turn)
        faces.select(photo_clicked, [tab], shown_target, show_progress="hidden", **in_turn)
        button.click(
            swap_clicked,
            [tab, strength, match_colour, kept, blending, dropped, wanted, agreed],
            [compared, download, said, film],
            show_progress_on=[compared],
            concurrency_limit=1,
        )
    page.queue(max_size=32, default_concurrency_limit=4)
    return page


def gallery(gr: Any, files: Sequence[Path], name: str) -> Any:
    """Small pictures to click on."""
    return gr.Gallery(
        [str(path) for path in files],
        show_label=False,
        columns=6,
        height=125,
        object_fit="cover",
        allow_preview=False,
        interactive=False,
        buttons=[],
        elem_id=name,
    )


STYLE = """\
.gallery-container .grid-container { grid-template-columns: repeat(6, minmax(0, 1fr)) !important; }
"""


def theme() -> Any:
    """Letters of the computer itself: gradio's own themes fetch theirs from the network."""
    import gradio as gr

    return gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"])


def capital(sentence: str) -> str:
    """The sentence with its first letter large."""
    return sentence[:1].upper() + sentence[1:]
