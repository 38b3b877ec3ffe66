"""What the page answers: which click does what. `layout` says what stands where; the work is done by `studio`."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import wraps
from html import escape
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

from simswap_jax.app.gate import COOKIE, FILE
from simswap_jax.app.layout import BLENDINGS, DROPS, EVERYBODY, KEEPS, SHOW_RESULT, Offer, lay_out
from simswap_jax.app.sessions import EXPIRED, Session, Sessions
from simswap_jax.app.studio import (
    FORMATS,
    Sources,
    Studio,
    Target,
    examples,
    output_name,
    read,
    shown,
    still_of,
)
from simswap_jax.errors import UserError
from simswap_jax.inference.options import MarkOptions, SwapOptions
from simswap_jax.provenance.options import marks_sentence
from simswap_jax.provenance.writer import PhotoMetadata, read_photo_metadata, write_picture

NO_CONSENT = "Please confirm first that the people in the pictures agreed; the box is above the button."
UNEXPECTED = "Something went wrong inside the program; the terminal that it was started from says what."
SECONDS = 20  # that gradio shows a sentence about a request that it cannot understand
MOST_THUMBNAILS = 6
NOT_PLAYED = "This browser cannot play it; download it."
STALE = "The page sent something that it does not offer; reload it."
RUNNING = "Your last swap is still running; its result appears here when it is done."
LOOK_AGAIN = 2.0  # seconds until a page that was opened during a swap asks for its result again


@dataclass(frozen=True)
class Tab:
    """What one open page has chosen.

    Attributes:
      sources: whose face appears.
      target: where.
      own: faces of the target, by index, that get a source of their own.
    """

    sources: Sources = field(default_factory=Sources)
    target: Target | None = None
    own: Mapping[int | None, Sources] = field(default_factory=dict)

    @property
    def given(self) -> dict[int | None, Sources]:
        """As `Studio.swap` takes the sources."""
        return {None: self.sources, **self.own}

    def giving(self, whom: int | None, sources: Sources) -> "Tab":
        """The same with other sources, of a face (which is chosen then) or of all that have none of their own."""
        if whom is None:
            return replace(self, sources=sources)
        own = {face: given for face, given in {**self.own, whom: sources}.items() if given.paths}
        if self.target is None or not sources.paths:
            return replace(self, own=own)
        return replace(self, own=own, target=replace(self.target, chosen=self.target.chosen | {whom}))


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
        self, files: Sequence[str] | None, face: float | None, whom: Any, tab: Tab, request: Any
    ) -> tuple[Tab, str, list[str]]:
        """Pictures of a source were added or taken away.

        Args:
          files: the pictures; None or empty: they were taken away.
          face: number of the face that is meant where they show several.
          whom: who gets it, as the page names faces of the target.
          tab: what the page has chosen.
          request: gradio's.

        Returns:
          the page's new choice, what to say, and small pictures of the faces that were found.
        """
        index = face_of(whom, tab)
        if not files:
            tab = tab.giving(index, Sources())
            return tab, describe_sources(tab), []
        return self._given(tab, index, Sources(self.own(request, files), int(face or 0)), request)

    def source_face(self, face: float | None, whom: Any, tab: Tab, request: Any) -> tuple[Tab, str, list[str]]:
        """Another face of the same pictures is meant."""
        index = face_of(whom, tab)
        sources = tab.given.get(index, Sources())
        if not sources.paths or sources.example:
            return tab, describe_sources(tab), []
        return self._given(tab, index, replace(sources, face=int(face or 0)), request)

    def _given(self, tab: Tab, index: int | None, sources: Sources, request: Any) -> tuple[Tab, str, list[str]]:
        try:
            found = self.studio.identity(sources)
        except UserError as error:
            raise UserError(f"Source: {error}", error.code) from error
        tab, small = tab.giving(index, sources), []
        for number, face in enumerate(found.faces[:MOST_THUMBNAILS], 1):
            path = self.session(request).place(f"face {number}.jpg")
            write_picture(path, face, quality=88)
            small.append(str(path))
        return tab, " ".join([describe_sources(tab, found.odd), *found.sentences]), small

    def source_example(self, number: Any, whom: Any, tab: Tab) -> tuple[Tab, str, list[str]]:
        """An example face was clicked to be the source; uploads make way."""
        path = picked(self.source_examples, number)
        tab = tab.giving(face_of(whom, tab), Sources((path,), example=True))
        return tab, describe_sources(tab), []

    def target(self, path: Path | None, tab: Tab, request: Any) -> tuple[Tab, str | None, str]:
        """Another target photo, or none: its faces are found and shown; sources of single faces are forgotten."""
        tab = replace(tab, target=None, own={})
        if path is None:
            return tab, None, ""
        try:
            tab = replace(tab, target=self.studio.look(path))
        except UserError as error:
            raise UserError(f"Target: {error}", error.code) from error
        return tab, self.show(tab.target, request), describe_faces(tab.target, self.studio)

    def click(self, place: Any, tab: Tab, request: Any) -> tuple[Tab, str | None, str]:
        """A click on the shown photo: the face there is chosen, or not any more."""
        if tab.target is None:
            return tab, None, ""
        match place:
            case [int() | float() as x, int() | float() as y]:
                tab = replace(tab, target=tab.target.clicked(x, y))
            case _:
                raise UserError(STALE, "page-stale")
        return tab, self.show(tab.target, request), describe_faces(tab.target, self.studio)

    def swap(self, tab: Tab, order: Order, say: Callable[[float, str], None], request: Any) -> Result:
        """Swap. The session remembers what came of it, for a page that is opened again meanwhile."""
        session = self.session(request)
        if tab.target is None:
            raise UserError("There is no target photo yet; add one, or click on an example.", "target-missing")
        if not order.agreed:
            raise UserError(NO_CONSENT, "no-consent")
        used = [path for sources in tab.given.values() for path in sources.paths]
        if not tab.target.path.is_file() or not all(path.is_file() for path in used):
            raise UserError("These pictures are not here any more; add them again.", "upload-gone")
        with self.sessions.working(session):
            try:
                result = self._swapped(tab, order, say, session)
            except UserError as error:
                session.outcome = f"The last swap made nothing: {error}"
                raise
            session.outcome = result
        return result

    def _swapped(self, tab: Tab, order: Order, say: Callable[[float, str], None], session: Session) -> Result:
        target = tab.target
        assert target is not None  # `swap` has looked
        output = session.place(output_name(target.path, order.wanted))
        carried = self.studio.swap(tab.given, target, output, order.swap, order.marks, say)
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

    def show(self, target: Target | None, request: Any) -> str | None:
        """The target's picture with its faces framed, as a file; None where there is no target."""
        if target is None:
            return None
        path = self.session(request).place("faces.jpg")
        write_picture(path, shown(target), quality=88, photo=colours_of(target.still))
        return str(path)


