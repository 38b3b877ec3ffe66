"""The page itself, in gradio: what stands where, and which click does what. The work is done by `studio`."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import wraps
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

from simswap_jax.app.gate import COOKIE, EXPIRED, FILE
from simswap_jax.app.sessions import Session, Sessions
from simswap_jax.app.studio import (
    FORMATS,
    Studio,
    Target,
    draw_examples,
    output_name,
    picture_suffixes,
    read,
    shown,
    still_of,
    video_suffixes,
)
from simswap_jax.errors import UserError
from simswap_jax.inference.options import MarkOptions, SwapOptions
from simswap_jax.provenance import c2pa
from simswap_jax.provenance.certificates import EXTRA
from simswap_jax.provenance.options import marks_sentence
from simswap_jax.provenance.writer import PhotoMetadata, read_photo_metadata, write_picture

TERMS = """\
**Only with consent.** Use pictures only of people who consented to be swapped, or of nobody: the example faces are
drawn by this program. Do not deceive with results, and do not use them to harass, to impersonate or to get past an
identity check. Results are synthetic and are marked as such; whoever drops a mark has to say in another way that the
picture is synthetic (in the EU, Article 50 of the AI Act). Model weights may have terms of their own: see the model's
card.

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
STALE = "The page sent something that it does not offer; reload it."
RUNNING = "Your last swap is still running; its result appears here when it is done."
LOOK_AGAIN = 2.0  # seconds until a page that was opened during a swap asks for its result again
# What a box drops: a field of `MarkOptions`.
DROPS = {
    "label": "Drop the visible label",
    "xmp": "Drop the XMP metadata",
    "c2pa": "Drop the C2PA manifest",
    "watermark": "Drop the invisible watermark",
}


@dataclass(frozen=True)
class Tab:
    """What one open page has chosen. ``example`` says that the sources are an example face, not uploads."""

    sources: tuple[Path, ...] = ()
    target: Target | None = None
    example: bool = False


@dataclass(frozen=True)
class Order:
    """What the button's click asks for: how to swap, the marks, the file format, and whether consent was given."""

    swap: SwapOptions
    marks: MarkOptions
    wanted: str
    agreed: bool


@dataclass(frozen=True)
class Result:
    """What a swap made: two pictures to compare, the file to download, what to say of its marks, and a player."""

    before: Path
    after: Path
    file: Path
    said: str
    plays: str


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
            raise UserError(EXPIRED, "session-expired")
        return session

    def own(self, request: Any, files: Sequence[str]) -> tuple[Path, ...]:
        """Paths that this browser may name. The gate has looked at them already; this does not rely on it."""
        session = self.session(request)
        if not all(self.sessions.readable(session, file) for file in files):
            raise UserError("A file is not yours, or not there any more; add it again.", "file-not-yours")
        return tuple(Path(file) for file in files)

    def sources(
        self, files: Sequence[str] | None, tab: Tab, request: Any, face: float | None = None
    ) -> tuple[Tab, str]:
        """Pictures of the source were added or taken away, or another of their faces is meant (its number)."""
        if not files:
            return (tab if tab.example else replace(tab, sources=())), describe_sources(tab if tab.example else Tab())
        tab = replace(tab, sources=self.own(request, files), example=False)
        try:
            _, odd, several = self.studio.identity(tab.sources, int(face or 0))
        except UserError as error:
            raise UserError(f"Source: {error}", error.code) from error
        return tab, " ".join([describe_sources(tab, odd), *several])

    def source_example(self, number: Any, tab: Tab) -> tuple[Tab, str, None]:
        """An example face was clicked to be the source; uploads make way."""
        tab = replace(tab, sources=(picked(self.source_examples, number),), example=True)
        return tab, describe_sources(tab), None

    def target(self, path: Path | None, tab: Tab, request: Any) -> tuple[Tab, str | None, str]:
        """Another target photo, or none: its faces are found and shown."""
        if path is None:
            return replace(tab, target=None), None, ""
        try:
            tab = replace(tab, target=self.studio.look(path))
        except UserError as error:
            raise UserError(f"Target: {error}", error.code) from error
        return tab, self._show(tab.target, request), describe_faces(tab.target, self.studio)

    def click(self, place: Any, tab: Tab, request: Any) -> tuple[Tab, str | None, str]:
        """A click on the shown photo: the face there is chosen, or not any more."""
        if tab.target is None:
            return tab, None, ""
        match place:
            case [int() | float() as x, int() | float() as y]:
                tab = replace(tab, target=tab.target.clicked(x, y))
            case _:
                raise UserError(STALE, "page-stale")
        return tab, self._show(tab.target, request), describe_faces(tab.target, self.studio)

    def swap(self, tab: Tab, order: Order, say: Callable[[float, str], None], request: Any) -> Result:
        """Swap. The session remembers what came of it, for a page that is opened again meanwhile."""
        session = self.session(request)
        if tab.target is None:
            raise UserError("There is no target photo yet; add one, or click on an example.", "target-missing")
        if not order.agreed:
            raise UserError(NO_CONSENT, "no-consent")
        if not tab.target.path.is_file() or not all(path.is_file() for path in tab.sources):
            raise UserError("These pictures are not here any more; add them again.", "upload-gone")
        with self.sessions.working(session):
            try:
                result = self._swapped(tab.sources, tab.target, order, say, session)
            except UserError as error:
                session.outcome = f"The last swap made nothing: {error}"
                raise
            session.outcome = result
        return result

    def _swapped(
        self,
        sources: Sequence[Path],
        target: Target,
        order: Order,
        say: Callable[[float, str], None],
        session: Session,
    ) -> Result:
        output = session.place(output_name(target.path, order.wanted))
        carried = self.studio.swap(sources, target, output, order.swap, order.marks, say)
        before = session.place("before.jpg")
        write_picture(before, read(target.still), quality=92, photo=colours_of(target.still))
        after = output
        if target.frame is not None:
            after = session.place("after.jpg")
            write_picture(after, still_of(output, target.frame), quality=92)
        plays = player(output) if target.frame is not None else ""
        return Result(before, after, output, marks_sentence(order.marks, [carried]), plays)

    def returned(self, request: Any) -> Result | str | None:
        """What a page that is opened again offers: the last result, or a sentence on it; None where there is none."""
        session = self.sessions.find(request.cookies.get(COOKIE))
        if session is None:
            return None
        if session.busy:
            return RUNNING
        gone = isinstance(session.outcome, Result) and not session.outcome.file.is_file()
        return None if gone else session.outcome

    def _show(self, target: Target | None, request: Any) -> str | None:
        if target is None:
            return None
        path = self.session(request).place("faces.jpg")
        write_picture(path, shown(target), quality=88, photo=colours_of(target.still))
        return str(path)


