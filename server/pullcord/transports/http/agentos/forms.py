"""The fields of a request: of a form in either encoding, or of a JSON object. Nothing is meant yet.

A form's values are texts. Every reader here takes them as well as JSON's own values, and names the
field that is wrong.
"""

from typing import Any
from urllib.parse import parse_qsl

from pullcord.run.errors import InvalidArgument, Violation
from pullcord.run.message import Part, guessed_type
from pullcord.transports.http.messages import Refused, Request
from pullcord.wire.json import read_json

_MAX_FIELDS = 200
_WORDS = {
    **dict.fromkeys(("true", "1", "yes", "on", "t", "y"), True),
    **dict.fromkeys(("false", "0", "no", "off", "f", "n"), False),
}
"""The words that agno's server reads as booleans."""


class Form:
    """Fields by their names, and the files that came with them."""

    def __init__(self, values: dict[str, Any], files: tuple[Part, ...] = ()) -> None:
        self.files = files
        self._values = {k: v for k, v in values.items() if v is not None and v != ""}
        self.wrong: list[Violation] = []

    def text(self, name: str) -> str:
        """A text; empty: there is none."""
        value = self._values.pop(name, "")
        if isinstance(value, str):
            return value
        if isinstance(value, bool) or not isinstance(value, int | float):
            self.wrong.append(Violation(name, "must be text"))
        return str(value)

    def flag(self, name: str, default: bool) -> bool:
        """A boolean, which may be a word."""
        value = self._values.pop(name, default)
        if isinstance(value, bool):
            return value
        meant = _WORDS.get(str(value).strip().lower())
        if meant is None:
            self.wrong.append(Violation(name, f"must be true or false, and is {str(value)[:40]!r}"))
            return default
        return meant

    def number(self, name: str, default: int) -> int:
        """A whole number, at least -1."""
        value = str(self._values.pop(name, default)).strip()
        if value.removeprefix("-").isdecimal() and value.isascii() and len(value) < 18:
            return max(-1, int(value))
        self.wrong.append(Violation(name, f"must be a whole number, and is {value[:40]!r}"))
        return default

    def value(self, name: str, kind: type, default: Any) -> Any:
        """A JSON object or list, which may be text of one."""
        value = self._values.pop(name, default)
        if isinstance(value, str):
            try:
                value = read_json(value.encode())
            except InvalidArgument as error:
                self.wrong += [
                    Violation(f"{name}.{wrong.field}", wrong.description)
                    if wrong.field
                    else Violation(name, "must be JSON")
                    for wrong in error.violations
                ]
                return default
        if not isinstance(value, kind):
            what = "an object" if kind is dict else "a list"
            self.wrong.append(Violation(name, f"must be {what} in JSON"))
            return default
        return value

    def ignore(self, *names: str) -> None:
        """These may be given, and mean nothing here."""
        for name in names:
            self._values.pop(name, None)

    def done(self) -> None:
        """Raises InvalidArgument that names all that was wrong, and all that nobody took."""
        for name, value in self._values.items():
            if value not in ("{}", "[]", "null", {}, []):
                self.wrong.append(Violation(name[:64], "is not supported here"))
        if self.wrong:
            raise InvalidArgument(*self.wrong)


async def read_form(request: Request) -> Form:
    """The fields of a request's body. Raises InvalidArgument, or Refused for another media type."""
    body = await request.body()
    if not body:
        return Form({})
    match request.content_type:
        case "application/x-www-form-urlencoded":
            return Form(_urlencoded(body))
        case "multipart/form-data":
            return _multipart(request.headers["content-type"], body)
        case "application/json":
            given = read_json(body)
            if not isinstance(given, dict):
                raise InvalidArgument(Violation("body", "must be a JSON object"))
            return Form(given)
    words = "the body must be a form (urlencoded or multipart) or JSON"
    raise Refused(415, "UNSUPPORTED_MEDIA_TYPE", words)


def _urlencoded(body: bytes) -> dict[str, Any]:
    try:
        pairs = parse_qsl(
            body.decode("ascii"),
            keep_blank_values=True,
            max_num_fields=_MAX_FIELDS,
            errors="strict",
        )
    except ValueError:
        raise _malformed() from None
    return dict(pairs)


def _multipart(content_type: str, body: bytes) -> Form:
    from python_multipart.exceptions import FormParserError
    from python_multipart.multipart import Field, File, create_form_parser

    values: dict[str, Any] = {}
    files: list[Part] = []

    def count() -> None:
        if len(values) + len(files) >= _MAX_FIELDS:
            raise InvalidArgument(Violation("body", f"must have at most {_MAX_FIELDS} fields"))

    def on_field(field: Field) -> None:
        count()
        name = (field.field_name or b"").decode("utf-8", "replace")
        values[name] = (field.value or b"").decode("utf-8", "replace")

    def on_file(file: File) -> None:
        count()
        name = (file.file_name or b"").decode("utf-8", "replace")
        file.file_object.seek(0)
        data = file.file_object.read()
        file.close()
        kind = getattr(file, "content_type", None) or ""
        kind = kind.decode("latin-1") if isinstance(kind, bytes) else kind
        if not kind or kind == "application/octet-stream":
            kind = guessed_type(name) or "application/octet-stream"
        files.append(Part(data=data, media_type=kind.partition(";")[0].strip(), name=name))

    # A body is bounded, and stays in memory: nothing of it is written to a disk.
    config = {"MAX_MEMORY_FILE_SIZE": len(body) + 1}
    headers = {"Content-Type": content_type.encode("latin-1")}
    try:
        parser = create_form_parser(headers, on_field, on_file, config=config)
        parser.write(body)
        parser.finalize()
        parser.close()
    except (FormParserError, ValueError):
        raise _malformed() from None
    return Form(values, tuple(files))


def _malformed() -> InvalidArgument:
    return InvalidArgument(Violation("body", "is not a form of the type that its header says"))
