"""Recipe files: YAML with line numbers, `base:` inheritance, overrides, and errors a person can act on."""

import difflib
import types
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, Self, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from heliostat.errors import ConfigError

Location = tuple[str | int, ...]


@dataclass
class RecipeFile:
    """The values of a recipe and where each came from (`file:line`, or the override's text)."""

    values: dict[str, Any] = field(default_factory=dict)
    origins: dict[Location, str] = field(default_factory=dict)

    @classmethod
    def read(cls, path: str | Path, overrides: tuple[str, ...] = ()) -> Self:
        """Read a file and the files it is based on.

        Raises:
            ConfigError: no such file, not YAML, a key twice, a circle of bases, a malformed override.
        """
        recipe = cls()
        for layer in _layers(Path(path), ()):
            recipe._merge(layer)
        for override in overrides:
            recipe.apply(override)
        return recipe

    def origin(self, location: Location) -> str:
        """Where the value at `location` was written, or where the nearest section around it begins."""
        for end in range(len(location), -1, -1):
            if location[:end] in self.origins:
                return self.origins[location[:end]]
        return "recipe"

    def _merge(self, layer: "RecipeFile") -> None:
        _merge_into(self.values, layer.values, (), self.origins)
        self.origins |= layer.origins

    def apply(self, override: str) -> None:
        """Take over one `key=value`; the value is YAML.

        Raises:
            ConfigError: it is no `key=value`, or the value is no YAML.
        """
        key, sign, text = override.partition("=")
        location = tuple(key.strip().split("."))
        if not sign or not all(location):
            raise ConfigError(
                f"override '{override}': expected key=value, for example train.learning_rate=0.0003"
            )
        try:
            value = yaml.safe_load(text)
        except (yaml.YAMLError, ValueError):  # ValueError: a date such as 2020-13-45
            raise ConfigError(f"override '{override}': '{text}' is not a YAML value") from None
        self.put(location, value, f"override '{override}'")

    def put(self, location: tuple[str, ...], value: Any, origin: str) -> None:
        """Set one value; `origin` says in errors where it came from.

        Raises:
            ConfigError: there is a value where a section would have to be, or no such place in a list.
        """
        section: Any = self.values
        for part in location[:-1]:
            section = _descend(section, part, origin)
        if isinstance(section, list):
            section[_index(section, location[-1], origin)] = value
        else:
            section[location[-1]] = value
        self.origins[tuple(int(part) if part.isdigit() else part for part in location)] = origin


def _descend(section: Any, part: str, origin: str) -> Any:
    if isinstance(section, list):
        return section[_index(section, part, origin)]
    following = section.setdefault(part, {})
    if following is None:
        following = section[part] = {}
    if not isinstance(following, (dict, list)):
        raise ConfigError(f"{origin}: '{part}' is a value, not a section")
    return following


def _index(section: list[Any], part: str, origin: str) -> int:
    if part.isdigit() and int(part) < len(section):
        return int(part)
    raise ConfigError(f"{origin}: '{part}' is not a position in a list of {len(section)}")


def _layers(path: Path, seen: tuple[Path, ...]) -> list[RecipeFile]:
    """The recipe's bases, outermost first, then the recipe itself."""
    if path.resolve() in seen:
        raise ConfigError(f"{path}: 'base:' leads back to this file")
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such recipe") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read as a recipe: {error}") from None
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        line = getattr(getattr(error, "problem_mark", None), "line", None)
        where = f"{path}:{line + 1}" if line is not None else str(path)
        raise ConfigError(f"{where}: not valid YAML: {getattr(error, 'problem', None) or error}") from None
    if node is None:
        raise ConfigError(f"{path}: the file is empty; see jobs/recipes/quickstart.yaml for a recipe")
    if not isinstance(node, yaml.MappingNode):
        raise ConfigError(f"{path}:1: expected 'key: value' lines, found a list or a single value")
    layer = RecipeFile(origins={(): f"{path}:1"})
    try:
        layer.values = _construct(node, (), str(path), layer.origins)
    except RecursionError:
        raise ConfigError(f"{path}: an alias (*name) contains itself") from None
    base = layer.values.pop("base", None)
    if base is None:
        return [layer]
    if not isinstance(base, str):
        raise ConfigError(f"{layer.origin(('base',))}: 'base' names one recipe file")
    return [*_layers(path.parent / base, (*seen, path.resolve())), layer]