def describe_sources(tab: Tab, odd: Sequence[Path] = ()) -> str:
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


def describe_faces(target: Target | None, studio: Studio) -> str:
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


def colours_of(photo: Path) -> PhotoMetadata:
    """The colour profile of a photo, without which a browser shows Display P3 as if it were sRGB."""
    return PhotoMetadata(profile=read_photo_metadata(photo).profile)


def picked(files: Sequence[Path], number: Any) -> Path:
    """The file of a number out of an event.

    Raises:
      UserError: there is none.
    """
    if isinstance(number, int) and 0 <= number < len(files):
        return files[number]
    raise UserError(STALE, "page-stale")


def player(video: Path) -> str:
    """HTML that plays a video of this browser's folder; its address is relative to the page's."""
    address = quote(f"{FILE}{video}".lstrip("/"), safe="/=_-.")
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

    class Page(gr.Blocks):
        """Where an event cannot be understood, the page says so, and the log has one line: gradio prints tracebacks."""

        async def process_api(self, *arguments: Any, **named: Any) -> Any:
            try:
                return await super().process_api(*arguments, **named)
            except gr.Error as error:
                error.print_exception = False
                raise
            except Exception as error:
                said = f"{type(error).__name__}: {error}"
                logging.getLogger(__name__).warning("400 an event was not understood (%s)", said)
                raise gr.Error(STALE, duration=SECONDS, print_exception=False) from error

    with Page(title="SimSwap in JAX", analytics_enabled=False) as page:
        parts = lay_out(answers, megabytes)
        on = handlers(answers)
        connect(parts, on)
        results = [parts.compared, parts.download, parts.marks_text, parts.video, parts.timer]
        page.load(on.returned, None, results, show_progress="hidden")
        parts.timer.tick(on.returned, None, results, show_progress="hidden")
    page.queue(max_size=32, default_concurrency_limit=4)
    return page