def describe_sources(tab: Tab, odd: Sequence[Path] = ()) -> str:
    """Who gives the identity, in words."""
    said = [f"Source: {sources_words(tab.sources, odd)}."] if tab.sources.paths else []
    own = [(face, tab.own[face]) for face in sorted(face for face in tab.own if face is not None)]
    said += [f"Face {face + 1}: {sources_words(sources, odd)}." for face, sources in own]
    names = ", ".join(path.name for path in odd)
    return " ".join([*said, *([f"Left out, somebody else: {names}."] if odd else [])])


def sources_words(sources: Sources, odd: Sequence[Path] = ()) -> str:
    """One person's pictures, in words; those of somebody else do not count."""
    if sources.example:
        return "an example face"
    count = len(sources.paths)
    if count == 1:
        return "1 picture"
    return f"{len([path for path in sources.paths if path not in odd])} pictures of one person, averaged"


def face_of(whom: Any, tab: Tab) -> int | None:
    """The index of the target's face that a choice on the page names; None: all that are chosen.

    Raises:
      UserError: there is no such face.
    """
    if whom in (None, EVERYBODY):
        return None
    names = whom_choices(tab.target)
    if whom not in names:
        raise UserError(STALE, "page-stale")
    return names.index(whom) - 1


def whom_choices(target: Target | None) -> list[str]:
    """Who may get a source: everybody, or a face of the target."""
    return [EVERYBODY, *(f"face {number}" for number in range(1, 1 + len(target.faces if target else ())))]


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
    return f"{found}, {chosen}. Click a face to select or deselect it."


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

    offered = examples(sessions.examples, studio.whole_photos)
    answers = Answers(studio, sessions, offered.sources, offered.targets)
    offer = Offer(
        studio.whole_photos, offered.sources, offered.targets, offered.credit, megabytes, studio.model_in_words
    )

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
        parts = lay_out(offer)
        parts.tab, parts.timer = gr.State(Tab()), gr.Timer(LOOK_AGAIN, active=False)
        on = handlers(answers)
        connect(parts, on)
        results = [parts.compared, parts.download, parts.marks_text, parts.video, parts.timer, parts.problem]
        page.load(on.returned, None, results, show_progress="hidden")
        parts.timer.tick(on.returned, None, results, show_progress="hidden")
    page.queue(max_size=32, default_concurrency_limit=4)
    return page


