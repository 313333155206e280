"""The shape of the code: rows, imports, sizes, safe loading."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "repscope"
TREES = {
    path.relative_to(SOURCE): ast.parse(path.read_text(encoding="utf-8"))
    for path in sorted(SOURCE.rglob("*.py"))
}
ROWS = """
records files _arrays _eigen _numerics _randomness _images _distributed _checking \
_gathering _environment
data models theory report
representations objectives
metrics explanation training
diagnosis
remedies selection
experiments integrations
cli __main__ _command_line _inputs _options _progress _running _terminal \
_training _training_lists
"""
ROW_OF = {
    room: row
    for row, line in enumerate(ROWS.strip().splitlines())
    for room in line.split()
}
ROWS_OF_FILES = (0, 7)
MAXIMUM_LINES, MAXIMUM_COMMAND_LINES = 450, 15
# Of code; a docstring that states formula, arguments and errors may take its own.
MAXIMUM_FUNCTION_LINES = 55
# The only file that opens torch files; it passes weights_only=True.
LOADER = Path("files/torch_archive.py")
EXECUTES = re.compile(
    r"eval|exec|compile|__import__|os\.(system|popen)|yaml\.\w*load"
    r"|(pickle|joblib|dill|cloudpickle|marshal|shelve)\.\w+"
)
UNSAFE = re.compile(r"allow_pickle=True|weights_only=False|shell=True")
FUNCTION = (ast.FunctionDef, ast.AsyncFunctionDef)


def room_of(path: Path) -> str:
    return path.parts[0].removesuffix(".py")


def own_imports(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Yield each room that is imported, with its line; "" is the package itself."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module == "repscope":
            modules = [f"repscope.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            modules = ["." * node.level + (node.module or "")]
        else:
            continue
        for module in modules:
            package, _, rest = module.partition(".")
            if package in ("repscope", ""):
                yield rest.partition(".")[0], node.lineno


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in ast.walk(tree) if isinstance(node, FUNCTION))


def code_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Return the lines of a function, its docstring left out."""
    first, last = function.lineno, function.end_lineno or 0
    told = function.body[0]
    is_docstring = ast.get_docstring(function) is not None
    return last - first + 1 - (told.end_lineno - told.lineno + 1 if is_docstring else 0)


def test_every_room_has_a_row():
    rooms = {room_of(path) for path in TREES} - {"__init__"}
    assert rooms - set(ROW_OF) == set()


def test_imports_point_downwards():
    wrong = [
        f"{path}:{line} imports {room or 'repscope'}"
        for path, tree in TREES.items()
        for room, line in own_imports(tree)
        if path.name != "__init__.py" and not may_import(room_of(path), room)
    ]
    assert wrong == []


def may_import(importer: str, room: str) -> bool:
    if room == "":
        return importer == "cli"  # for the version
    lower = ROW_OF[room] < ROW_OF[importer]
    files_of_one_row = ROW_OF[room] == ROW_OF[importer] in ROWS_OF_FILES
    return room == importer or lower or files_of_one_row


def test_only_the_command_line_imports_inside_functions():
    wrong = [
        f"{path}:{line}"
        for path, tree in TREES.items()
        if path != Path("cli.py")
        for function in functions(tree)
        for _, line in own_imports(function)
    ]
    assert wrong == []


def test_packages_only_re_export():
    allowed = (ast.Import, ast.ImportFrom, ast.Expr)
    wrong = [
        f"{path}:{node.lineno}"
        for path, tree in TREES.items()
        if path.name == "__init__.py" and path.parent != Path()
        for node in tree.body
        if not isinstance(node, allowed)
    ]
    assert wrong == []


def test_files_and_functions_stay_short():
    files = {path: len((SOURCE / path).read_text().splitlines()) for path in TREES}
    wrong = [f"{path}: {n} lines" for path, n in files.items() if n > MAXIMUM_LINES]
    wrong += [
        f"{path}:{function.lineno} {function.name}"
        for path, tree in TREES.items()
        for function in functions(tree)
        if code_lines(function) > MAXIMUM_FUNCTION_LINES
    ]
    assert wrong == []


def test_commands_are_thin():
    commands = [f for f in functions(TREES[Path("cli.py")]) if f.decorator_list]
    lengths = {
        command.name: (command.end_lineno or 0) - command.body[0].lineno
        for command in commands
    }
    assert set(lengths) >= {"demo", "diagnose", "compare", "ls", "doctor"}
    assert {k: n for k, n in lengths.items() if n >= MAXIMUM_COMMAND_LINES} == {}


def test_nothing_in_a_file_is_ever_executed():
    wrong = [
        f"{path}:{call.lineno} {ast.unparse(call)}"
        for path, tree in TREES.items()
        for call in ast.walk(tree)
        if isinstance(call, ast.Call)
        and (
            EXECUTES.fullmatch(ast.unparse(call.func))
            or any(UNSAFE.fullmatch(ast.unparse(word)) for word in call.keywords)
        )
    ]
    assert wrong == []


def test_nothing_that_unpickles_is_imported():
    wrong = [
        f"{path}:{node.lineno}"
        for path, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        and re.search(r"\b(pickle|joblib|dill|cloudpickle|shelve)\b", ast.unparse(node))
    ]
    allowed = f"{LOADER}:"  # names the errors that torch raises
    assert [place for place in wrong if not place.startswith(allowed)] == []


def test_torch_files_are_opened_in_one_place_and_weights_only():
    loads = [
        (path, ast.unparse(node))
        for path, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load"
    ]
    assert {path for path, _ in loads} <= {LOADER}
    assert all("weights_only=True" in call for _, call in loads)


def test_modules_are_named_by_the_closed_table_only():
    wrong = [
        str(path)
        for path, tree in TREES.items()
        if path != Path("__init__.py") and "import_module" in ast.dump(tree)
    ]
    assert wrong == []