def lay_out(answers: Answers, megabytes: int) -> SimpleNamespace:
    """What stands where; gradio's elements by name."""
    import gradio as gr

    parts = SimpleNamespace(tab=gr.State(Tab()), timer=gr.Timer(LOOK_AGAIN, active=False))
    gr.Markdown("# Face swap\nTransfer the identity of another person onto a face.")
    gr.Markdown(TERMS, elem_id="terms")
    with gr.Row():
        with gr.Column():
            lay_out_source(parts, answers, megabytes)
        with gr.Column():
            lay_out_target(parts, answers, megabytes)
    parts.faces = gr.Image(
        label="Click on the faces to swap (of a video: a frame)",
        type="filepath",
        interactive=False,
        buttons=[],
        elem_id="faces",
    )
    parts.faces_text = gr.Markdown(elem_id="faces-said")
    lay_out_options(parts, answers.studio.whole_photos)
    parts.agreed = gr.Checkbox(label=AGREE, elem_id="agreed")
    parts.button = gr.Button("Swap", variant="primary", elem_id="swap")
    parts.compared = gr.ImageSlider(
        label="Before and after: move the line", type="filepath", interactive=False, buttons=[], elem_id="compared"
    )
    parts.video = gr.HTML(visible=False, elem_id="video")
    parts.marks_text = gr.Markdown(elem_id="said")
    parts.download = gr.DownloadButton("Download the result", interactive=False, elem_id="download")
    return parts


def lay_out_source(parts: SimpleNamespace, answers: Answers, megabytes: int) -> None:
    """Whose face appears."""
    import gradio as gr

    gr.Markdown("### 1. Source: whose face appears")
    parts.source_files = gr.File(
        label=f"Pictures of one person (up to {megabytes} MB)",
        file_count="multiple",
        file_types=picture_suffixes(),
        type="filepath",
        height=140,
        elem_id="source",
    )
    gr.Markdown("Or an example face:")
    parts.source_gallery = gallery(gr, answers.source_examples, "source-examples")
    parts.source_text = gr.Markdown(elem_id="source-said")
    parts.source_face = gr.Number(
        0,
        label="Of a picture with several faces: number from the left (0: the largest)",
        precision=0,
        minimum=0,
        visible=answers.studio.whole_photos,
        elem_id="source-face",
    )


def lay_out_target(parts: SimpleNamespace, answers: Answers, megabytes: int) -> None:
    """What is to be changed."""
    import gradio as gr

    photos = answers.studio.whole_photos
    gr.Markdown("### 2. Target: what is to be changed")
    parts.target_file = gr.File(
        label=f"A photo or video (up to {megabytes} MB)" if photos else "A square, aligned face",
        file_types=[*picture_suffixes(), *(video_suffixes() if photos else [])],
        type="filepath",
        height=140,
        elem_id="target",
    )
    gr.Markdown("Or an example:")
    parts.target_gallery = gallery(gr, answers.target_examples, "target-examples")


def lay_out_options(parts: SimpleNamespace, photos: bool) -> None:
    """How it is changed and marked; ``photos``: the model takes whole photos."""
    import gradio as gr

    gr.Markdown("### 3. How")
    with gr.Row():
        with gr.Column():
            parts.strength = gr.Slider(0, 1, 1, step=0.05, label="Strength (0: own identity, 1: the source's)")
            parts.match_colour = gr.Checkbox(
                label="Give the new face the colours of the one it replaces", visible=photos
            )
            parts.kept = gr.CheckboxGroup(
                list(KEEPS.values()), label="Keep of the target", visible=photos, elem_id="kept"
            )
            parts.blending = gr.Radio(
                list(BLENDINGS.values()),
                value=BLENDINGS["feather"],
                label="How the face goes into the photo",
                visible=photos,
            )
        with gr.Column():
            parts.wanted = gr.Radio(list(FORMATS), value=FORMATS[0], label="File format")
            parts.dropped = gr.CheckboxGroup(
                list(DROPS.values()),
                label="Marks that say the result is synthetic; all are there unless dropped"
                + ("" if c2pa.available() else f". No C2PA manifest here: it needs more packages; {EXTRA}"),
                elem_id="dropped",
            )