def handlers(answers: Answers) -> SimpleNamespace:
    """What gradio calls at an event, by the event's name; each answers with a sentence on a mistake at the end."""
    import gradio as gr

    def with_faces(before: Tab, answer: tuple[Tab, str, list[str]], request: gr.Request) -> tuple[Any, ...]:
        tab, said, small = answer
        thumbnails = gr.Gallery(small, visible=bool(small))
        if tab.target is before.target:
            return tab, said, thumbnails, gr.skip(), gr.skip()
        framed = gr.Image(answers.show(tab.target, request), visible=True)
        return tab, said, thumbnails, framed, describe_faces(tab.target, answers.studio)

    def sources_changed(files: list[str] | None, face: float | None, whom: Any, tab: Tab, request: gr.Request) -> Any:
        return with_faces(tab, answers.sources(files, face, whom, tab, request), request)

    def face_changed(face: float | None, whom: Any, tab: Tab, request: gr.Request) -> Any:
        return with_faces(tab, answers.source_face(face, whom, tab, request), request)

    def source_example(whom: Any, tab: Tab, event: gr.SelectData, request: gr.Request) -> Any:
        return *with_faces(tab, answers.source_example(event.index, whom, tab), request), None

    def of_target(answer: tuple[Tab, str | None, str]) -> tuple[Any, ...]:
        tab, framed, said = answer
        names = whom_choices(tab.target)
        whom = gr.Dropdown(names, value=EVERYBODY, visible=len(names) > 2)
        return tab, gr.Image(framed, visible=framed is not None), said, whom

    def target_changed(file: str | None, tab: Tab, request: gr.Request) -> Any:
        path = answers.own(request, [file])[0] if file else None
        return of_target(answers.target(path, tab, request))

    def target_example(tab: Tab, event: gr.SelectData, request: gr.Request) -> Any:
        return *of_target(answers.target(picked(answers.target_examples, event.index), tab, request)), None

    def target_failed(tab: Tab) -> tuple[Any, ...]:
        return of_target((replace(tab, target=None, own={}), None, ""))

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
        agreed: bool,
        request: gr.Request,
        progress: gr.Progress = gr.Progress(),  # noqa: B008  # gradio looks for it there
    ) -> Any:
        order = order_of(strength, match_colour, kept, blending, dropped, wanted, agreed)
        result = answers.swap(tab, order, lambda share, what: progress(share, desc=what), request)
        return shown_result(result)

    def returned(request: gr.Request) -> Any:
        found = answers.returned(request)
        again = gr.Timer(active=found == RUNNING)
        if isinstance(found, Result):
            return *shown_result(found), again
        return gr.skip(), gr.skip(), gr.skip() if found is None else found, gr.skip(), again

    return SimpleNamespace(
        sources_changed=explained(sources_changed, 5),
        face_changed=explained(face_changed, 5),
        source_example=explained(source_example, 6),
        target_changed=explained(target_changed, 4, target_failed),
        target_example=explained(target_example, 5),
        photo_clicked=explained(photo_clicked, 3),
        swap_clicked=explained(swap_clicked, 4),
        returned=explained(returned, 5),
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
        )
        marks: dict[str, Any] = {name: text not in dropped for name, text in DROPS.items()}
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(STALE, "page-stale") from error
    if wanted not in FORMATS:
        raise UserError(STALE, "page-stale")
    return Order(swap, MarkOptions(**marks), wanted, agreed is True)


