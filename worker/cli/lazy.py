"""Commands that are imported late: the module of a command is loaded when it is called, or asked for its own help.

Listing the commands loads none of them. Importing them all would take seconds, and most commands need few modules.
"""

import gc
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperArgument, TyperCommand, TyperGroup, TyperOption
from typer.main import get_command, get_group


@dataclass(frozen=True)
class Declared:
    """A command by name: the first line of its help, and the module and attribute of its function or group.

    A test compares `help` with the first line of the command itself.
    """

    name: str
    help: str
    module: str
    attribute: str
    command_class: str | None = None  # the attribute with a command class of its own

    def load(self) -> Any:
        """Imports the module and returns the command or group."""
        with _without_collection():
            module = import_module(self.module)
        command: Any
        found = getattr(module, self.attribute)
        if isinstance(found, typer.Typer):
            command = get_group(found)
        else:
            alone = typer.Typer(add_completion=False)
            alone.command(self.name, cls=getattr(module, self.command_class) if self.command_class else None)(found)
            command = get_command(alone)
        command.name = self.name
        _plain_words(command)
        return command

    def listed(self) -> TyperCommand:
        """Returns a stand-in that has the name and help alone, for lists; imports nothing."""
        return TyperCommand(self.name, help=self.help)


def _plain_words(command: Any) -> None:
    """Has the help of a command and its subcommands say PATH and NUMBER, not Python's types."""
    for part in getattr(command, "commands", {}).values():
        _plain_words(part)
    _plain_params(command)


def _plain_params(command: Any) -> None:
    """Names the kinds of values of a command's own options and arguments."""
    for param in command.get_params(typer.Context(command)):
        word = _word_for(param)
        param.display_type_rich = partial(_shown, word)
        if isinstance(param, TyperArgument) and param.metavar is None:
            param.metavar = str(param.name).upper()


def _shown(word: str | None, ctx: typer.Context) -> str | None:  # noqa: ARG001 (typer gives it)
    return word


def _word_for(param: TyperArgument | TyperOption) -> str | None:
    """Returns what stands behind the name of an option or argument in the help; None for a switch."""
    kind = param.type_descriptor
    if isinstance(param, TyperOption) and param.is_flag:
        return None
    if kind.is_choice:
        return "|".join(str(getattr(one, "value", one)) for one in kind.choices or ())
    name = param.bare_type().lower()
    if kind.is_path or "path" in name:
        return "PATH"
    return "NUMBER" if any(word in name for word in ("int", "float")) else "TEXT"


@contextmanager
def _without_collection() -> Iterator[None]:
    """Takes the garbage collector off an import: modules, classes and functions live as long as the process.

    After the first import all objects are frozen (`gc.freeze`), so that the collector never visits them. Later imports
    in the same process freeze nothing, since garbage may lie about by then.
    """
    first = not gc.get_freeze_count()
    gc.disable()
    try:
        yield
    finally:
        if first:
            gc.freeze()
        gc.enable()


class Commands(dict[str, Any]):
    """Commands by name, each loaded when it is looked up."""

    def __init__(self, declared: Sequence[Declared]) -> None:
        self.declared: Mapping[str, Declared] = {one.name: one for one in declared}
        self.listing = False
        super().__init__(dict.fromkeys(self.declared))

    def __getitem__(self, name: str) -> Any:
        declared = self.declared[name]
        if self.listing:
            return declared.listed()
        found = super().__getitem__(name)
        if found is None:
            found = declared.load()
            self[name] = found
        return found

    def get(self, name: str, default: Any = None) -> Any:
        """Returns the command of that name, loaded, or the default."""
        return self[name] if name in self.declared else default

    def items(self) -> Any:
        """Returns every name with its command; loads all of them."""
        return {name: self[name] for name in self}.items()

    def values(self) -> Any:
        """Returns every command; loads all of them."""
        return {name: self[name] for name in self}.values()

    @contextmanager
    def as_list(self) -> Iterator[None]:
        """Has look-ups within the block return the stand-ins of lists."""
        self.listing = True
        try:
            yield
        finally:
            self.listing = False


def lazy_group(declared: Sequence[Declared]) -> type[TyperGroup]:
    """Returns a class of command groups that holds these commands, for typer's `cls`."""

    class LazyGroup(TyperGroup):
        """A group that loads a command when it is invoked."""

        def __init__(self, **facts: Any) -> None:
            super().__init__(**facts | {"commands": {}})
            self._lazy = Commands(declared)
            self.commands = self._lazy

        def format_help(self, ctx: Any, formatter: Any) -> None:
            """Writes the help of the group from the declared lines."""
            _plain_params(self)
            with self._lazy.as_list():
                super().format_help(ctx, formatter)

    return LazyGroup
