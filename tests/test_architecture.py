"""The layers of DESIGN.md: who may import whom, what stays free of torch, and what never stands in the source."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import lemma

ROOT = Path(lemma.__file__).parent
ROWS = (
    {"types", "files", "assets"},
    {"answers"},
    {"prompts"},
    {"corpora"},
    {"ops"},
    {"objectives"},
    {"rewards"},
    {"metrics"},
    {"encoding"},
    {"policy"},
    {"generation"},
    {"evaluation"},
    {"rollouts"},
    {"datamodule"},
    {"modules"},
    {"callbacks"},
    {"compatibility"},
    {"plan"},
    {"cli"},
    {"preparation"},
)
LEVEL = {name: level for level, names in enumerate(ROWS) for name in names}
TORCH_FREE = ("types", "files", "assets", "answers", "prompts", "corpora", "rewards")
ALLOWED_BESIDE = {"__init__", "__main__"}  # the root package's own files; __main__ stands above every row
FORBIDDEN_CALLS = {
    *("eval", "exec", "os.system", "os.popen", "sympy.sympify", "sympy.parse_expr"),
    *("pickle.load", "pickle.loads", "pickle.Unpickler", "marshal.loads", "dill.load", "joblib.load"),
    *("yaml.load", "yaml.unsafe_load", "yaml.full_load"),
}
FILES = sorted(ROOT.rglob("*.py"))


def layer(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imported(tree: ast.AST, path: Path) -> list[tuple[int, str]]:
    """Return (line, absolute module) of every import, wherever it stands in the file."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            if node.level:
                package = ["lemma", *path.relative_to(ROOT).parent.parts]
                module = ".".join([*package[: len(package) - node.level + 1], *([module] if module else [])])
            # `from lemma import x` imports the submodule x
            found += (
                [(node.lineno, f"lemma.{a.name}") for a in node.names] if module == "lemma" else [(node.lineno, module)]
            )
    return found


TREES = {path: ast.parse(path.read_text("utf-8"), str(path)) for path in FILES}


def test_source_files_were_found():
    assert len(FILES) > 40
    assert {"types", "answers", "policy", "cli"} <= {layer(path) for path in FILES}


def test_every_package_and_module_stands_in_the_table():
    packages = {path.name for path in ROOT.iterdir() if path.is_dir() and path.name != "__pycache__"}
    modules = {path.stem for path in ROOT.glob("*.py")} - ALLOWED_BESIDE
    assert packages
    assert packages | modules <= set(LEVEL)


def test_a_row_imports_only_rows_above_it():
    violations, checked = [], 0
    for path, tree in TREES.items():
        if layer(path) in ALLOWED_BESIDE:
            continue
        for line, module in imported(tree, path):
            if not module.startswith("lemma."):
                continue
            target = module.split(".")[1]
            checked += 1
            if target != layer(path) and LEVEL[target] >= LEVEL[layer(path)] and LEVEL[target] != 0:
                violations.append(f"{path.relative_to(ROOT)}:{line} imports {module}")
    assert checked > 80
    assert violations == []


def test_the_lowest_row_is_acyclic_and_uses_the_standard_library_only():
    allowed = set(sys.stdlib_module_names) | {"lemma"}
    for path, tree in TREES.items():
        if layer(path) in ROWS[0]:
            assert {module.split(".")[0] for _, module in imported(tree, path)} <= allowed, path
    # types imports nothing of lemma; files and assets at most types
    ours = {
        name: {m.split(".")[1] for path, tree in TREES.items() if layer(path) == name
               for _, m in imported(tree, path) if m.startswith("lemma.")} for name in ROWS[0]
    }  # fmt: skip
    assert ours["types"] == set()
    assert ours["files"] | ours["assets"] <= {"types"}


def test_answers_prompts_and_corpora_name_no_torch():
    heavy = {"torch", "lightning", "transformers", "peft", "torchmetrics"}
    checked = [path for path in FILES if layer(path) in TORCH_FREE]
    assert len(checked) > 15
    for path in checked:
        assert heavy.isdisjoint(module.split(".")[0] for _, module in imported(TREES[path], path)), path


def test_importing_answers_prompts_and_corpora_loads_no_torch():
    code = (
        "import sys, lemma.answers, lemma.prompts, lemma.corpora, lemma.assets, lemma.files; "
        "print(sorted({'torch', 'transformers', 'lightning', 'lemma.corpora'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['lemma.corpora']"


def test_trl_is_never_a_dependency_of_the_package():
    assert all(module.split(".")[0] != "trl" for path, tree in TREES.items() for _, module in imported(tree, path))


def forbidden(tree: ast.AST) -> list[str]:
    """Return every call that can run code from data, or that switches on remote code by itself."""
    found = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        if ast.unparse(node.func) in FORBIDDEN_CALLS:
            found.append(f"{node.lineno}: {ast.unparse(node.func)}")
        for keyword in node.keywords:
            value = keyword.value.value if isinstance(keyword.value, ast.Constant) else None
            if keyword.arg == "trust_remote_code" and value is True:
                found.append(f"{node.lineno}: trust_remote_code=True")
            if keyword.arg == "weights_only" and value is False:
                found.append(f"{node.lineno}: weights_only=False")
            if keyword.arg == "shell" and value is True:
                found.append(f"{node.lineno}: shell=True")
    return found


def test_no_source_file_runs_data_as_code():
    assert {str(path.relative_to(ROOT)): calls for path, tree in TREES.items() if (calls := forbidden(tree))} == {}


@pytest.mark.parametrize(
    "line",
    [
        "eval(x)",
        "exec(x)",
        "pickle.load(f)",
        "yaml.load(f)",
        "f(trust_remote_code=True)",
        "torch.load(f, weights_only=False)",
        "subprocess.run(x, shell=True)",
    ],
)
def test_the_search_for_dangerous_calls_finds_them(line):
    assert forbidden(ast.parse(line))


def test_names_of_dangerous_functions_are_not_imported_bare():
    for path, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module in ("pickle", "dill", "joblib", "marshal"):
                pytest.fail(f"{path}:{node.lineno} imports from {node.module}")
            if isinstance(node, ast.ImportFrom) and node.module == "yaml":
                assert {alias.name for alias in node.names} <= {"safe_load", "safe_dump", "YAMLError"}, path