def explained(
    handler: Callable[..., Any], count: int, failed: Callable[[Tab], tuple[Any, ...]] | None = None
) -> Callable[..., Any]:
    """The handler, with one more answer: what to say of a mistake, which any answer without one takes away.

    Args:
      handler: answers so many values.
      count: how many.
      failed: what it answers where it fails; None: everything stays as it is.
    """
    import gradio as gr

    @wraps(handler)
    def explaining(*arguments: Any, **named: Any) -> Any:
        try:
            return *handler(*arguments, **named), gr.HTML("", visible=False)
        except UserError as error:
            said = capital(str(error))
        except Exception:
            logging.getLogger(__name__).exception("an event of the page failed")
            said = UNEXPECTED
        tab = next((one for one in arguments if isinstance(one, Tab)), Tab())
        kept = failed(tab) if failed else [gr.skip()] * count
        return *kept, gr.HTML(escape(said), visible=True)

    return explaining


def connect(parts: SimpleNamespace, on: SimpleNamespace) -> None:
    """Which event of which element calls what, with which values, and where the answer goes."""
    # Each answer writes back the whole tab that it read, so no two may be under way: source and target are often
    # added at the same moment. They are short; swapping has a queue of its own.
    in_turn: dict[str, Any] = {"concurrency_id": "tab", "concurrency_limit": 1}
    tab, problem = parts.tab, parts.problem
    source = [tab, parts.source_text, parts.source_faces, parts.faces, parts.faces_text]
    target = [tab, parts.faces, parts.faces_text, parts.whom]
    given = [parts.source_files, parts.source_face, parts.whom, tab]
    for event in (parts.source_files.upload, parts.source_files.delete, parts.source_files.clear):
        event(on.sources_changed, given, [*source, problem], **in_turn)
    parts.source_face.change(on.face_changed, given[1:], [*source, problem], **in_turn)
    parts.whom.change(lambda: None, None, parts.source_files, show_progress="hidden", **in_turn)
    parts.source_gallery.select(on.source_example, [parts.whom, tab], [*source, parts.source_files, problem], **in_turn)
    for event in (parts.target_file.upload, parts.target_file.clear):
        event(on.target_changed, [parts.target_file, tab], [*target, problem], **in_turn)
    parts.target_gallery.select(on.target_example, [tab], [*target, parts.target_file, problem], **in_turn)
    parts.faces.select(on.photo_clicked, [tab], [*target[:3], problem], show_progress="hidden", **in_turn)
    options = [parts.strength, parts.match_colour, parts.kept, parts.blending, parts.dropped, parts.wanted]
    parts.button.click(None, None, None, js=SHOW_RESULT)
    parts.button.click(
        on.swap_clicked,
        [tab, *options, parts.agreed],
        [parts.compared, parts.download, parts.marks_text, parts.video, problem],
        show_progress_on=[parts.compared],
        concurrency_limit=1,
    )


def capital(sentence: str) -> str:
    """The sentence with its first letter large."""
    return sentence[:1].upper() + sentence[1:]
