"""`takes`: a command that takes options of `mirscan.scanning.options`, by their names there."""

from __future__ import annotations

import functools
import inspect
import logging
from collections.abc import Callable
from typing import Annotated, Any, get_args

import typer
from typer.models import ArgumentInfo

from mirscan.scanning.options import FIELDS, HINTS, TYPES, Options, flag_of

log = logging.getLogger("mirscan")
QUIET = Annotated[bool, typer.Option("-q", "--quiet", help="Warnings and errors only", rich_help_panel="Messages")]
VERBOSE = Annotated[bool, typer.Option("-v", "--verbose", help="Also what libraries say", rich_help_panel="Messages")]


def takes(*names: str, **helps: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command options of the table: its parameter ``options`` is then filled with them.

    Parameters
    ----------
    names : str
        Of the options, in the order of the help; one that ends in ``!`` must be given.
    helps : str
        Another help than the table's, by name.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        takes_options = "options" in inspect.signature(command).parameters
        of_command = inspect.signature(command, eval_str=True).parameters.values()
        own = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in of_command if p.name != "options"]
        wanted = [name.rstrip("!") for name in names]
        given = [_parameter(name, required=f"{name}!" in names, help=helps.get(name)) for name in wanted]
        older = [_old_parameter(name) for name in wanted if flag_of(name).old]
        messages = [_named("quiet", QUIET, False), _named("verbose", VERBOSE, False)]

        @functools.wraps(command)
        def run(**values: Any) -> None:
            set_messages(quiet=values.pop("quiet"), verbose=values.pop("verbose"))
            chosen: dict[str, Any] = {name: values.pop(name) for name in wanted}
            for parameter in older:
                name, value = parameter.name.removesuffix("_old"), values.pop(parameter.name)
                if value is not None:
                    flag = flag_of(name)
                    old, new = flag.old[0], flag.shown(name)
                    log.warning("%s is now %s (%s); the old name goes with the next version", old, new, flag.help)
                    chosen[name] = value
            if takes_options:
                chosen |= {name: () for name in chosen if TYPES[name].is_many and chosen[name] is None}
                values["options"] = Options(**chosen)
            command(**values)

        first = [p for p in own if isinstance(get_args(p.annotation)[1], ArgumentInfo)]
        parameters = [*first, *given, *(p for p in own if p not in first), *older, *messages]
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        return run

    return decorate


def set_messages(quiet: bool, verbose: bool) -> None:
    """How much is said on standard error."""
    log.setLevel(logging.WARNING if quiet else logging.DEBUG if verbose else logging.INFO)
    logging.root.setLevel(logging.INFO if verbose else logging.WARNING)
    logging.getLogger("jax._src.xla_bridge").setLevel(logging.WARNING)  # it tells of each kind of device that is absent


def _parameter(name: str, required: bool, help: str | None) -> inspect.Parameter:
    flag, default = flag_of(name), FIELDS[name].default
    names = flag.names or (f"--{name.replace('_', '-')}",)
    option = typer.Option(*names, help=help or flag.help, rich_help_panel=flag.panel, metavar=_metavar(name))
    return _named(name, Annotated[_typed(name), option], ... if required else None if default == () else default)


def _old_parameter(name: str) -> inspect.Parameter:
    option = typer.Option(*flag_of(name).old, hidden=True)
    return _named(f"{name}_old", Annotated[_typed(name) | None, option], None)


def _named(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    kind = inspect.Parameter.KEYWORD_ONLY
    if default is ...:
        return inspect.Parameter(name, kind, annotation=annotation)
    return inspect.Parameter(name, kind, annotation=annotation, default=default)


def _typed(name: str) -> Any:
    """The type that typer parses: of words and of lists the plain one."""
    kind, hint = TYPES[name], HINTS[name]
    if kind.is_many:
        return list[str] | None
    if kind.choices:
        return str | None if type(None) in get_args(hint) else str
    return hint


def _metavar(name: str) -> str | None:
    return "|".join(TYPES[name].choices) or None