def handlers(answers: Answers) -> SimpleNamespace:
    """What gradio calls at an event, by the event's name."""
    import gradio as gr

    def sources_changed(files: list[str] | None, face: float | None, tab: Tab, request: gr.Request) -> Any:
        return answers.sources(files, tab, request, face)

    def source_example(tab: Tab, event: gr.SelectData) -> Any:
        return answers.source_example(event.index, tab)

    def target_changed(file: str | None, tab: Tab, request: gr.Request) -> Any:
        path = answers.own(request, [file])[0] if file else None
        return answers.target(path, tab, request)

    def target_example(tab: Tab, event: gr.SelectData, request: gr.Request) -> Any:
        return *answers.target(picked(answers.target_examples, event.index), tab, request), None

    def photo_clicked(tab: Tab, event: gr.SelectData, request: gr.Request) -> Any:
        return answers.click(event.index, tab, request)

    def swap_clicked(  # gradio gives each element's value as an argument
        tab: Tab,
        strength: float,
        match_colour: bool,
        kept: list[str],
        blending: str,
        dropped: list[str],
        wanted: str,
        source_face: float | None,
        agreed: bool,
        request: gr.Request,
        progress: gr.Progress = gr.Progress(),  # noqa: B008  # gradio looks for it there
    ) -> Any:
        order = order_of(strength, match_colour, kept, blending, dropped, wanted, agreed, source_face)
        result = answers.swap(tab, order, lambda share, what: progress(share, desc=what), request)
        return shown_result(result)

    def returned(request: gr.Request) -> Any:
        found = answers.returned(request)
        again = gr.Timer(active=found == RUNNING)
        if isinstance(found, Result):
            return *shown_result(found), again
        return gr.skip(), gr.skip(), gr.skip() if found is None else found, gr.skip(), again

    return SimpleNamespace(
        sources_changed=explained(sources_changed),
        source_example=explained(source_example),
        target_changed=explained(target_changed),
        target_example=explained(target_example),
        photo_clicked=explained(photo_clicked),
        swap_clicked=explained(swap_clicked),
        returned=explained(returned),
    )


def shown_result(result: Result) -> tuple[Any, ...]:
    """A result as the page's elements take it: compared, download, what is said, the video."""
    import gradio as gr

    compared = (str(result.before), str(result.after))
    download = gr.DownloadButton(value=str(result.file), interactive=True)
    return compared, download, result.said, gr.HTML(result.plays, visible=bool(result.plays))


def order_of(  # a parameter for each element of the page
    strength: float,
    match_colour: bool,
    kept: Sequence[str],
    blending: str,
    dropped: Sequence[str],
    wanted: str,
    agreed: bool,
    source_face: float | None = None,
) -> Order:
    """What the elements' values ask for.

    Raises:
      UserError: a value that the page does not offer.
    """
    try:
        swap = SwapOptions(
            strength=strength,
            match_colour=bool(match_colour),
            keep=tuple(name for name, text in KEEPS.items() if text in kept),
            blend={text: name for name, text in BLENDINGS.items()}[blending],
            source_faces=(int(source_face or 0),),
        )
        marks: dict[str, Any] = {name: text not in dropped for name, text in DROPS.items()}
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(STALE, "page-stale") from error
    if wanted not in FORMATS:
        raise UserError(STALE, "page-stale")
    return Order(swap, MarkOptions(**marks), wanted, agreed is True)


def explained(handler: Callable[..., Any]) -> Callable[..., Any]:
    """The handler, its UserError shown on the page as a sentence and nothing else ever."""
    import gradio as gr

    @wraps(handler)
    def explaining(*arguments: Any, **named: Any) -> Any:
        try:
            return handler(*arguments, **named)
        except UserError as error:
            raise gr.Error(capital(str(error)), duration=SECONDS, print_exception=False) from error
        except Exception as error:
            logging.getLogger(__name__).exception("an event of the page failed")
            raise gr.Error(UNEXPECTED, duration=SECONDS, print_exception=False) from error

    return explaining


def connect(parts: SimpleNamespace, on: SimpleNamespace) -> None:
    """Which event of which element calls what, with which values, and where the answer goes."""
    # Each answer writes back the whole tab that it read, so no two may be under way: source and target are often
    # added at the same moment. They are short; swapping has a queue of its own.
    in_turn: dict[str, Any] = {"concurrency_id": "tab", "concurrency_limit": 1}
    tab = parts.tab
    source = [tab, parts.source_text]
    target = [tab, parts.faces, parts.faces_text]
    for part in (parts.source_files, parts.source_face):
        part.change(on.sources_changed, [parts.source_files, parts.source_face, tab], source, **in_turn)
    parts.source_gallery.select(on.source_example, [tab], [*source, parts.source_files], **in_turn)
    parts.target_file.upload(on.target_changed, [parts.target_file, tab], target, **in_turn)
    parts.target_file.clear(on.target_changed, [parts.target_file, tab], target, **in_turn)
    parts.target_gallery.select(on.target_example, [tab], [*target, parts.target_file], **in_turn)
    parts.faces.select(on.photo_clicked, [tab], target, show_progress="hidden", **in_turn)
    options = [parts.strength, parts.match_colour, parts.kept, parts.blending, parts.dropped, parts.wanted]
    options.append(parts.source_face)
    parts.button.click(
        on.swap_clicked,
        [tab, *options, parts.agreed],
        [parts.compared, parts.download, parts.marks_text, parts.video],
        show_progress_on=[parts.compared],
        concurrency_limit=1,
    )


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