def _construct(node: yaml.Node, location: Location, path: str, origins: dict[Location, str]) -> Any:
    """The node's value; writes each key's `file:line` into `origins`."""
    if isinstance(node, yaml.MappingNode):
        values: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = key_node.value
            where = f"{path}:{key_node.start_mark.line + 1}"
            if not isinstance(key_node, yaml.ScalarNode):
                raise ConfigError(f"{where}: a key is one word, found a list or a section")
            if key in values:
                raise ConfigError(f"{where}: key '{key}' is given twice")
            origins[(*location, key)] = where
            values[key] = _construct(value_node, (*location, key), path, origins)
        return values
    if isinstance(node, yaml.SequenceNode):
        items = []
        for position, item in enumerate(node.value):
            origins[(*location, position)] = f"{path}:{item.start_mark.line + 1}"
            items.append(_construct(item, (*location, position), path, origins))
        return items
    try:
        return yaml.SafeLoader("").construct_object(node)
    except (yaml.YAMLError, ValueError) as error:
        reason = getattr(error, "problem", None) or error
        raise ConfigError(f"{path}:{node.start_mark.line + 1}: not a YAML value: {reason}") from None


def _merge_into(
    target: dict[str, Any], source: dict[str, Any], location: Location, origins: dict[Location, str]
) -> None:
    """Sections merge key by key; lists and values replace, and forget the origins of what they replace.

    A section whose `kind` changes is another variant: it replaces the old one whole.
    """
    for key, value in source.items():
        old = target.get(key)
        same_kind = (
            not isinstance(value, dict)
            or not isinstance(old, dict)
            or value.get("kind", old.get("kind")) == old.get("kind")
        )
        if isinstance(old, dict) and isinstance(value, dict) and same_kind:
            _merge_into(old, value, (*location, key), origins)
        else:
            target[key] = value
            here = (*location, key)
            for known in [known for known in origins if known[: len(here)] == here]:
                del origins[known]


def explain_validation_error(
    error: ValidationError, model: type[BaseModel], recipe: RecipeFile
) -> ConfigError:
    """Turn pydantic's report into one line a problem: file:line, key, what was expected."""
    told: dict[Location, list[Any]] = {}
    owners: dict[Location, type[BaseModel] | None] = {}
    for problem in error.errors():
        location, owner = _resolve(problem["loc"], model, recipe.values)
        told.setdefault(location, []).append(problem)
        owners[location] = owner
    lines = []
    for location, problems in told.items():
        inside = any(len(other) > len(location) and other[: len(location)] == location for other in told)
        where = f"{recipe.origin(location)}: {'.'.join(str(part) for part in location) or 'recipe'}"
        of_values = [problem for problem in problems if _is_of_a_value(problem)]
        said = [_explain(each, location, owners[location]) for each in problems if not _is_of_a_value(each)]
        if of_values and not inside:  # else it is of the right kind, and what is wrong in it is told
            said.append(_expectation(of_values))
        lines += [f"{where}: {each}" for each in said]
    return ConfigError("\n".join(dict.fromkeys(lines)))


def _is_of_a_value(problem: Any) -> bool:
    """Whether a value is of a wrong type or out of its range."""
    kind = problem["type"]
    return kind not in ("extra_forbidden", "missing", "value_error") and "union_tag" not in kind


def _expectation(problems: list[Any]) -> str:
    """What was expected in one place. Of a value that may be of several types pydantic tells what each of
    them expects; where it is of one of them, the others say nothing."""
    of_one = [each for each in problems if not each["type"].endswith(("_type", "_parsing"))] or problems
    expected = [str(each["msg"]).removeprefix("Input should be ") for each in of_one]
    expected = [each.partition(", unable to parse")[0].partition(" or instance of")[0] for each in expected]
    words = " or ".join(dict.fromkeys(expected))
    words = words.replace("valid tuple", "list").replace("valid dictionary", "section")
    return f"expected {words}, got {problems[0].get('input')!r}"


