import ast
import dataclasses
import inspect
import subprocess
import sys
import textwrap
from importlib.util import find_spec

import pytest
import xpeng_world.cli as cli
import yaml
from xpeng_world.configs import compose as composing

PRESENT = [name for name, command in cli.COMMANDS.items() if find_spec(f"xpeng_world.{command.target.split(':')[0]}")]


def refused(capsys, *words):
    assert cli.main(list(words)) == 2
    out = capsys.readouterr()
    assert out.out == ""
    assert out.err.count("\n") == 1, out.err
    return out.err


def test_unknown_command_names_the_nearest(capsys):
    assert "did you mean 'eval'" in refused(capsys, "evl")


def test_unknown_key_names_the_nearest(capsys):
    assert "did you mean 'episodes'" in refused(capsys, "eval", "idle", "epsodes=3")


@pytest.mark.parametrize("word", ["+extra=1", "~seed=1", "hydra.verbose=true", "_target_=os.system"])
def test_hydra_s_own_words_are_unknown_keys(capsys, word):
    assert "unknown key" in refused(capsys, "eval", "idle", word)


def test_wrong_type_names_key_and_value(capsys):
    message = refused(capsys, "eval", "idle", "episodes=three")
    assert "episodes" in message
    assert "three" in message


@pytest.mark.parametrize("value", ["1,2", "[1", "{a"])
def test_values_that_cannot_be_read(capsys, value):
    assert "cannot read" in refused(capsys, "eval", "idle", f"episodes={value}")


def test_a_key_that_must_be_given(capsys):
    assert "policy=" in refused(capsys, "eval")


def test_a_bare_word_too_many(capsys):
    assert "'more' is no key=value" in refused(capsys, "eval", "idle", "more")


def test_unknown_suite_names_the_nearest(capsys):
    assert "did you mean 'standard'" in refused(capsys, "eval", "idle", "suite=standart")


def test_an_unexpected_error_of_the_program_is_not_hidden(monkeypatch):
    monkeypatch.setattr(cli, "version", lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        cli.main(["version"])


def test_help_lists_every_command(capsys):
    for words in ([], ["help"], ["--help"]):
        assert cli.main(words) == 0
        listed = capsys.readouterr().out
        assert all(f"  {name} " in listed for name in cli.COMMANDS)


@pytest.mark.parametrize("name", list(cli.COMMANDS))
def test_help_of_a_command_explains_each_key(capsys, name):
    assert cli.main(["help", name]) == 0
    by_word = capsys.readouterr().out
    assert cli.main([name, "--help"]) == 0
    assert capsys.readouterr().out == by_word
    for key in composing.keys(name):
        assert f"  {key.name}={key.default}" in by_word
        assert len(key.description) > 5, f"configs: say what {name}'s {key.name} is"


def test_help_imports_neither_torch_nor_hydra():
    code = "import sys, xpeng_world.cli as c; c.main(['help', 'eval']); assert not {'torch', 'hydra'} & set(sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_python_dash_m_is_the_command():
    done = subprocess.run([sys.executable, "-m", "xpeng_world", "version"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "0.1.0")


@pytest.mark.parametrize("name", PRESENT)
def test_preset_and_function_have_the_same_keys_and_each_is_read(name):
    function = cli.COMMANDS[name].function()
    kind, whole = composing.schema(function)
    wanted = {field.name for field in dataclasses.fields(kind)}
    assert {key.name.split(".")[0] for key in composing.keys(name)} == wanted
    if whole:
        source = inspect.getsource(inspect.getmodule(function))
        read = {node.attr for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Attribute)}
    else:
        body = ast.parse(textwrap.dedent(inspect.getsource(function))).body[0].body
        read = {node.id for part in body for node in ast.walk(part) if isinstance(node, ast.Name)}
    assert wanted <= read, f"nobody reads {wanted - read} of {name}"


@pytest.mark.parametrize("name", PRESENT)
def test_preset_and_code_agree_on_defaults(name):
    function = cli.COMMANDS[name].function()
    _, whole = composing.schema(function)
    parameters = inspect.signature(whole or function).parameters.values()
    listed = yaml.safe_load(composing.preset(name).read_text()) if composing.preset(name).exists() else {}
    for parameter in parameters:
        if isinstance(parameter.default, int | float | str):
            assert listed[parameter.name] == parameter.default


def test_every_preset_belongs_to_a_command():
    assert {path.stem for path in composing.FOLDER.glob("*.yaml")} <= {composing.preset(name).stem for name in cli.COMMANDS}