def _explain(problem: Any, location: Location, owner: type[BaseModel] | None) -> str:
    kind = problem["type"]
    if kind == "extra_forbidden":
        known = sorted(owner.model_fields) if owner else []
        close = difflib.get_close_matches(str(location[-1]), known, n=1)
        hint = f"did you mean '{close[0]}'?" if close else f"known keys: {', '.join(known)}"
        return f"unknown key; {hint}"
    if kind == "missing":
        return "is required and missing"
    if kind == "union_tag_not_found":
        return f"needs a 'kind'; {problem['msg']}"
    if kind == "union_tag_invalid":
        tags = problem["ctx"]["expected_tags"]
        close = difflib.get_close_matches(
            problem["ctx"]["tag"], [tag.strip(" '") for tag in tags.split(",")], n=1
        )
        hint = f"did you mean '{close[0]}'?" if close else f"known: {tags}"
        return f"unknown kind '{problem['ctx']['tag']}'; {hint}"
    return str(problem["msg"]).removeprefix("Value error, ")


def _resolve(
    loc: tuple[str | int, ...], model: type[BaseModel], values: Any
) -> tuple[Location, type[BaseModel] | None]:
    """Drop the union tags pydantic puts into `loc`; find the model that owns the last key."""
    location: list[str | int] = []
    annotation: Any = model
    owner: type[BaseModel] | None = model
    for part in loc:
        variants = _models(annotation)
        tagged = [variant for variant in variants if _tag_of(variant) == part]
        if tagged and not (isinstance(values, dict) and part in values):
            annotation = tagged[0]
            continue
        if isinstance(part, int) and isinstance(values, dict):  # one section where a list of them may stand
            annotation = _item_of(annotation)
            continue
        if isinstance(part, str) and not variants and _is_union(annotation) and not isinstance(values, dict):
            annotation = _named_by(part, annotation)
            continue
        if len(variants) == 1:
            owner = variants[0]
        location.append(part)
        if isinstance(part, int):
            annotation = _item_of(annotation)
            values = values[part] if isinstance(values, list) and part < len(values) else None
        else:
            fields = owner.model_fields if owner and len(variants) == 1 else {}
            annotation = fields[part].annotation if part in fields else _item_of(annotation)
            values = values.get(part) if isinstance(values, dict) else None
    return tuple(location), owner


def _strip(annotation: Any) -> Any:
    return get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation


def _models(annotation: Any) -> list[type[BaseModel]]:
    annotation = _strip(annotation)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if get_origin(annotation) in (Union, types.UnionType):
        return [model for part in get_args(annotation) for model in _models(part)]
    return []


def _is_union(annotation: Any) -> bool:
    return get_origin(_strip(annotation)) in (Union, types.UnionType)


def _named_by(part: str, annotation: Any) -> Any:
    """The member of a union that pydantic calls so in `loc`: a list by `tuple[...]`, a plain value by its
    type."""
    members = [_strip(each) for each in get_args(_strip(annotation))]
    return next((each for each in members if part.startswith("tuple[") and get_origin(each) is tuple), None)


def _item_of(annotation: Any) -> Any:
    annotation = _strip(annotation)
    if get_origin(annotation) in (Union, types.UnionType):
        containers = [
            part for part in get_args(annotation) if get_origin(_strip(part)) in (list, tuple, dict)
        ]
        return _item_of(containers[0]) if containers else None
    arguments = get_args(annotation)
    return (arguments[-1] if get_origin(annotation) is dict else arguments[0]) if arguments else None


def _tag_of(model: type[BaseModel]) -> str | None:
    kind = model.model_fields.get("kind")
    if kind is None or get_origin(kind.annotation) is not Literal:
        return None
    return str(get_args(kind.annotation)[0])
